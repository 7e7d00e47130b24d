"""Windows -> train, validation and test, so that no part has seen what another is measured on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from math import isqrt
from pathlib import Path

import numpy as np

from geosam.errors import InputError, OptionError
from geosam.training.crops import TrainingWindow
from geosam.training.places import read_json
from geosam.training.touching import (
    images_touch,
    overlapping_pairs,
    pixel_bounds,
    touching_pairs,
)

PARTS = ("train", "val", "test")
RULES = ("auto", "place", "scene", "block")
BLOCKS = 10
"""Blocks, about, that a split by block cuts all windows into."""
TRIES = 32
"""Draws, of which the first is taken that gives every part land and water; by block the one that
gives every part most of its share."""
STARVED = 0.5
"""By block, a part that keeps less of its share than this makes the split try plain strips."""


@dataclass(frozen=True)
class Split:
    """Windows in three parts."""

    train: tuple[TrainingWindow, ...]
    """To learn from."""
    val: tuple[TrainingWindow, ...]
    """To choose on."""
    test: tuple[TrainingWindow, ...]
    """To report on."""
    by: str
    """The rule: ``place``, ``scene``, ``block`` or ``file``."""
    dropped: int = 0
    """Training windows that were left out because they would touch a window of another part."""

    def to_dict(self) -> dict[str, list[str]]:
        """Return the names of the examples in each part, in the form that a split file has."""
        return {
            part: sorted({window.example.name for window in getattr(self, part)}) for part in PARTS
        }


def split_windows(
    windows: Sequence[TrainingWindow],
    *,
    by: str | Path = "auto",
    shares: tuple[float, float, float] = (0.7, 0.15, 0.15),
    seed: int = 0,
) -> Split:
    """Part windows into train, validation and test.

    Parameters
    ----------
    windows
        From :func:`geosam.training.crops.cut_windows`.
    by
        ``place``: images of one place stay together. ``scene``: the windows of an image do.
        ``block``: squares of several windows do; a training window that would touch a validation
        or test window is left out.
        ``auto``: by place where places are known, by block where there are fewer images than parts
        or images touch on the ground, else by scene. Or a split file:
        JSON ``{"train": [names], "val": [...], "test": [...]}``; ``FILE.json:KEY`` where it holds
        several by name.
    shares
        Of the windows in each part. A share of 0 leaves a part empty; train and validation cannot
        be.
    seed
        The same seed gives the same split.

    Returns
    -------
    Split
        Checked by :func:`check_leaks`.

    Raises
    ------
    OptionError
        `by` or `shares` is wrong.
    InputError
        There is too little to split, a split leaks, the training part has no water or no land, or
        nothing is left to validate on.
    """
    _check_shares(shares)
    chosen = _choose_rule(windows, shares) if by == "auto" else str(by)
    if chosen not in RULES:
        split = _from_file(windows, chosen)
    elif chosen == "block":
        split = _by_block(windows, shares, seed)
    else:
        split = _by_unit(windows, chosen, shares, seed)
    check_leaks(split)
    _check_classes(split)
    return split


def check_leaks(split: Split) -> None:
    """Check that nothing that is measured on was learnt from.

    Raises
    ------
    InputError
        A training window overlaps a validation or test window or shares an edge or corner with it,
        on the ground or in the same image; or a place is in two parts. Split by block, two
        images that lie on the ground may share a place, since where their windows lie tells more.
    """
    held = (*split.val, *split.test)
    pair = next(iter(touching_pairs(split.train, held)), None)
    if pair is not None:
        mine, theirs = split.train[pair[0]], held[pair[1]]
        part = "val" if pair[1] < len(split.val) else "test"
        raise InputError(
            f"The split leaks: {_say(mine)} of train touches {_say(theirs)} of {part}. Split by "
            "block, which keeps them apart."
        )
    for first, second in (("train", "val"), ("train", "test"), ("val", "test")):
        _check_places(split, first, second)


def _check_shares(shares: tuple[float, float, float]) -> None:
    if len(shares) != 3 or min(shares) < 0 or abs(sum(shares) - 1) > 1e-6 or min(shares[:2]) == 0:
        raise OptionError(
            f"Shares {tuple(shares)} must be three numbers that sum to 1, of which the first two, "
            "train and validation, are above 0. Use 0.7, 0.15 and 0.15."
        )


def _choose_rule(windows: Sequence[TrainingWindow], shares: tuple[float, float, float]) -> str:
    """Choose the rule that keeps most apart and still fills all parts."""
    needed = sum(share > 0 for share in shares)
    examples = {window.example.imagery.key: window.example for window in windows}.values()
    places = {example.place or example.imagery.key for example in examples}
    if any(example.place for example in examples) and len(places) >= needed:
        return "place"
    if len(examples) < needed or images_touch(windows):
        return "block"
    return "scene"


def _by_unit(
    windows: Sequence[TrainingWindow], rule: str, shares: tuple[float, float, float], seed: int
) -> Split:
    units = [(rule == "place" and w.example.place) or w.example.imagery.key for w in windows]
    needed = sum(share > 0 for share in shares)
    if len(set(units)) < needed:
        raise InputError(
            f"There are {len(set(units))} {rule}s for {needed} parts. Split by block, or leave the "
            "test part empty with a share of 0."
        )
    draws = (_deal(units, shares, np.random.default_rng((seed, i))) for i in range(TRIES))
    parts = _first_complete(windows, draws)
    return _split(windows, parts, rule)


def _deal(
    units: Sequence[object], shares: tuple[float, float, float], rng: np.random.Generator
) -> np.ndarray:
    """Deal units to parts so that the windows of each come near its share, (n windows,) int."""
    sizes = Counter(units)
    order = sorted(sizes, key=str)
    rng.shuffle(order)
    wanted = np.array(shares) * len(units)
    # Every part gets one unit first, the smallest part first.
    first = [part for part in np.argsort(shares, kind="stable") if shares[part] > 0]
    dealt: dict[object, int] = {}
    for i, unit in enumerate(order):
        part = int(first[i]) if i < len(first) else int(np.argmax(wanted))
        dealt[unit] = part
        wanted[part] -= sizes[unit]
    return np.array([dealt[unit] for unit in units])


def _first_complete(windows: Sequence[TrainingWindow], draws: Iterable[np.ndarray]) -> np.ndarray:
    """Return the first draw in which every part has land and water, else the first that comes nearest."""
    best, least = None, len(PARTS) + 1
    for parts in draws:
        lacking = _lacking(windows, parts)
        if lacking < least:
            best, least = parts, lacking
        if least == 0:
            break
    assert best is not None
    return best


def _lacking(windows: Sequence[TrainingWindow], parts: np.ndarray) -> int:
    """Return how many parts there are from the first on that has windows and lacks land or water.

    Without both in training nothing is learnt, and without both in validation nothing is chosen.
    """
    shares = np.array([(window.land, window.water) for window in windows])
    for part in range(len(PARTS)):
        seen = shares[parts == part] > 0
        if len(seen) and not seen.any(axis=0).all():
            return len(PARTS) - part
    return 0


def _by_block(
    windows: Sequence[TrainingWindow], shares: tuple[float, float, float], seed: int
) -> Split:
    touching = np.array(touching_pairs(windows, windows)).reshape(-1, 2)
    overlapping = np.array(overlapping_pairs(windows, windows)).reshape(-1, 2)
    blocks, middles = _blocks(windows), _middles(windows)
    wanted = np.array(shares) * len(windows)
    rngs = [np.random.default_rng((seed, i)) for i in range(TRIES)]
    best, most = None, 0.0
    for draws in (
        (_deal(blocks, shares, rng) for rng in rngs),
        (_sweep(middles, shares, rng) for rng in rngs),
    ):
        for parts in draws:
            guarded = _guarded(parts, touching, overlapping)
            merit = _merit(windows, guarded, wanted)
            if merit > most:
                best, most = guarded, merit
        if most >= STARVED:
            break
    if best is None:
        raise InputError(
            f"{len(windows)} windows are too few to split by block: all that are left beside a "
            "validation window touch it. Label a larger area, use smaller windows, or leave the "
            "test part empty with a share of 0."
        )
    return _split(windows, best, "block")


def _merit(windows: Sequence[TrainingWindow], parts: np.ndarray, wanted: np.ndarray) -> float:
    """Return how much of its share the poorest part has; less where a part lacks a class."""
    filled = [(parts == part).sum() / n for part, n in enumerate(wanted) if n > 0]
    return min(filled) * 0.01 ** _lacking(windows, parts)


def _sweep(
    middles: np.ndarray, shares: tuple[float, float, float], rng: np.random.Generator
) -> np.ndarray:
    """Part windows by lines across a random direction: few windows lie along so short a border."""
    angle = rng.uniform(0, 2 * np.pi)
    rank = np.argsort(np.argsort(middles @ (np.cos(angle), np.sin(angle)), kind="stable"))
    order = rng.permutation(3)
    ends = np.cumsum(np.array(shares)[order]) * len(middles)
    return order[np.minimum(np.searchsorted(ends, rank + 0.5), 2)]


def _guarded(parts: np.ndarray, touching: np.ndarray, overlapping: np.ndarray) -> np.ndarray:
    """Return the parts, with -1 for training windows that touch one of another part, and for validation
    windows that overlap one of the test part: what is chosen by is not what is measured on.
    """
    guarded = parts.copy()
    for part, (a, b) in ((0, touching.T), (1, overlapping.T)):
        guarded[a[(parts[a] == part) & (parts[b] > part)]] = -1
    return guarded


def _blocks(windows: Sequence[TrainingWindow]) -> list[tuple[object, int, int]]:
    """Return the block of each window: on the ground, so that images of one place share blocks, or
    in its image.
    """
    side = max(1, isqrt(len(windows) // BLOCKS))
    spans: dict[object, float] = {}
    for window in windows:
        span = side * max(window.window.height, window.window.width) * _unit(window)
        spans[_frame(window)] = max(span, spans.get(_frame(window), 0))
    blocks = []
    for window, (x, y) in zip(windows, _middles(windows), strict=True):
        span = spans[_frame(window)]
        blocks.append((_frame(window), int(y // span), int(x // span)))
    return blocks


def _middles(windows: Sequence[TrainingWindow]) -> np.ndarray:
    """Return the middle of each window in what blocks are counted in, (n, 2) x, y."""
    return np.array([_middle(window) for window in windows])


def _middle(window: TrainingWindow) -> tuple[float, float]:
    row, col, row_end, col_end = pixel_bounds(window)
    x, y = (col + col_end) / 2, (row + row_end) / 2
    return window.example.geobox.affine @ (x, y) if window.example.is_georeferenced else (x, y)


def _frame(window: TrainingWindow) -> object:
    """What blocks are counted in: a CRS, or an image."""
    example = window.example
    return str(example.geobox.crs) if example.is_georeferenced else example.imagery.key


def _unit(window: TrainingWindow) -> float:
    """Side of a pixel of the window, in what blocks are counted in."""
    return abs(window.geobox.affine.determinant) ** 0.5


def _from_file(windows: Sequence[TrainingWindow], text: str) -> Split:
    names = read_split(text)
    where = {name: k for k, part in enumerate(PARTS) for name in names[part]}
    missing = next((w.example.name for w in windows if w.example.name not in where), None)
    if missing is not None:
        raise InputError(
            f"{missing} is in no part of the split {text}. Add it to train, val or test."
        )
    parts = np.array([where[window.example.name] for window in windows])
    return _split(windows, parts, "file")


def read_split(text: str) -> dict[str, list[str]]:
    """Read a split file, ``FILE.json`` or ``FILE.json:KEY``.

    Raises
    ------
    OptionError
        It is no name of a split file.
    InputError
        It cannot be read, has no such key, or a name is in two parts.
    """
    path, _, key = text.partition(".json")
    if not (text.endswith(".json") or key.startswith(":")) or not path:
        raise OptionError(
            f"Split {text!r} is not understood. Use one of {', '.join(RULES)}, or a JSON file."
        )
    table = read_json(Path(path + ".json"))
    for step in [key[1:]] if key else []:
        table = table.get(step) if isinstance(table, dict) else None
    if not isinstance(table, dict) or not isinstance(table.get("train"), list):
        raise InputError(
            f"Split {text} must hold lists of names train, val and test. Of a file with several "
            "splits name one: FILE.json:KEY."
        )
    names = {part: [str(name) for name in table.get(part, [])] for part in PARTS}
    twice = [name for name, n in Counter(chain(*map(set, names.values()))).items() if n > 1]
    if twice:
        raise InputError(f"The split {text} leaks: {min(twice)} is in two parts. Keep it in one.")
    return names


def _split(windows: Sequence[TrainingWindow], parts: np.ndarray, by: str) -> Split:
    train, val, test = (
        tuple(window for window, p in zip(windows, parts, strict=True) if p == part)
        for part in range(3)
    )
    return Split(train, val, test, by, int((parts < 0).sum()))


def _check_places(split: Split, first: str, second: str) -> None:
    mine, theirs = _places(getattr(split, first)), _places(getattr(split, second))
    for place in sorted(mine.keys() & theirs.keys()):
        for a in mine[place]:
            for b in theirs[place]:
                if not _may_share(split.by, a, b):
                    raise InputError(
                        f"The split leaks: place {place} is in {first} ({a.example.name}) and in "
                        f"{second} ({b.example.name}). Split by place."
                    )


def _places(windows: Iterable[TrainingWindow]) -> dict[str, list[TrainingWindow]]:
    """One window of each image, by place."""
    found: dict[str, dict[str, TrainingWindow]] = {}
    for window in windows:
        if window.example.place is not None:
            found.setdefault(window.example.place, {})[window.example.imagery.key] = window
    return {place: list(images.values()) for place, images in found.items()}


def _may_share(by: str, a: TrainingWindow, b: TrainingWindow) -> bool:
    """Tell whether two windows of one place may be in two parts."""
    same = a.example.imagery.key == b.example.imagery.key
    both = a.example.is_georeferenced and b.example.is_georeferenced
    return by == "block" and (same or both)


def _check_classes(split: Split) -> None:
    """Check that there is something to learn, and something to validate on.

    Raises
    ------
    InputError
        There is not.
    """
    is_empty: dict[str, Callable[[TrainingWindow], bool]] = {
        "water": lambda window: window.water == 0,
        "land": lambda window: window.land == 0,
    }
    for name, lacks in is_empty.items():
        if all(lacks(window) for window in split.train):
            raise InputError(
                f"The training part ({len(split.train)} windows) has no {name}: nothing can be "
                f"learnt from it. Add images with {name}, or another seed or split."
            )
    if not split.val:
        raise InputError(
            "The validation part is empty: the best checkpoint could not be chosen. Put images "
            "into it, or raise its share."
        )


def _say(window: TrainingWindow) -> str:
    place = window.window
    return f"window (row {place.row}, column {place.col}) of {window.example.name}"
