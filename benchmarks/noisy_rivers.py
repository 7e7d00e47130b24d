"""Synthetic rivers for ``geosam train``: noisy labels to train with, clean ones to test with.

    python benchmarks/noisy_rivers.py DIR
    geosam train DIR -o table --split DIR/split.json --experiments one-by-one

Writes DIR/images, DIR/masks and DIR/split.json, and prints the IoU of the noisy labels with the
truth: of the test part too, whose labels are clean.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from PIL import Image

from geosam.scores import pixel_scores
from geosam.testing import mislabel, synthetic_scene

PARTS = {"train": 12, "val": 4, "test": 6}
SIDE = 512
LOST = (0.0, 0.4)
"""Share of the water that is missing in a label, least and most."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    split: dict[str, list[str]] = {}
    seed = 0
    for part, count in PARTS.items():
        agreement = []
        for _ in range(count):
            name = f"river_{seed:02d}"
            agreement.append(write_pair(folder, name, seed, is_noisy=part != "test"))
            split.setdefault(part, []).append(name)
            seed += 1
        print(
            f"{part}: {count} images, noisy labels agree with the truth at a median IoU of "
            f"{np.median(agreement):.3f}, mean {np.mean(agreement):.3f}"
        )
    (folder / "split.json").write_text(json.dumps(split, indent=1) + "\n")


def write_pair(folder: Path, name: str, seed: int, is_noisy: bool) -> float:
    """Write an image and its label, and return the IoU of the noisy label with the truth."""
    made = synthetic_scene((SIDE, SIDE), seed=seed, nir=False, nodata_corner=0, dtype="uint8")
    truth = np.asarray(made.truth.values, np.uint8)
    noisy = mislabel(truth, seed=seed, lost=np.random.default_rng(seed).uniform(*LOST))
    pixels = np.moveaxis(np.asarray(made.scene.values, np.uint8), 0, -1)
    Image.fromarray(pixels).save(folder / "images" / f"{name}.png")
    Image.fromarray(noisy if is_noisy else truth).save(folder / "masks" / f"{name}.png")
    return pixel_scores(noisy == 1, truth == 1).iou


if __name__ == "__main__":
    main()
