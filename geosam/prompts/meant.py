"""A user's clicks and boxes, and the water that is found there -> the water they mean.

A click on a river says which water is wanted, and what finds water in the scene by itself, an index or
the learned network, says how far it reaches: together they make a coarse mask. A click where nothing is
found, on a field say, stays what it is, and the model answers to it alone.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import ndimage

from geosam.prompts.automatic import coarse_polygons
from geosam.prompts.scene_prompts import ScenePrompts, merge_prompts
from geosam.types import Window

REACH_PX = 1
"""How far beside a click water may begin: a finger is not exact."""
FARTHEST = 8
"""How many sides of a tile around a click are looked at, at most, where the water goes on: a river
is one thing, and a click on it means more than its tile."""
LEAST_SHARE = 0.05
"""Share of a box that must be water to be what is meant; a diagonal stream fills a tenth of its box."""

Finder = Callable[[Window], np.ndarray]
"""Turns a window of the grid into (height, width) bool: what is found there by itself."""


def with_water_meant(
    given: ScenePrompts, find: Finder, shape: tuple[int, int], size: int
) -> ScenePrompts:
    """Add the water that clicks and boxes mean as polygons.

    Parameters
    ----------
    given
        Prompts of the scene. Objects with a polygon that asks for something keep it alone.
    find
        What finds water.
    shape
        Rows and columns of the grid.
    size
        Pixels around a click that are looked at first: the side of the model's tiles. Where the
        water goes on there, twice as many, up to :data:`FARTHEST` times.

    Returns
    -------
    ScenePrompts
        `given`, and for each object whose water was found its polygons along pixel edges.
    """
    drawn = set(given.polygon_objects[given.polygon_labels == 1].tolist())
    asked = set(given.objects[given.labels == 1].tolist()) | set(given.box_objects.tolist())
    found = (_object_water(given, k, find, shape, size) for k in sorted(asked - drawn))
    return merge_prompts([given, *(prompts for prompts in found if prompts is not None)])


def _object_water(
    given: ScenePrompts, object_id: int, find: Finder, shape: tuple[int, int], size: int
) -> ScenePrompts | None:
    mine = given.objects == object_id
    clicks = given.points[mine & (given.labels == 1)]
    refused = given.points[mine & (given.labels == 0)]
    boxes = given.boxes[given.box_objects == object_id]
    farthest, reach = FARTHEST * size, size
    while True:
        frame = _frame(clicks, boxes, shape, reach)
        if frame is None:
            return None
        meant = _meant(clicks, refused, boxes, find, frame)
        if len(boxes) or reach >= farthest or not _goes_on(meant, frame, shape):
            return _as_prompts(meant, frame, object_id)
        reach *= 2


def _as_prompts(meant: np.ndarray, frame: Window, object_id: int) -> ScenePrompts | None:
    if not meant.any():
        return None
    polygons = coarse_polygons(meant.astype(np.uint8), frame)
    polygons.polygon_objects[:] = object_id
    return polygons


def _meant(
    clicks: np.ndarray, refused: np.ndarray, boxes: np.ndarray, find: Finder, frame: Window
) -> np.ndarray:
    """Return the water that is meant inside a frame, (height, width) bool."""
    corner = np.array([frame.col, frame.row])
    water, allowed = find(frame), None
    if len(boxes):
        allowed = _inside(boxes - np.tile(corner, 2), frame)
        water = water & allowed
    meant = _touched(water, clicks - corner, refused - corner) if len(clicks) else water
    too_little = allowed is not None and meant.sum() < LEAST_SHARE * allowed.sum()
    return meant & (not too_little)


def _goes_on(meant: np.ndarray, frame: Window, shape: tuple[int, int]) -> bool:
    """Whether the water reaches a side of its frame beyond which the grid goes on."""
    return bool(
        (frame.row > 0 and meant[0].any())
        or (frame.col > 0 and meant[:, 0].any())
        or (frame.row_end < shape[0] and meant[-1].any())
        or (frame.col_end < shape[1] and meant[:, -1].any())
    )


def _frame(
    clicks: np.ndarray, boxes: np.ndarray, shape: tuple[int, int], size: int
) -> Window | None:
    """The window that holds the boxes, or else the surroundings of the clicks."""
    corners = boxes.reshape(-1, 2)
    if not len(boxes):
        corners = np.concatenate([clicks - size, clicks + size])
    low = np.maximum(np.floor(corners.min(axis=0)), 0).astype(int)
    high = np.minimum(np.ceil(corners.max(axis=0)), [shape[1], shape[0]]).astype(int)
    if (high <= low).any():
        return None
    return Window(int(low[1]), int(low[0]), int(high[1] - low[1]), int(high[0] - low[0]))


def _inside(boxes: np.ndarray, frame: Window) -> np.ndarray:
    """Mark the pixels whose centres lie in a box, (height, width) bool."""
    y, x = np.mgrid[0 : frame.height, 0 : frame.width] + 0.5
    sides = boxes[:, :, None, None]
    in_box = (x >= sides[:, 0]) & (y >= sides[:, 1]) & (x <= sides[:, 2]) & (y <= sides[:, 3])
    return in_box.any(axis=0)


def _touched(water: np.ndarray, clicks: np.ndarray, refused: np.ndarray) -> np.ndarray:
    """Keep the components that a click touches and no refusing one does."""
    labels, n = ndimage.label(water, np.ones((3, 3)))
    wanted = np.zeros(n + 1, bool)
    wanted[_labels_at(labels, clicks, REACH_PX)] = True
    unwanted = np.setdiff1d(_labels_at(labels, refused, 0), _labels_at(labels, clicks, 0))
    wanted[unwanted] = False
    wanted[0] = False
    return wanted[labels]


def _labels_at(labels: np.ndarray, points: np.ndarray, reach: int) -> np.ndarray:
    """The labels within some pixels of points, each once."""
    found = [0]
    for col, row in np.floor(points).astype(int):
        rows = slice(max(0, row - reach), max(0, row + reach + 1))
        found += labels[rows, max(0, col - reach) : max(0, col + reach + 1)].ravel().tolist()
    return np.unique(found)
