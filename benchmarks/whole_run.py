"""The whole main job against the bare networks over the same tiles, in one process.

    python benchmarks/whole_run.py [--size 4096] [--keep FOLDER]

Makes a synthetic RGB scene, runs the main job, and times the coarse network, the encoder and the
decoder alone on as many tiles as the run had, with the same batches, threads and precision. Prints the
ratio, the time to start up, and the peak memory of the process and its children.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

STARTUP = "import time; t = time.perf_counter(); import geosam; geosam.load_model(); from geosam.models.coarse import load_learned; load_learned(); import geosam.runs; print(time.perf_counter() - t)"


class Memory:
    """Samples the resident memory of this process and its children."""

    def __init__(self) -> None:
        import psutil

        self._process = psutil.Process()
        self._stop = threading.Event()
        self.peak = 0

    def __enter__(self) -> Memory:
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._stop.wait(0.05):
            family = [self._process, *self._process.children(recursive=True)]
            self.peak = max(self.peak, sum(p.memory_info().rss for p in family if p.is_running()))


def in_threads(work, batches, workers: int) -> float:
    """Run batches side by side, as the main job does, and return the seconds."""
    started = time.perf_counter()
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(work, batches))
    return time.perf_counter() - started


def bare_seconds(report, size: int) -> dict[str, float]:
    """Time the networks alone over as many tiles as the run had."""
    import numpy as np
    import torch

    import geosam
    from geosam.coarse import NETWORK_BATCH
    from geosam.models.coarse import COARSE_OVERLAP_PX, COARSE_TILE_PX, load_learned
    from geosam.types import PixelPrompts

    workers = torch.get_num_threads()
    torch.set_num_threads(1)
    coarse, model = load_learned(), geosam.load_model()
    rng = np.random.default_rng(0)
    n_coarse = (-(-size // (COARSE_TILE_PX - COARSE_OVERLAP_PX)) + 1) ** 2
    tile = rng.random((NETWORK_BATCH, 3, COARSE_TILE_PX, COARSE_TILE_PX), np.float32)
    shares = [min(NETWORK_BATCH, n_coarse - i) for i in range(0, n_coarse, NETWORK_BATCH)]
    coarse.predict(tile[:1])
    seconds = {"coarse network": in_threads(lambda n: coarse.predict(tile[:n]), shares, workers)}
    pixels = rng.random((8, 3, model.size, model.size), np.float32)
    done = report.tiles.get("done", 0)
    shares = [min(8, done - i) for i in range(0, done, 8)]
    features = model.encode(pixels)
    seconds["encoder"] = in_threads(lambda n: model.encode(pixels[:n]), shares, workers)
    mask = np.zeros((1, model.size, model.size), bool)
    mask[:, 100:150] = True
    prompt = PixelPrompts(np.full((1, 5, 2), 120.5), np.ones((1, 5), int), masks=mask)
    few = {n: {name: value[:n] for name, value in features.items()} for n in set(shares)}
    seconds["decoder"] = in_threads(lambda n: model.decode(few[n], [prompt] * n), shares, workers)
    torch.set_num_threads(workers)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=4096)
    parser.add_argument("--keep", type=Path)
    arguments = parser.parse_args()
    started = subprocess.run(
        [sys.executable, "-c", STARTUP], capture_output=True, text=True, check=True
    )
    print(f"start-up (import, load both networks), s  {float(started.stdout.split()[-1]):8.2f}")
    import geosam
    import geosam.runs
    from geosam.testing import write_scene

    folder = arguments.keep or Path(tempfile.mkdtemp())
    path = folder / "scene.tif"
    if not path.exists():
        folder.mkdir(exist_ok=True)
        path = Path(write_scene(folder, shape=(arguments.size,) * 2, seed=1, nir=False)[0])
    geosam.load_model()
    with Memory() as memory:
        begun = time.perf_counter()
        report = geosam.run(path, folder / "out.gpkg", overwrite=True)
        whole = time.perf_counter() - begun
    bare = bare_seconds(report, arguments.size)
    for name, seconds in report.seconds.items():
        print(f"  {name:40s} {seconds:8.2f}")
    print(f"tiles {report.tiles}, water {100 * report.water_share:.2f} %")
    for name, seconds in bare.items():
        print(f"bare {name:37s} {seconds:8.2f}")
    print(f"whole run, s                              {whole:8.2f}")
    print(f"whole run / bare networks                 {whole / sum(bare.values()):8.2f}")
    print(f"peak memory of the process tree, MB       {memory.peak / 1e6:8.0f}")


if __name__ == "__main__":
    main()
