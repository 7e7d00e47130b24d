"""Masks and probabilities to outlines: polygons that follow the water and say how sure they are.

Water is 8-connected and land 4-connected. Where water pixels touch only at a corner, that corner
alone is bridged, by less than 0.05 px, so that a diagonal stream stays one valid polygon.
"""

from __future__ import annotations

from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from geosam.errors import OptionError
from geosam.ground import area_m2, crs_of, moved, perimeter_m, pixel_area_m2, resolution_m
from geosam.heap import give_back
from geosam.layers import LAYERS
from geosam.regions import Regions, read_regions
from geosam.rings import Corners, Rings, link_rings
from geosam.simplify import pixel_polygons, shell_polygons, smooth_polygons, thin
from geosam.strips import open_strips

MIN_AREA_PX = 12
"""Default smallest outline and island, in pixels of the raster."""
SIMPLIFY_PX = 0.75
"""Default tolerance, in pixels of the raster."""
SMALL_PX = 1000
"""Pixels below which the area of an outline is kept more strictly, for there are many."""
REVIEW_PROBABILITY = 0.6
"""Below this mean probability an outline needs review: of 705 outlines on validation images 35 %, of those
that are wrong (less than half water) 47 %. Four fifths of those it names are wrong."""
REVIEW_STABILITY = 0.3
"""Below this stability an outline needs review: likewise 50 %, of the wrong ones 70 %, and four fifths."""
REVIEW_IOU = 0.7
"""Below this predicted IoU an outline needs review."""


def outlines(
    source: Any,
    *,
    threshold: float = 0.5,
    min_area: float | None = None,
    min_island: float | None = None,
    simplify: float | None = None,
    join_gap: float = 0.0,
    predicted_iou: Any = None,
) -> gpd.GeoDataFrame:
    """Turn a mask or a probability raster into outlines, one row for each connected water.

    Parameters
    ----------
    source : path or xarray.DataArray of shape (y, x)
        A mask (bool, or integers 0 and 1) or the probability of water in 0..1 (float, or integers
        with a scale). Nodata is NaN, the declared value, or 255 in a mask; it is not water. Any
        grid with a CRS: rotated and south-up ones as well. Read in strips; a Dask array is
        computed once.
    threshold : float
        Probability above which a pixel is water.
    min_area : float, optional
        Smallest outline in m² on the ground. Default 12 pixels.
    min_island : float, optional
        Smallest hole in m² on the ground; smaller ones are filled. Default 12 pixels.
    simplify : float, optional
        Tolerance in metres; 0 leaves the pixel edges. Default 0.75 pixels. The area of an
        outline or an island changes by at most 0.2 %, and lines never come to cross.
    join_gap : float
        Outlines this many metres apart or nearer are one river: they share a `river_id`.
    predicted_iou : path, DataArray of the same grid, or GeoDataFrame, optional
        Predicted IoU of every pixel, or tiles with a column `predicted_iou`. Tiles with `status`
        ``failed`` mark the outlines they touch for review.

    Returns
    -------
    geopandas.GeoDataFrame
        Valid polygons that do not overlap, in the CRS of the raster, largest first. Columns:
        `outline_id` (1, 2, ...), `river_id` (that of the largest outline of the river), `kind`
        (``unknown``), `area_m2` and `perimeter_m` (on the ground, islands' banks included),
        `n_islands`, `probability` (mean of the pixels), `predicted_iou` (mean of the pixels),
        `stability` (pixels above 0.73 over pixels above 0.27, in the region above 0.27 that holds
        the outline), `truncated` (touches the scene's edge or nodata) and `needs_review`
        (probability below 0.6, stability below 0.3, predicted IoU below 0.7, or a failed tile
        beside it). What is unknown is NaN and needs no review.

    Raises
    ------
    InputError
        The raster cannot be read, has no CRS, or is neither a mask nor a probability.
    OptionError
        A size is negative or the threshold outside 0..1.

    Examples
    --------
    >>> import numpy as np, odc.geo.xr, xarray as xr
    >>> from odc.geo.geobox import GeoBox
    >>> grid = GeoBox.from_bbox((500000, 0, 500100, 80), "EPSG:32633", resolution=10)
    >>> mask = np.zeros((8, 10), bool)
    >>> mask[2:6, 1:9] = True
    >>> outlines(odc.geo.xr.wrap_xr(mask, grid)).n_islands.tolist()
    [0]
    """
    _check(threshold, min_area=min_area, min_island=min_island, simplify=simplify, gap=join_gap)
    raster = open_strips(source, threshold, predicted_iou)
    regions = read_regions(raster.strips(), threshold)
    give_back()
    geobox = raster.geobox
    smallest = MIN_AREA_PX * float(pixel_area_m2(geobox))
    rings = link_rings(_large_corners(regions, geobox, _default(min_area, smallest)))
    rings = _fill_small_holes(rings, geobox, _default(min_island, smallest))
    polygons = _draw(rings, geobox, simplify)
    frame = _table(polygons, np.unique(rings.region), regions, geobox)
    return _finish(frame, join_gap, geobox, predicted_iou)


