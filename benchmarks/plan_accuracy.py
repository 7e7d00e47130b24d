"""What a plan says of a run against what the run then takes.

    python benchmarks/plan_accuracy.py [--sizes 2048 4096 8192]

Three synthetic scenes with nodata in a corner or in half of them: a river with near infrared, one in plain colours
that the learned network prompts, one of which half is nodata. Plan and run each have a process of their own, so that
peak memory is theirs; minutes are those of the processor, all threads, so that other work on the machine does not
count. The store is the size of its files.
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
from rasterio.windows import Window

KINDS = {
    "near infrared": {},
    "plain colours": {"bands": "red=1,green=2,blue=3"},
    "half nodata": {},
}


def make_scene(folder: Path, kind: str, size: int) -> Path:
    """Write a scene; the lower half of one kind is made nodata."""
    from geosam.testing import write_scene

    path = Path(write_scene(folder, shape=(size, size), seed=size)[0])
    if kind == "half nodata":
        with rasterio.open(path, "r+") as target:
            height = size - size // 2
            nothing = np.full((target.count, height, size), target.nodata, target.dtypes[0])
            target.write(nothing, window=Window(0, size // 2, size, height))
    return path


def plan_one(scene: Path, options: dict) -> dict:
    """Plan in this process, with the processor's clock in place of the one on the wall."""
    import geosam
    import geosam.planning

    geosam.planning.perf_counter = time.process_time
    found = geosam.plan(scene, **options)
    return {
        "minutes": found.minutes,
        "tiles": found.to_encode,
        "store, MB": found.store_bytes / 1e6,
        "memory, GB": found.memory_bytes / 1e9,
    }


def run_one(scene: Path, options: dict) -> dict:
    """Run in this process, and look at what it took."""
    import geosam

    store, started = scene.parent / "store", time.process_time()
    report = geosam.run(scene, scene.with_suffix(".gpkg"), store=store, **options)
    minutes = (time.process_time() - started) / 60
    size = sum(path.stat().st_size for path in store.rglob("*") if path.is_file())
    peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "minutes": minutes,
        "tiles": report.tiles.get("done", 0),
        "store, MB": size / 1e6,
        "memory, GB": peak / 1e9,
    }


def in_a_process(step: str, scene: Path, options: dict) -> dict:
    """Do one of the two in a process of its own."""
    command = [sys.executable, __file__, "--one", step, str(scene), json.dumps(options)]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return json.loads(out.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=[2048, 4096, 8192])
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        step, scene, options = arguments.one
        print(
            json.dumps({"plan": plan_one, "run": run_one}[step](Path(scene), json.loads(options)))
        )
        return
    print("| scene | figure | planned | real | planned / real |\n|---|---|---|---|---|")
    for size, (kind, options) in zip(arguments.sizes, KINDS.items(), strict=False):
        with tempfile.TemporaryDirectory() as name:
            scene = make_scene(Path(name), kind, size)
            planned, real = (in_a_process(step, scene, options) for step in ("plan", "run"))
        for figure, said in planned.items():
            found = real[figure]
            share = said / found if found else float("nan")
            label = f"{size:,} px, {kind}"
            print(f"| {label} | {figure} | {said:.4g} | {found:.4g} | {share:.2f} |", flush=True)


if __name__ == "__main__":
    main()
