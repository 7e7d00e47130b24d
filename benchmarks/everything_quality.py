"""What everything mode finds of objects that are known, with river-tiny as shipped.

    python benchmarks/everything_quality.py [--scenes 5] [--first 0] [--noise 5] [--side 288] [--objects 12]
                                            [--radius 12 28] [--nested 12] [--rivers 3]

Scenes with separate objects, as tiles of 128 px (nine for a side of 288) and as one tile: segments, recall at an
IoU of 0.75, segments that are no object, and the IoU of each object's two masks. Objects larger than a
tile: `--side 640 --objects 6 --radius 60 130`. One click on nested shapes: the best of three masks for each of
the three. Rivers through landscapes of 448 px in nine tiles: the IoU of the best segment with the water that
hangs together most, and the share of that which segments cover that are water.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import rasterio
import torch
from scipy import ndimage

import geosam
from geosam.coco import read_coco_masks
from geosam.cutouts import Cutout, cut_out, mask_ious
from geosam.generation import masks_at
from geosam.generation_rules import GenerationRules
from geosam.models.mask_generation import recorded_rules
from geosam.testing import nested_objects, object_scene, write_picture, write_scene

PURE = 0.8
"""Share of a segment that is water, from which on it is of the river."""


def scenes(given: argparse.Namespace, folder: Path) -> None:
    """Print what is found of separate objects."""
    recalls, alike, more = [], [], []
    shape, whole = (given.side, given.side), given.side + 32
    for seed in range(given.first, given.first + given.scenes):
        pixels, objects = object_scene(
            shape, given.objects, seed, noise=given.noise, radius=tuple(given.radius)
        )
        scene = write_picture(folder / "scene.tif", pixels)
        found = {}
        for name, size in (("many", 128), ("one", whole)):
            out = folder / f"{seed}_{name}"
            found[name] = segments_of(scene, out, tile_size=size, overlap=32)
            ious = mask_ious(found[name], objects)
            recalls.append(float((ious.max(axis=0) >= 0.75).mean()))
            more.append(len(found[name]) - len(objects))
            print(
                f"scene {seed} {name:4} segments {len(found[name])} recall {recalls[-1]:.3f}",
                flush=True,
            )
        alike += mask_ious(found["many"], found["one"]).max(axis=0).tolist()
    print(
        f"recall {np.mean(recalls):.3f}, segments beyond the objects {np.mean(more):+.2f} a scene, IoU of "
        f"many tiles with one: median {np.median(alike):.3f}, tenth {np.quantile(alike, 0.1):.3f}"
    )


def segments_of(scene: Path, out: Path, **options: int) -> list[Cutout]:
    """Return the masks of all segments of a scene."""
    table, coco = out.with_suffix(".gpkg"), out.with_suffix(".json")
    geosam.everything(scene, table, coco=coco, workers=1, **options)
    return [mask for _, mask in read_coco_masks(coco)]


def rivers(n: int, first: int, folder: Path) -> None:
    """Print what is found of rivers that are larger than a tile."""
    for seed in range(first, first + n):
        scene, truth = write_scene(folder, shape=(448, 448), seed=seed, nodata_corner=0)
        with rasterio.open(truth) as file:
            parts, _ = ndimage.label(file.read(1) == 1)
        river = cut_out(parts == np.bincount(parts.ravel())[1:].argmax() + 1)
        found = segments_of(scene, folder / f"river_{seed}")
        inside = river.paste(parts.shape)
        covered = np.zeros(parts.shape, bool)
        for mask in (mask.paste(parts.shape) for mask in found):
            covered |= mask & ((mask & inside).sum() > PURE * mask.sum())
        best = mask_ious(found, [river]).max()
        share = (covered & inside).sum() / inside.sum()
        print(
            f"river {seed} segments {len(found)} best IoU {best:.2f} covered {share:.2f}",
            flush=True,
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
    parser.add_argument("--side", type=int, default=288, help="pixels, a multiple of 32")
    parser.add_argument("--nested", type=int, default=12)
    parser.add_argument("--rivers", type=int, default=3)
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.nested:
        clicks(given.nested, given.first)
    with tempfile.TemporaryDirectory() as folder:
        if given.scenes:
            scenes(given, Path(folder))
        rivers(given.rivers, given.first, Path(folder))


if __name__ == "__main__":
    main()
