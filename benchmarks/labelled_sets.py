"""River-tiny on the test split of every labelled set, as a user gets it: default flags, no prompt; of
chips with near infrared also what the learned network prompts.

    python benchmarks/labelled_sets.py --data ../shared/data [--most 60] [--split val] [--sets dubai]

The median IoU over images with at least 1 % water, and the share of false water over the others;
unknown pixels are out. Beside it the same of the coarse mask that the answer was prompted from and, where
an index is chosen, of what that alone finds by its threshold; boundary F1 at 2 px of the answer and the
coarse mask, and the calibration error within 8 px of a bank. The images have no CRS: each set is laid on a
made-up grid of its stated pixel size.
"""

from __future__ import annotations

import argparse
import json
import warnings
from dataclasses import dataclass
from pathlib import Path

import dask
import numpy as np
import rasterio
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox
from odc.geo.xr import xr_coords

import geosam
from geosam.calibration import calibration_error
from geosam.coarse import finish, index_logits
from geosam.decision import decide
from geosam.durable import Lazy
from geosam.options import Options
from geosam.pipeline import prepare, segment_prepared
from geosam.probability import water_probability
from geosam.regrid import onto_scene
from geosam.summaries import score_label, summarise
from geosam.types import Model
from geosam.views import view_array
from geosam.windows import void_look

CHIP_BANDS = ("blue", "green", "red", "nir", "swir1")
RGB = ("red", "green", "blue")
HELD_OUT_DRY = 0.2


@dataclass(frozen=True)
class LabelledSet:
    """A folder of images and masks, and the pixel size they are taken to have."""

    title: str
    folder: str
    pixel_m: float
    bands: tuple[str, ...] = RGB
    prompts: str = "auto"


SETS = (
    LabelledSet("`chips_s2_rgb`", "chips_s2_rgb", 10),
    LabelledSet("`chips_multispectral`, RGB alone", "chips_multispectral", 10),
    LabelledSet("`chips_multispectral`, near infrared", "chips_multispectral", 10, CHIP_BANDS),
    LabelledSet(
        "the same with `--prompts learned`", "chips_multispectral", 10, CHIP_BANDS, "learned"
    ),
    LabelledSet("`aerial_ste_marguerite`", "aerial_ste_marguerite", 0.1),
    LabelledSet("`aerial_dubai`", "aerial_dubai", 1.0),
    LabelledSet("`aerial_monterey`", "aerial_monterey", 0.3),
    LabelledSet("`aerial_deepglobe`", "aerial_deepglobe", 0.5),
    LabelledSet("`aerial_dry`, held-out block", "aerial_dry", 0.5),
)


def names_of(data: Path, folder: str, split: str) -> list[str]:
    """Return the names of a split; of an unsplit set all, of `aerial_dry` each last block."""
    splits = json.loads((data / "splits.json").read_text())
    every = sorted(path.stem for path in (data / folder / "images").iterdir())
    if folder in splits:
        return splits[folder][split]
    if folder != "aerial_dry":
        return every
    blocks = [
        [n for n in every if n.split("_")[0] == p] for p in sorted({n.split("_")[0] for n in every})
    ]
    return [name for block in blocks for name in block[-max(1, round(HELD_OUT_DRY * len(block))) :]]


def read_image(data: Path, kind: LabelledSet, name: str) -> tuple[xr.DataArray, np.ndarray]:
    """Return a scene and its label, (y, x) uint8 with 255 where unknown."""
    path = next((data / kind.folder / "images").glob(f"{name}.*"))
    with rasterio.open(path) as source:
        pixels, stored = source.read(), source.dtypes[0]
    mask = data / kind.folder / "masks" / f"{name}.png"
    label = np.zeros(pixels.shape[1:], np.uint8)
    if mask.exists():
        with rasterio.open(mask) as source:
            label = source.read(1)
    void = (pixels == 0).all(axis=0)
    values = np.where(void, np.nan, pixels.astype(np.float32))
    roles = list(CHIP_BANDS if len(pixels) == 5 else RGB)
    grid = GeoBox(
        label.shape, Affine(kind.pixel_m, 0, 500_000, 0, -kind.pixel_m, 5_000_000), "EPSG:32633"
    )
    coords = {"band": roles[: len(values)], **xr_coords(grid)}
    scene = xr.DataArray(
        values[: len(roles)], coords=coords, dims=("band", "y", "x"), attrs={"stored": stored}
    )
    return scene.sel(band=list(kind.bands)), np.where(void, 255, label)


