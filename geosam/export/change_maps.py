"""What changed between dates as small maps, one for each step."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np

from geosam.errors import InputError
from geosam.export.pictures import figure_of, save
from geosam.longitudes import brought_to

_COLOURS = {"erosion": "#d7301f", "accretion": "#3f8f3a", "cutoffs": "#7b3fa0"}
_LABELS = {"erosion": "land to water", "accretion": "water to land", "cutoffs": "cut off"}


def plot_change(
    layers: Mapping[str, Any],
    outlines: Sequence[gpd.GeoDataFrame],
    path: str | os.PathLike,
    *,
    columns: int = 4,
) -> Path:
    """Draw erosion, accretion and cut-offs of every step over the water of its later date.

    Parameters
    ----------
    layers : mapping of str to geopandas.GeoDataFrame
        As :func:`geosam.measure_change` gives them.
    outlines : sequence of geopandas.GeoDataFrame
        The water of every date, from early to late, in any CRS.
    path : path
        Where to write the PNG; the folder must exist.
    columns : int
        Maps side by side.

    Returns
    -------
    pathlib.Path
        `path`.

    Raises
    ------
    InputError
        There are fewer than two dates.
    OutputError
        The picture cannot be written.
    """
    dates = layers["series"].date.tolist()
    if len(dates) < 2:
        raise InputError("A map of change needs two dates or more.")
    crs = layers["erosion"].crs
    centre = float(outlines[0].to_crs(crs).total_bounds[[0, 2]].mean())
    water = [brought_to(frame.geometry, crs, centre) for frame in outlines]
    left, bottom, right, top = np.array([frame.total_bounds for frame in water]).T
    steps = len(dates) - 1
    columns = min(columns, steps)
    rows = -(-steps // columns)
    size = _size(left.min(), bottom.min(), right.max(), top.max(), crs)
    figure, axes = figure_of(rows, (4 * columns, rows * (4 * size + 0.4)), columns=columns)
    axes = np.ravel(axes)
    for ax, step in zip(axes, range(steps), strict=False):
        _map(ax, layers, water[step + 1], dates[step], dates[step + 1])
        ax.set(xlim=(left.min(), right.max()), ylim=(bottom.min(), top.max()))
    for ax in axes[:steps]:
        ax.set(xticks=[], yticks=[], xlabel="", ylabel="")
        ax.spines[:].set(color="0.8")
    for ax in axes[steps:]:
        ax.set_axis_off()
    axes[0].legend(handles=_handles(), loc="lower left", fontsize=7)
    return save(figure, path)


def _map(ax: Any, layers: Mapping[str, Any], water: Any, before: str, after: str) -> None:
    water.plot(ax=ax, color="#cfe3f2")
    for name, colour in _COLOURS.items():
        frame = layers[name]
        frame = frame[(frame.from_date == before) & (frame.to_date == after)]
        if "beyond_uncertainty" in frame:
            frame = frame[frame.beyond_uncertainty]
        if len(frame) and name == "cutoffs":
            frame.boundary.plot(ax=ax, color=colour, lw=1.5)
        elif len(frame):
            frame.plot(ax=ax, color=colour)
    ax.set_title(f"{before} to {after}", fontsize=9)


def _handles() -> list[Any]:
    from matplotlib.patches import Patch

    return [Patch(color=colour, label=_LABELS[name]) for name, colour in _COLOURS.items()]


def _size(left: float, bottom: float, right: float, top: float, crs: Any) -> float:
    """Return height over width on the ground."""
    shrink = np.cos(np.radians((bottom + top) / 2)) if crs.is_geographic else 1.0
    return float((top - bottom) / ((right - left) * shrink))
