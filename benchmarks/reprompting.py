"""Asking again from an embedding store against encoding anew, on one synthetic scene.

    python benchmarks/reprompting.py [--size 2048] [--model river-tiny] [--rounds 5] [--processor]

Prints the seconds of the steps of a run, and the tiles that were encoded: in a run without a store, in the run
that fills one, in further ones with other prompts. After each of these, so that other work on the machine disturbs
both alike, comes what it takes to read the same tiles from the store, decode the very prompts that it decoded, blend
and write them, with as many threads and nothing else: a tile at a time, and, as no program that works on parts of a
scene can, prompts of as many points eight at a time wherever in the scene they lie. Ratios are medians. The step
`segment` reads, decodes, blends and keeps the blocks; `rasters` are the probability with what speaks beside the model,
and the rasters and layers that are written; `outlines` stands apart. The last line is one prompt on one stored tile.
`--processor` takes all seconds from the processor's clock, for a machine that has other work.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

BATCH = 8
"""Prompts decoded at once beside a run."""
clock = time.perf_counter


@dataclass(frozen=True)
class Watched:
    """A model that counts the tiles it encodes, and remembers the prompts it decodes."""

    inner: Any
    encoded: list[int] = field(default_factory=list)
    asked: list[Any] = field(default_factory=list)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def encode(self, pixels: np.ndarray) -> Any:
        """Count and encode."""
        self.encoded.append(len(pixels))
        return self.inner.encode(pixels)

    def decode(self, features: Any, prompts: Any) -> Any:
        """Remember and decode."""
        self.asked.extend(prompts)
        return self.inner.decode(features, prompts)


@dataclass(frozen=True)
class Run:
    """What a run took."""

    segment: float
    """Seconds of the step that reads, encodes, decodes, blends and keeps the blocks."""
    rasters: float
    """Seconds of probability, rasters and layers."""
    asked: list[Any]
    """The prompts that were decoded."""


def measure(scene: Path, folder: Path, model: Any, label: str, **options: Any) -> Run:
    """Run once, and print a line."""
    import geosam

    watched = Watched(model)
    report = geosam.run(scene, folder / f"{label}.gpkg", model=watched, resolution=1, **options)
    taken, done = report.seconds, report.tiles.get("done", 0)
    rasters = taken["probability"] + taken["write"]
    numbers = (taken["segment"], rasters, taken["outlines"], taken["total"])
    columns = "".join(f"{seconds:9.2f}" for seconds in numbers)
    print(f"{label:16}{columns} {done:6} {sum(watched.encoded):8}", flush=True)
    return Run(taken["segment"], rasters, watched.asked)


def alike(asked: list[Any]) -> list[list[Any]]:
    """Put prompts together that can be decoded at once."""
    kinds: dict[Any, list[Any]] = {}
    for prompt in asked:
        kinds.setdefault(prompt.kind, []).append(prompt)
    return [many[i : i + BATCH] for many in kinds.values() for i in range(0, len(many), BATCH)]


def bare_seconds(folder: Path, model: Any, batches: list[list[Any]]) -> float:
    """Read a stored tile for each prompt, decode, blend and write: the seconds that takes."""
    import xarray as xr

    from geosam.cores import shared_cores
    from geosam.models.features import from_half
    from geosam.options import Options
    from geosam.tiles import blend_weights
    from geosam.workers import shared_threads

    overlap = model.size // 4
    stride, weights = model.size - overlap, blend_weights(model.size, overlap)
    store = xr.open_zarr(folder / "store", chunks=None)
    names, places = store.attrs["feature_maps"], np.argwhere(store.encoded.values)
    first = places.min(axis=0)
    total = np.zeros((2, *((places.max(axis=0) - first) * stride + model.size)), np.float32)
    starts = np.cumsum([0, *map(len, batches)])
    there = [places[np.arange(a, b) % len(places)] for a, b in pairwise(starts)]

    def decode(part: np.ndarray, prompts: list[Any]) -> np.ndarray:
        maps = {n: np.stack([store[n][r, c].values for r, c in part]) for n in names}
        return model.decode(from_half(maps, model), prompts)[0]

    with shared_threads(Options(), model) as crew:
        threads = crew.at_once(len(batches))
    with store, shared_cores(threads), ThreadPoolExecutor(threads) as pool:
        started = clock()
        for part, logits in zip(there, pool.map(decode, there, batches), strict=True):
            for (row, col), tile in zip((part - first) * stride, logits, strict=True):
                window = (slice(row, row + model.size), slice(col, col + model.size))
                total[(slice(None), *window)] += weights * np.stack([tile, np.ones_like(tile)])
        write(folder / "bare.tif", total[0] / np.maximum(total[1], 1e-6))
        return clock() - started


def write(path: Path, logits: np.ndarray) -> None:
    """Write a probability as the main job does: a byte a pixel, compressed."""
    import rasterio

    kind = {"driver": "GTiff", "dtype": "uint8", "count": 1, "compress": "deflate"}
    height, width = logits.shape
    with rasterio.open(path, "w", height=height, width=width, **kind) as file:
        file.write((254 / (1 + np.exp(-logits))).astype("uint8"), 1)


def one_prompt_ms(folder: Path, model: Any) -> float:
    """Read one stored tile and decode one click on it, over and over; return the median."""
    import xarray as xr

    from geosam.models.features import from_half
    from geosam.types import PixelPrompts

    middle = model.size / 2
    click = PixelPrompts(np.full((1, 1, 2), middle), np.ones((1, 1), int))
    with xr.open_zarr(folder / "store", chunks=None) as store:
        row, col = np.argwhere(store.encoded.values)[0]
        names = store.attrs["feature_maps"]
        taken = []
        for _ in range(12):
            started = clock()
            maps = {name: store[name][row, col].values[None] for name in names}
            model.decode(from_half(maps, model), [click])
            taken.append(1000 * (clock() - started))
    return median(taken[2:])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=2048)
    parser.add_argument("--model", default="river-tiny")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--processor", action="store_true", help="use the processor's clock")
    arguments = parser.parse_args()
    import geosam
    import geosam.clock
    from geosam.testing import write_scene

    if arguments.processor:
        global clock
        clock = geosam.clock.perf_counter = time.process_time
    warnings.simplefilter("ignore")
    model = geosam.load_model(arguments.model)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scene = Path(write_scene(folder, shape=(arguments.size,) * 2, seed=1)[0])
        names = ("run", "segment", "rasters", "outlines", "total, s", " tiles", " encoded")
        print(f"{names[0]:16}" + "".join(f"{n:>9}" for n in names[1:5]) + "".join(names[5:]))
        measure(scene, folder, model, "warm-up")
        plain = measure(scene, folder, model, "without a store")
        kept = {"store": folder / "store"}
        measure(scene, folder, model, "fills the store", **kept)
        rounds = []
        for k in range(1, arguments.rounds + 1):
            again = measure(scene, folder, model, f"other prompts {k}", seed=k, points=5, **kept)
            single = bare_seconds(folder, model, [[prompt] for prompt in again.asked])
            rounds.append((again, single, bare_seconds(folder, model, alike(again.asked))))
        lines = {
            "nothing else, a tile at a time, s": median(s for _, s, _ in rounds),
            "nothing else, eight alike at a time, s": median(e for _, _, e in rounds),
            "segment / a tile at a time": median(run.segment / s for run, s, _ in rounds),
            "the same, from the fastest of each": min(run.segment for run, _, _ in rounds)
            / min(s for _, s, _ in rounds),
            "segment / eight alike at a time": median(run.segment / e for run, _, e in rounds),
            "segment and rasters / a tile at a time": median(
                (run.segment + run.rasters) / s for run, s, _ in rounds
            ),
            "segment / segment without a store": median(run.segment for run, _, _ in rounds)
            / plain.segment,
            "one click on one stored tile, ms": one_prompt_ms(folder, model),
        }
        for label, number in lines.items():
            print(f"{label:50} {number:8.2f}")


if __name__ == "__main__":
    main()