def segment_image(
    scene: xr.DataArray, model: Model, prompts: str = "auto"
) -> tuple[xr.DataArray, xr.DataArray]:
    """Return the probability of water and the coarse mask, both on the scene's grid."""
    views = view_array(scene)
    keep = Lazy(views)
    prepared = prepare(views, Options(prompts=prompts), keep, model)
    water = water_probability(segment_prepared(prepared, keep))(views)
    coarse = prepared.prompts.coarse(views)
    coarse = onto_scene(coarse.where(coarse != 255), void_look(scene))
    return dask.compute(water, coarse)


def index_alone(scene: xr.DataArray, prompts: str = "auto") -> np.ndarray | None:
    """Return where the index that a run would choose lies on the water's side of its threshold, (y, x) uint8 with 255
    where unknown; None where it would choose none.
    """
    decision = decide(view_array(scene), Options(prompts=prompts))
    if decision.index is None or decision.threshold is None:
        return None
    logits = index_logits(scene, decision.index, decision.threshold)
    return finish(logits.data > 0, scene).values


def rate(data: Path, kind: LabelledSet, model: Model, split: str, most: int) -> str:
    """Return one row of the table."""
    names = names_of(data, kind.folder, split)
    names = names[:: max(1, -(-len(names) // most))]
    finals, coarses, indices, waters, labels = [], [], [], [], []
    for name in names:
        scene, label = read_image(data, kind, name)
        by_index = index_alone(scene, kind.prompts)
        if by_index is not None:
            indices.append(score_label(by_index, label, name=name))
        water, coarse = segment_image(scene, model, kind.prompts)
        finals.append(score_label(as_label(water), label, name=name))
        coarses.append(score_label(as_label(coarse), label, name=name))
        waters.append(water.values)
        labels.append(label)
    final, coarse = summarise(finals), summarise(coarses)
    both = [(final.wet[what], coarse.wet[what]) for what in ("iou", "boundary_f1")]
    cells = [
        kind.title,
        f"{final.n_wet}",
        f"{both[0][0].median:.3f}",
        f"{both[0][0].lower_quartile:.3f}",
    ]
    cells += [f"{both[0][1].median:.3f}"]
    cells += [f"{summarise(indices).wet['iou'].median:.3f}" if indices else ""]
    cells += [f"{both[1][0].median:.3f}", f"{both[1][1].median:.3f}"]
    cells += [f"{calibration_error(waters, labels):.3f}", f"{final.n_dry}"]
    cells += [f"{final.false_water_mean:.3f}", f"{final.false_water_90th:.3f}"]
    return f"| {' | '.join(cells).replace('nan', '')} |"


def as_label(water: xr.DataArray) -> np.ndarray:
    """Return 1 where water is likelier than not, 0 where not, 255 where nothing is known."""
    values = water.values
    return np.where(np.isnan(values), 255, values > 0.5).astype(np.uint8)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--most", type=int, default=60, help="images a set")
    parser.add_argument("--split", choices=("val", "test"), default="test")
    parser.add_argument("--model", default="river-tiny")
    parser.add_argument("--sets", default="", help="only those whose title holds this")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    model = geosam.load_model(arguments.model)
    print(
        "| data set | wet images | median IoU | lower quartile | coarse IoU | index alone | boundary F1 | "
        "coarse boundary F1 | calibration error | dry images | false water, mean | 90th percentile |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|---|")
    for kind in (kind for kind in SETS if arguments.sets in kind.title):
        print(rate(arguments.data, kind, model, arguments.split, arguments.most), flush=True)


if __name__ == "__main__":
    main()
