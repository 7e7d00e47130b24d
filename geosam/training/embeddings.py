"""Tiles as the decoder sees them: embedded anew each time, or once and for all."""

from __future__ import annotations

import json
import shutil
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from geosam.errors import InputError, OutputError
from geosam.models.sam import Sam
from geosam.models.sam2 import Sam2
from geosam.training.sample import Sample

AUTO_FP32_BYTES = 4 << 30
"""Embeddings are kept as float32 up to this size, as float16 beyond it."""
DTYPES: dict[str, np.dtype[Any]] = {"fp32": np.dtype(np.float32), "fp16": np.dtype(np.float16)}

Change = Callable[[Sample, int, int], Sample]
"""A sample, its number and the epoch to the sample as it is shown then."""


@dataclass(frozen=True)
class Seen:
    """Some tiles."""

    features: dict[str, torch.Tensor]
    """Feature maps, (n, channels, y, x) each, as the model's ``encode`` names them."""

    labels: np.ndarray
    """(n, size, size) uint8 of LAND, WATER and IGNORE."""


class Tiles(Protocol):
    """The tiles of a training or validation part."""

    def __len__(self) -> int: ...

    def label(self, item: int) -> np.ndarray:
        """Return the label of a tile as it is stored, (size, size) uint8."""

    def read(self, items: Sequence[int], epoch: int) -> Seen:
        """Return some tiles as they are shown in an epoch."""


@dataclass(frozen=True)
class FreshTiles:
    """Tiles that are embedded whenever they are read: for an encoder that changes, or tiles that
    do.
    """

    model: Sam | Sam2
    """Embeds them."""

    samples: Sequence[Sample]
    """The tiles, of the model's size."""

    learns: bool = False
    """Whether the encoder is trained."""

    change: Change | None = None
    """Shows a tile otherwise in every epoch."""

    def __len__(self) -> int:
        return len(self.samples)

    def label(self, item: int) -> np.ndarray:
        """Return the label of a tile as it is stored, (size, size) uint8."""
        return self.samples[item].label

    def read(self, items: Sequence[int], epoch: int) -> Seen:
        """Return some tiles as they are shown in an epoch."""
        shown = [check_size(self.samples[i], i, self.model.size) for i in items]
        if self.change is not None:
            shown = [self.change(s, i, epoch) for s, i in zip(shown, items, strict=True)]
        pixels = np.stack([sample.pixels for sample in shown])
        with torch.set_grad_enabled(self.learns and torch.is_grad_enabled()):
            features = self.model.embed(pixels)
        return Seen(features, np.stack([sample.label for sample in shown]))


@dataclass(frozen=True)
class StoredTiles:
    """Tiles whose embeddings lie on disk. Only those that are read are in memory."""

    features: dict[str, np.ndarray]
    """Memory-mapped feature maps of all tiles, (n, channels, y, x)."""

    labels: np.ndarray
    """Memory-mapped labels, (n, size, size) uint8."""

    device: torch.device
    """Where the decoder runs."""

    def __len__(self) -> int:
        return len(self.labels)

    def label(self, item: int) -> np.ndarray:
        """Return the label of a tile, (size, size) uint8."""
        return np.array(self.labels[item])

    def read(self, items: Sequence[int], epoch: int) -> Seen:
        """Return some tiles, which are the same in every epoch."""
        numbers = list(items)
        maps = {
            name: np.asarray(values[numbers], np.float32) for name, values in self.features.items()
        }
        features = {name: torch.from_numpy(v).to(self.device) for name, v in maps.items()}
        return Seen(features, np.array(self.labels[numbers]))


def check_size(sample: Sample, item: int, size: int) -> Sample:
    """Return a sample of the model's size.

    Raises
    ------
    InputError
        If it has another, or pixels and label differ.
    """
    shapes = sample.pixels.shape, sample.label.shape
    if shapes != ((3, size, size), (size, size)):
        raise InputError(
            f"Tile {item} has pixels {shapes[0]} and label {shapes[1]}; the model takes "
            f"(3, {size}, {size}) and ({size}, {size}). Cut tiles of {size} px."
        )
    return sample


