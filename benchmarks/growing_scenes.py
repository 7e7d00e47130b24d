"""Memory and time of the main job as scenes grow, each in a process of its own.

    python benchmarks/growing_scenes.py [--sizes 4096 8192 16384 32768 65536] [--model river-tiny|nothing]
        [--share 0.0625] [--tile 256] [--workers N] [--plot memory.png]
    python benchmarks/growing_scenes.py --sizes 15168 --share 1 --model nothing --tile 64 [--workers 2]
    python benchmarks/growing_scenes.py --skipped [--rounds 5]

Valid data lie in a share of the rows, the rest is nodata that is not stored. Prints the peak memory of
the process tree and of the process that was started, the time until the first block was finished, and
milliseconds a tile by the processor's clock: in the model alone (the median), in the step that answers tiles, and in
all other steps. What these steps take for a scene of one block is start-up, printed first and taken off. `nothing` is a model that does nothing, to see what everything else costs; `--tile` is
its size, and the second command gives it 99,856 tiles that all have data. The third has data in one corner of
1,024 px, whatever the size: what a scene takes beyond one of that corner alone is the price of the tiles that are
skipped, the least of some rounds. The plot shows the memory of the
last and largest scene over time.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import rasterio
from affine import Affine

BAND_PX = 1024
"""Rows that are written at once."""
ONE_BLOCK_PX = 1024
"""Side of a scene of one block."""
MOST_ROUNDS_PX = 16384
"""Larger scenes are run once."""


@dataclass(frozen=True)
class Nothing:
    """A model that answers at once, and always the same."""

    size: int = 256
    name: str = "nothing"
    signature: str = "0" * 64

    def encode(self, pixels):
        """Return next to nothing."""
        return {"nothing": pixels[:, :1, :1, :1]}

    def decode(self, features, prompts):
        """Return land."""
        return np.full((len(prompts), self.size, self.size), -5.0, np.float32), np.ones(
            len(prompts)
        )


def write_scene(path: Path, size: int, share: float, across: int | None = None) -> None:
    """Write land and a river on every 1,024 rows in the first rows, over all columns or some; the rest is never
    written.
    """
    profile = {
        "driver": "GTiff", "dtype": "uint16", "count": 4, "height": size, "width": size,
        "crs": "EPSG:32633", "transform": Affine(10, 0, 4e5, 0, -10, 5.4e6), "nodata": 0,
        "tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "deflate",
        "zlevel": 1, "sparse_ok": True, "bigtiff": "yes",
    }  # fmt: skip
    rng = np.random.default_rng(0)
    across = across or size
    cols, valid = np.arange(across), round(size * share)
    with rasterio.open(path, "w", **profile) as target:
        for band, name in enumerate(("red", "green", "blue", "nir"), start=1):
            target.set_band_description(band, name)
        for row in range(0, valid, BAND_PX):
            height = min(BAND_PX, valid - row)
            rows = np.arange(row, row + height)[:, None]
            water = np.abs(rows % 1024 - 128 - 80 * np.sin(cols / 300)) < 40
            values = np.where(
                water,
                *(np.reshape(v, (4, 1, 1)) for v in ([300, 400, 300, 100], [900, 900, 900, 3000])),
            )
            noise = rng.uniform(0.9, 1.1, (height, across))
            window = rasterio.windows.Window(0, row, across, height)
            target.write((values * noise).astype("uint16"), window=window)


def run_one(path: Path, model: str, tile: int, workers: int | None, start: Start) -> None:
    """Run the main job in this process and print what it did, in the processor's seconds of this process."""
    import geosam
    import geosam.clock
    import geosam.masks

    geosam.clock.perf_counter, geosam.masks.perf_counter = time.process_time, time.thread_time
    chosen = Nothing(tile) if model == "nothing" else model
    prompts = "none" if model == "nothing" else "auto"
    report = geosam.run(
        path,
        path.with_suffix(".gpkg"),
        model=chosen,
        prompts=prompts,
        resolution=10,
        overwrite=True,
        workers=workers,
    )
    steps = {name: s for name, s in report.seconds.items() if name != "total"}
    print(per_tile(report, start), report.tiles, steps)
    print(*other_steps(report), report.seconds["segment"])


def other_steps(report: Any) -> tuple[float, int]:
    """Return the seconds of all steps but opening, loading and answering, and the number of tiles."""
    seconds = report.seconds
    apart = seconds.get("load model", 0) + seconds["open"] + seconds["segment"]
    return seconds["total"] - apart, sum(report.tiles.values())


def per_tile(report: Any, start: Start) -> str:
    """Say what an answered tile took, in the model alone and of the step that answers it, and any other tile."""
    import geopandas as gpd

    seconds, done = report.seconds, report.tiles.get("done", 0)
    others, tiles = other_steps(report)
    each = (others - start.seconds) / max(1, tiles - start.tiles)
    said = f"{1000 * each:.2f} ms a tile in all other steps"
    if not done:
        return said
    tiles = gpd.read_file(report.output, layer="tiles", where="status = 'done'")
    inside, outside = tiles.seconds.median(), seconds["segment"] / done
    return f"{1000 * inside:.1f} ms in the model and {1000 * outside:.1f} in its step an answered tile, {said}"


@dataclass(frozen=True)
class Start:
    """What steps take before they have much to do."""

    seconds: float = 0.0
    """Of all steps but opening, loading and answering, for a scene of one block."""
    tiles: int = 0
    """How many tiles that has."""
    answering: float = 0.0
    """Seconds of the step that answers tiles."""


