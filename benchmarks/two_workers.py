"""One worker and two against two bare encoder processes side by side, with a ViT-B.

    python benchmarks/two_workers.py [--tiles 3] [--model FOLDER]

The job runs over the same synthetic RGB scene in the threads of one process and in two worker processes.
The bare processes encode half as many tiles each of random pixels, with a thread and the number format
that a worker has, and both begin when both have loaded the model. Told are tiles a second of the step that
encodes and decodes, and of whole runs, which start workers. Wanted: the step with two workers
does at least 0.9 of what the bare processes reach.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from random_weights import write_vit_b

BARE = """
import sys, numpy as np, torch, geosam
torch.set_num_threads(1)
model = geosam.load_model(sys.argv[1])
tiles = np.random.default_rng(0).random((1, 3, model.size, model.size), np.float32)
model.encode(tiles)
print("ready", flush=True)
sys.stdin.readline()
for _ in range(int(sys.argv[2])):
    model.encode(tiles)
"""


def side_by_side(model: str, tiles: int) -> float:
    """Return the tiles a second that two bare encoder processes reach together."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", BARE, model, str(share)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )
        for share in (tiles // 2, tiles - tiles // 2)
    ]  # fmt: skip
    for process in processes:
        assert process.stdout is not None and process.stdout.readline()
    started = time.perf_counter()
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    for process in processes:
        process.wait()
    return tiles / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tiles", type=int, default=3, help="tiles a side")
    parser.add_argument("--model", help="a checkpoint; a ViT-B with random weights without it")
    arguments = parser.parse_args()
    import geosam
    from geosam.testing import write_scene

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = arguments.model or str(write_vit_b(folder / "vit-b"))
        model = geosam.load_model(path)
        side = arguments.tiles * (model.size - model.size // 4)
        scene = Path(write_scene(folder, shape=(side, side), seed=1, nir=False)[0])
        print(f"{'':32} {'tiles':>6} {'tiles/s, step':>14} {'tiles/s, run':>13}")
        rates = []
        for workers in (1, 2):
            report = geosam.run(
                scene, folder / f"{workers}.gpkg", model=path, workers=workers, overwrite=True
            )
            done = report.tiles.get("done", 0)
            rates.append(done / report.seconds["segment"])
            whole = done / report.seconds["total"]
            print(
                f"{f'{workers} worker(s)':32} {done:6} {rates[-1]:14.3f} {whole:13.3f}", flush=True
            )
        bare = side_by_side(path, done)
        print(f"{'two bare encoder processes':32} {done:6} {bare:14.3f}")
        print(f"two workers / two bare processes: {rates[1] / bare:.2f}")


if __name__ == "__main__":
    main()
