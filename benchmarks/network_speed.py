"""How many pixels a second the networks of river-tiny take, each and all together.

    python benchmarks/network_speed.py [--threads 2] [--precision auto] [--busy]

With batches and memory as the main job has them, a batch a thread. `--busy` counts the processor's seconds,
shared by the threads, instead of the clock's: for a machine that has other work.

First per pixel that goes into a network once. Then per pixel of an 8-bit RGB scene as the main job
shows it: tiles overlap by a quarter, the coarse network looks at two stretches at two resolutions,
every tile is decoded, and the scene's own colours speak at half the resolution. Bands with an index need one stretch.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

import geosam
from geosam.coarse import NETWORK_BATCH
from geosam.heap import share_heap
from geosam.loading import sized
from geosam.models.coarse import COARSE_OVERLAP_PX, COARSE_TILE_PX, load_learned
from geosam.options import Options
from geosam.own_colours import Colours, describe
from geosam.stretch import Stretch
from geosam.types import PixelPrompts

ROUND_PX = 1 << 20
"""Pixels a thread in a round, about."""
LOOKS = 2 * (1 + 1 / 4)
"""Times that the coarse network sees an 8-bit scene: two stretches, at full and at half resolution."""


def seconds_per_pixel(
    work: Callable[[int], object], pixels: int, threads: int, busy: bool
) -> float:
    """Time `work` on batches of some pixels side by side, the best of three rounds."""
    batches = threads * max(2, ROUND_PX // pixels)
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, range(threads)))
        rounds = []
        for _ in range(3):
            wall, spent = time.perf_counter(), time.process_time()
            list(pool.map(work, range(batches)))
            wall, spent = time.perf_counter() - wall, time.process_time() - spent
            rounds.append((spent / threads if busy else wall) / (batches * pixels))
    return min(rounds)


def measure(threads: int, precision: str, busy: bool) -> dict[str, float]:
    """Return the seconds a pixel of each network."""
    share_heap()
    torch.set_num_threads(1)
    coarse = load_learned(precision=precision)
    model = geosam.load_model(precision=precision)
    batch = sized(Options(), model).batch_size or 1
    rng = np.random.default_rng(0)
    wide = rng.random((NETWORK_BATCH, 3, COARSE_TILE_PX, COARSE_TILE_PX), np.float32)
    tiles = rng.random((batch, 3, model.size, model.size), np.float32)
    features = model.encode(tiles)
    mask = np.zeros((1, model.size, model.size), bool)
    mask[:, 100:150] = True
    prompt = PixelPrompts(np.full((1, 5, 2), 120.5), np.ones((1, 5), int), masks=mask)
    area = batch * model.size**2
    seen, own = wide[0], Colours(np.full(7, 0.5), np.full(7, 0.3), np.linspace(-1, 1, 36))
    as_shown = Stretch(("red", "green", "blue"), (0.0,) * 3, (1.0,) * 3)
    work: dict[str, tuple[Callable[[int], object], int]] = {
        "coarse": (lambda _: coarse.predict(wide), wide[:, 0].size),
        "encoder": (lambda _: model.encode(tiles), area),
        "decoder": (lambda _: model.decode(features, [prompt] * batch), area),
        "the scene's own colours": (lambda _: own(describe(seen, as_shown)), 4 * seen[0].size),
    }
    return {name: seconds_per_pixel(*pair, threads, busy) for name, pair in work.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--busy", action="store_true")
    arguments = parser.parse_args()
    alone = measure(arguments.threads, arguments.precision, arguments.busy)
    print("| network | million pixels a second |\n|---|---|")
    for name, seconds in alone.items():
        print(f"| {name} | {1e-6 / seconds:.2f} |")
    print(f"| all, each pixel once | {1e-6 / sum(alone.values()):.2f} |")
    wide = (COARSE_TILE_PX / (COARSE_TILE_PX - COARSE_OVERLAP_PX)) ** 2
    shown = LOOKS * wide * alone["coarse"] + (4 / 3) ** 2 * (alone["encoder"] + alone["decoder"])
    shown += alone["the scene's own colours"]
    print(f"| all, as the main job shows a scene | {1e-6 / shown:.2f} |")


if __name__ == "__main__":
    main()
