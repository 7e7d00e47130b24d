"""Outlines checked and brought into the plane, with the channels of those that may be rivers."""

from __future__ import annotations

from dataclasses import dataclass

import geopandas as gpd
import numpy as np
import shapely
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from geosam.errors import InputError
from geosam.ground import area_m2, metres_to_crs
from geosam.longitudes import brought_to
from geosam.rivers.kinds import Shapes, is_compact
from geosam.rivers.network import EMPTY, Network, trace
from geosam.rivers.plane import Plane
from geosam.rivers.scene_edge import NEAR_PX, bounding_box, on_edge

SITES_PX = 0.5
"""Distance of the sites along a bank, in pixels."""
SITES_A_WIDTH = (4, 40)
"""Fewest and most sites in a mean width of an outline."""


@dataclass(frozen=True)
class Water:
    """n outlines in a plane, x and y in metres."""

    frame: gpd.GeoDataFrame
    """The outlines as they were given, a row each."""
    plane: Plane
    """The plane."""
    polygons: np.ndarray
    """(n,) shapely.Polygon, shells counter-clockwise."""
    edges: list[np.ndarray]
    """For every coordinate of each polygon whether a segment on the scene's edge begins there."""
    networks: list[Network]
    """The channels of each; empty where it is too compact for a river."""
    rivers: np.ndarray
    """(n,) int: outlines with the same number are one river across gaps."""
    pixel_m: float
    """Pixel they were drawn from."""

    def shapes(self) -> Shapes:
        """Return what their kinds are told from."""
        longest = [max(n.channels, key=lambda c: c.length, default=None) for n in self.networks]
        chord = [np.hypot(*(c.line[-1] - c.line[0])) if c else 0.0 for c in longest]
        return Shapes(
            self.polygons,
            area_m2(self.frame.geometry.to_numpy(), self.frame.crs),
            np.array([sum(c.length for c in n.channels) for n in self.networks]),
            np.array(chord),
            np.array([c.length if c else 0.0 for c in longest]),
            np.array(["edge" in n.kinds for n in self.networks], bool),
            self.rivers,
        )


def read_water(
    outlines: gpd.GeoDataFrame,
    edge: gpd.GeoSeries | None,
    pixel_m: float | None,
    spur: float,
    join_gap: float,
) -> Water:
    """Check outlines, bring them into the plane and find their channels.

    Raises
    ------
    InputError
        There is none, one is not valid or no polygon, all is water, or the CRS is of no use.
    """
    frame = _checked(outlines)
    plane = Plane(frame.crs, frame.total_bounds)
    given = shapely.orient_polygons(frame.geometry.to_numpy())
    polygons = plane.to_plane(given)
    pixel_m = pixel_m or _pixel_m(polygons)
    near = NEAR_PX * min(metres_to_crs(pixel_m, frame.crs, _middle(frame)))
    edge = bounding_box(frame) if edge is None else brought_to(edge, frame.crs, _middle(frame)[0])
    edges = on_edge(given, edge, near)
    if not _any_bank(given, edges):
        raise InputError(
            "All of the scene is water: there is no bank to measure from. Give a larger scene."
        )
    compact = is_compact(polygons)
    networks = [
        EMPTY if small else trace(polygon, on, _spacing(polygon, pixel_m), spur)
        for polygon, on, small in zip(polygons, edges, compact, strict=True)
    ]
    rivers = _groups(frame, polygons, join_gap)
    return Water(frame, plane, polygons, edges, networks, rivers, pixel_m)


def _checked(outlines: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    if outlines.crs is None:
        raise InputError(
            "The outlines have no CRS, and lengths in metres need one: set it in the file, or with "
            "set_crs."
        )
    frame = outlines[~(outlines.geometry.isna() | outlines.geometry.is_empty)]
    frame = frame.explode(ignore_index=True)
    if len(frame) == 0:
        raise InputError("There is no water: without an outline there is no river to measure.")
    odd = frame.geom_type != "Polygon"
    if odd.any():
        kind = frame.geom_type[odd].iloc[0]
        raise InputError(f"The outlines hold a {kind}, and a river is measured on polygons alone.")
    wrong = np.flatnonzero(~shapely.is_valid(frame.geometry.to_numpy()))
    if len(wrong):
        reason = shapely.is_valid_reason(frame.geometry.iloc[wrong[0]])
        raise InputError(
            f"{len(wrong)} of the outlines cannot be measured, the first of them number "
            f"{wrong[0] + 1}: {reason}. Mend them first, in QGIS with Fix geometries."
        )
    return frame


def has_banks(outlines: gpd.GeoDataFrame, edge: gpd.GeoSeries) -> bool:
    """Tell whether any outline ends at a bank, and not at the scene's edge alone."""
    polygons = outlines.geometry.to_numpy()
    if len(polygons) == 0:
        return False
    near = 1e-9 * float(np.abs(outlines.total_bounds).max())
    beside = brought_to(edge, outlines.crs, _middle(outlines)[0])
    return _any_bank(polygons, on_edge(polygons, beside, near))


def _any_bank(polygons: np.ndarray, edges: list[np.ndarray]) -> bool:
    return any(on.sum() < len(on) - _rings(p) for p, on in zip(polygons, edges, strict=True))


def _rings(polygon: shapely.Polygon) -> int:
    return int(shapely.get_num_interior_rings(polygon)) + 1


def _pixel_m(polygons: np.ndarray) -> float:
    """Guess the pixel that outlines come from: half their shorter segments are about as long."""
    points, ring = shapely.get_coordinates(shapely.get_rings(polygons), return_index=True)
    steps = np.hypot(*np.diff(points, axis=0).T)[ring[:-1] == ring[1:]]
    mean_width = 2 * shapely.area(polygons).sum() / shapely.length(polygons).sum()
    return float(min(np.median(steps), mean_width))


def _spacing(polygon: shapely.Polygon, pixel_m: float) -> float:
    mean_width = 2 * polygon.area / polygon.length
    few, many = SITES_A_WIDTH
    return float(np.clip(SITES_PX * pixel_m, mean_width / many, mean_width / few))


def _middle(frame: gpd.GeoDataFrame) -> tuple[float, float]:
    left, bottom, right, top = frame.total_bounds
    return (left + right) / 2, (bottom + top) / 2


def _groups(frame: gpd.GeoDataFrame, polygons: np.ndarray, join_gap: float) -> np.ndarray:
    """Number the rivers: as the outlines say, or joined across gaps."""
    n = len(frame)
    if join_gap == 0:
        return frame["river_id"].to_numpy() if "river_id" in frame else np.arange(1, n + 1)
    pairs = shapely.STRtree(polygons).query(polygons, predicate="dwithin", distance=join_gap)
    graph = sparse.coo_array((np.ones(pairs.shape[1], np.int8), pairs), shape=(n, n))
    _, group = connected_components(graph, directed=False)
    # A river has the number of its first outline, as in the layer outlines.
    first = np.unique(group, return_index=True)[1]
    return first[group] + 1
