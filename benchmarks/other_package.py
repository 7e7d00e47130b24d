"""The main job against segment-geospatial, in an environment of its own, on one synthetic RGB scene.

    python benchmarks/other_package.py [--size 2048] [--install] [--environment FOLDER] [--patience 300]

The package needs torchvision and a torch of its own choice, which geosam's environment must not have; hence its own.
Without ``--install`` pip only resolves what it would fetch (about 7 GB), and the script says whether that was found
out within some seconds and whether there is room for it. With it a virtual environment is made, the package installed, and both segment the same scene
with a ViT-B of the same size with random weights: geosam with everything the main job does, segment-geospatial
tile by tile with automatic masks, the only way it has to cover a scene larger than its input. Prints seconds and
peak memory of both. What fails is said, not hidden.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

PACKAGE = "segment-geospatial[samgeo]"
NEEDED_GB = 16
"""Room for the wheels and what is unpacked from them."""

THEIRS = """
import sys, torch
from segment_anything import sam_model_registry
from samgeo import SamGeo
scene, folder = sys.argv[1:]
torch.manual_seed(0)
torch.save(sam_model_registry["vit_b"]().state_dict(), folder + "/vit_b.pth")
sam = SamGeo(model_type="vit_b", checkpoint=folder + "/vit_b.pth", automatic=True, device="cpu")
sam.generate(scene, folder + "/theirs.tif", batch=True, foreground=True)
"""
OURS = """
import sys
sys.path.insert(0, sys.argv[3])
from pathlib import Path
from random_weights import write_vit_b
import geosam
scene, folder = sys.argv[1:3]
model = write_vit_b(Path(folder) / "vit-b")
geosam.run(scene, folder + "/ours.gpkg", model=str(model))
"""


def resolve(patience: float) -> tuple[int, str]:
    """Return how many packages pip would install, or 0, and what it says if it cannot."""
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--report", "-"]
    command += ["--ignore-installed", PACKAGE]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=patience
        )
    except subprocess.TimeoutExpired:
        return 0, f"pip did not find versions that fit together within {patience:.0f} s"
    if done.returncode:
        return 0, (done.stderr.strip().splitlines() or ["pip failed"])[-1]
    return len(json.loads(done.stdout)["install"]), ""


def make_environment(folder: Path) -> Path:
    """Make a virtual environment with the package in it, and return its interpreter."""
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", PACKAGE], check=True)
    return python


def watched(command: list[str]) -> tuple[float, float, str]:
    """Run a command; return its seconds, its peak memory in GB, and the last line of its complaint."""
    import psutil

    started, peak = time.perf_counter(), 0
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as child:
        process = psutil.Process(child.pid)
        while child.poll() is None:
            try:
                peak = max(peak, process.memory_info().rss)
            except psutil.NoSuchProcess:
                break
            time.sleep(0.1)
        said = child.stderr.read().strip().splitlines() if child.stderr else []
    failed = said[-1] if child.returncode and said else ""
    return time.perf_counter() - started, peak / 1e9, failed


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=2048)
    parser.add_argument("--install", action="store_true")
    parser.add_argument("--environment", type=Path)
    parser.add_argument("--patience", type=float, default=300, help="seconds for pip to resolve")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        where = arguments.environment or folder / "environment"
        free = shutil.disk_usage(where.parent).free / 1e9
        if not arguments.install:
            packages, why = resolve(arguments.patience)
            print(
                f"{PACKAGE}: " + (f"{packages} packages" if packages else f"not to be had: {why}")
            )
            print(
                f"{free:.0f} GB free of about {NEEDED_GB} GB needed; --install runs the comparison"
            )
            return
        if free < NEEDED_GB:
            sys.exit(f"{free:.0f} GB free at {where.parent}; {NEEDED_GB} GB are needed.")
        from geosam.testing import write_scene

        scene = str(write_scene(folder, shape=(arguments.size,) * 2, seed=1, nir=False)[0])
        python = str(make_environment(where))
        here = str(Path(__file__).parent)
        runs = {
            "segment-geospatial": [python, "-c", THEIRS, scene, name],
            "geosam": [sys.executable, "-c", OURS, scene, name, here],
        }
        print("| | seconds | peak memory, GB | |\n|---|---|---|---|")
        for label, command in runs.items():
            seconds, peak, failed = watched(command)
            print(f"| {label} | {seconds:.1f} | {peak:.2f} | {failed} |", flush=True)


if __name__ == "__main__":
    main()
