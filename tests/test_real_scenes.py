"""Real imagery with default flags, where it is at hand; `benchmarks/real_scenes.py` has the table."""

import sys
from pathlib import Path

import pytest
import rasterio

import geosam

ROOT = Path(__file__).parents[1]
DATA = ROOT / ".." / "shared" / "data"
sys.path.insert(0, str(ROOT / "benchmarks"))

from real_scenes import CASES, iou, ndwi_mask, read_mask, spoil  # noqa: E402

pytestmark = pytest.mark.skipif(not (DATA / "scenes").is_dir(), reason="../shared/data is not here")
BY_NAME = {case.name: case for case in CASES}


def run(name, folder, **options):
    case = BY_NAME[name]
    scene = DATA / "scenes" / f"{name}.tif"
    geosam.run(scene, folder / "out.gpkg", bands=case.bands, mask=folder / "out.tif", **options)
    mask = read_mask(folder / "out.tif")
    return mask == 1, ndwi_mask(scene, case.green_nir), mask != 255


@pytest.mark.parametrize("name", ["ucayali_2020", "irrawaddy_s2"])
def test_outlines_agree_with_the_index(name, tmp_path):
    assert iou(*run(name, tmp_path)) >= 0.85


@pytest.mark.parametrize("how", ["eroded", "dilated"])
@pytest.mark.parametrize("name", ["ucayali_2020", "irrawaddy_s2"])
def test_a_spoilt_coarse_mask_is_repaired(name, how, tmp_path):
    scene = DATA / "scenes" / f"{name}.tif"
    hint = spoil(ndwi_mask(scene, BY_NAME[name].green_nir), how)
    with rasterio.open(scene) as source:
        profile = {
            **source.profile,
            "count": 1,
            "dtype": "uint8",
            "nodata": None,
            "driver": "GTiff",
        }
        profile = {
            key: profile[key]
            for key in ("count", "dtype", "driver", "width", "height", "crs", "transform")
        }
    with rasterio.open(tmp_path / "hint.tif", "w", **profile) as target:
        target.write(hint.astype("uint8"), 1)
    assert iou(*run(name, tmp_path, prompts=str(tmp_path / "hint.tif"))) >= 0.80


def test_a_dry_bed_stays_dry(tmp_path):
    mask, index, _ = run("haiti_rgbn", tmp_path)
    assert index.mean() > 0.6
    assert mask.mean() < 0.05
