"""River-tiny on the test split of every labelled set, as a user gets it: default flags, no prompt.

    python benchmarks/labelled_sets.py --data ../shared/data [--most 60]

The median IoU over images with at least 1 % water, and the share of false water over the others;
unknown pixels are out. The images have no CRS: each set is laid on a made-up grid of its stated
pixel size.
"""

from __future__ import annotations

import argparse
import json
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox
from odc.geo.xr import xr_coords

import geosam

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


SETS = (
    LabelledSet("`chips_s2_rgb`", "chips_s2_rgb", 10),
    LabelledSet("`chips_multispectral`, RGB alone", "chips_multispectral", 10),
    LabelledSet("`chips_multispectral`, near infrared", "chips_multispectral", 10, CHIP_BANDS),
    LabelledSet("`aerial_ste_marguerite`", "aerial_ste_marguerite", 0.1),
    LabelledSet("`aerial_dubai`", "aerial_dubai", 1.0),
    LabelledSet("`aerial_monterey`", "aerial_monterey", 0.3),
    LabelledSet("`aerial_deepglobe`", "aerial_deepglobe", 0.5),
    LabelledSet("`aerial_dry`, held-out block", "aerial_dry", 0.5),
)


def names_of(data: Path, folder: str) -> list[str]:
    """Return the names of the test split; of an unsplit set all, of `aerial_dry` each last block."""
    splits = json.loads((data / "splits.json").read_text())
    every = sorted(path.stem for path in (data / folder / "images").iterdir())
    if folder in splits:
        return splits[folder]["test"]
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


def rate(data: Path, kind: LabelledSet, model: object, most: int) -> str:
    """Return one row of the table."""
    names = names_of(data, kind.folder)
    names = names[:: max(1, -(-len(names) // most))]
    wet, dry = [], []
    for name in names:
        scene, label = read_image(data, kind, name)
        found = geosam.segment(scene, model=model).mask.values == 1
        known, truth = label != 255, label == 1
        if truth[known].mean() >= 0.01:
            wet.append((found & truth & known).sum() / ((found | truth) & known).sum())
        else:
            dry.append(found[known].mean())
    quartiles = [f"{q:.3f}" for q in np.percentile(wet, (25, 50, 75))] if wet else ["", "", ""]
    false = [f"{np.mean(dry):.3f}", f"{np.percentile(dry, 90):.3f}"] if dry else ["", ""]
    return f"| {kind.title} | {len(wet)} | {quartiles[1]} | {quartiles[0]} | {len(dry)} | {false[0]} | {false[1]} |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--most", type=int, default=60, help="images a set")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    model = geosam.load_model()
    print(
        "| data set | wet images | median IoU | lower quartile | dry images | false water, mean | 90th percentile |"
    )
    print("|---|---|---|---|---|---|---|")
    for kind in SETS:
        print(rate(arguments.data, kind, model, arguments.most), flush=True)


if __name__ == "__main__":
    main()
