"""Asking again from an embedding store against encoding anew, on one synthetic scene.

    python benchmarks/reprompting.py [--size 2048] [--model river-tiny]

Prints the seconds of the segmentation step and the tiles that were encoded: in a run without a store, in
the run that fills one, in a second run with other prompts; beside the latter what it takes to read the
same tiles from the store, decode a coarse mask with six points in each, blend and write them, with as many
threads and nothing else; and what one prompt on one stored tile takes.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

BATCH = 8
"""Tiles decoded at once."""
THREADS = 2
"""Of the tiles that are decoded beside a run."""


@dataclass(frozen=True)
class Counting:
    """A model that counts the tiles it encodes."""

    inner: Any
    encoded: list[int] = field(default_factory=list)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def encode(self, pixels: np.ndarray) -> Any:
        """Count and encode."""
        self.encoded.append(len(pixels))
        return self.inner.encode(pixels)


def measure(scene: Path, folder: Path, model: Any, label: str, **options: Any) -> float:
    """Run once, print a line, and return the seconds of the segmentation step."""
    import geosam

    counting = Counting(model)
    report = geosam.run(scene, folder / f"{label}.gpkg", model=counting, resolution=1, **options)
    seconds = report.seconds["segment"]
    done = report.tiles.get("done", 0)
    print(
        f"{label:24} {seconds:8.2f} {report.seconds['total']:8.2f} {done:6} {sum(counting.encoded):8}"
    )
    return seconds


def bare_seconds(folder: Path, model: Any, overlap: int) -> float:
    """Read all stored tiles, decode a prompt in each, blend and write them: the seconds that takes."""
    import rasterio
    import xarray as xr

    from geosam.models.features import from_half
    from geosam.tiles import blend_weights
    from geosam.types import PixelPrompts

    mask = np.zeros((1, model.size, model.size), bool)
    mask[:, 100:150] = True
    prompt = PixelPrompts(np.full((1, 6, 2), 120.5), np.ones((1, 6), int), masks=mask)
    stride, weights = model.size - overlap, blend_weights(model.size, overlap)
    with xr.open_zarr(folder / "store", chunks=None) as store:
        names, places = store.attrs["feature_maps"], np.argwhere(store.encoded.values)
        first = places.min(axis=0)
        shape = (places.max(axis=0) - first) * stride + model.size
        total = np.zeros((2, *shape), np.float32)

        def decode(part: np.ndarray) -> np.ndarray:
            maps = {n: np.stack([store[n][r, c].values for r, c in part]) for n in names}
            return model.decode(from_half(maps, model), [prompt] * len(part))[0]

        started = time.perf_counter()
        parts = [places[i : i + BATCH] for i in range(0, len(places), BATCH)]
        with ThreadPoolExecutor(THREADS) as pool:
            for part, logits in zip(parts, pool.map(decode, parts), strict=True):
                for (row, col), tile in zip((part - first) * stride, logits, strict=True):
                    window = (slice(row, row + model.size), slice(col, col + model.size))
                    total[(slice(None), *window)] += weights * np.stack([tile, np.ones_like(tile)])
        blended = total[0] / np.maximum(total[1], 1e-6)
        levels = (254 / (1 + np.exp(-blended))).astype("uint8")
        kind = {"driver": "GTiff", "dtype": "uint8", "count": 1, "compress": "deflate"}
        with rasterio.open(
            folder / "bare.tif", "w", height=shape[0], width=shape[1], **kind
        ) as file:
            file.write(levels, 1)
        return time.perf_counter() - started


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
            started = time.perf_counter()
            maps = {name: store[name][row, col].values[None] for name in names}
            model.decode(from_half(maps, model), [click])
            taken.append(1000 * (time.perf_counter() - started))
    return median(taken[2:])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=2048)
    parser.add_argument("--model", default="river-tiny")
    arguments = parser.parse_args()
    import geosam
    from geosam.testing import write_scene

    warnings.simplefilter("ignore")
    model = geosam.load_model(arguments.model)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scene = Path(write_scene(folder, shape=(arguments.size,) * 2, seed=1)[0])
        print(f"{'run':24} {'segment':>8} {'total, s':>8} {'tiles':>6} {'encoded':>8}")
        measure(scene, folder, model, "warm-up")
        plain = measure(scene, folder, model, "without a store")
        measure(scene, folder, model, "fills the store", store=folder / "store")
        again = min(
            measure(
                scene, folder, model, f"other prompts {k}", store=folder / "store", seed=k, points=5
            )
            for k in (1, 2, 3)
        )
        bare_seconds(folder, model, model.size // 4)
        bare = min(bare_seconds(folder, model, model.size // 4) for _ in range(3))
        print(f"read, decode, blend and write the same tiles   {bare:8.2f}")
        print(f"segmentation from the store / that             {again / bare:8.2f}")
        print(f"segmentation from the store / without one      {again / plain:8.2f}")
        print(f"one click on one stored tile, ms               {one_prompt_ms(folder, model):8.1f}")


if __name__ == "__main__":
    main()
