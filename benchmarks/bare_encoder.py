"""The main job from end to end against its encoder alone, with a ViT-B, on a synthetic scene.

    python benchmarks/bare_encoder.py [--tiles 2] [--model FOLDER] [--rounds 1] [--rgb]

With near infrared, or, `--rgb`, in colours alone, where the learned network looks at all of the scene four times.

The job reads, finds the coarse mask, prompts, encodes, decodes, blends, writes and draws outlines. The loop
encodes as many tiles of random pixels with the same batches, threads and number format. Both in one
process, taking turns; start-up is in neither. Wanted: at most 1.15 times the loop. The processor's seconds
stand beside those of the clock, for machines with other work.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from random_weights import write_vit_b


def timed(work: Callable[[], Any]) -> tuple[float, float, Any]:
    """Return the seconds of the clock and of the processor that a call takes, and what it gives."""
    wall, cpu = time.perf_counter(), time.process_time()
    given = work()
    return time.perf_counter() - wall, time.process_time() - cpu, given


def encode_tiles(model: Any, tiles: int, batch: int) -> None:
    """Encode tiles and drop what comes out."""
    pixels = np.random.default_rng(0).random((batch, 3, model.size, model.size), np.float32)
    for start in range(0, tiles, batch):
        model.encode(pixels[: min(batch, tiles - start)])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tiles", type=int, default=2, help="tiles a side")
    parser.add_argument("--model", help="a checkpoint; a ViT-B with random weights without it")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--rgb", action="store_true", help="a scene without near infrared")
    arguments = parser.parse_args()
    import geosam
    from geosam.loading import sized
    from geosam.options import Options
    from geosam.testing import write_scene

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = geosam.load_model(arguments.model or str(write_vit_b(folder / "vit-b")))
        side = arguments.tiles * (model.size - model.size // 4)
        scene = Path(write_scene(folder, shape=(side, side), seed=1, nir=not arguments.rgb)[0])
        batch = sized(Options(), model).batch_size or 1
        encode_tiles(model, 1, 1)
        print(f"{'':22} {'clock, s':>9} {'processor, s':>13} {'tiles':>6}")
        ratios = []
        for _ in range(arguments.rounds):
            wall, cpu, report = timed(
                lambda: geosam.run(scene, folder / "out.gpkg", model=model, overwrite=True)
            )
            done = report.tiles.get("done", 0)
            bare_wall, bare_cpu, _ = timed(lambda n=done: encode_tiles(model, n, batch))
            print(f"{'from end to end':22} {wall:9.1f} {cpu:13.1f} {done:6}")
            print(f"{'encoder alone':22} {bare_wall:9.1f} {bare_cpu:13.1f} {done:6}")
            ratios.append((wall / bare_wall, cpu / bare_cpu))
        for step, seconds in report.seconds.items():
            print(f"  {step:20} {seconds:9.1f}")
        best = [min(column) for column in zip(*ratios, strict=True)]
        print(f"{'ratio':22} {best[0]:9.2f} {best[1]:13.2f}")


if __name__ == "__main__":
    main()
