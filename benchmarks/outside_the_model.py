"""What stands around the model, each step against the plain tool for the same thing.

    python benchmarks/outside_the_model.py [--size 4096]

Reading a scene and writing its mask as a COG against copying the scene's file block by block with rasterio
(`gdal_translate`); the coarse mask of an index; blending tiles against summing them into one array; and
outlines against GDAL's own polygoniser. Every pair takes turns in one process, the best of three rounds;
seconds are those of the processor, all threads.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import rasterio

ROUNDS = 3


def copy(scene: Path, target: Path) -> None:
    """Copy a raster block by block, deflated as a COG of ours is."""
    with rasterio.open(scene) as source:
        profile = source.profile | {"driver": "GTiff", "compress": "deflate"}
        with rasterio.open(target, "w", **profile) as written:
            for _, window in source.block_windows(1):
                written.write(source.read(window=window), window=window)


def read(scene: Path) -> None:
    """Read a scene as the job does: every band, block by block, nodata as NaN."""
    import geosam

    geosam.open_scene(scene).data.sum().compute(scheduler="synchronous")


def read_plain(scene: Path) -> None:
    """Read every block of every band."""
    with rasterio.open(scene) as source:
        for _, window in source.block_windows(1):
            source.read(window=window).astype(np.float32).sum()


def coarse(scene: Path) -> None:
    """Find the coarse mask by an index, from the file on."""
    import geosam
    from geosam.coarse import coarse_from_evidence, index_evidence
    from geosam.thresholds import Threshold

    pixels = geosam.open_scene(scene)
    evidence = index_evidence(pixels, "ndwi", Threshold(0.0, "fixed", True, True, ""))
    coarse_from_evidence(evidence, pixels).data.sum().compute(scheduler="synchronous")


def blend(grid: Any, logits: np.ndarray) -> None:
    """Blend a group's tiles, the same logits for each."""
    from geosam.mosaic import accumulate
    from geosam.tiles import group_tiles

    for group in group_tiles(grid, 5).values():
        accumulate(group, [logits] * len(group.tiles), [False] * len(group.tiles), grid.overlap)


def paste(grid: Any, logits: np.ndarray) -> None:
    """Add up the same tiles without weights."""
    total = np.zeros([side + 2 * grid.size for side in grid.geobox.shape], np.float32)
    for tile in grid:
        row, col = tile.read.row + grid.size, tile.read.col + grid.size
        total[row : row + grid.size, col : col + grid.size] += logits


def outlined(path: Path) -> None:
    """Draw outlines as the job does: smoothed at the level, measured on the ground."""
    from geosam.vectors import outlines

    outlines(path)


def polygonised(path: Path) -> None:
    """Polygonise the thresholded raster in memory with GDAL and make shapes of it."""
    import shapely.geometry
    from rasterio.features import shapes

    with rasterio.open(path) as source:
        water = source.read(1) > 0.5 * 254
        found = shapes(water.astype(np.uint8), mask=water, transform=source.transform)
        [shapely.geometry.shape(geometry) for geometry, _ in found]


def best_seconds(work: Callable[[], Any], other: Callable[[], Any]) -> tuple[float, float]:
    """Time two calls in turns and return the best seconds of each."""
    taken: tuple[list[float], list[float]] = ([], [])
    for _ in range(ROUNDS):
        for call, seconds in zip((work, other), taken, strict=True):
            started = time.process_time()
            call()
            seconds.append(time.process_time() - started)
    return min(taken[0]), min(taken[1])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=4096)
    size = parser.parse_args().size
    import geosam
    from geosam.export.cog import as_stored, write_raster
    from geosam.testing import sinuous_river_mask, write_scene
    from geosam.tiles import TileGrid

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scene = Path(write_scene(folder, shape=(size, size), seed=1)[0])
        pixels = geosam.open_scene(scene)
        grid = TileGrid(pixels.odc.geobox, 256, 64)
        logits = np.random.default_rng(0).random((256, 256), np.float32)
        river = sinuous_river_mask((size, size)).astype(np.float32)
        water = pixels.isel(band=0, drop=True).copy(data=river * 0.8 + 0.1).chunk(1024)
        stored = as_stored(water, "probability").compute().chunk(1024)
        path = folder / "probability.tif"
        write = partial(write_raster, stored, path, kind="probability", overwrite=True)
        write()
        pairs = {
            "read the scene / read its blocks": (partial(read, scene), partial(read_plain, scene)),
            "coarse mask by an index / copy the scene": (
                partial(coarse, scene),
                partial(copy, scene, folder / "copy.tif"),
            ),
            "blend tiles / sum them": (partial(blend, grid, logits), partial(paste, grid, logits)),
            "write a probability / copy the scene": (write, partial(copy, scene, folder / "c.tif")),
            "outlines / GDAL's polygoniser": (partial(outlined, path), partial(polygonised, path)),
        }
        print("| step / plain tool | step, s | plain, s | ratio |\n|---|---|---|---|")
        for label, calls in pairs.items():
            mine, plain = best_seconds(*calls)
            print(f"| {label} | {mine:.2f} | {plain:.2f} | {mine / plain:.2f} |", flush=True)


if __name__ == "__main__":
    main()
