from pathlib import Path

import numpy as np
import pytest
from skimage.filters import threshold_otsu

from geosam.indices import INDICES, ndwi
from geosam.thresholds import (
    between_class_share,
    choose_threshold,
    drop_small,
    otsu,
)

NDWI = INDICES["ndwi"]
SCENES = Path(__file__).parents[2] / "shared" / "data" / "scenes"
needs_scenes = pytest.mark.skipif(
    not SCENES.is_dir(), reason="the real scenes of ../shared/data are not on this machine"
)
N = 40_000


def normal(mean: float, deviation: float, n: int = N) -> np.ndarray:
    return np.random.default_rng(int(n + 1000 * (mean + 2))).normal(mean, deviation, n)


def uniform(low: float, high: float) -> np.ndarray:
    return np.random.default_rng(0).uniform(low, high, N)


LAND = normal(-0.6, 0.1)
RIVERS = {
    "1 % water": np.r_[LAND, normal(0.4, 0.1, N // 100)],
    "3 % turbid water": np.r_[LAND, normal(0.05, 0.06, N // 33)],
    "60 % water": np.r_[normal(-0.5, 0.15), normal(0.4, 0.15, N * 3 // 2)],
    "97 % water": np.r_[normal(-0.4, 0.1, N // 30), normal(0.5, 0.1)],
    "all water": normal(0.6, 0.1),
    "two kinds of water": np.r_[normal(0.35, 0.05), normal(0.7, 0.05)],
    "a lake beside bare soil": np.r_[normal(0, 0.12), normal(0.6, 0.05, N // 100)],
}
DRY = {
    "normal": normal(-0.4, 0.15),
    "normal around 0": normal(0.02, 0.2),
    "uniform": uniform(-0.8, -0.1),
    "uniform around 0": uniform(-0.4, 0.4),
    "skewed": -0.5 + np.random.default_rng(0).exponential(0.2, N),
    "skewed across 0": -0.1 + np.random.default_rng(0).exponential(0.2, N),
    "forest and bare soil": np.r_[normal(-0.7, 0.05), normal(-0.15, 0.08)],
    "8 bit": np.round(normal(0, 0.2) * 50) / 50,
    "coarse steps": np.round(normal(0, 0.2) * 15) / 15,
    "constant": np.full(N, -0.3),
}


@pytest.mark.parametrize("name", RIVERS)
def test_water_is_found_where_there_is_water(name):
    threshold = choose_threshold(RIVERS[name], NDWI)
    assert threshold.separable, threshold.sentence
    assert threshold.value >= 0


@pytest.mark.parametrize("name", DRY)
def test_no_water_is_found_where_the_values_are_dry(name):
    threshold = choose_threshold(DRY[name], NDWI)
    assert not threshold.separable, threshold.sentence
    assert threshold.sentence.startswith("No water by NDWI")


def test_a_well_parted_scene_gets_otsus_threshold():
    values = np.r_[normal(-0.2, 0.1), normal(0.6, 0.1)]
    threshold = choose_threshold(values, NDWI)
    assert threshold.method == "otsu"
    assert threshold.value == pytest.approx(threshold_otsu(values))


def test_otsu_below_the_physical_threshold_gives_way_to_the_valley_above_it():
    values = RIVERS["1 % water"]
    assert otsu(values) < -0.1
    threshold = choose_threshold(values, NDWI)
    assert threshold.method == "valley"
    assert 0 <= threshold.value < np.percentile(values, 99.5)
    assert (values > threshold.value).mean() == pytest.approx(0.01, abs=0.001)
    assert "1.0% of the scene" in threshold.sentence


def test_a_scene_full_of_water_is_not_cut_in_two():
    threshold = choose_threshold(RIVERS["two kinds of water"], NDWI)
    assert (threshold.method, threshold.value) == ("physical", 0.0)


def test_a_lake_beside_bare_soil_is_parted_at_the_valley_between_them():
    threshold = choose_threshold(RIVERS["a lake beside bare soil"], NDWI)
    assert threshold.method == "valley"
    assert 0.3 < threshold.value < 0.55


def test_water_lies_below_the_threshold_of_a_vegetation_index():
    values = np.r_[normal(0.6, 0.1), normal(-0.3, 0.1, N // 20)]
    threshold = choose_threshold(values, INDICES["ndvi"])
    assert threshold.separable
    assert not threshold.water_above
    water = values < threshold.value
    assert water.mean() == pytest.approx(1 / 21, abs=0.002)


def test_the_decision_mirrors_with_the_sign_of_the_index():
    mirrored = choose_threshold(-RIVERS["1 % water"], INDICES["ndvi"])
    assert mirrored.value == -choose_threshold(RIVERS["1 % water"], NDWI).value


def test_nodata_changes_nothing():
    values = RIVERS["60 % water"]
    with_nodata = np.r_[np.full(5000, np.nan), values, np.full(5000, np.inf)]
    assert choose_threshold(with_nodata, NDWI) == choose_threshold(values, NDWI)


def test_a_handful_of_values_gets_the_physical_threshold():
    threshold = choose_threshold(np.array([-0.5, 0.5, np.nan]), NDWI)
    assert (threshold.method, threshold.value, threshold.separable) == ("physical", 0.0, True)
    assert "2 values" in threshold.sentence


def test_a_scene_without_valid_pixels_has_no_water():
    threshold = choose_threshold(np.full((5, 5), np.nan), NDWI)
    assert not threshold.separable
    assert threshold.sentence == "No water by NDWI: the scene has no valid pixel."


def test_a_uniform_distribution_has_three_quarters_of_its_variance_between_its_halves():
    assert between_class_share(uniform(0, 1), 0.5) == pytest.approx(0.75, abs=0.01)
    assert between_class_share(normal(0, 1), 0.0) == pytest.approx(2 / np.pi, abs=0.01)
    assert between_class_share(np.array([0.0, 1.0]), 0.5) == 1.0
    assert between_class_share(np.zeros(5), 0.0) == 0.0


def test_otsu_of_one_value_is_that_value_and_of_none_is_an_error():
    assert otsu(np.full(10, 0.25)) == 0.25
    with pytest.raises(ValueError, match="at least one finite value"):
        otsu(np.array([np.nan]))


def test_components_of_11_px_are_dropped_and_of_12_px_kept_and_corners_connect():
    mask = np.zeros((40, 40), dtype=bool)
    mask[2, 2:13] = True
    mask[10, 2:14] = True
    mask[20:32, 20:32] = np.eye(12, dtype=bool)
    kept = drop_small(mask)
    assert not kept[2].any()
    assert kept[10].sum() == 12
    assert kept[20:32, 20:32].sum() == 12


def ndwi_of(name: str, green: int, nir: int) -> np.ndarray:
    import rasterio

    with rasterio.open(SCENES / name) as source:
        bands = source.read().astype("float32")
    bands[:, (bands == 0).all(axis=0)] = np.nan
    return ndwi(bands[green - 1], bands[nir - 1])


@needs_scenes
@pytest.mark.parametrize(
    ("name", "green", "nir", "low", "high", "share"),
    [
        *((f"ucayali_{year}.tif", 4, 2, 0, 0.01, (0.02, 0.05)) for year in range(1985, 2021, 5)),
        ("irrawaddy_s2.tif", 4, 9, 0, 0.1, (0.30, 0.34)),
        ("naip_dakota_2009.tif", 2, 4, 0.1, 0.3, (0.10, 0.14)),
        ("naip_dakota_2014.tif", 2, 4, 0.3, 0.5, (0.22, 0.28)),
        ("naip_dakota_2019.tif", 2, 4, 0.1, 0.3, (0.21, 0.27)),
        ("yukon_delta_s2.tif", 2, 4, 0, 0.01, (0.07, 0.10)),
        ("olinda_l7.tif", 2, 4, 0.2, 0.5, (0.14, 0.18)),
    ],
)
def test_the_real_rivers_are_parted_from_their_land(name, green, nir, low, high, share):
    index = ndwi_of(name, green, nir)
    threshold = choose_threshold(index, NDWI)
    assert threshold.separable, threshold.sentence
    assert low <= threshold.value <= high
    assert share[0] <= np.mean(index[np.isfinite(index)] > threshold.value) <= share[1]


@needs_scenes
def test_a_real_dry_bed_has_no_water_although_most_of_it_lies_above_0():
    index = ndwi_of("haiti_rgbn.tif", 2, 4)
    assert (index > 0).mean() > 0.6
    assert not choose_threshold(index, NDWI).separable
