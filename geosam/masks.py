"""Tiles and prompts -> logits and scores. The one place where a tile may fail without the rest."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import TypeVar

import numpy as np

from geosam.errors import GeosamError, is_gpu_full
from geosam.types import Features, Model, PixelPrompts

STATUSES = DONE, SKIPPED_NODATA, SKIPPED_NO_PROMPT, FAILED = (
    "done",
    "skipped_nodata",
    "skipped_no_prompt",
    "failed",
)
"""What may become of a tile."""
PROMPTS_AT_ONCE = 16
"""Prompts that are decoded at once: the features of a tile are copied for each of its objects, and 300
boxes in one tile of 1,024 px would be 5 GB."""

T = TypeVar("T")
Show = Callable[[Sequence[int]], np.ndarray]
"""Numbers of some tiles -> what the model sees of them, (n, 3, size, size) float32 in [0, 1]."""
Embed = Callable[[Sequence[int], Show], Features]
"""Numbers of some tiles, and what shows them -> their features."""


@dataclass(frozen=True, slots=True)
class TileMask:
    """What the model said of one tile, or why it said nothing."""

    status: str
    """One of ``done``, ``skipped_nodata``, ``skipped_no_prompt``, ``failed``."""
    logits: np.ndarray | None = None
    """(size, size) float32, the union of its objects, where done."""
    predicted_iou: float = float("nan")
    """The model's own estimate, the mean of its objects."""
    seconds: float = 0.0
    """Its share of the time its batch took."""
    error: str = ""
    """Why it failed."""


def segment_tiles(
    model: Model,
    show: Show,
    empty: Sequence[bool],
    prompts: Sequence[Sequence[PixelPrompts]],
    *,
    batch_size: int = 8,
    embed: Embed | None = None,
) -> list[TileMask]:
    """Segment tiles, encoding only those that have data and prompts.

    Parameters
    ----------
    model
        Encodes and decodes.
    show
        Gives what the model sees of those that are encoded.
    empty
        Whether each tile has no data.
    prompts
        For each tile one entry an object; none means that nothing there prompts.
    batch_size
        Tiles that go through the encoder at once.
    embed
        Gives the features of tiles, by number; the model's encoder without it.

    Returns
    -------
    list of TileMask
        In the order of the tiles.
    """
    embed = embed or (lambda which, show: model.encode(show(which)))
    masks = [_skipped(no_data, asked) for no_data, asked in zip(empty, prompts, strict=True)]
    active = [i for i, mask in enumerate(masks) if mask is None]
    while active:
        batch, active = active[:batch_size], active[batch_size:]
        answered, most = _attempt(model, embed, batch, show, prompts)
        batch_size = min(batch_size, most)
        for i, mask in zip(batch, answered, strict=True):
            masks[i] = mask
    return [mask for mask in masks if mask is not None]


def _skipped(no_data: bool, prompts: Sequence[PixelPrompts]) -> TileMask | None:
    if no_data:
        return TileMask(SKIPPED_NODATA)
    return None if prompts else TileMask(SKIPPED_NO_PROMPT)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why what there was to do with some tiles failed."""

    reason: str
    """The error, as it is told."""
    out_of_memory: bool = False
    """Whether memory was full, that of a GPU or the machine's."""


def attempt(work: Callable[[], T]) -> T | Failure:
    """Do what there is to do with tiles, and return what it gives, or why it failed."""
    try:
        return work()
    except GeosamError:
        raise
    except Exception as error:  # noqa: BLE001 - the tile's border: a failure is data here
        full = isinstance(error, MemoryError) or is_gpu_full(error)
        return Failure(f"{type(error).__name__}: {error}", full)


