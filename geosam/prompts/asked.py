"""Whether a user's own prompts can be answered: they contradict nothing, and lie where there is data."""

from __future__ import annotations

import dask
import numpy as np
import xarray as xr

from geosam.errors import PromptError
from geosam.prompts.scene_prompts import ScenePrompts
from geosam.types import Window
from geosam.windows import blocks_of, read_window


def check_asked(prompts: ScenePrompts, scene: xr.DataArray) -> None:
    """Check clicks and boxes of a user's own.

    Parameters
    ----------
    prompts
        On the grid of the scene.
    scene
        (band, y, x), NaN where nodata.

    Raises
    ------
    PromptError
        If an object has a click for it and one against it in the same pixel, or nothing but clicks
        against it; or if a click or a whole box lies on nodata.
    """
    _check_labels(prompts)
    _check_data(prompts, scene)


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


def _check_data(prompts: ScenePrompts, scene: xr.DataArray) -> None:
    blocks, (height, width) = blocks_of(scene), scene.shape[-2:]
    corners = np.concatenate([np.repeat(prompts.points, 2, axis=1)[:, [0, 2, 1, 3]], prompts.boxes])
    low, high = np.floor(corners[:, :2]).astype(int), np.floor(corners[:, 2:]).astype(int) + 1
    low, high = np.maximum(low, 0), np.minimum(high, (width, height))
    windows = [
        Window(int(row), int(col), max(0, int(end_row - row)), max(0, int(end_col - col)))
        for (col, row), (end_col, end_row) in zip(low, high, strict=True)
    ]
    empty = dask.compute(*(dask.delayed(_is_void)(read_window(blocks, w)) for w in windows))
    for void, window, number in zip(empty, windows, range(len(windows)), strict=True):
        if void:
            what = "The click" if number < len(prompts.points) else "The box"
            raise PromptError(
                f"{what} at row {window.row}, column {window.col} of the model's grid lies where the "
                "scene has no data. Move it onto the picture, or remove it."
            )


def _is_void(pixels: np.ndarray) -> bool:
    return not np.isfinite(pixels).any()
