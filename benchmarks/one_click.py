"""What one click costs as the scene around it grows.

    python benchmarks/one_click.py [--sizes 4096 32768]

Scenes of four bands full of data, with a round pond every 2,048 px; each is asked in a process of its own.
Prints processor seconds and peak memory: of the first click, which looks at the whole scene once to choose the
stretch and the threshold, and of a click on another pond after that. `without` is a click that only the model
answers (`dense=False`), `index` one that the index follows, `learned` one that the coarse network follows.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import rasterio
from affine import Affine
from rasterio.windows import Window

EVERY_PX, MIDDLE_PX, RADIUS_PX, ROWS = 2048, 1300, 60, 512
KINDS = {
    "without": {"dense": False},
    "index": {},
    "learned": {"bands": "red=1,green=2,blue=3"},
}


def write_scene(path: Path, size: int) -> None:
    """Write land with ponds, a strip of rows at a time."""
    profile = {
        "driver": "GTiff", "dtype": "uint8", "count": 4, "height": size, "width": size,
        "crs": "EPSG:32633", "transform": Affine(0.25, 0, 4e5, 0, -0.25, 5.4e6), "nodata": 0,
        "tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "deflate", "zlevel": 1,
        "bigtiff": "yes",
    }  # fmt: skip
    noise = np.random.default_rng(0).uniform(0.9, 1.1, (ROWS, ROWS)).astype(np.float32)
    noise, col = np.tile(noise, (1, size // ROWS)), np.arange(size) % EVERY_PX - MIDDLE_PX
    with rasterio.Env(GDAL_CACHEMAX=64 << 20), rasterio.open(path, "w", **profile) as target:
        for band, name in enumerate(("red", "green", "blue", "nir"), start=1):
            target.set_band_description(band, name)
        for start in range(0, size, ROWS):
            row = np.arange(start, start + ROWS)[:, None] % EVERY_PX - MIDDLE_PX
            wet = row**2 + col**2 < RADIUS_PX**2
            for band, (water, land) in enumerate(((50, 120), (60, 130), (55, 90), (20, 200)), 1):
                values = np.where(wet, np.float32(water), np.float32(land)) * noise
                target.write(values.astype(np.uint8), band, window=Window(0, start, size, ROWS))


def click_at(size: int, pond: int) -> object:
    """A click on one of the ponds of the row in the middle."""
    import geopandas as gpd
    import shapely

    middle = size // EVERY_PX // 2
    x, y = (0.25 * (EVERY_PX * k + MIDDLE_PX + 0.5) for k in (middle + pond, middle))
    place = shapely.Point(4e5 + x, 5.4e6 - y)
    return gpd.GeoDataFrame({"object": [pond + 2]}, geometry=[place], crs="EPSG:32633")


def ask_both(path: Path, size: int, kind: str) -> None:
    """Click twice in this process, and print what it took."""
    import geosam

    model, process = geosam.load_model("river-tiny"), psutil.Process()
    peak, done = [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.02):
            peak[0] = max(peak[0], process.memory_info().rss)

    threading.Thread(target=watch, daemon=True).start()
    seconds, answers = [], None
    for pond in (-1, 0):
        started = time.process_time()
        asked = click_at(size, pond)
        answers = geosam.ask(path, asked, model=model, earlier=answers, **KINDS[kind])
        seconds.append(time.process_time() - started)
    done.set()
    area = answers.outlines.area_m2.iloc[-1] / (np.pi * (0.25 * RADIUS_PX) ** 2)
    first, second = seconds
    print(
        f"{size:9} {kind:>9} {first:14.1f} {second:15.1f} {peak[0] / 1e9:9.2f} {area:16.2f}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=[4096, 32768])
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        path, size, kind = arguments.one
        ask_both(Path(path), int(size), kind)
        return
    print(
        "side, px    follow  first click, s  second click, s  peak, GB  pond / its area", flush=True
    )
    with tempfile.TemporaryDirectory() as folder:
        for size in arguments.sizes:
            path = Path(folder) / f"{size}.tif"
            write_scene(path, size)
            for kind in arguments.kinds:
                subprocess.run([sys.executable, __file__, "--one", path, str(size), kind])
            path.unlink()


if __name__ == "__main__":
    main()
