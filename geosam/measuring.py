"""Outlines or masks in files -> the layers of rivers: what ``geosam rivers`` does."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pyogrio
import shapely

from geosam.clock import Clock
from geosam.commands import Written
from geosam.errors import InputError, OptionError, OutputError
from geosam.export.geopackage import layer_names, read_layer, write_geopackage
from geosam.export.width_plot import plot_widths
from geosam.ground import area_m2, perimeter_m, pixel_area_m2
from geosam.layers import LAYERS
from geosam.longitudes import brought_to
from geosam.options import Options
from geosam.overlay import VECTOR_SUFFIXES
from geosam.rivers import measure_rivers
from geosam.rivers.scene_edge import bounding_box, footprint, on_edge
from geosam.strips import open_raster, open_strips
from geosam.tables import run_row
from geosam.vectors import islands, outlines
from geosam.workspace import Targets, check_targets, check_writable

RIVER_LAYERS = ("centerlines", "nodes", "reaches", "transects", "banks")
"""The layers that measuring adds."""
DRAWING = ("threshold", "min_area", "min_island", "simplify")
"""Options of :func:`geosam.outlines`, where a source is a raster."""
MEASURING = ("join_gap", "spacing", "spur", "flow")
"""Options of :func:`geosam.measure_rivers`."""


@dataclass(frozen=True)
class Measurable:
    """Outlines, and what is known of where they come from."""

    outlines: gpd.GeoDataFrame
    """Polygons of water."""
    edge: gpd.GeoSeries | None
    """Where the scene has data; None where nobody knows."""
    pixel_m: float | None
    """Pixel in metres on the ground; None where nobody knows."""
    probability: str | Path | None
    """The probability of water in the same place, where there is one."""


def write_rivers(
    source: str | Path,
    output: str | Path,
    *,
    probability: str | Path | None = None,
    plot: str | Path | None = None,
    **options: Any,
) -> Written:
    """Write centrelines, reaches, transects and banks of outlines or a mask: ``geosam rivers``.

    Parameters
    ----------
    source
        A vector file with polygons of water (of several layers, ``outlines``), or a mask or
        probability raster.
    output
        The GeoPackage to write. Where it is `source`, the layers are added to it, and its outlines
        learn their `kind`.
    probability
        A probability raster of the same place, for `width_low_m` and `width_high_m`. A `source`
        that is one itself needs no other.
    plot
        Also draw width along the longest main line, as a PNG.
    **options
        Of :class:`geosam.options.Options`: `threshold`, `min_area`, `min_island` and `simplify` as
        for :func:`geosam.outlines`, where `source` is a raster; `join_gap`, `spacing`, `spur` and
        `flow` as for :func:`geosam.measure_rivers`; `overwrite`, whether to replace an existing
        output, or layers that are in it already.

    Raises
    ------
    GeosamError
        If the request or its input is wrong; nothing is written then.
    """
    chosen = choose(options, (*DRAWING, *MEASURING, "overwrite"))
    started, clock = datetime.now(UTC), Clock()
    within = _adds_to(source, output, chosen.overwrite)
    if plot is not None:
        check_targets(Targets(quicklook=Path(plot)), [str(source), str(output)], chosen.overwrite)
    with clock.time("outlines"):
        given = read_measurable(source, probability, chosen)
    with clock.time("rivers"):
        layers = measure_rivers(
            given.outlines,
            edge=given.edge,
            pixel_m=given.pixel_m,
            probability=given.probability,
            **named(chosen, MEASURING),
        )
    if plot is not None:
        plot_widths(layers["transects"], layers["centerlines"], plot)
    parameters = {**named(chosen, (*DRAWING, *MEASURING)), "probability": probability}
    row = run_row("rivers", str(source), parameters, started, clock)
    layers["islands"] = islands(layers["outlines"])
    runs = _with_earlier(output, row) if within else row
    replaced = chosen.overwrite and not within
    write_geopackage(output, append=within, overwrite=replaced, **layers, runs=runs)
    return Written(str(output), (), _counts(layers), clock.seconds())


def choose(options: Mapping[str, Any], names: Sequence[str]) -> Options:
    """Make options of those keywords that a step looks at.

    Raises
    ------
    OptionError
        A keyword is none of `names`, or its value is out of its range.
    """
    for name in options:
        if name not in names:
            raise OptionError(f"{name!r} is not an option here. Options: {', '.join(names)}.")
    return Options(rivers=True, **options)


def named(options: Options, names: Sequence[str]) -> dict[str, Any]:
    """Return some options as keywords."""
    return {name: getattr(options, name) for name in names}


def read_measurable(
    source: str | Path, probability: str | Path | None, options: Options
) -> Measurable:
    """Read outlines, or draw them from a mask or probability raster.

    Parameters
    ----------
    source, probability
        As for :func:`write_rivers`.
    options
        How outlines are drawn from a raster.

    Raises
    ------
    InputError
        A file cannot be read, holds no polygons, or has no CRS.
    """
    vector = Path(source).suffix.lower() in VECTOR_SUFFIXES
    raster = probability if vector else source
    found = _read_outlines(source) if vector else outlines(source, **named(options, DRAWING))
    if len(found) == 0:
        raise InputError(
            f"{source} has no water"
            + ("" if vector else " of the smallest size (--min-area) or larger")
            + ": without an outline there is no river to measure."
        )
    pixel = None if raster is None else float(pixel_area_m2(open_strips(raster).geobox)) ** 0.5
    edge = _tiles(source) if vector else footprint(source)
    known = raster is not None and _is_probability(raster, probability is not None)
    return Measurable(_completed(found, edge), edge, pixel, raster if known else None)


def _adds_to(source: str | Path, output: str | Path, overwrite: bool) -> bool:
    """Check the output, and tell whether it is the source, to which layers are added."""
    output = Path(output)
    if not (output.exists() and output.resolve() == Path(source).resolve()):
        check_targets(Targets(outlines=output), [str(source)], overwrite)
        return False
    check_writable(output, overwrite=True)
    there = sorted(set(RIVER_LAYERS) & set(layer_names(output)))
    if there and not overwrite:
        raise OutputError(
            f"{output} has the layers {', '.join(there)} already. Use --overwrite to replace them, "
            "or name another output."
        )
    return True


def _read_outlines(path: str | Path) -> gpd.GeoDataFrame:
    names = layer_names(path)
    if "outlines" in names:
        return read_layer(path, "outlines")
    kinds = {str(name): str(kind) for name, kind in pyogrio.list_layers(path)}
    flat = [name for name in names if "Polygon" in kinds[name]] or names
    if len(flat) != 1:
        raise InputError(
            f"{path} has the layers {', '.join(names) or 'none'}: which holds the outlines cannot be "
            "told. Name one of them outlines."
        )
    frame = read_layer(path, flat[0])
    if not isinstance(frame, gpd.GeoDataFrame):
        raise InputError(f"The layer {flat[0]} of {path} has no polygons to measure.")
    return frame


def _tiles(path: str | Path) -> gpd.GeoSeries | None:
    """Return where a run's scene lay: its tiles, of which the scene is made."""
    if "tiles" not in layer_names(path):
        return None
    tiles = read_layer(path, "tiles")
    seen = tiles[tiles.status != "skipped_nodata"]
    return gpd.GeoSeries([shapely.union_all(seen.geometry.to_numpy())], crs=tiles.crs)


