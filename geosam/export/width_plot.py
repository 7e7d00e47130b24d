"""Width along a river as a picture."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd

from geosam.errors import InputError
from geosam.export.pictures import figure_of, save

_WATER, _SPAN, _UNSURE = "#1f6fb2", "#b8860b", "#9cc4e4"


def plot_widths(
    transects: gpd.GeoDataFrame,
    centerlines: gpd.GeoDataFrame,
    path: str | os.PathLike,
    *,
    river_id: int | None = None,
    title: str | None = None,
) -> Path:
    """Draw width and span along the main line of a river as a PNG.

    Parameters
    ----------
    transects, centerlines : geopandas.GeoDataFrame
        As :func:`geosam.measure_rivers` gives them.
    path : path
        Where to write; the folder must exist.
    river_id : int, optional
        The river; the one with the longest main line where not given.
    title : str, optional
        Line above the picture.

    Returns
    -------
    pathlib.Path
        `path`.

    Raises
    ------
    InputError
        There is no main line, or none of that river.
    OutputError
        The picture cannot be written.
    """
    along = _along(transects, centerlines, river_id)
    km = along.distance_m / 1000
    figure, (widths, channels) = figure_of(2, (10, 5), sharex=True, height_ratios=(4, 1))
    if along.width_low_m.notna().any():
        widths.fill_between(
            km, along.width_low_m, along.width_high_m, color=_UNSURE, label="0.75 to 0.25 probable"
        )
    flagged = along.flag != ""
    span, width = (column.mask(flagged) for column in (along.span_m, along.width_m))
    widths.plot(km, span, color=_SPAN, lw=0.8, label="bank to bank")
    widths.plot(km, width, color=_WATER, lw=1.0, label="water")
    widths.plot(km[flagged], along.width_m[flagged], ".", color="0.4", ms=4, label="flagged")
    widths.set(ylabel="m", ylim=(0, None))
    widths.set_title(title or "Width along the main line", loc="left")
    widths.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=4, fontsize=8, frameon=False)
    channels.step(km, along.n_channels, color="0.3", lw=0.8, where="mid")
    channels.set(ylabel="channels", xlabel="km along the main line", ylim=(0, None))
    return save(figure, path)


def _along(transects: gpd.GeoDataFrame, centerlines: gpd.GeoDataFrame, river_id: int | None) -> Any:
    main = centerlines[centerlines.main]
    if river_id is None and len(main):
        river_id = main.groupby("river_id").length_m.sum().idxmax()
    reaches = main[main.river_id == river_id].reach_id
    along = transects[transects.reach_id.isin(reaches)].sort_values("distance_m")
    if len(along) == 0:
        named = "" if river_id is None or np.isnan(river_id) else f" of river {river_id}"
        raise InputError(
            f"There is no transect on a main line{named}, so no width to draw: leave the plot out."
        )
    return pd.DataFrame(along.drop(columns="geometry"))
