"""Phrases and a detector -> boxes on a scene, each thing once however many tiles see it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import shapely
import xarray as xr
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from geosam.boxes import suppress
from geosam.errors import PromptError
from geosam.prompts.scene_prompts import ScenePrompts
from geosam.stretch import Stretch
from geosam.tiles import TileGrid
from geosam.types import TextDetector, Tile
from geosam.windows import blocks_of, read_window

MIN_SCORE = 0.3
"""A box goes unless the detector is surer than this."""
MAX_OVERLAP = 0.5
"""Of boxes for one phrase with a higher IoU than this only the surest stays."""
BORDER_PX = 1.5
"""How near to its tile's border a box counts as cut by it."""
MAX_INSIDE = 0.8
"""A box goes if more than this of it lies in a larger one for the same phrase: what a tile's border cut
off is seen whole by a neighbour."""


@dataclass(frozen=True)
class FoundBoxes:
    """What phrases name in a scene."""

    boxes: np.ndarray
    """(n, 4) float: x_min, y_min, x_max, y_max in pixels of the grid."""
    scores: np.ndarray
    """(n,): how sure the detector is."""
    phrases: tuple[str, ...]
    """The phrase each is for."""
    objects: np.ndarray
    """(n,) int from 1: boxes of one thing that no tile sees whole share a number."""
    tiles: np.ndarray
    """(n,) str: the tile whose part of a thing the box is, or empty where the box is of all of it."""

    def as_prompts(self) -> ScenePrompts:
        """Return the boxes as prompts."""
        return ScenePrompts(boxes=self.boxes, box_objects=self.objects, box_tiles=self.tiles)


def parse_phrases(text: str) -> list[str]:
    """Split phrases at commas and full stops: ``"water, bare soil"``.

    Raises
    ------
    PromptError
        If there is none.
    """
    phrases = [phrase.strip() for phrase in text.replace(".", ",").split(",") if phrase.strip()]
    if not phrases:
        raise PromptError('--text names nothing to look for. Use --text "water".')
    return phrases


def find_phrases(
    scene: xr.DataArray,
    grid: TileGrid,
    stretch: Stretch,
    detector: TextDetector,
    phrases: Sequence[str],
) -> FoundBoxes:
    """Look for what phrases name in every tile of a scene.

    Parameters
    ----------
    scene
        (band, y, x) float32 on the grid, NaN where nodata.
    grid
        The tiles that the detector sees, one by one.
    stretch
        Of the three bands it sees.
    detector
        Finds boxes by name.
    phrases
        What to look for.

    Returns
    -------
    FoundBoxes

    Raises
    ------
    PromptError
        If the detector does not know a phrase, or finds none anywhere.
    """
    blocks = blocks_of(scene.sel(band=list(stretch.bands)))
    seen = []
    for tile in grid:
        pixels = read_window(blocks, tile.read).compute()
        if np.isfinite(pixels).any():
            found, rated, named = detector.detect(stretch.apply(pixels), phrases)
            seen.append(_seen(np.reshape(found, (-1, 4)), rated, named, tile, grid))
    if not seen:
        raise PromptError(
            "The scene has no data anywhere, so that nothing can be looked for in it."
        )
    boxes = pd.concat(seen, ignore_index=True)
    boxes = boxes[(boxes.score > MIN_SCORE) & (boxes.x1 > boxes.x0) & (boxes.y1 > boxes.y0)]
    kept = [_once(part) for _, part in boxes.groupby("phrase", sort=False)]
    if not any(len(part) for part in kept):
        raise PromptError(
            f"Nothing in the scene is {' or '.join(repr(phrase) for phrase in phrases)} to the detector. "
            "Use other words, or another --detector."
        )
    return _numbered(pd.concat(kept, ignore_index=True))


def _seen(
    found: np.ndarray, rated: np.ndarray, named: Sequence[str], tile: Tile, grid: TileGrid
) -> pd.DataFrame:
    """Bring the boxes of a tile onto the scene, and say which of them its border cuts."""
    height, width = grid.geobox.shape
    read = tile.read
    boxes = np.clip(found + np.tile([read.col, read.row], 2), 0, [width, height] * 2)
    sides = np.array([read.col, read.row, read.col_end, read.row_end])
    inner = (sides > 0) & (sides < np.array([width, height] * 2))
    cut = (np.abs(boxes - sides) <= BORDER_PX) & inner
    table = pd.DataFrame(boxes, columns=["x0", "y0", "x1", "y1"])
    return table.assign(
        score=np.asarray(rated, float),
        phrase=np.array(named, object),
        tile=np.where(cut.any(axis=1), tile.name, ""),
    )


def _once(boxes: pd.DataFrame) -> pd.DataFrame:
    """Keep of boxes for one phrase each thing once, with a number of its own in ``object``."""
    corners = boxes[["x0", "y0", "x1", "y1"]].to_numpy()
    order = np.arange(len(boxes))
    whole = order[(boxes.tile == "").to_numpy()]
    whole = whole[~_within_larger(corners[whole], corners[whole])]
    whole = whole[suppress(corners[whole], boxes.score.to_numpy()[whole], MAX_OVERLAP)]
    cut = order[(boxes.tile != "").to_numpy()]
    cut = cut[~_within_larger(corners[cut], corners[whole])]
    parts = _touching(corners[cut])
    numbers = np.concatenate([np.arange(len(whole)), len(whole) + parts])
    return boxes.iloc[np.concatenate([whole, cut])].assign(object=numbers)


def _numbered(boxes: pd.DataFrame) -> FoundBoxes:
    """Number the things of all phrases from 1."""
    names = boxes.phrase + "/" + boxes.object.astype(str)
    return FoundBoxes(
        boxes[["x0", "y0", "x1", "y1"]].to_numpy(float),
        boxes.score.to_numpy(float),
        tuple(boxes.phrase),
        pd.factorize(names)[0] + 1,
        boxes.tile.to_numpy(object),
    )


def _touching(boxes: np.ndarray) -> np.ndarray:
    """Number boxes so that those that overlap, directly or through others, share a number."""
    if not len(boxes):
        return np.empty(0, int)
    first, second, common = _common(boxes, boxes)
    # Boxes that share no more than an edge are no pair, and a zero that is written down would be one.
    pairs = first[common > 0], second[common > 0]
    overlap = coo_array((np.ones(len(pairs[0]), bool), pairs), shape=(len(boxes), len(boxes)))
    return connected_components(overlap, directed=False)[1]


def _common(boxes: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return which of n boxes touch which of others, and the area that each pair shares.

    Only of pairs that touch: areas of all with all would be 26 GB for 20,000 boxes.
    """
    first, second = shapely.STRtree(shapely.box(*others.T)).query(shapely.box(*boxes.T))
    low = np.maximum(boxes[first, :2], others[second, :2])
    high = np.minimum(boxes[first, 2:], others[second, 2:])
    return first, second, np.prod(np.clip(high - low, 0, None), axis=-1)


def _within_larger(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Mark boxes that lie in a larger one of others."""
    areas, theirs = (np.prod(b[:, 2:] - b[:, :2], axis=1) for b in (boxes, others))
    first, second, common = _common(boxes, others)
    inside = (theirs[second] > areas[first]) & (common > MAX_INSIDE * areas[first])
    return np.bincount(first[inside], minlength=len(boxes)) > 0
