"""The scene's edge: where an outline ends because nothing is known beyond."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import geopandas as gpd
import numpy as np
import shapely

from geosam.ground import crs_of, moved
from geosam.regions import read_regions
from geosam.rings import link_rings
from geosam.simplify import pixel_polygons
from geosam.strips import Strip, StripSource, open_strips

NEAR_PX = 0.02
"""Pixels within which a line lies on the edge: the digits of coordinates are coarser in degrees."""


def footprint(source: Any) -> gpd.GeoSeries:
    """Return where a mask or probability has data, as polygons in its CRS, in flat memory."""
    raster = open_strips(source)

    def valid(strips: Iterator[Strip]) -> Iterator[Strip]:
        for strip in strips:
            yield replace(strip, water=strip.valid, probability=None)

    return _polygons(raster, valid)


def bounding_box(outlines: gpd.GeoDataFrame) -> gpd.GeoSeries:
    """Return the box around outlines: the edge of a scene that is not known otherwise.

    Without an outline that says it is cut by the scene's edge (`truncated`) there is none.
    """
    cut = "truncated" in outlines and bool(np.asarray(outlines["truncated"], bool).any())
    boxes = [shapely.box(*outlines.total_bounds)] if cut else []
    return gpd.GeoSeries(boxes, crs=outlines.crs)


def on_edge(polygons: np.ndarray, edge: gpd.GeoSeries, near: float) -> list[np.ndarray]:
    """Tell which coordinates of polygons begin a segment on the scene's edge.

    Parameters
    ----------
    polygons : numpy.ndarray of shapely.Polygon, shape (n,)
        In the CRS of `edge`.
    edge : geopandas.GeoSeries
        Polygons within which the scene has data.
    near : float
        Units of the CRS within which a line lies on it.

    Returns
    -------
    list of numpy.ndarray of bool
        For every polygon, one value a coordinate; the last of a ring is False.
    """
    segments = _segments(edge)
    points, owner = shapely.get_coordinates(polygons, return_index=True)
    middles = np.concatenate([(points[:-1] + points[1:]) / 2, points[-1:]])
    # Both quarters too: a long segment may leave the edge between.
    probes = [0.75 * points + 0.25 * np.roll(points, -1, axis=0), middles]
    flags = np.ones(len(points), bool)
    for probe in [points, np.roll(points, -1, axis=0), *probes]:
        flags &= _near(segments, probe, near)
    last = np.flatnonzero(np.diff(owner, append=-1))
    flags[last] = False
    return np.split(flags, last[:-1] + 1)


def _segments(edge: gpd.GeoSeries) -> shapely.STRtree:
    rings = shapely.get_rings(shapely.get_parts(edge.to_numpy()))
    points, ring = shapely.get_coordinates(rings, return_index=True)
    first = np.flatnonzero(ring[:-1] == ring[1:]) if len(ring) else np.empty(0, int)
    return shapely.STRtree(
        shapely.linestrings(np.stack([points[first], points[first + 1]], axis=1))
        if len(first)
        else []
    )


def _near(segments: shapely.STRtree, points: np.ndarray, near: float) -> np.ndarray:
    found = np.zeros(len(points), bool)
    which, _ = segments.query(shapely.points(points), predicate="dwithin", distance=near)
    found[which] = True
    return found


def _polygons(raster: StripSource, valid: Any) -> gpd.GeoSeries:
    regions = read_regions(valid(raster.strips()), 0.5)
    polygons = pixel_polygons(link_rings(regions.corners))
    return gpd.GeoSeries(moved(polygons, raster.geobox.affine), crs=crs_of(raster.geobox))
