"""Outlines of a river of a million vertices, from disk, against GDAL's own polygoniser.

    python benchmarks/million_vertices.py [--size 32768]

A river with rough banks winds across a square scene; its probability and its mask lie on disk. Outlines are
drawn along the level of the probability, smoothed, thinned and measured on the ground; the polygoniser follows the
pixels of the mask, and shapes are made of what it finds. Each runs in a process of its own. Seconds are those
of the processor; memory is the peak beyond what was there before.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from rasterio.windows import Window

ROWS, BEND_PX, CACHE_BYTES = 512, 2048, 64 << 20


def write_river(folder: Path, size: int) -> None:
    """Write ``probability.tif`` and ``mask.tif``, a strip of rows at a time."""
    profile = {
        "driver": "GTiff", "dtype": "uint8", "count": 1, "height": size, "width": size,
        "crs": "EPSG:32633", "transform": Affine(1, 0, 4e5, 0, -1, 5.4e6), "nodata": 255,
        "tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "deflate", "zlevel": 1,
    }  # fmt: skip
    cols = np.arange(size, dtype=np.float32)
    bends = 2 * np.pi / BEND_PX
    middle = (size * (0.5 + 0.45 * np.sin(bends * cols))).astype(np.float32)
    slope = np.hypot(1, 0.45 * size * bends * np.cos(bends * cols)).astype(np.float32)
    # Teeth across the bank, wherever it runs.
    along, across = 3 / slope * np.sin(0.9 * cols), 3 - 3 / slope
    paths = (folder / "probability.tif", folder / "mask.tif")
    with (
        rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES),
        rasterio.open(paths[0], "w", **profile) as probability,
        rasterio.open(paths[1], "w", **profile) as mask,
    ):
        probability.scales = [1 / 254]
        for start in range(0, size, ROWS):
            rows = np.arange(start, start + ROWS, dtype=np.float32)[:, None]
            half = 30 + along + across * np.sin(0.8 * rows)
            inside = half - np.abs(rows - middle) / slope
            values = np.clip(127 + 32 * inside, 3, 251).astype(np.uint8)
            window = Window(0, start, size, ROWS)
            probability.write(values, 1, window=window)
            mask.write((values > 127).astype(np.uint8), 1, window=window)


def outlined(folder: Path) -> list[int]:
    """Draw outlines; return polygons and vertices."""
    import shapely

    from geosam.vectors import outlines

    found = outlines(folder / "probability.tif").geometry.to_numpy()
    return [len(found), int(shapely.get_num_coordinates(found).sum())]


def polygonised(folder: Path) -> list[int]:
    """Polygonise the mask as it streams from disk; return polygons and vertices."""
    import shapely
    from rasterio.features import shapes

    with (
        rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES),
        rasterio.open(folder / "mask.tif") as mask,
    ):
        band = rasterio.band(mask, 1)
        found = shapes(band, mask=band, connectivity=8, transform=mask.transform)
        drawn = [shapely.geometry.shape(geometry) for geometry, _ in found]
    return [len(drawn), int(shapely.get_num_coordinates(drawn).sum())]


def measure(name: str, folder: Path) -> None:
    """Do one of the two in this process, and print what it took."""
    import geopandas  # noqa: F401  (what both stand on is not counted)
    import rasterio.features  # noqa: F401
    import scipy.ndimage  # noqa: F401

    before, started = peak_bytes(), time.process_time()
    counts = {"outlines": outlined, "polygoniser": polygonised}[name](folder)
    print(json.dumps([time.process_time() - started, peak_bytes() - before, *counts]))


def peak_bytes() -> int:
    """Return the most memory this process has had."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=32768)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        measure(arguments.one[0], Path(arguments.one[1]))
        return
    with tempfile.TemporaryDirectory() as name:
        write_river(Path(name), arguments.size)
        print("| step | processor, s | memory, MB | polygons | vertices |\n|---|---|---|---|---|")
        taken = []
        for step in ("polygoniser", "outlines"):
            command = [sys.executable, __file__, "--one", step, name]
            out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            seconds, memory, polygons, vertices = json.loads(out.splitlines()[-1])
            taken.append((seconds, memory))
            print(
                f"| {step} | {seconds:.1f} | {memory / 1e6:.0f} | {polygons} | {vertices:,} |",
                flush=True,
            )
        (plain, few), (mine, more) = taken
        print(f"| ratio | {mine / plain:.2f} | {more / few:.2f} | | |")


if __name__ == "__main__":
    main()