def _attempt(
    model: Model,
    embed: Embed,
    batch: list[int],
    show: Show,
    prompts: Sequence[Sequence[PixelPrompts]],
) -> tuple[list[TileMask], int]:
    """Segment a batch; where it fails, in halves, so that one bad tile is one bad tile.

    Returns the masks, and how many tiles at once the memory allows for all that is known.
    """
    started = perf_counter()

    def segment() -> list[tuple[np.ndarray, float]] | Failure:
        return _decode_batch(model, embed(batch, show), [prompts[i] for i in batch])

    found = attempt(segment)
    # Only here is the error gone, and with it what it held of the memory.
    if not isinstance(found, Failure):
        share = (perf_counter() - started) / len(batch)
        return [TileMask(DONE, logits, score, share) for logits, score in found], sys.maxsize
    if len(batch) == 1:
        most = 1 if found.out_of_memory else sys.maxsize
        return [TileMask(FAILED, error=found.reason)], most
    half = len(batch) // 2
    parts = [_attempt(model, embed, part, show, prompts) for part in (batch[:half], batch[half:])]
    most = min(limit for _, limit in parts)
    return [mask for masks, _ in parts for mask in masks], (
        min(most, half) if found.out_of_memory else most
    )


def _decode_batch(
    model: Model, features: Features, prompts: Sequence[Sequence[PixelPrompts]]
) -> list[tuple[np.ndarray, float]] | Failure:
    """Decode the prompts of a batch in slices, and unite the answers tile by tile.

    Where memory is full for a tile alone, its slices are halved: its batch cannot be.
    """
    united: dict[int, np.ndarray] = {}
    scores: list[list[float]] = [[] for _ in prompts]
    # One prompt a tile is one slice, whatever the size of the batch.
    left = _sliced(_bucket(prompts), max(PROMPTS_AT_ONCE, len(prompts)))
    while left:
        found = attempt(partial(_decode_slice, model, features, prompts, left[0]))
        if not isinstance(found, Failure):
            for (tile, _), logits, score in zip(left.pop(0), *found, strict=True):
                _unite(united, tile, logits)
                scores[tile].append(float(score))
        elif found.out_of_memory and len(prompts) == 1 and len(left[0]) > 1:
            left = _sliced(left, len(left[0]) // 2)
        else:
            return found
    return [(united[tile], float(np.mean(rated))) for tile, rated in enumerate(scores)]


def _decode_slice(
    model: Model,
    features: Features,
    prompts: Sequence[Sequence[PixelPrompts]],
    members: list[tuple[int, int]],
) -> tuple[np.ndarray, np.ndarray]:
    tiles = [tile for tile, _ in members]
    return decode_beside(model, take(features, tiles), [prompts[tile][k] for tile, k in members])


def _sliced(buckets: Iterable[list[tuple[int, int]]], most: int) -> list[list[tuple[int, int]]]:
    return [b[start : start + most] for b in buckets for start in range(0, len(b), most)]


def _unite(united: dict[int, np.ndarray], tile: int, logits: np.ndarray) -> None:
    """Add an object to what is known of its tile, without holding on to the rest of its slice."""
    if tile in united:
        np.maximum(united[tile], logits, out=united[tile])
    else:
        united[tile] = np.array(logits)


def decode_beside(
    model: Model, features: Features, prompts: Sequence[PixelPrompts]
) -> tuple[np.ndarray, np.ndarray]:
    """Decode one prompt a tile, and add what speaks beside the model.

    Returns
    -------
    tuple
        Logits (n, size, size) float32 and predicted IoU (n,).
    """
    logits, scores = model.decode(features, prompts)
    if any(prompt.beside is not None for prompt in prompts):
        pairs = zip(logits, prompts, strict=True)
        logits = np.stack([one if p.beside is None else one + p.beside[0] for one, p in pairs])
    return logits, scores


def _bucket(prompts: Iterable[Sequence[PixelPrompts]]) -> list[list[tuple[int, int]]]:
    """Sort (tile, object) pairs by the kind of their prompt: a padded prompt is another prompt."""
    buckets: dict[tuple[int, bool, bool], list[tuple[int, int]]] = defaultdict(list)
    for tile, objects in enumerate(prompts):
        for k, prompt in enumerate(objects):
            buckets[prompt.kind].append((tile, k))
    return list(buckets.values())


def take(features: Features, tiles: list[int]) -> Features:
    """Return the features of some tiles of a batch, in that order, a tile as often as named."""
    if tiles == list(range(tiles[0], tiles[0] + len(tiles))):
        # Neighbours need not be copied.
        return {name: array[tiles[0] : tiles[-1] + 1] for name, array in features.items()}
    return {name: array[tiles] for name, array in features.items()}
