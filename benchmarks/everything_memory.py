"""Peak memory and time of everything mode as scenes grow, each in a process of its own.

    python benchmarks/everything_memory.py [--sizes 2500 5000 10000] [--model echo|river-tiny]

Scenes are fields with one object on every 10,000 px; `echo` is a model that answers each mask with the
mask, to see what all but the network takes.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

BLOCK_PX = 500
"""Side of the square of objects that a scene repeats."""
OBJECTS, SEED = 25, 5
"""How many there are in it, and which."""


@dataclass(frozen=True)
class Echo:
    """A model that answers each mask with the mask."""

    size: int = 256
    name: str = "echo"
    signature: str = "0" * 64

    def encode(self, pixels):
        """Return next to nothing."""
        return {"nothing": pixels[:, :1, :1, :1]}

    def decode(self, features, prompts):
        """Return what was asked, as logits."""
        masks = np.stack([prompt.masks[0] for prompt in prompts])
        return np.where(masks, np.float32(8), np.float32(-8)), np.full(len(masks), 0.9)


def write_field(path: Path, size: int) -> int:
    """Write a scene of equal squares, row by row, and return how many objects it has."""
    import rasterio
    from affine import Affine

    from geosam.testing import object_scene

    square, objects = object_scene((BLOCK_PX, BLOCK_PX), OBJECTS, seed=SEED)
    profile = {
        "driver": "GTiff", "dtype": "uint8", "count": 3, "height": size, "width": size,
        "crs": "EPSG:32633", "transform": Affine(1, 0, 499_968, 0, -1, 4_999_680), "nodata": 0,
        "tiled": True, "compress": "deflate", "photometric": "RGB",
    }  # fmt: skip
    band = np.tile(square, (1, 1, size // BLOCK_PX))
    with rasterio.open(path, "w", **profile) as target:
        for row in range(0, size, BLOCK_PX):
            target.write(band, window=((row, row + BLOCK_PX), (0, size)))
    return len(objects) * (size // BLOCK_PX) ** 2


def measure(folder: Path, model: str) -> dict:
    """Run everything mode in this process, and return what it took."""
    import geosam

    started = time.perf_counter()
    chosen = {"model": Echo(), "points_per_side": 0, "shapes": True} if model == "echo" else {}
    found = geosam.everything(
        folder / "scene.tif", folder / "out.gpkg", labels=folder / "labels.tif", **chosen
    )
    peak_mb = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    return {
        "segments": found.segments,
        "tiles": sum(found.tiles.values()),
        "seconds": round(time.perf_counter() - started),
        "steps": found.seconds,
        "processor_seconds": round(time.process_time()),
        "peak_mb": peak_mb,
        "recall": round(recall(folder), 4),
    }


def recall(folder: Path) -> float:
    """Return the share of the objects that have a segment with an IoU of 0.75."""
    import geopandas as gpd
    import rasterio
    import shapely

    from geosam.segments.pieces import polygon_of
    from geosam.testing import object_scene
    from geosam.types import Window

    segments = gpd.read_file(folder / "out.gpkg", layer="segments").geometry.to_numpy()
    with rasterio.open(folder / "scene.tif") as scene:
        corner, side = (scene.bounds.left, scene.bounds.top), scene.width
    _, objects = object_scene((BLOCK_PX, BLOCK_PX), OBJECTS, seed=SEED)
    starts = range(0, side, BLOCK_PX)
    truth = np.array(
        [polygon_of(o, Window(row, col, 0, 0)) for row in starts for col in starts for o in objects]
    )
    truth = shapely.transform(truth, lambda xy: xy * (1, -1) + corner)
    k, i = shapely.STRtree(segments).query(truth)
    common = shapely.area(shapely.intersection(truth[k], segments[i]))
    good = common >= 0.75 * (shapely.area(truth[k]) + shapely.area(segments[i]) - common)
    return len(np.unique(k[good])) / len(truth)


def main() -> None:
    """Measure each size in a process of its own."""
    parser = argparse.ArgumentParser(description="Memory of everything mode as scenes grow.")
    parser.add_argument("--sizes", type=int, nargs="+", default=[2500, 5000, 10000])
    parser.add_argument("--model", choices=("echo", "river-tiny"), default="echo")
    parser.add_argument(
        "--here", type=Path, help="measure the scene in this folder, in this process"
    )
    given = parser.parse_args()
    if given.here:
        print(json.dumps(measure(given.here, given.model)))
        return
    for size in given.sizes:
        with tempfile.TemporaryDirectory() as folder:
            objects = write_field(Path(folder) / "scene.tif", size)
            command = [sys.executable, __file__, "--here", folder, "--model", given.model]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            print(
                json.dumps({"size": size, "objects": objects} | json.loads(done.stdout)), flush=True
            )


if __name__ == "__main__":
    main()