def store_tiles(
    model: Sam | Sam2,
    samples: Sequence[Sample],
    folder: Path,
    cache: str = "auto",
    batch: int = 1,
    tell: Callable[[int], Any] = lambda done: None,
) -> StoredTiles:
    """Embed tiles once. What an earlier run left in the folder is used where it fits.

    Parameters
    ----------
    model
        Embeds them.
    samples
        The tiles, of the model's size.
    folder
        Where the arrays lie; made if it is missing.
    cache
        ``fp32``, ``fp16``, or ``auto``: float32 up to 4 GB.
    batch
        Tiles at a time.
    tell
        Called with the number of tiles that a step has brought.

    Raises
    ------
    InputError
        If there are no tiles, or one has another size.
    OutputError
        If the disk has no room.
    """
    if not len(samples):
        raise InputError("There are no tiles to train with. Give more labelled images.")
    first = check_size(samples[0], 0, model.size)
    with torch.no_grad():
        shapes = {k: tuple(v.shape[1:]) for k, v in model.embed(first.pixels[None]).items()}
    dtype = _choose_dtype(shapes, len(samples), cache)
    fits = _open_folder(
        folder,
        {
            "model": model.signature,
            "dtype": str(dtype),
            "n": len(samples),
            "shapes": {k: list(s) for k, s in shapes.items()},
            "encoder": str(model.placement.dtype),
        },
    )
    if not fits:
        _check_room(folder, shapes, len(samples), dtype)
    arrays = {k: _array(folder / f"{k}.npy", (len(samples), *s), dtype) for k, s in shapes.items()}
    labels = _array(
        folder / "labels.npy", (len(samples), model.size, model.size), np.dtype(np.uint8)
    )
    sums = _array(folder / "sums.npy", (len(samples),), np.dtype(np.int64))
    for numbers in _chunks(len(samples), batch):
        _fill(model, samples, numbers, arrays, labels, sums)
        tell(len(numbers))
    return StoredTiles(dict(arrays), labels, model.placement.device)


def _fill(
    model: Sam | Sam2,
    samples: Sequence[Sample],
    numbers: Sequence[int],
    arrays: dict[str, np.ndarray],
    labels: np.ndarray,
    sums: np.ndarray,
) -> None:
    """Embed those of some tiles whose pixels are not those embedded before."""
    tiles = {i: check_size(samples[i], i, model.size) for i in numbers}
    # One more than the checksum: 0 is what a new file holds.
    found = {i: zlib.crc32(np.ascontiguousarray(tile.pixels).data) + 1 for i, tile in tiles.items()}
    for i, tile in tiles.items():
        labels[i] = tile.label
    missing = [i for i in numbers if sums[i] != found[i]]
    if not missing:
        return
    with torch.no_grad():
        features = model.embed(np.stack([tiles[i].pixels for i in missing]))
    for name, values in features.items():
        arrays[name][missing] = values.cpu().numpy()
    for i in missing:
        sums[i] = found[i]


def _choose_dtype(shapes: dict[str, tuple[int, ...]], n: int, cache: str) -> np.dtype:
    if cache != "auto":
        return DTYPES[cache]
    large = n * _values(shapes) * 4 > AUTO_FP32_BYTES
    return DTYPES["fp16" if large else "fp32"]


def _values(shapes: dict[str, tuple[int, ...]]) -> int:
    return sum(int(np.prod(shape)) for shape in shapes.values())


def _open_folder(folder: Path, signature: dict[str, Any]) -> bool:
    """Empty the folder unless it holds embeddings of the same signature; say whether it does."""
    path = folder / "signature.json"
    if path.is_file() and json.loads(path.read_text()) == signature:
        return True
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    path.write_text(json.dumps(signature))
    return False


def _check_room(folder: Path, shapes: dict[str, tuple[int, ...]], n: int, dtype: np.dtype) -> None:
    needed, free = n * _values(shapes) * dtype.itemsize, shutil.disk_usage(folder).free
    if needed > free:
        shutil.rmtree(folder)
        raise OutputError(
            f"The embeddings of {n} tiles take {needed / 1e9:.1f} GB and {free / 1e9:.1f} GB are free "
            "at the output. Choose another disk, or --cache fp16, or --cache off."
        )


def _array(path: Path, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Map an array on disk, a new one full of zeros."""
    mode: Any = "r+" if path.exists() else "w+"
    return np.lib.format.open_memmap(path, mode=mode, dtype=dtype, shape=shape)


def _chunks(n: int, size: int) -> Iterator[list[int]]:
    for start in range(0, n, size):
        yield list(range(start, min(start + size, n)))