@dataclass(frozen=True)
class Watched:
    """What was seen of a run."""

    times: list[float]
    """Seconds since its start."""
    tree: list[float]
    """GB of the process and its children."""
    client: list[float]
    """GB of the process alone."""
    first: float
    """Seconds until the first block."""
    told: str
    """What it printed."""
    others: Start
    """What all steps but opening, loading and answering took, and for how many tiles."""


def watch(path: Path, model: str, tile: int, workers: int | None, start: Start) -> Watched:
    """Run in a process of its own, and look at it twenty times a second."""
    command = [sys.executable, __file__, "--one", str(path), "--model", model, f"--tile={tile}"]
    command += [f"--start={start.seconds}", f"--start-tiles={start.tiles}"]
    command += [f"--workers={workers}"] if workers else []
    started, first = time.perf_counter(), 0.0
    times, tree, client = [], [], []
    blocks = path.with_name(path.with_suffix(".gpkg").name + ".partial") / "segment"
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    root = psutil.Process(process.pid)
    while process.poll() is None:
        try:
            sizes = [p.memory_info().rss for p in [root, *root.children(recursive=True)]]
        except psutil.NoSuchProcess:
            continue
        times.append(time.perf_counter() - started)
        tree.append(sum(sizes) / 1e9)
        client.append(sizes[0] / 1e9)
        if not first and blocks.is_dir() and any(blocks.glob("*.npz")):
            first = times[-1]
        time.sleep(0.05)
    out, _ = process.communicate()
    told, _, last = out.strip().rpartition("\n")
    seconds, tiles, answering = last.split()
    return Watched(
        times, tree, client, first, told, Start(float(seconds), int(tiles), float(answering))
    )


def draw(seen: Watched, size: int, model: str, path: Path) -> None:
    """Draw memory over time."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 3.5), layout="constrained")
    axes.plot(seen.times, seen.tree, label="process tree")
    axes.plot(seen.times, seen.client, label="the process that was started")
    axes.axvline(seen.first, color="grey", linestyle=":", label="first block")
    axes.set(
        xlabel="seconds", ylabel="resident memory, GB", ylim=(0, None),
        title=f"{size:,} x {size:,} px, {model}",
    )  # fmt: skip
    axes.legend()
    figure.savefig(path, dpi=120)


def print_skipped(sizes: list[int], rounds: int, measured: Callable[..., Watched]) -> None:
    """Print what a skipped tile takes in scenes with data in one corner."""
    sides, least = [ONE_BLOCK_PX, *sizes], dict[int, Start]()
    with tempfile.TemporaryDirectory() as folder:
        for side in sides:
            write_scene(Path(folder) / f"{side}.tif", side, ONE_BLOCK_PX / side, ONE_BLOCK_PX)
        for number in range(rounds):
            # The largest takes minutes, and noise is nothing to it.
            for side in sides if not number else [s for s in sides if s <= MOST_ROUNDS_PX]:
                seen = measured(Path(folder) / f"{side}.tif", start=Start()).others
                least[side] = min(seen, least.get(side, seen), key=whole_seconds)
    corner = least[ONE_BLOCK_PX]
    print(f"a corner alone: {whole_seconds(corner):.2f} s for {corner.tiles} tiles")
    names = ("side, px", "skipped tiles", "ms each", "of them answering")
    print(*(f"{name:>18}" for name in names))
    for side in sizes:
        tiles, seen = least[side].tiles - corner.tiles, least[side]
        each = 1000 * (whole_seconds(seen) - whole_seconds(corner)) / tiles
        answering = 1000 * (seen.answering - corner.answering) / tiles
        print(f"{side:18} {tiles:18} {each:18.2f} {answering:18.2f}", flush=True)


def whole_seconds(seen: Start) -> float:
    """Return the seconds of all steps but opening and loading."""
    return seen.seconds + seen.answering


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=[4096, 8192, 16384, 32768, 65536])
    parser.add_argument("--model", default="river-tiny")
    parser.add_argument("--tile", type=int, default=256, help="side of the tiles of `nothing`")
    parser.add_argument("--share", type=float, default=1 / 16, help="rows that have data")
    parser.add_argument("--workers", type=int)
    parser.add_argument("--skipped", action="store_true")
    parser.add_argument("--rounds", type=int, default=5, help="of --skipped")
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--start", type=float, default=0.0, help=argparse.SUPPRESS)
    parser.add_argument("--start-tiles", type=int, default=0, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        start = Start(arguments.start, arguments.start_tiles)
        run_one(arguments.one, arguments.model, arguments.tile, arguments.workers, start)
        return
    measured = partial(watch, model=arguments.model, tile=arguments.tile, workers=arguments.workers)
    if arguments.skipped:
        print_skipped(arguments.sizes, arguments.rounds, measured)
        return
    names = ("side, px", "peak, GB", "client, GB", "total, s", "first block, s")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "one_block.tif"
        write_scene(path, ONE_BLOCK_PX, arguments.share)
        start = measured(path, start=Start()).others
        print(f"start-up of all other steps: {start.seconds:.2f} s with {start.tiles} tiles")
        print(*(f"{name:>14}" for name in names), " tiles, steps", flush=True)
        for size in arguments.sizes:
            path = Path(folder) / f"{size}.tif"
            write_scene(path, size, arguments.share)
            seen = measured(path, start=start)
            numbers = (max(seen.tree), max(seen.client), seen.times[-1], seen.first)
            print(f"{size:14}", *(f"{n:14.2f}" for n in numbers), f" {seen.told}", flush=True)
            path.unlink()
        if arguments.plot:
            draw(seen, arguments.sizes[-1], arguments.model, arguments.plot)


if __name__ == "__main__":
    main()
