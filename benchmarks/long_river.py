"""Time and memory of ``geosam rivers`` on a river 20,000 pixels long.

    python benchmarks/long_river.py [FOLDER]

draws a meandering river with islands across a scene 20,000 pixels wide, writes its mask into FOLDER
(by default the current one) and measures it.
"""

import resource
import sys
import time
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine

from geosam.measuring import write_rivers

WIDTH, HEIGHT, HALF_WIDTH = 20_000, 2_000, 30


def river():
    """A mask (rows, cols): bends of two lengths, an island every 700 columns."""
    cols = np.arange(WIDTH) + 0.5
    waves = ((500, 900), (120, 310))
    middle = HEIGHT / 2 + sum(a * np.sin(2 * np.pi * cols / n) for a, n in waves)
    slope = np.gradient(middle)
    rows = np.arange(HEIGHT)[:, None] + 0.5
    mask = np.abs(rows - middle) < HALF_WIDTH * np.hypot(1, slope)
    for col in range(350, WIDTH, 700):
        part = slice(col - 40, col + 40)
        away = np.hypot(rows - middle[col], cols[part] - col)
        mask[:, part] &= away > 12
    return mask


def main(folder="."):
    path = Path(folder) / "long_river.tif"
    grid = {"crs": "EPSG:32633", "transform": Affine(10, 0, 4e5, 0, -10, 5e6)}
    size = {"count": 1, "height": HEIGHT, "width": WIDTH, "dtype": "uint8"}
    with rasterio.open(path, "w", driver="GTiff", compress="deflate", **size, **grid) as file:
        file.write(river().astype("uint8"), 1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    started = time.perf_counter()
    written = write_rivers(path, path.with_suffix(".gpkg"), overwrite=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"{WIDTH} x {HEIGHT} px, main line {written.counts['main_m'] / 10:,.0f} px")
    print(f"{time.perf_counter() - started:.1f} s, {peak:.2f} GB at most ({before:.2f} GB before)")
    print(written.counts)


if __name__ == "__main__":
    main(*sys.argv[1:])
