"""A coarse mask -> points, negatives and boxes, tile by tile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import shapely
import shapely.affinity
from affine import Affine
from rasterio.features import shapes

from geosam.prompts.control_points import background_points, bounding_box, control_points, seed_for
from geosam.prompts.scene_prompts import WATER, ScenePrompts, merge_prompts
from geosam.types import Tile, Window

LAND_MARGIN_PX = 8.0
"""Background points keep this far from the coarse mask, whose edge is uncertain."""
NODATA = 255
"""Value of a coarse mask where the scene has no data."""


@dataclass(frozen=True)
class PromptRule:
    """How many points a coarse mask gives, and with what seed."""

    source: str
    """Where the coarse mask came from; it stands in the layer."""
    points: int = 3
    """Control points a component."""
    negatives: int = 2
    """Background points a tile."""
    most_points: int = 4
    """Control points a tile's core at most, where it has many components."""
    boxes: bool = False
    """Whether a tile's prompt has the box around its coarse mask."""
    seed: int = 0
    """Together with a tile's index it seeds every random choice in it."""


def prompts_from_coarse(
    coarse: np.ndarray, read: Window, tiles: Sequence[Tile], rule: PromptRule
) -> ScenePrompts:
    """Return the prompts that some tiles own.

    A point belongs to the tile whose core holds it and depends on that tile's read window alone, so
    it does not change with the extent that is processed.

    Parameters
    ----------
    coarse
        (height, width) uint8 on `read`: 1 water, 0 land, 255 nodata.
    read
        A window that holds the tiles' read windows.
    tiles
        The tiles.
    rule
        Counts and seed.
    """
    return merge_prompts(_tile_points(coarse[tile.read.slices(read)], tile, rule) for tile in tiles)


def _tile_points(coarse: np.ndarray, tile: Tile, rule: PromptRule) -> ScenePrompts:
    mask, valid = coarse == 1, coarse != NODATA
    if not mask.any():
        return ScenePrompts()
    core = Window(
        tile.core.row - tile.read.row,
        tile.core.col - tile.read.col,
        tile.core.height,
        tile.core.width,
    )
    rng = seed_for(rule.seed, tile.index)
    water = control_points(
        mask,
        valid,
        per_component=rule.points,
        max_points=max(rule.most_points, rule.points),
        core=core,
        rng=rng,
    )
    land = background_points(
        mask, valid, rule.negatives, margin_px=LAND_MARGIN_PX, core=core, rng=rng
    )
    origin = np.array([tile.read.col, tile.read.row])
    n = len(water) + len(land)
    box = _tile_box(mask, tile) if rule.boxes else np.empty((0, 4))
    return ScenePrompts(
        points=np.concatenate([water, land]).reshape(-1, 2) + origin,
        labels=np.repeat([1, 0], [len(water), len(land)]),
        objects=np.full(n, WATER),
        sources=np.full(n, rule.source, object),
        tiles=np.full(n, tile.name, object),
        boxes=box,
        box_objects=np.full(len(box), WATER),
        box_tiles=np.full(len(box), tile.name, object),
    )


def _tile_box(mask: np.ndarray, tile: Tile) -> np.ndarray:
    box = bounding_box(mask)
    if box is None:
        return np.empty((0, 4))
    return np.asarray(box, float).reshape(1, 4) + np.array([tile.read.col, tile.read.row] * 2)


def coarse_polygons(coarse: np.ndarray, origin: Window) -> ScenePrompts:
    """Return a coarse mask as polygons along its pixel edges: rasterised, they give it back.

    Parameters
    ----------
    coarse
        (height, width) uint8 on `origin`: 1 water, 0 land, 255 nodata.
    origin
        Where the array lies on the grid.
    """
    water = (coarse == 1).astype(np.uint8)
    if not water.any():
        return ScenePrompts()
    # A pixel aside, because rasterio takes the identity for a missing transform and warns.
    found = shapes(water, water.astype(bool), connectivity=4, transform=Affine.translation(1, 1))
    polygons = [
        shapely.affinity.translate(shapely.geometry.shape(geometry), origin.col - 1, origin.row - 1)
        for geometry, _ in found
    ]
    n = len(polygons)
    as_array = np.empty(n, object)
    as_array[:] = polygons
    return ScenePrompts(
        polygons=as_array, polygon_labels=np.ones(n, int), polygon_objects=np.full(n, WATER)
    )
