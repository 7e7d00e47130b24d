"""What a click and a box add: every component of true water, asked for by its deepest point or its box.

    python benchmarks/prompted_components.py --data ../shared/data [--most 12] [--split val]

Truth is one 8-connected component of at least 100 px of a labelled image; everything is compared
inside its box grown by a quarter. "No prompt" is the automatic answer, in the same box. Prints the
median and the lower quartile of the IoU by data set, and over all components Spearman's correlation
of predicted and true IoU of the prompted answers.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import geopandas as gpd
import numpy as np
import shapely
import xarray as xr
from labelled_sets import SETS, LabelledSet, as_label, names_of, read_image, segment_image
from scipy import ndimage

import geosam
from geosam.calibration import spearman
from geosam.clock import Clock
from geosam.crew import Threads
from geosam.durable import Durable
from geosam.embeddings import Memory
from geosam.masks import DONE, TileMask
from geosam.options import Options
from geosam.pipeline import prepare, segment_prepared
from geosam.probability import water_probability
from geosam.tiles import TileGrid, group_tiles
from geosam.types import Model, Tile
from geosam.views import view_array

SMALLEST_PX = 100
GROWN = 0.25


def components(label: np.ndarray) -> list[tuple[np.ndarray, tuple[slice, slice]]]:
    """Return each component of water as a mask of the image, and its grown box."""
    parts = ndimage.label(label == 1, np.ones((3, 3)))[0]
    found = []
    for number, box in enumerate(ndimage.find_objects(parts), 1):
        mask = parts == number
        if mask.sum() >= SMALLEST_PX:
            found.append((mask, grow(box, label.shape)))
    return found


def grow(box: tuple[slice, slice], shape: tuple[int, int]) -> tuple[slice, slice]:
    """Return a box with a quarter of its sides added on every side, inside the image."""
    sides = []
    for part, length in zip(box, shape, strict=True):
        more = round(GROWN * (part.stop - part.start))
        sides.append(slice(max(0, part.start - more), min(length, part.stop + more)))
    return sides[0], sides[1]


def geometries(mask: np.ndarray, scene: xr.DataArray) -> dict[str, shapely.Geometry]:
    """Return the deepest point of a component and its box, in the scene's CRS."""
    depth = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    row, col = np.unravel_index(depth.argmax(), mask.shape)
    rows, cols = np.nonzero(mask)
    to_world = scene.odc.geobox.transform
    corners = to_world * (cols.min(), rows.min()), to_world * (cols.max() + 1, rows.max() + 1)
    return {
        "click": shapely.Point(to_world * (col + 0.5, row + 0.5)),
        "box": shapely.box(*corners[0], *corners[1]),
    }


@dataclass(frozen=True)
class Desk:
    """A scene that many prompts are asked of: what finds water and the encoder look at it once."""

    scene: xr.DataArray
    """(band, y, x)."""
    model: Model
    """What answers."""
    keep: Durable
    """Where what does not depend on the prompt is kept."""
    store: Memory = field(default_factory=Memory)
    """Embeddings."""

    def ask(self, geometry: shapely.Geometry, name: str) -> tuple[np.ndarray, float]:
        """Return the answer to one prompt, (y, x) bool, and the model's own estimate of its IoU."""
        path = self.keep.folder / f"{name}.gpkg"
        prompt = gpd.GeoDataFrame(geometry=[geometry], crs=self.scene.odc.crs)
        prompt.to_file(path)
        views, options = self.keep.views, Options(prompts=str(path))
        prepared = prepare(views, options, self.keep, self.model, store=self.store)
        logits = segment_prepared(prepared, self.keep, name)
        water = water_probability(logits)(views).compute()
        groups = group_tiles(prepared.grid, prepared.per_side)
        answers = self.keep.answers(name)
        told = [
            pair
            for i, group in groups.items()
            for pair in zip(group.tiles, answers.tiles(i), strict=True)
        ]
        return as_label(water) == 1, mean_estimate(told, logits(views).values > 0, prepared.grid)


def mean_estimate(told: list[tuple[Tile, TileMask]], found: np.ndarray, grid: TileGrid) -> float:
    """Return the mean of the tiles' estimates, each as often as its tile owns pixels of the object."""
    scores, areas = [0.0], [0]
    for tile, mask in told:
        owned = tile.core.intersection(grid.scene)
        if mask.status == DONE and owned is not None:
            scores.append(mask.predicted_iou)
            areas.append(int(found[owned.slices()].sum()))
    return float(np.average(scores, weights=areas)) if sum(areas) else 0.0


def iou(found: np.ndarray, mask: np.ndarray, known: np.ndarray, box: tuple[slice, slice]) -> float:
    found, mask, known = found[box] & known[box], mask[box], known[box]
    return float((found & mask).sum() / max(1, ((found | mask) & known).sum()))


def rate(
    data: Path, kind: LabelledSet, model: Model, split: str, most: int, each: int
) -> tuple[dict[str, list[float]], list[tuple[float, float]]]:
    """Return IoUs by what was asked, and pairs of predicted and true IoU."""
    names = names_of(data, kind.folder, split)
    scores: dict[str, list[float]] = {"none": [], "click": [], "box": []}
    estimates = []
    for name in names[:: max(1, -(-len(names) // most))]:
        scene, label = read_image(data, kind, name)
        found = components(label)
        if not found:
            continue
        automatic = as_label(segment_image(scene, model)[0]) == 1
        with tempfile.TemporaryDirectory() as folder:
            threads = Threads(os.cpu_count() or 1)
            desk = Desk(scene, model, Durable(Path(folder), threads, Clock(), view_array(scene)))
            for k, (mask, box) in enumerate(found[:: max(1, -(-len(found) // each))]):
                known = label != 255
                scores["none"].append(iou(automatic, mask, known, box))
                for what, geometry in geometries(mask, scene).items():
                    answer, estimate = desk.ask(geometry, f"{what}_{k}")
                    scores[what].append(iou(answer, mask, known, box))
                    estimates.append((estimate, scores[what][-1]))
    return scores, estimates


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--most", type=int, default=12, help="images a set")
    parser.add_argument("--each", type=int, default=6, help="components an image, evenly picked")
    parser.add_argument("--split", choices=("val", "test"), default="test")
    parser.add_argument("--model", default="river-tiny")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    model = geosam.load_model(arguments.model)
    print("| data set | components | no prompt | click | box | lower quartiles |")
    print("|---|---|---|---|---|---|")
    pairs: list[tuple[float, float]] = []
    pooled: dict[str, list[float]] = {"none": [], "click": [], "box": []}
    for kind in (kind for kind in SETS if kind.prompts == "auto"):
        scores, estimates = rate(
            arguments.data, kind, model, arguments.split, arguments.most, arguments.each
        )
        if scores["none"]:
            print(row(kind.title, scores), flush=True)
        pairs += estimates
        for what, values in scores.items():
            pooled[what] += values
    print(row("all", pooled))
    print(
        f"Spearman's correlation of predicted and true IoU: {spearman(*zip(*pairs, strict=True)):.2f}"
    )


def row(title: str, scores: dict[str, list[float]]) -> str:
    medians = [f"{np.median(values):.3f}" for values in scores.values()]
    lower = ", ".join(f"{np.percentile(values, 25):.3f}" for values in scores.values())
    return f"| {title} | {len(scores['none'])} | {' | '.join(medians)} | {lower} |"


if __name__ == "__main__":
    main()