def islands(outlines: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """List the holes of outlines as islands, one row each.

    Parameters
    ----------
    outlines : geopandas.GeoDataFrame
        As `outlines` returns them, in any CRS.

    Returns
    -------
    geopandas.GeoDataFrame
        Polygons that fill their holes exactly, by outline and from large to small, with
        `island_id` (1, 2, ...), `outline_id`, `river_id` and `area_m2`.
    """
    rings, owner = shapely.get_rings(outlines.geometry.to_numpy(), return_index=True)
    hole = np.diff(owner, prepend=-1) == 0
    polygons, owner = shapely.polygons(rings[hole]), owner[hole]
    frame = gpd.GeoDataFrame(
        {
            "outline_id": outlines["outline_id"].to_numpy()[owner],
            "river_id": outlines["river_id"].to_numpy()[owner],
            "area_m2": area_m2(polygons, outlines.crs),
        },
        geometry=np.atleast_1d(polygons),
        crs=outlines.crs,
    )
    frame = frame.iloc[np.lexsort((-frame.area_m2, owner))].reset_index(drop=True)
    frame.insert(0, "island_id", np.arange(1, len(frame) + 1))
    return _in_layer(frame, "islands")


def _check(threshold: float, **sizes: float | None) -> None:
    if not 0 <= threshold < 1:
        raise OptionError(f"The threshold {threshold} must lie between 0 and 1. Use 0.5.")
    for name, size in sizes.items():
        if size is not None and not size >= 0:
            raise OptionError(f"{name} = {size} must not be negative. Use 0 to switch it off.")


def _default(value: float | None, default: float) -> float:
    return default if value is None else value


def _large_corners(regions: Regions, geobox: GeoBox, min_area: float) -> Corners:
    """Keep the corners of regions that are large enough, so that noise is never traced."""
    corners = regions.corners
    numbers, first = np.unique(corners.region, return_index=True)
    pixel = pixel_area_m2(geobox, corners.row[first], corners.col[first])
    large = np.zeros(len(regions), bool)
    large[numbers] = regions.n_pixels[numbers] * pixel >= min_area * (1 - 1e-6)
    return corners.take(large[corners.region])


def _fill_small_holes(rings: Rings, geobox: GeoBox, min_island: float) -> Rings:
    """Drop small holes, and the outlines inside them: the water around those is theirs."""
    first = rings.corners.take(rings.starts[:-1])
    pixel = pixel_area_m2(geobox, first.row, first.col)
    areas = rings.areas_px()
    small = (areas < 0) & (-areas * pixel < min_island * (1 - 1e-6))
    # Land around another region is at least 3 by 3 pixels.
    filled = shell_polygons(rings.take(small & (areas <= -9)))
    _, inside = shapely.STRtree(_inner_points(first)).query(filled, predicate="contains")
    swallowed = rings.region[inside[areas[inside] > 0]]
    return rings.take(~small & ~np.isin(rings.region, swallowed))


def _inner_points(first: Corners) -> np.ndarray:
    """Return the centre of the pixel below right of each first corner: water, for a shell."""
    return shapely.points(first.col + 0.5, first.row + 0.5)


def _draw(rings: Rings, geobox: GeoBox, simplify: float | None) -> np.ndarray:
    """Return polygons in the CRS of the grid, by region number."""
    exact = pixel_polygons(rings)
    y, x = resolution_m(geobox)
    tolerance = SIMPLIFY_PX * (x + y) / 2 if simplify is None else simplify
    if tolerance == 0 or len(exact) == 0:
        return _to_crs(exact, geobox)
    # Thinned in metres, so that degrees, longer in y than in x, lose nothing of their shape.
    smooth = moved(smooth_polygons(rings), Affine.scale(x, y))
    thinned = thin(smooth, tolerance, small=SMALL_PX * x * y)
    drawn = _to_crs(moved(thinned, Affine.scale(1 / x, 1 / y)), geobox)
    # The digits of large coordinates can make a line touch itself; pixel edges never do.
    return np.where(shapely.is_valid(drawn), drawn, _to_crs(exact, geobox))


def _to_crs(polygons: np.ndarray, geobox: GeoBox) -> np.ndarray:
    return shapely.orient_polygons(moved(polygons, geobox.affine))


def _table(
    polygons: np.ndarray, numbers: np.ndarray, regions: Regions, geobox: GeoBox
) -> gpd.GeoDataFrame:
    crs = crs_of(geobox)
    frame = gpd.GeoDataFrame(
        {
            "kind": np.full(len(polygons), "unknown", dtype=object),
            "area_m2": area_m2(polygons, crs),
            "perimeter_m": perimeter_m(polygons, crs),
            "n_islands": shapely.get_num_interior_rings(polygons),
            "probability": regions.probability[numbers],
            "predicted_iou": regions.predicted_iou[numbers],
            "stability": regions.stability[numbers],
            "truncated": regions.truncated[numbers],
        },
        geometry=polygons,
        crs=crs,
    )
    # Regions are in reading order, which decides between equal areas.
    frame = frame.sort_values("area_m2", ascending=False, kind="stable", ignore_index=True)
    return frame.assign(outline_id=np.arange(1, len(frame) + 1))


def _finish(
    frame: gpd.GeoDataFrame, join_gap: float, geobox: GeoBox, tiles: Any
) -> gpd.GeoDataFrame:
    frame["river_id"] = _river_ids(frame, join_gap, geobox)
    frame["needs_review"] = (
        (frame.probability < REVIEW_PROBABILITY)
        | (frame.stability < REVIEW_STABILITY)
        | (frame.predicted_iou < REVIEW_IOU)
        | _beside_failed(frame, tiles)
    )
    return _in_layer(frame, "outlines")


def _in_layer(frame: gpd.GeoDataFrame, layer: str) -> gpd.GeoDataFrame:
    """Bring columns into the order and types of a layer."""
    columns = dict(LAYERS[layer].columns)
    return frame.astype(columns)[[*columns, "geometry"]]


def _river_ids(frame: gpd.GeoDataFrame, join_gap: float, geobox: GeoBox) -> np.ndarray:
    """Group outlines across gaps; a group has the id of its largest outline."""
    ids = frame.outline_id.to_numpy()
    if join_gap == 0 or len(frame) == 0:
        return ids
    y, x = resolution_m(geobox)
    polygons = moved(frame.geometry.to_numpy(), Affine.scale(x, y) @ ~geobox.affine)
    pairs = shapely.STRtree(polygons).query(polygons, predicate="dwithin", distance=join_gap)
    graph = sparse.coo_array((np.ones(pairs.shape[1], np.int8), pairs), shape=(len(ids),) * 2)
    _, group = connected_components(graph, directed=False)
    return pd.Series(ids).groupby(group).transform("min").to_numpy()


def _beside_failed(frame: gpd.GeoDataFrame, tiles: Any) -> np.ndarray:
    """Mark outlines that touch a failed tile."""
    if not isinstance(tiles, gpd.GeoDataFrame) or "status" not in tiles:
        return np.zeros(len(frame), bool)
    failed = tiles[tiles.status == "failed"].to_crs(frame.crs).geometry.to_numpy()
    touching, _ = shapely.STRtree(failed).query(frame.geometry.to_numpy(), predicate="intersects")
    return np.isin(np.arange(len(frame)), touching)
