"""Pixels of a scene that the learned network is sure of, drawn from windows all over it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr
from dask.delayed import Delayed
from odc.geo.geobox import GeoBox

from geosam.grids import geobox_of
from geosam.own_colours import REACH_PX, describe
from geosam.prompts.scene_prompts import ScenePrompts
from geosam.stretch import Stretch
from geosam.tasks import task
from geosam.types import Window
from geosam.views import Looks, covering
from geosam.windows import blocks_of, read_window

SURE = 1.0
"""Logit from which on the network is believed."""
SAMPLE_PX = 2 * REACH_PX + 4
"""Pixels of the working grid around a window that what is drawn from it depends on."""
_MOST_SURE = 4.0
"""Logit from which on it is believed no more than that."""
_MOST_WINDOWS = 24
"""Windows a side that a scene is sampled in."""
_WHOLE_PX, _WINDOW_PX = 512, 128
"""Side of a window of a scene that is sampled as a whole, and of a larger one."""
_WHOLE_WINDOWS = 16
"""Scenes of as many windows are sampled as a whole."""
_MOST_ASKED, _ASKED_PX = 4, 1024
"""Windows around prompts, and their side."""
_SAMPLES, _FEWEST = 8000, 16
"""Pixels of each kind that are drawn at most from a scene, about, and from a window."""


def sample_windows(geobox: GeoBox) -> dict[tuple[int, int], Window]:
    """Return windows all over a grid, by row and column: all of a small one, parts of a large one."""
    counts = [min(_MOST_WINDOWS, -(-length // _WHOLE_PX)) for length in geobox.shape]
    ends = [np.arange(n + 1) * side // n for n, side in zip(counts, geobox.shape, strict=True)]
    whole = counts[0] * counts[1] <= _WHOLE_WINDOWS
    found = {}
    for i, j in np.ndindex(*counts):
        (row, row_end), (col, col_end) = ends[0][i : i + 2].tolist(), ends[1][j : j + 2].tolist()
        cell = Window(row, col, row_end - row, col_end - col)
        found[i, j] = cell if whole else _middle(cell)
    return found


def _middle(cell: Window) -> Window:
    height, width = min(cell.height, _WINDOW_PX), min(cell.width, _WINDOW_PX)
    row, col = cell.row + (cell.height - height) // 2, cell.col + (cell.width - width) // 2
    return Window(row, col, height, width)


def windows_around(given: ScenePrompts, geobox: GeoBox) -> list[Window]:
    """Return windows around a few of the clicks and boxes of a scene, none of which begins in another."""
    places = np.concatenate([given.points, (given.boxes[:, :2] + given.boxes[:, 2:]) / 2])
    found: list[Window] = []
    for col, row in np.floor(places).astype(int).tolist():
        if len(found) < _MOST_ASKED and not any(
            w.intersection(Window(row, col, 1, 1)) for w in found
        ):
            half = _ASKED_PX // 2
            near = Window(row - half, col - half, _ASKED_PX, _ASKED_PX)
            inside = near.intersection(Window(0, 0, *geobox.shape))
            found += [] if inside is None else [inside]
    return found


def draw_sample(
    logits: xr.DataArray, looks: Looks, part: GeoBox, count: int, stretch: Stretch
) -> Delayed:
    """Return the task that draws pixels which the network is sure of from a part of a scene.

    Parameters
    ----------
    logits
        (y, x) of the network, on the working grid of `looks`.
    looks
        Cover the part and :data:`SAMPLE_PX` around it.
    part
        Of the working grid.
    count
        Parts of the scene that samples are drawn from: the more, the fewer pixels from each.
    stretch
        Of the three bands that the network sees.

    Returns
    -------
    Delayed
        Of arrays by name: `described` (n, 7) float32, see :func:`geosam.own_colours.describe`, `water` (n,)
        bool, and `weight` (n,) float32, of how many such pixels each stands for and how sure they are; without
        arrays where there is no such pixel.
    """
    pixels = looks.wider.sel(band=list(stretch.bands))
    inside = covering(part, geobox_of(logits))
    wide = covering(part, geobox_of(pixels)).grown(REACH_PX)
    at = _positions(geobox_of(logits), geobox_of(pixels), inside, wide)
    seed = [abs(int(v)) for v in (part.affine.c, part.affine.f)]
    drawn = task(_drawn, at=at, stretch=stretch, most=max(_FEWEST, _SAMPLES // count), seed=seed)
    return drawn(read_window(blocks_of(logits), inside), read_window(blocks_of(pixels), wide))


def _positions(
    fine: GeoBox, wide: GeoBox, inside: Window, around: Window
) -> tuple[np.ndarray, np.ndarray]:
    """Return the row and the column, in a window of the wider grid, of each of those of the finer one."""
    to_wide = ~wide.affine @ fine.affine
    rows = np.floor(to_wide.e * (np.arange(inside.row, inside.row_end) + 0.5) + to_wide.f)
    cols = np.floor(to_wide.a * (np.arange(inside.col, inside.col_end) + 0.5) + to_wide.c)
    return rows.astype(int) - around.row, cols.astype(int) - around.col


def _drawn(
    logits: np.ndarray,
    pixels: np.ndarray,
    at: tuple[np.ndarray, np.ndarray],
    stretch: Stretch,
    most: int,
    seed: Sequence[int],
) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    known = np.isfinite(pixels).all(axis=0)[np.ix_(*at)]
    land, water = (np.argwhere(known & side) for side in (logits < -SURE, logits > SURE))
    if not len(land) + len(water):
        return {}
    dry, wet = (kind[rng.permutation(len(kind))[:most]] for kind in (land, water))
    rows, cols = np.concatenate([dry, wet]).T
    each = [len(kind) / max(1, len(kept)) for kind, kept in ((land, dry), (water, wet))]
    weight = np.minimum(np.abs(logits[rows, cols]), _MOST_SURE) * np.repeat(
        each, [len(dry), len(wet)]
    )
    return {
        "described": describe(pixels, stretch)[:, at[0][rows], at[1][cols]].T,
        "water": np.arange(len(rows)) >= len(dry),
        "weight": weight.astype(np.float32),
    }
