"""Examples -> the windows a model is trained on, and their samples."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox

from geosam.errors import InputError, OptionError
from geosam.training.examples import Example
from geosam.training.sample import Sample
from geosam.types import Window

CACHE_BYTES = 1 << 30
"""Samples kept in memory unless another bound is asked for."""
SKETCH = 8
"""How much coarser than a window the look at its land and water is."""


@dataclass(frozen=True)
class TrainingWindow:
    """A square of one example, as the model sees it."""

    example: Example
    """Where it is cut."""
    window: Window
    """Pixels of the example's grid at this zoom; may overhang it."""
    zoom: float
    """Pixels the model sees for each pixel of the example."""
    land: float = math.nan
    """Share of it that is known to be land."""
    water: float = math.nan
    """Share of it that is known to be water."""

    @property
    def geobox(self) -> GeoBox:
        """The grid of its pixels."""
        grid, window = self.example.working(self.zoom), self.window
        shift = Affine.translation(window.col, window.row)
        return GeoBox((window.height, window.width), grid.affine @ shift, grid.crs)


def cut_windows(
    examples: Iterable[Example],
    size: int,
    *,
    overlap: int = 0,
    zoom: float | None = None,
    least_known: float = 0.0,
) -> list[TrainingWindow]:
    """Cover examples with square windows, and leave out those of which nothing is known.

    Parameters
    ----------
    examples
        From :func:`geosam.training.examples.read_examples`.
    size
        Rows and columns of a window: the input size of the model.
    overlap
        Pixels that neighbours share at least. They share more where the size does not divide an
        image, since no window overhangs an image that is large enough to hold it; a smaller image
        is padded.
    zoom
        Pixels the model sees for each pixel of the image, a whole number or one over one; default
        is that of :meth:`geosam.training.examples.Example.zoom`.
    least_known
        Share of a window that must be labelled, above which it is kept.

    Returns
    -------
    list of TrainingWindow
        By example, then row by row.

    Raises
    ------
    InputError
        No window has a label.
    OptionError
        The overlap is as large as the window.
    """
    if not 0 <= overlap < size:
        raise OptionError(
            f"Overlap {overlap} px must be smaller than the window of {size} px. Use {size // 4}."
        )
    found = [w for example in examples for w in _cut(example, size, overlap, zoom)]
    kept = [w for w in found if w.land + w.water > least_known]
    if not kept:
        raise InputError(
            f"None of {len(found)} windows has a label: all is nodata or {255} (ignored). Check the "
            "masks, or the area that is labelled."
        )
    return kept


def read_sample(window: TrainingWindow) -> Sample:
    """Read what the model sees of a window, and its label."""
    pixels, label = window.example.read(window.geobox)
    return Sample(pixels, label, window.zoom)


class Crops(Sequence[Sample]):
    """The samples of windows, read when they are asked for and kept while there is room.

    Parameters
    ----------
    windows
        Of one size.
    cache_bytes
        Most bytes to keep in memory; 0 keeps nothing. What is kept stays, so that in later epochs
        a part is always at hand.
    """

    def __init__(
        self, windows: Sequence[TrainingWindow], *, cache_bytes: int = CACHE_BYTES
    ) -> None:
        self.windows = tuple(windows)
        self.cache_bytes = cache_bytes
        self._kept: dict[int, Sample] = {}
        self._free = cache_bytes

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, index: int) -> Sample:  # type: ignore[override]
        index = range(len(self))[index]
        if index in self._kept:
            return self._kept[index]
        sample = read_sample(self.windows[index])
        needed = sample.pixels.nbytes + sample.label.nbytes
        if needed <= self._free:
            self._free -= needed
            self._kept[index] = sample
        return sample


def _cut(example: Example, size: int, overlap: int, zoom: float | None) -> list[TrainingWindow]:
    chosen = example.zoom(zoom)
    height, width = example.working(chosen).shape
    places = [
        Window(row, col, size, size)
        for row in starts(height, size, overlap)
        for col in starts(width, size, overlap)
    ]
    return [_weighed(TrainingWindow(example, place, chosen)) for place in places]


def starts(length: int, size: int, overlap: int) -> list[int]:
    """Return the first pixels of windows that cover a length evenly, none beyond its ends."""
    if length <= size:
        return [0]
    count = math.ceil((length - overlap) / (size - overlap))
    return np.linspace(0, length - size, count).round().astype(int).tolist()


def _weighed(window: TrainingWindow) -> TrainingWindow:
    """Say how much of a window is land and water, from a coarse look."""
    grid = window.geobox
    side = max(1, grid.shape[0] // SKETCH)
    scale = Affine.scale(grid.shape[1] / side, grid.shape[0] / side)
    sketch = GeoBox((side, side), grid.affine @ scale, grid.crs)
    land, water = window.example.shares(sketch)
    return TrainingWindow(window.example, window.window, window.zoom, land, water)
