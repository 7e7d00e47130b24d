"""The data of a recipe -> the tiles to train and validate with."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from geosam.options import Options
from geosam.training.crops import Crops, TrainingWindow, cut_windows
from geosam.training.examples import Example, read_examples
from geosam.training.recipe import DataRecipe
from geosam.training.sample import Sample
from geosam.training.splits import Split, split_windows

COLUMNS = ("part", "example", "row", "col", "size", "zoom")


@dataclass(frozen=True)
class Parts:
    """What a training works on."""

    train: Sequence[Sample]
    """Tiles to learn from."""

    validation: Sequence[Sample]
    """Tiles to choose the best epoch by."""

    names: tuple[str, ...] = ()
    """What the training tiles are called; empty where they have no names."""

    split: Split | None = None
    """The windows of all parts, where they come from images."""

    test: Sequence[Sample] = ()
    """Tiles that are looked at once, when the training is over."""

    test_names: tuple[str, ...] = ()
    """What these are called; empty where they have no names."""


def open_parts(data: DataRecipe, size: int, seed: int) -> Parts:
    """Read what is labelled, cut it into windows, and set parts aside.

    Parameters
    ----------
    data
        Where it is and how it is split.
    size
        Rows and columns of a window: the input size of the model.
    seed
        The same seed gives the same parts.

    Raises
    ------
    GeosamError
        If the data cannot be used, a class is missing, or the split leaks.
    """
    options = Options(
        bands=data.bands or None,
        composite=data.composite,
        stretch=data.stretch,
        resolution=data.resolution,
    )
    examples = [
        example
        for path in data.path
        for example in read_examples(
            path,
            data.kind,
            labels=data.labels or None,
            labelled=data.labelled or None,
            scene=data.scene or None,
            places=data.places or None,
            water_value=data.water_value,
            unmatched=data.unmatched,
            options=options,
        )
    ]
    windows = cut_windows(examples, size, zoom=data.zoom)
    shares = (1 - data.validation - data.test, data.validation, data.test)
    split = split_windows(windows, by=data.by, shares=shares, seed=seed)
    crops = [Crops(windows) for windows in (split.train, split.val, split.test)]
    shared = _shared_names(examples)
    names = [tuple(_name(w, shared) for w in windows) for windows in (split.train, split.test)]
    return Parts(crops[0], crops[1], names[0], split, crops[2], names[1])


def _shared_names(examples: Sequence[Example]) -> set[str]:
    """Return names that stand for more than one image, as they may where there are several folders."""
    named = Counter(name for name, _ in {(e.name, e.imagery.key) for e in examples})
    return {name for name, n in named.items() if n > 1}


def _name(window: TrainingWindow, shared: set[str]) -> str:
    """Return what no other window is called."""
    place, example = window.window, window.example
    image = example.imagery.key if example.name in shared else example.name
    return f"{image} (row {place.row}, column {place.col})"


def write_windows(path: Path, split: Split) -> None:
    """Write which windows were in which part, so that the test part can be found again."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows(_rows(split))


def _rows(split: Split) -> Iterator[tuple[object, ...]]:
    for part in ("train", "val", "test"):
        for window in getattr(split, part):
            place = window.window
            yield part, window.example.name, place.row, place.col, place.width, window.zoom
