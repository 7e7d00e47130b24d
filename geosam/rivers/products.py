"""Outlines -> what hydrologists publish: centrelines, nodes, reaches, transects, banks, kinds."""

from __future__ import annotations

from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely

from geosam.errors import OptionError
from geosam.ground import length_m
from geosam.layers import LAYERS, empty_layer
from geosam.options import SPUR
from geosam.rivers.contours import HIGH, LOW, level_widths, read_profiles
from geosam.rivers.course import COMPASS, Reach, reaches
from geosam.rivers.kinds import kinds
from geosam.rivers.laying import lay_all
from geosam.rivers.transects import Transects
from geosam.rivers.water import Water, read_water

THIN_PX = 0.05
"""Tolerance, in pixels, at which the points of a smooth line are thinned out."""
WITH_LINES = ("river", "oxbow")
"""Kinds of outline that have lines."""


def measure_rivers(
    outlines: gpd.GeoDataFrame,
    *,
    edge: gpd.GeoSeries | None = None,
    pixel_m: float | None = None,
    spacing: float | None = None,
    spur: float = SPUR,
    join_gap: float = 0.0,
    flow: str | None = None,
    probability: Any = None,
) -> dict[str, gpd.GeoDataFrame]:
    """Measure the rivers among outlines.

    Parameters
    ----------
    outlines : geopandas.GeoDataFrame
        Valid polygons of water in any CRS with a place on Earth, islands as holes, as
        :func:`geosam.outlines` gives them; of other columns only `river_id` and `truncated` are
        looked at.
    edge : geopandas.GeoSeries, optional
        Polygons within which the scene has data. Rivers go on beyond it. By default the box around
        the outlines, if any of them is `truncated`.
    pixel_m : float, optional
        Pixel of the raster they were drawn from, in metres; estimated from the outlines where not
        given.
    spacing : float, optional
        Metres between transects. Default a quarter of the mean width of each river's channels.
    spur : float
        Dead ends that are no longer than this many widths, of their mouth and of the channel they
        leave, are bays and not channels.
    join_gap : float
        Metres across which outlines are one river; 0 takes `river_id` as it is.
    flow : str, optional
        Compass direction in which the rivers flow: n, ne, e, se, s, sw, w or nw. Lines are drawn
        that way; otherwise from west to east, or north to south where that is further.
    probability : path or xarray.DataArray of shape (y, x), optional
        Probability of water in any CRS, for `width_low_m` (above 0.75) and `width_high_m` (0.25).

    Returns
    -------
    dict of str to geopandas.GeoDataFrame
        ``outlines`` (the given ones with their `kind`; those of other kinds than river and oxbow
        have no lines), ``centerlines``, ``nodes``, ``reaches``, ``transects`` and ``banks``, in
        the CRS of the outlines, lengths in metres on the ground. `width_m`, `span_m` and
        `n_channels` of a transect on the main line are of the whole river, those on a side
        channel of that channel; `channel_m` is always of the channel the line runs in, and
        `width_mean_m` of a reach is the mean of these. `distance_m` counts along the main line of
        the river, or along the reach of a side channel.

    Raises
    ------
    InputError
        There is no outline, one is not valid, all is water, or the CRS has no place on Earth.
    OptionError
        An option is out of its range.

    Examples
    --------
    >>> import shapely
    >>> river = gpd.GeoDataFrame(geometry=[shapely.box(5e5, 5e6, 501e3, 5e6 + 50)], crs="EPSG:32633")
    >>> bool(abs(measure_rivers(river)["transects"].width_m.mean() - 50) < 0.1)
    True
    """
    _check(flow, spacing=spacing, spur=spur, join_gap=join_gap, pixel_m=pixel_m)
    water = read_water(outlines, edge, pixel_m, spur, join_gap)
    kind = kinds(water.shapes())
    course = reaches(water.networks, water.rivers, np.isin(kind, WITH_LINES), join_gap, flow)
    laid = lay_all(course, water, spacing)
    transects = _transects(laid, water, probability)
    nodes, ends = _nodes(course, water)
    lines = _lines(course, water)
    return {
        "outlines": water.frame.assign(kind=kind.astype(str), river_id=water.rivers),
        "centerlines": _centerlines(course, lines, ends),
        "nodes": nodes,
        "reaches": _reaches(course, lines, transects),
        "transects": _in_layer(transects, "transects", ("channel_m",)),
        "banks": _banks(course, water),
    }


def no_rivers(crs: Any) -> dict[str, gpd.GeoDataFrame]:
    """Return the layers that measuring adds, without a row."""
    names = ("centerlines", "nodes", "reaches", "transects", "banks")
    return {name: empty_layer(name, crs) for name in names}


def _check(flow: str | None, **sizes: float | None) -> None:
    if flow is not None and flow not in COMPASS:
        raise OptionError(f"flow {flow!r} is unknown. Use one of {', '.join(COMPASS)}.")
    for name, size in sizes.items():
        least = name in ("join_gap", "spur")
        if size is not None and not (size >= 0 if least else size > 0):
            rule = "must not be negative" if least else "must be greater than 0"
            raise OptionError(f"{name} = {size} {rule}.")


def _in_layer(frame: gpd.GeoDataFrame, layer: str, more: tuple[str, ...] = ()) -> gpd.GeoDataFrame:
    columns = dict(LAYERS[layer].columns)
    return frame.astype(columns)[[*columns, *more, "geometry"]]


