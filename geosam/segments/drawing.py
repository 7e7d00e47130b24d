"""Segments in pixels -> polygons on the ground, with smooth lines, as a layer."""

from __future__ import annotations

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox

from geosam.ground import area_m2, crs_of, moved, resolution_m
from geosam.layers import LAYERS, empty_layer
from geosam.rings import EAST, NORTH, SOUTH, WEST, Corners, Rings
from geosam.segments.joining import Segments
from geosam.simplify import smooth_polygons, thin
from geosam.vectors import SIMPLIFY_PX, SMALL_PX


def segment_layer(
    segments: Segments,
    geobox: GeoBox,
    *,
    min_area: float = 0.0,
    max_area: float = np.inf,
    simplify: float | None = None,
) -> gpd.GeoDataFrame:
    """Draw segments as the layer ``segments``.

    Parameters
    ----------
    segments
        In pixels of `geobox`.
    geobox
        The model's grid.
    min_area, max_area
        Smallest and largest segment, in m² on the ground. Holes below `min_area` are filled.
    simplify
        Tolerance of the lines in metres; 0 keeps the pixel edges. Default 0.75 pixels.

    Returns
    -------
    geopandas.GeoDataFrame
        Valid polygons in the CRS of the grid, largest first, which may contain one another.
    """
    crs = crs_of(geobox)
    if len(segments) == 0:
        return empty_layer("segments", crs)
    exact = _without_holes(segments.polygon, geobox, min_area)
    area = area_m2(moved(exact, geobox.affine), crs)
    kept = np.flatnonzero((area >= min_area * (1 - 1e-6)) & (area <= max_area))
    if len(kept) == 0:
        return empty_layer("segments", crs)
    drawn = _drawn(exact[kept], geobox, simplify)
    points = moved(shapely.points(segments.point[kept]), geobox.affine)
    frame = gpd.GeoDataFrame(
        {
            "area_m2": area_m2(drawn, crs),
            "predicted_iou": segments.predicted_iou[kept],
            "stability": segments.stability[kept],
            "point": shapely.to_wkt(points, rounding_precision=9, trim=True),
            "tile": [f"{row}_{col}" for row, col in segments.tile[kept]],
        },
        geometry=drawn,
        crs=crs,
    )
    frame = _in_reading_order(frame)
    columns = dict(LAYERS["segments"].columns)
    return frame.astype(columns)[[*columns, "geometry"]]


def rings_of(polygons: np.ndarray) -> Rings:
    """Take polygons along pixel edges apart into rings with water, so to say, on their right.

    Parameters
    ----------
    polygons : (n,) of shapely.Polygon
        In pixels, x = column and y = row; their corners are whole numbers.

    Returns
    -------
    Rings
        Those of the k-th polygon have region k.
    """
    lines, owner = shapely.get_rings(shapely.orient_polygons(polygons), return_index=True)
    xy, ring = shapely.get_coordinates(lines, return_index=True)
    last = np.append(np.diff(ring) > 0, True)
    xy, ring = np.rint(xy[~last]).astype(np.int64), ring[~last]
    for _ in range(2):
        # A point between two steps of one direction is no corner, nor one that is there twice.
        kept = _turns(xy, ring)
        xy, ring = xy[kept], ring[kept]
    before, after = _steps(xy, ring)
    plain = np.zeros(len(ring), bool)
    corners = Corners(xy[:, 1], xy[:, 0], _direction(before), _direction(after), plain, owner[ring])
    starts = np.concatenate([[0], np.cumsum(np.bincount(ring, minlength=len(lines)))])
    return Rings(corners, starts)


def _steps(xy: np.ndarray, ring: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the steps to each point and from it, within its ring."""
    starts = np.flatnonzero(np.diff(ring, prepend=-1))
    ends = np.append(starts[1:], len(ring)) - 1
    following = np.arange(1, len(ring) + 1)
    following[ends] = starts
    after = xy[following] - xy
    before = np.empty_like(after)
    before[following] = after
    return before, after


def _turns(xy: np.ndarray, ring: np.ndarray) -> np.ndarray:
    before, after = _steps(xy, ring)
    return before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]


def _direction(step: np.ndarray) -> np.ndarray:
    x, y = np.sign(step).T
    return np.select([x > 0, y > 0, x < 0], [EAST, SOUTH, WEST], NORTH).astype(np.int8)


def _without_holes(polygons: np.ndarray, geobox: GeoBox, least: float) -> np.ndarray:
    """Fill the holes below an area in m²."""
    y, x = resolution_m(geobox)
    rings, owner = shapely.get_rings(polygons, return_index=True)
    hole = np.diff(owner, prepend=-1) == 0
    small = hole & (shapely.area(shapely.polygons(rings)) * y * x < least)
    return shapely.polygons(rings[~small], indices=owner[~small])


def _drawn(exact: np.ndarray, geobox: GeoBox, simplify: float | None) -> np.ndarray:
    """Smooth and thin polygons one by one, since they may overlap, and bring them into the CRS."""
    y, x = resolution_m(geobox)
    tolerance = SIMPLIFY_PX * (x + y) / 2 if simplify is None else simplify
    plain = shapely.orient_polygons(moved(exact, geobox.affine))
    if tolerance == 0:
        return plain
    smooth = moved(smooth_polygons(rings_of(exact)), Affine.scale(x, y))
    thinned = [
        thin(smooth[k : k + 1], tolerance, small=SMALL_PX * x * y)[0] for k in range(len(smooth))
    ]
    drawn = moved(np.array(thinned, dtype=object), geobox.affine @ Affine.scale(1 / x, 1 / y))
    drawn = shapely.orient_polygons(drawn)
    return np.where(shapely.is_valid(drawn), drawn, plain)


def _in_reading_order(frame: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """Number segments from large to small, and equal ones from north-west to south-east."""
    bounds = frame.bounds
    order = pd.DataFrame({"area": -frame.area_m2, "y": -bounds.maxy, "x": bounds.minx})
    frame = frame.loc[order.sort_values(["area", "y", "x"], kind="stable").index]
    return frame.reset_index(drop=True).assign(segment_id=np.arange(1, len(frame) + 1))
