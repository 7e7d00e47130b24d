"""Synthetic rivers for ``geosam train``: noisy labels to train with, clean ones to test with.

    python benchmarks/noisy_rivers.py DIR
    geosam train DIR -o table --split DIR/split.json --experiments one-by-one

Writes DIR/images, DIR/masks and DIR/split.json, and prints the IoU of the noisy labels with the
truth: of the test part too, whose labels are clean.
"""

from __future__ import annotations

import argparse
import json
from itertools import product
from pathlib import Path

import numpy as np
from PIL import Image

from geosam.scores import pixel_scores
from geosam.testing import mislabel, synthetic_scene

SCENES = {"train": 5, "val": 2, "test": 4}
SIDE, CHIP = 1024, 256
LEAST_WATER = 0.05
"""Share of a chip; about the river, as the chips of the article are."""
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
    for part, count in SCENES.items():
        agreement: dict[str, float] = {}
        for _ in range(count):
            agreement |= write_chips(folder, seed, is_noisy=part != "test")
            seed += 1
        split[part] = list(agreement)
        ious = list(agreement.values())
        print(
            f"{part}: {len(ious)} chips, noisy labels agree with the truth at a median IoU of "
            f"{np.median(ious):.3f}, mean {np.mean(ious):.3f}"
        )
    (folder / "split.json").write_text(json.dumps(split, indent=1) + "\n")


def write_chips(folder: Path, seed: int, is_noisy: bool) -> dict[str, float]:
    """Write the chips of a scene; return the IoU of the noisy label of each with the truth."""
    made = synthetic_scene((SIDE, SIDE), seed=seed, nir=False, nodata_corner=0, dtype="uint8")
    truth = np.asarray(made.truth.values, np.uint8)
    pixels = np.moveaxis(np.asarray(made.scene.values, np.uint8), 0, -1)
    found = {}
    for row, col in product(range(0, SIDE, CHIP), repeat=2):
        place = slice(row, row + CHIP), slice(col, col + CHIP)
        clean = truth[place]
        if (clean == 1).mean() < LEAST_WATER:
            continue
        number = seed * 1000 + len(found)
        noisy = mislabel(clean, seed=number, lost=np.random.default_rng(number).uniform(*LOST))
        name = f"river{seed:02d}_{row}_{col}"
        Image.fromarray(pixels[place]).save(folder / "images" / f"{name}.png")
        Image.fromarray(noisy if is_noisy else clean).save(folder / "masks" / f"{name}.png")
        found[name] = pixel_scores(noisy == 1, clean == 1).iou
    return found


if __name__ == "__main__":
    main()
