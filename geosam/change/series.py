"""Outlines of two or more dates -> the layers of change between each and the next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely

from geosam.change.areas import gained
from geosam.change.cutoffs import cutoffs
from geosam.change.dates import check_order, decimal_year
from geosam.change.migration import MainLine, moves
from geosam.errors import InputError, OptionError
from geosam.ground import area_m2, length_m
from geosam.layers import LAYERS, empty_layer
from geosam.longitudes import brought_to
from geosam.rivers import measure_rivers
from geosam.rivers.plane import Plane

STEP_WIDTHS = 0.5
"""Default distance of perpendiculars, in widths."""
UNCERTAINTY_PX = 0.5
"""How far a bank may be wrong where nothing else is said, in pixels."""


@dataclass(frozen=True)
class Moment:
    """A river at one date."""

    name: str
    """Date, or any other name."""
    outlines: gpd.GeoDataFrame
    """Polygons of water, in any CRS."""
    edge: gpd.GeoSeries | None = None
    """Where the scene has data."""
    pixel_m: float | None = None
    """Pixel in metres."""


@dataclass(frozen=True)
class _Flat:
    """A moment in the common plane."""

    name: str
    water: Any
    seen: Any
    main: MainLine | None
    uncertainty: float


def measure_change(
    moments: Sequence[Moment],
    *,
    dated: bool = False,
    uncertainty: float | None = None,
    spacing: float | None = None,
    join_gap: float = 0.0,
    flow: str | None = None,
) -> dict[str, pd.DataFrame]:
    """Measure what changed from each moment to the next.

    Parameters
    ----------
    moments : sequence of Moment
        At least two, from early to late, in any CRS and on any grid.
    dated : bool
        Whether their names are dates, so that there are rates.
    uncertainty : float, optional
        Metres that a bank may be wrong at one date; half a pixel where not given. Two dates
        together are uncertain by the root of the sum of squares.
    spacing : float, optional
        Metres between the perpendiculars along which migration is measured; half a width of the
        river where not given.
    join_gap : float
        Metres across which outlines of one date are one river.
    flow : str, optional
        Compass direction in which the river flows; see :func:`geosam.measure_rivers`.

    Returns
    -------
    dict of str to geopandas.GeoDataFrame or pandas.DataFrame
        In the CRS of the first: ``erosion`` (land that became water) and ``accretion`` (water that
        became land), only where both scenes have data, wider than the uncertainty or not;
        ``migration``, lines from the earlier main line of the largest river to the later one, with
        `left_m` and `right_m`, by which the banks retreated there; ``cutoffs``; and ``series``, a
        table with a row for each date, its areas and means since the date before.

    Raises
    ------
    InputError
        Scenes do not overlap, or the outlines of one cannot be measured.
    OptionError
        There are fewer than two moments, dates are not in order, or a number is out of range.
    """
    _check(moments, dated, uncertainty=uncertainty, spacing=spacing)
    crs = moments[0].outlines.crs
    centre = _middle(moments[0].outlines)
    frames = [_in_crs(moment, crs, centre) for moment in moments]
    corners = np.array([frame.total_bounds for frame in frames])
    plane = Plane(crs, [*corners[:, :2].min(axis=0), *corners[:, 2:].max(axis=0)])
    measured = [
        _measured(m, frame, join_gap=join_gap, flow=flow)
        for m, frame in zip(moments, frames, strict=True)
    ]
    flat = [_flatten(m, f, plane, uncertainty) for m, f in zip(moments, measured, strict=True)]
    parts: dict[str, list[pd.DataFrame]] = {
        n: [] for n in ("erosion", "accretion", "migration", "cutoffs")
    }
    for before, after in pairwise(flat):
        for name, frame in _between(before, after, plane, spacing, dated).items():
            parts[name].append(frame)
    layers = {name: _stacked(name, frames, crs) for name, frames in parts.items()}
    return layers | {"series": _series(measured, moments, layers)}


def _check(moments: Sequence[Moment], dated: bool, **sizes: float | None) -> None:
    if len(moments) < 2:
        raise OptionError("Change is between two dates or more: give at least two outlines.")
    if dated:
        check_order([m.name for m in moments], len(moments))
    for name, size in sizes.items():
        least = name == "uncertainty"
        if size is not None and not (size >= 0 if least else size > 0):
            rule = "must not be negative" if least else "must be greater than 0"
            raise OptionError(f"{name} = {size} {rule}.")
    for moment in moments:
        if moment.outlines.crs is None:
            raise InputError(f"The outlines of {moment.name} have no CRS: set it in the file.")


def _in_crs(moment: Moment, crs: Any, centre: float) -> gpd.GeoDataFrame:
    frame = moment.outlines
    if len(frame) == 0:
        raise InputError(f"There is no water at {moment.name}, so nothing can be compared.")
    return frame.set_geometry(brought_to(frame.geometry, crs, centre))


def _middle(frame: gpd.GeoDataFrame) -> float:
    """Return the middle along x of outlines."""
    return float(frame.total_bounds[[0, 2]].mean())


def _measured(moment: Moment, frame: gpd.GeoDataFrame, **options: Any) -> dict[str, Any]:
    try:
        return measure_rivers(frame, edge=moment.edge, pixel_m=moment.pixel_m, **options)
    except InputError as error:
        raise InputError(f"{moment.name}: {error}") from error


def _flatten(
    moment: Moment, found: dict[str, Any], plane: Plane, uncertainty: float | None
) -> _Flat:
    outlines = found["outlines"]
    water = plane.to_plane(outlines.geometry.to_numpy())
    whole = shapely.union_all(water)
    if moment.edge is None:
        seen = shapely.box(*whole.bounds)
    else:
        edge = brought_to(moment.edge, outlines.crs, _middle(outlines))
        seen = plane.to_plane(shapely.union_all(edge.to_numpy()))
    pixel = moment.pixel_m or _typical_step(whole)
    own = UNCERTAINTY_PX * pixel if uncertainty is None else uncertainty
    return _Flat(moment.name, whole, seen, _main(found, water, plane), own)


def _typical_step(water: Any) -> float:
    points = shapely.get_coordinates(water)
    return float(np.median(np.hypot(*np.diff(points, axis=0).T)))


def _main(found: dict[str, Any], water: np.ndarray, plane: Plane) -> MainLine | None:
    """Return the main line of the river with most water, or None without a river."""
    lines, outlines = found["centerlines"], found["outlines"]
    rivers = outlines[outlines.kind == "river"]
    if len(rivers) == 0:
        return None
    river = (
        rivers.groupby("river_id").area_m2.sum().idxmax()
        if "area_m2" in rivers
        else (rivers.river_id.iloc[0])
    )
    parts = lines[lines.main & (lines.river_id == river)]
    if len(parts) == 0:
        return None
    flat = plane.to_plane(parts.geometry.to_numpy())
    line = np.concatenate([shapely.get_coordinates(part) for part in flat])
    line = line[np.hypot(*np.diff(line, axis=0, prepend=line[:1] - 1).T) > 1e-6]
    own = np.flatnonzero((outlines.river_id == river).to_numpy())
    largest = own[shapely.area(water[own]).argmax()]
    width = found["transects"][found["transects"].reach_id.isin(parts.reach_id)].channel_m.median()
    return MainLine(line, float(width), water[largest])


def _between(
    before: _Flat, after: _Flat, plane: Plane, spacing: float | None, dated: bool
) -> dict[str, gpd.GeoDataFrame]:
    both = shapely.intersection(before.seen, after.seen)
    if both.is_empty or both.area == 0:
        raise InputError(
            f"The scenes of {before.name} and {after.name} do not overlap, so nothing can be "
            "compared: check that both show one place and have the right CRS."
        )
    unsure = float(np.hypot(before.uncertainty, after.uncertainty))
    old, new = (shapely.intersection(moment.water, both) for moment in (before, after))
    dates = {"from_date": before.name, "to_date": after.name}
    layers = {
        "erosion": _area_layer("erosion", *gained(old, new, unsure), dates, plane),
        "accretion": _area_layer("accretion", *gained(new, old, unsure), dates, plane),
    }
    years = decimal_year(after.name) - decimal_year(before.name) if dated else np.nan
    if before.main is None or after.main is None:
        return layers
    step = spacing or STEP_WIDTHS * before.main.width
    layers["migration"] = _migration(before.main, after.main, step, unsure, years, dates, plane)
    layers["cutoffs"] = _cutoffs(before.main, after.main, both, dates, plane)
    return layers


def _area_layer(
    name: str, polygons: np.ndarray, beyond: np.ndarray, dates: dict[str, str], plane: Plane
) -> gpd.GeoDataFrame:
    there = plane.from_plane(polygons)
    areas = area_m2(there, plane.crs) if len(there) else np.empty(0)
    columns: dict[str, Any] = {**dates, "area_m2": areas, "beyond_uncertainty": beyond}
    return gpd.GeoDataFrame(columns, geometry=list(there), crs=plane.crs)


def _migration(
    before: MainLine,
    after: MainLine,
    step: float,
    unsure: float,
    years: float,
    dates: dict[str, str],
    plane: Plane,
) -> gpd.GeoDataFrame:
    found = moves(before, after, step)
    lines = plane.from_plane(shapely.linestrings(np.stack([found.start, found.end], axis=1)))
    distance = length_m(lines, plane.crs) if len(lines) else np.empty(0)
    columns = {
        **dates,
        "distance_m": distance,
        "rate_m_per_year": distance / years,
        "left_m": found.left,
        "right_m": found.right,
        "beyond_uncertainty": distance > unsure,
    }
    return gpd.GeoDataFrame(columns, geometry=lines, crs=plane.crs)


def _cutoffs(
    before: MainLine, after: MainLine, seen: Any, dates: dict[str, str], plane: Plane
) -> gpd.GeoDataFrame:
    found = cutoffs(before, after, shapely.boundary(seen))
    columns = {**dates, "length_lost_m": [lost for _, lost in found]}
    polygons = [plane.from_plane(polygon) for polygon, _ in found]
    return gpd.GeoDataFrame(columns, geometry=polygons, crs=plane.crs)


def _stacked(name: str, frames: list[pd.DataFrame], crs: Any) -> pd.DataFrame:
    full = [frame for frame in frames if len(frame)]
    if not full:
        return empty_layer(name, crs)
    frame = pd.concat(full, ignore_index=True).astype(dict(LAYERS[name].columns))
    more = [c for c in frame.columns if c not in LAYERS[name].columns and c != "geometry"]
    return frame[[*LAYERS[name].columns, *more, "geometry"]]


def _series(
    measured: list[dict[str, Any]], moments: Sequence[Moment], layers: dict[str, Any]
) -> pd.DataFrame:
    rows = [
        _row(
            moment.name,
            found,
            {name: frame[frame.to_date == moment.name] for name, frame in layers.items()},
        )
        for moment, found in zip(moments, measured, strict=True)
    ]
    return pd.DataFrame(rows).astype(dict(LAYERS["series"].columns))


def _row(name: str, found: dict[str, Any], since: dict[str, Any]) -> dict[str, Any]:
    lines, transects = found["centerlines"], found["transects"]
    main = lines[lines.main]
    on_main = transects[transects.reach_id.isin(main.reach_id) & (transects.flag == "")]
    outlines = found["outlines"]
    sure = {k: since[k][since[k].beyond_uncertainty.astype(bool)] for k in ("erosion", "accretion")}
    return {
        "date": name,
        "water_m2": float(area_m2(outlines.geometry.to_numpy(), outlines.crs).sum()),
        "main_m": float(main.length_m.sum()),
        "width_mean_m": float(on_main.width_m.mean()),
        "erosion_m2": float(sure["erosion"].area_m2.sum()),
        "accretion_m2": float(sure["accretion"].area_m2.sum()),
        "migration_mean_m": float(since["migration"].distance_m.mean()),
        "rate_m_per_year": float(since["migration"].rate_m_per_year.mean()),
        "n_cutoffs": len(since["cutoffs"]),
        "length_lost_m": float(since["cutoffs"].length_lost_m.sum()),
    }