def _is_probability(raster: str | Path, asked: bool) -> bool:
    with open_raster(raster) as file:
        is_mask = not file.dtypes[0].startswith("float") and file.scales[0] == 1
    if is_mask and asked:
        raise InputError(f"{raster} is a mask, and low and high widths need a probability.")
    return not is_mask


def _completed(frame: gpd.GeoDataFrame, edge: gpd.GeoSeries | None) -> gpd.GeoDataFrame:
    """Give polygons of any origin the columns of outlines that they lack."""
    if set(LAYERS["outlines"].columns) <= set(frame.columns) or frame.crs is None:
        return frame
    frame = frame[~(frame.geometry.isna() | frame.geometry.is_empty)].explode(ignore_index=True)
    polygons = frame.geometry.to_numpy()
    number = np.arange(1, len(frame) + 1)
    known = edge if edge is not None else bounding_box(frame)
    beside = brought_to(known, frame.crs, float(frame.total_bounds[[0, 2]].mean()))
    cut = [bool(on.any()) for on in on_edge(polygons, beside, 0.0)]
    columns = {
        "outline_id": number,
        "river_id": number,
        "kind": "unknown",
        "area_m2": area_m2(polygons, frame.crs),
        "perimeter_m": perimeter_m(polygons, frame.crs),
        "n_islands": shapely.get_num_interior_rings(polygons),
        "probability": np.nan,
        "predicted_iou": np.nan,
        "stability": np.nan,
        "truncated": cut,
        "needs_review": False,
    }
    return frame.assign(**{k: v for k, v in columns.items() if k not in frame})


def _with_earlier(path: str | os.PathLike, row: pd.DataFrame) -> pd.DataFrame:
    if "runs" not in layer_names(path):
        return row
    return pd.concat([read_layer(path, "runs"), row], ignore_index=True)


def _counts(layers: dict[str, gpd.GeoDataFrame]) -> dict[str, Any]:
    main = layers["centerlines"][layers["centerlines"].main]
    on_main = layers["transects"][layers["transects"].reach_id.isin(main.reach_id)]
    plain = on_main[on_main.flag == ""]
    return {
        "kinds": layers["outlines"].kind.value_counts().to_dict(),
        "rivers": int(main.river_id.nunique()),
        "reaches": len(layers["reaches"]),
        "main_m": float(main.length_m.sum()),
        "channels_m": float(layers["centerlines"].length_m.sum()),
        "width_m": float(plain.width_m.mean()) if len(plain) else None,
        "span_m": float(plain.span_m.mean()) if len(plain) else None,
        "braiding": float(plain.n_channels.mean()) if len(plain) else None,
        "transects": len(layers["transects"]),
        "flagged": int((layers["transects"].flag != "").sum()),
    }