def _lines(course: list[Reach], water: Water) -> gpd.GeoSeries:
    """Return the centrelines in the CRS of the outlines, thinned where they stay in the water."""
    whole = np.array([shapely.LineString(r.channel.line) for r in course], dtype=object)
    thin = shapely.simplify(whole, THIN_PX * water.pixel_m)
    within = [
        shapely.covers(
            water.polygons[r.outline], shapely.LineString(shapely.get_coordinates(t)[1:-1])
        )
        if shapely.get_num_coordinates(t) > 3
        else False
        for r, t in zip(course, thin, strict=True)
    ]
    kept = np.where(np.array(within, bool), thin, whole)
    return gpd.GeoSeries(water.plane.from_plane(kept), crs=water.frame.crs)


def _nodes(course: list[Reach], water: Water) -> tuple[gpd.GeoDataFrame, np.ndarray]:
    """Return the layer of nodes, and the number of the first and last node of each reach."""
    keys = [(r.outline, n) for r in course for n in (r.channel.start, r.channel.end)]
    number = {key: i + 1 for i, key in enumerate(dict.fromkeys(keys))}
    places = np.array([water.networks[o].places[n] for o, n in number]).reshape(-1, 2)
    points = water.plane.from_plane(shapely.points(places)) if len(places) else []
    frame = gpd.GeoDataFrame(
        {"node_id": list(number.values()), "kind": [water.networks[o].kinds[n] for o, n in number]},
        geometry=points,
        crs=water.frame.crs,
    )
    return _in_layer(frame, "nodes"), np.array([number[key] for key in keys]).reshape(-1, 2)


def _centerlines(course: list[Reach], lines: gpd.GeoSeries, ends: np.ndarray) -> gpd.GeoDataFrame:
    frame = gpd.GeoDataFrame(
        {
            "reach_id": np.arange(1, len(course) + 1),
            "river_id": [r.river for r in course],
            "main": [r.main for r in course],
            "from_node": ends[:, 0],
            "to_node": ends[:, 1],
            "length_m": length_m(lines, lines.crs) if len(lines) else [],
        },
        geometry=lines.to_numpy(),
        crs=lines.crs,
    )
    return _in_layer(frame, "centerlines")


def _transects(laid: Transects, water: Water, probability: Any) -> gpd.GeoDataFrame:
    crs = water.frame.crs
    flat = shapely.linestrings(np.stack([laid.left, laid.right], axis=1))
    lines = water.plane.from_plane(flat)
    span = length_m(lines, crs) if len(lines) else np.empty(0)
    # From the plane to the ground, which differ by little, along each line alike.
    scale = span / np.maximum(laid.span, 1e-12)
    frame = gpd.GeoDataFrame(
        {
            "transect_id": np.arange(1, len(lines) + 1),
            "reach_id": laid.channel + 1,
            "distance_m": laid.distance,
            "width_m": laid.width * scale,
            "span_m": span,
            "n_channels": laid.n_channels,
            "channel_m": laid.own * scale,
            "width_low_m": np.nan,
            "width_high_m": np.nan,
            "flag": laid.flag.astype(str),
            "clear": laid.clear,
        },
        geometry=lines,
        crs=crs,
    )
    if probability is not None:
        profiles = read_profiles(laid, water.plane, probability, water.pixel_m)
        frame["width_low_m"] = level_widths(profiles, LOW) * scale
        frame["width_high_m"] = level_widths(profiles, HIGH) * scale
    return frame


def _reaches(
    course: list[Reach], lines: gpd.GeoSeries, transects: gpd.GeoDataFrame
) -> gpd.GeoDataFrame:
    length = length_m(lines, lines.crs) if len(lines) else np.empty(0)
    chords = [shapely.LineString(shapely.get_coordinates(line)[[0, -1]]) for line in lines]
    straight = length_m(chords, lines.crs) if chords else np.empty(0)
    number = np.arange(1, len(course) + 1)
    frame = gpd.GeoDataFrame(
        {
            "reach_id": number,
            "river_id": [r.river for r in course],
            "length_m": length,
            # A ring that comes back to its node has no straight way to compare with.
            "sinuosity": np.where(
                straight > 1e-6 * length, length / np.maximum(straight, 1e-9), np.nan
            ),
            "width_mean_m": _mean_by(transects, "channel_m", number),
            "braiding_index": _mean_by(transects, "n_channels", number),
        },
        geometry=lines.to_numpy(),
        crs=lines.crs,
    )
    return _in_layer(frame, "reaches")


def _mean_by(transects: gpd.GeoDataFrame, column: str, reach: np.ndarray) -> Any:
    """Return the mean of a column for each reach: of transects without a flag and clear of
    junctions where there are any.
    """
    table = pd.DataFrame(transects.drop(columns="geometry"))
    table["plain"] = table.flag == ""
    for name in ("plain", "clear"):
        good = table[name]
        table = table[good | ~table.reach_id.isin(table.reach_id[good])]
    return table.groupby("reach_id")[column].mean().reindex(reach).to_numpy()


def _banks(course: list[Reach], water: Water) -> gpd.GeoDataFrame:
    rows = [
        (r.river, number, side, bank)
        for number, r in enumerate(course, 1)
        for side, bank in (("left", r.channel.left), ("right", r.channel.right))
        if len(bank) > 1
    ]
    lines = np.array([shapely.LineString(bank) for *_, bank in rows], dtype=object)
    frame = gpd.GeoDataFrame(
        {
            "river_id": [row[0] for row in rows],
            "reach_id": [row[1] for row in rows],
            "side": [row[2] for row in rows],
        },
        geometry=water.plane.from_plane(lines) if len(lines) else [],
        crs=water.frame.crs,
    )
    return _in_layer(frame, "banks")
