"""Prompts of one object -> what the model says of it, in every tile that it reaches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from geosam.anew import read_part
from geosam.decoding import decode_clicks
from geosam.embeddings import Embeddings
from geosam.following import follow
from geosam.generation import masks_at
from geosam.generation_rules import GenerationRules
from geosam.joined import keep_joined, mark
from geosam.masks import decode_beside
from geosam.prompts.automatic import coarse_polygons
from geosam.prompts.control_points import control_points, seed_for
from geosam.prompts.scene_prompts import ScenePrompts, polygon_mask, tile_prompts
from geosam.stretch import Stretch
from geosam.tiles import TileGrid, blend_weights
from geosam.types import Features, Model, PixelPrompts, Tile, Window
from geosam.views import Around

Index = tuple[int, int]
ENTRY_CLICKS = 3
"""Clicks on each part of an object that enters a tile from beside."""
MOST_ENTRY_CLICKS = 6
"""Clicks on all of them together."""
SURE_LOGIT = 6.0
"""Logit of masks whose edges were moved to those of the picture, where the model's own lie elsewhere."""


@dataclass(frozen=True)
class Sight:
    """A model that looks at the tiles of a scene, each of which it encodes once."""

    around: Around
    """Looks at parts of the scene."""
    grid: TileGrid
    """Its tiles."""
    model: Model
    """Encodes and decodes."""
    stretch: Stretch
    """Of the three bands that the model sees."""
    embeddings: Embeddings
    """Where features are kept."""

    def decode(self, tile: Tile, prompts: PixelPrompts) -> tuple[np.ndarray, float]:
        """Return logits (size, size) and predicted IoU of one prompt."""
        pixels = self._pixels(tile)
        logits, scores = decode_beside(self.model, self._features(tile, pixels), [prompts])
        return _without_void(logits[0], pixels), float(scores[0])

    def decode_all(
        self, tile: Tile, click: np.ndarray, rules: GenerationRules
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return logits (m, size, size) and predicted IoU (m,) of all masks of one click, (1, 2)."""
        pixels = self._pixels(tile)
        features = self._features(tile, pixels)
        if rules.shapes:
            shown, valid = self.stretch.apply(pixels), np.isfinite(pixels).any(axis=0)
            found = masks_at(self.model, shown, tuple(click[0]), rules, valid, features)
            if found:
                masks = np.array([mask.cutout.paste(valid.shape) for mask in found])
                sure = np.where(masks, np.float32(SURE_LOGIT), np.float32(-SURE_LOGIT))
                return sure, np.array([mask.predicted_iou for mask in found])
        _, logits, scores = next(decode_clicks(self.model, features, click))
        return _without_void(logits[0], pixels), scores[0]

    def _pixels(self, tile: Tile) -> np.ndarray:
        return read_part(tile.read, self.around, self.grid.geobox, self.stretch.bands)

    def _features(self, tile: Tile, pixels: np.ndarray) -> Features:
        shown = self.stretch.apply(pixels)[None]
        return self.embeddings.embedder(self.model, [tile])([0], lambda which: shown)


def _without_void(logits: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """Take what has no data out of masks, (..., y, x)."""
    void = ~np.isfinite(pixels).any(axis=0)
    return np.where(void, -np.abs(logits), logits)


@dataclass(frozen=True)
class ObjectMask:
    """What the model says of one object."""

    logits: Mapping[Index, np.ndarray]
    """(size, size) float32 of every tile that was asked."""
    predicted_iou: float
    """The model's own estimate: the mean of the tiles, by the pixels of the object that they own."""
    scores: Mapping[Index, float] = field(default_factory=dict)
    """The same tile by tile."""


def answer_object(
    sight: Sight, given: ScenePrompts, number: int, earlier: ObjectMask | None = None
) -> ObjectMask:
    """Ask for one object, and follow it where clicks alone say what it is.

    A box or a polygon says how far an object reaches: its tiles are asked, and no others. From a click
    the tile that owns it is asked, then neighbours, prompted where the mask enters them.

    Parameters
    ----------
    sight
        The model and the scene.
    given
        All prompts of the scene, on its grid.
    number
        The object.
    earlier
        What was said before: the tiles that see a click are asked again with their logits fed back.

    Returns
    -------
    ObjectMask
    """
    mine = of_object(given, number)
    bounded = _is_bounded(mine)
    before = {} if earlier is None else dict(earlier.logits)
    scores = {} if earlier is None else dict(earlier.scores)

    def respond(tile: Tile, known: np.ndarray, said: np.ndarray | None) -> np.ndarray:
        prompts = _prompts(mine, tile, known, said)
        if prompts is None:
            return np.full(known.shape, -np.inf, np.float32) if said is None else said
        logits, scores[tile.index] = sight.decode(tile, prompts)
        return logits if bounded else _joined(logits, prompts)

    start = _first_tiles(mine, sight.grid, before)
    if bounded:
        for index in start:
            tile = sight.grid.tile(index)
            nothing = np.full((sight.grid.size,) * 2, np.nan, np.float32)
            before[index] = respond(tile, nothing, before.get(index))
        answers = before
    else:
        answers = follow(sight.grid, start, respond, answers=before)
    return ObjectMask(answers, _rate(answers, scores, sight.grid), scores)


def answer_ambiguous(
    sight: Sight, given: ScenePrompts, number: int, rules: GenerationRules
) -> list[ObjectMask]:
    """Return every mask of a single click in its own tile, the best rated first.

    A model whose rules say that it is asked about shapes is asked about those under the click as well:
    the three masks that are surest then have two logits only, :data:`SURE_LOGIT` and its negative.

    Raises
    ------
    ModelError
        If the model gives one mask a click only.
    """
    mine = of_object(given, number)
    tile = sight.grid.tile(_first_tiles(mine, sight.grid, {})[0])
    click = mine.points - [tile.read.col, tile.read.row]
    logits, scores = sight.decode_all(tile, click, rules)
    return [
        ObjectMask({tile.index: logits[m]}, float(scores[m]), {tile.index: float(scores[m])})
        for m in np.argsort(-scores, kind="stable")
    ]


def is_ambiguous(given: ScenePrompts, number: int) -> bool:
    """Return whether an object has one click and nothing else."""
    mine = of_object(given, number)
    return len(mine) == 1 and len(mine.points) == 1


def of_object(given: ScenePrompts, number: int) -> ScenePrompts:
    """Return the prompts of one object."""
    points, boxes = given.objects == number, given.box_objects == number
    polygons, patches = given.polygon_objects == number, given.patch_objects == number
    return ScenePrompts(
        given.points[points],
        given.labels[points],
        given.objects[points],
        given.sources[points],
        given.tiles[points],
        given.boxes[boxes],
        given.box_objects[boxes],
        given.box_tiles[boxes],
        given.polygons[polygons],
        given.polygon_labels[polygons],
        given.polygon_objects[polygons],
        given.patches[patches],
        given.patch_objects[patches],
    )


def object_numbers(given: ScenePrompts) -> list[int]:
    """Return the objects that prompts ask for, in order."""
    asked = [given.objects[given.labels == 1], given.box_objects]
    asked.append(given.polygon_objects[given.polygon_labels == 1])
    return sorted({int(number) for part in asked for number in part})


def blend_object(
    answer: ObjectMask, given: ScenePrompts, number: int, grid: TileGrid
) -> tuple[np.ndarray, Window]:
    """Blend the tiles of an object, and keep of a clicked one what a click is connected to, or what was
    drawn of it.

    Returns
    -------
    tuple
        (height, width) float32 logits, minus infinity where nobody was asked, and their window.
    """
    window = _around(answer, grid)
    total = np.zeros((2, window.height, window.width), np.float32)
    weights = blend_weights(grid.size, grid.overlap)
    for index, logits in answer.logits.items():
        inside = grid.tile(index).read.intersection(window)
        if inside is None:
            continue
        own, place = inside.slices(grid.tile(index).read), (slice(None), *inside.slices(window))
        share = np.maximum(weights[own], 1e-6)
        finite = np.nan_to_num(logits[own], nan=-100, neginf=-100, posinf=100)
        total[place] += np.stack([share * finite, share])
    with np.errstate(invalid="ignore", divide="ignore"):
        blended = np.where(total[1] > 0, total[0] / total[1], np.float32(-np.inf))
    mine = of_object(given, number)
    clicks = mine.points[mine.labels == 1] - [window.col, window.row]
    if len(clicks) and not len(mine.boxes):
        drawn = polygon_mask(mine, window, number)
        seeds = mark(clicks, blended.shape)
        blended = keep_joined(blended, seeds if drawn is None else seeds | drawn)
    return blended, window


def followed_polygons(sight: Sight, given: ScenePrompts, number: int) -> ScenePrompts:
    """Return an object that clicks alone say as polygons where it is larger than its tile, else nothing."""
    if _is_bounded(of_object(given, number)):
        return ScenePrompts()
    answer = answer_object(sight, given, number)
    if len(answer.logits) <= len(_first_tiles(of_object(given, number), sight.grid, {})):
        return ScenePrompts()
    logits, window = blend_object(answer, given, number, sight.grid)
    polygons = coarse_polygons((logits > 0).astype(np.uint8), window)
    polygons.polygon_objects[:] = number
    return polygons


def _is_bounded(mine: ScenePrompts) -> bool:
    """Whether a box or a polygon says how far an object reaches."""
    return len(mine.boxes) > 0 or bool((mine.polygon_labels == 1).any())


def _first_tiles(mine: ScenePrompts, grid: TileGrid, before: Mapping[Index, np.ndarray]) -> list:
    """The tiles that own a click, a box or a polygon, and those asked before that see a click."""
    owners = [grid.index_at(p) for p in mine.points[(mine.labels == 1) | bool(before)]]
    first = [index for index in owners if index is not None]
    shapes = [*mine.boxes, *(p.bounds for p in mine.polygons[mine.polygon_labels == 1])]
    for left, top, right, bottom in shapes:
        low = int(np.floor(top)), int(np.floor(left))
        whole = Window(*low, int(np.ceil(bottom)) - low[0], int(np.ceil(right)) - low[1])
        inside = whole.intersection(grid.scene)
        first += [] if inside is None else grid.touched_by(inside)
    first += [index for index in before if len(mine.within(grid.tile(index).read).points)]
    return list(dict.fromkeys(first))


def _prompts(
    mine: ScenePrompts, tile: Tile, known: np.ndarray, said: np.ndarray | None
) -> PixelPrompts | None:
    """Put together what a tile is asked: its own prompts, where the object enters it, and what it
    said before.
    """
    own = next(iter(tile_prompts(mine, tile, None)), None)
    here = mine.within(tile.read)
    corner = [tile.read.col, tile.read.row]
    points, labels = here.points - corner, here.labels
    entered = known > 0
    if entered.any():
        clicks = _entry_clicks(entered, tile)
        points = np.concatenate([points, clicks])
        labels = np.concatenate([labels, np.ones(len(clicks), int)])
    elif own is None:
        return None
    mask = None if own is None else own.masks
    fed = said is not None and np.isfinite(said).all()
    return PixelPrompts(
        points[None],
        labels[None],
        None if own is None else own.boxes,
        said[None] if fed and said is not None else mask,
        None if own is None else own.beside,
    )


def _entry_clicks(entered: np.ndarray, tile: Tile) -> np.ndarray:
    return control_points(
        entered,
        np.ones_like(entered),
        per_component=ENTRY_CLICKS,
        max_points=MOST_ENTRY_CLICKS,
        min_px=1,
        rng=seed_for(0, tile.index),
    )


def _joined(logits: np.ndarray, prompts: PixelPrompts) -> np.ndarray:
    """Keep what is connected to a click for the object."""
    return keep_joined(logits, mark(prompts.points[0][prompts.labels[0] == 1], logits.shape))


def _around(answer: ObjectMask, grid: TileGrid) -> Window:
    """Return the window inside the scene that the tiles of an object see."""
    reads = [grid.tile(index).read for index in answer.logits]
    row, col = min(r.row for r in reads), min(r.col for r in reads)
    height = max(r.row_end for r in reads) - row
    whole = Window(row, col, height, max(r.col_end for r in reads) - col)
    inside = whole.intersection(grid.scene)
    assert inside is not None
    return inside


def _rate(
    answers: Mapping[Index, np.ndarray], scores: Mapping[Index, float], grid: TileGrid
) -> float:
    sizes = []
    for index in scores:
        tile = grid.tile(index)
        sizes.append(float((answers[index][tile.core.slices(tile.read)] > 0).sum()))
    if not scores:
        return float("nan")
    weights = sizes if sum(sizes) else None
    return float(np.average(list(scores.values()), weights=weights))
