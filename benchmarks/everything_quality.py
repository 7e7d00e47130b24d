"""What everything mode finds of objects that are known, with river-tiny as shipped.

    python benchmarks/everything_quality.py [--scenes 5] [--first 0] [--noise 5] [--radius 12 28] [--nested 12]

Scenes of 288 px with twelve separate objects, as nine tiles of 128 px and as one of 320: segments, recall at an IoU
of 0.75, segments that are no object, and the IoU of each object's two masks. Then one click on nested
shapes: the best of three masks for each of the three.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch

import geosam
from geosam.coco import read_coco_masks
from geosam.cutouts import mask_ious
from geosam.generation import masks_at
from geosam.generation_rules import GenerationRules
from geosam.models.mask_generation import recorded_rules
from geosam.testing import nested_objects, object_scene, write_picture


def scenes(given: argparse.Namespace, folder: Path) -> None:
    """Print what is found of separate objects."""
    recalls, alike, more = [], [], []
    for seed in range(given.first, given.first + given.scenes):
        pixels, objects = object_scene(
            (288, 288), given.objects, seed, noise=given.noise, radius=tuple(given.radius)
        )
        scene = write_picture(folder / "scene.tif", pixels)
        found = {}
        for name, size in (("nine", 128), ("one", 320)):
            out = folder / f"{seed}_{name}"
            geosam.everything(
                scene,
                out.with_suffix(".gpkg"),
                coco=out.with_suffix(".json"),
                tile_size=size,
                overlap=32,
                workers=1,
            )
            found[name] = [mask for _, mask in read_coco_masks(out.with_suffix(".json"))]
            ious = mask_ious(found[name], objects)
            recalls.append(float((ious.max(axis=0) >= 0.75).mean()))
            more.append(len(found[name]) - len(objects))
            print(
                f"scene {seed} {name:4} segments {len(found[name])} recall {recalls[-1]:.3f}",
                flush=True,
            )
        alike += mask_ious(found["nine"], found["one"]).max(axis=0).tolist()
    print(
        f"recall {np.mean(recalls):.3f}, segments beyond the objects {np.mean(more):+.2f} a scene, IoU of "
        f"nine tiles with one: median {np.median(alike):.3f}, tenth {np.quantile(alike, 0.1):.3f}"
    )


def clicks(n: int, first: int) -> None:
    """Print what one click gives of nested shapes."""
    model = geosam.load_model("river-tiny")
    rules = GenerationRules.of({}, recorded_rules("river-tiny"))
    worst = []
    for seed in range(first, first + n):
        pixels, truth, point = nested_objects(seed)
        masks = [m.cutout.paste(truth[0].shape) for m in masks_at(model, pixels, point, rules)]
        best = [max((t & m).sum() / (t | m).sum() for m in masks) for t in truth]
        worst.append(min(best))
    reached = np.mean(np.array(worst) >= 0.7)
    print(f"nested shapes: all three at 0.7 in {reached:.0%} of {n}; worst {min(worst):.2f}")


def main() -> None:
    """Measure both."""
    parser = argparse.ArgumentParser(description="What everything mode finds of known objects.")
    parser.add_argument("--scenes", type=int, default=5)
    parser.add_argument("--first", type=int, default=0, help="seed of the first picture")
    parser.add_argument("--objects", type=int, default=12)
    parser.add_argument("--noise", type=float, default=5.0)
    parser.add_argument("--radius", type=float, nargs=2, default=(12, 28))
    parser.add_argument("--nested", type=int, default=12)
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.nested:
        clicks(given.nested, given.first)
    if given.scenes:
        with tempfile.TemporaryDirectory() as folder:
            scenes(given, Path(folder))


if __name__ == "__main__":
    main()
