"""Whether a user's own prompts can be answered: they contradict nothing, and lie where there is data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache

import numpy as np

from geosam.errors import PromptError
from geosam.prompts.scene_prompts import ScenePrompts
from geosam.types import Window

CELL_PX = 256
"""Side of the squares that are read to see whether there is data: as small as blocks of files are."""
CELLS = 256
"""Squares that are remembered, 64 KB each: clicks lie close together."""


def check_asked(prompts: ScenePrompts, look: Callable[[Window], np.ndarray], scene: Window) -> None:
    """Check clicks and boxes of a user's own.

    Parameters
    ----------
    prompts
        On the grid of the scene.
    look
        Reads a window of the grid: (band, height, width), NaN where nodata.
    scene
        The grid, from its first pixel on.

    Raises
    ------
    PromptError
        If an object has a click for it and one against it in the same pixel, or nothing but clicks
        against it; or if a click or a whole box lies on nodata.
    """
    _check_labels(prompts)
    _check_data(prompts, look, scene)


def _check_labels(prompts: ScenePrompts) -> None:
    cells = np.column_stack([prompts.objects, np.floor(prompts.points)]).astype(int)
    told = [{tuple(cell) for cell in cells[prompts.labels == label]} for label in (1, 0)]
    for number, col, row in sorted(told[0] & told[1]):
        raise PromptError(
            f"Object {number} has a click with label 1 and one with label 0 in the same pixel (row {row}, "
            f"column {col} of the model's grid). Remove one of them."
        )
    wanted = set(prompts.objects[prompts.labels == 1].tolist()) | set(prompts.box_objects.tolist())
    wanted |= set(prompts.polygon_objects[prompts.polygon_labels == 1].tolist())
    for number in sorted(set(prompts.objects.tolist()) - wanted):
        raise PromptError(
            f"Object {number} has nothing but background (label 0). Add a click, box or polygon with "
            "label 1."
        )


def _check_data(prompts: ScenePrompts, look: Callable[[Window], np.ndarray], scene: Window) -> None:
    @lru_cache(CELLS)
    def known(cell: Window) -> np.ndarray:
        return np.isfinite(look(cell)).any(axis=0)

    points = np.floor(np.tile(prompts.points, 2)) + np.array([0, 0, 1, 1])
    for what, sides in (("The click", points), ("The box", prompts.boxes)):
        for left, top, right, bottom in sides:
            row, col = int(np.floor(top)), int(np.floor(left))
            whole = Window(row, col, int(np.ceil(bottom)) - row, int(np.ceil(right)) - col)
            inside = whole.intersection(scene)
            if inside is None or not any(known(c)[s].any() for c, s in _cells(inside, scene)):
                raise PromptError(
                    f"{what} at row {row}, column {col} of the model's grid lies where the scene "
                    "has no data. Move it onto the picture, or remove it."
                )


def _cells(window: Window, scene: Window) -> Iterator[tuple[Window, tuple[slice, slice]]]:
    """Cut a window along a fixed grid of squares; for each the square, and what the window has of it."""
    for row in range(window.row - window.row % CELL_PX, window.row_end, CELL_PX):
        for col in range(window.col - window.col % CELL_PX, window.col_end, CELL_PX):
            cell = Window(row, col, CELL_PX, CELL_PX).intersection(scene)
            common = None if cell is None else cell.intersection(window)
            if cell is not None and common is not None:
                yield cell, common.slices(cell)
