import dask.array as da
import numpy as np
import pytest
import xarray as xr

from geosam.errors import BandError, OptionError
from geosam.indices import (
    DEFAULT_HSV,
    INDICES,
    HsvRange,
    awei,
    awei_nsh,
    choose_index,
    compute_index,
    hsv_mask,
    mndwi,
    ndvi,
    ndwi,
    parse_hsv,
)

WATER = {"blue": 0.06, "green": 0.07, "red": 0.05, "nir": 0.02, "swir1": 0.01, "swir2": 0.005}
FOREST = {"blue": 0.03, "green": 0.05, "red": 0.03, "nir": 0.40, "swir1": 0.18, "swir2": 0.08}
SOIL = {"blue": 0.10, "green": 0.14, "red": 0.18, "nir": 0.26, "swir1": 0.33, "swir2": 0.28}


def scene_of(**bands: np.ndarray) -> xr.DataArray:
    return xr.DataArray(
        np.stack(list(bands.values())), dims=("band", "y", "x"), coords={"band": list(bands)}
    )


def colour(red: float, green: float, blue: float) -> np.ndarray:
    return np.array([red, green, blue], dtype="float64").reshape(3, 1, 1)


def test_the_indices_follow_their_published_formulas():
    b, g, r, n, s1, s2 = 0.05, 0.08, 0.06, 0.03, 0.02, 0.01
    bands = {"blue": b, "green": g, "red": r, "nir": n, "swir1": s1, "swir2": s2}
    oracle = {
        "ndwi": (g - n) / (g + n),
        "mndwi": (g - s1) / (g + s1),
        "ndvi": (n - r) / (n + r),
        "awei": b + 2.5 * g - 1.5 * (n + s1) - 0.25 * s2,
        "awei_nsh": 4 * (g - s1) - (0.25 * n + 2.75 * s2),
    }
    assert set(oracle) == set(INDICES)
    for name, index in INDICES.items():
        value = index.function(*(np.full(2, bands[role]) for role in index.roles))
        np.testing.assert_allclose(value, oracle[name], rtol=1e-12, err_msg=name)


@pytest.mark.parametrize("name", INDICES)
def test_clear_water_lies_on_the_water_side_of_every_index_and_land_beyond_its_margin(name):
    index = INDICES[name]
    sign = 1 if index.water_above else -1

    def wetness(cover):
        value = index.function(*(np.array([cover[role]]) for role in index.roles))
        return sign * (value.item() - index.threshold)

    assert wetness(WATER) > index.margin
    assert wetness(FOREST) < -index.margin
    assert wetness(SOIL) < 0


def test_nan_stays_nan_and_no_signal_is_zero_which_is_not_water():
    green = np.array([np.nan, 0.1, 0.0, 0.0, -0.1])
    nir = np.array([0.1, np.nan, 0.0, 0.2, 0.1])
    np.testing.assert_array_equal(ndwi(green, nir), [np.nan, np.nan, 0, -1, 0])


def test_unsigned_integers_do_not_wrap_around():
    green, nir = np.array([20], dtype="uint8"), np.array([200], dtype="uint8")
    assert ndwi(green, nir).item() == pytest.approx(-180 / 220)
    assert awei_nsh(green, nir, nir, nir).item() == pytest.approx(-1320)


def test_negative_reflectances_do_not_leave_the_range_of_a_normalised_difference():
    assert ndwi(np.array([0.05]), np.array([-0.02])).item() == 1.0
    assert mndwi(np.array([-0.02]), np.array([0.05])).item() == -1.0
    assert ndvi(np.array([0.05]), np.array([-0.02])).item() == -1.0


def test_awei_keeps_its_sign_in_any_unit():
    water = [np.array([WATER[role]]) for role in INDICES["awei"].roles]
    np.testing.assert_allclose(awei(*(10_000 * band for band in water)), 10_000 * awei(*water))


@pytest.mark.parametrize(
    ("roles", "name"),
    [
        (["red", "green", "blue"], None),
        (["red", "green", "blue", "nir"], "ndwi"),
        (["green", "nir", "swir1"], "ndwi"),
        (["blue", "green", "red", "nir", "swir1", "swir2"], "ndwi"),
        (["green", "swir1"], "mndwi"),
        (["red", "nir"], "ndvi"),
        ([], None),
    ],
)
def test_auto_takes_the_best_index_the_bands_allow(roles, name):
    assert choose_index(roles) == name


def test_an_index_of_a_scene_stays_lazy_and_keeps_the_grid():
    bands = np.random.default_rng(0).random((3, 40, 50), dtype="float32")
    scene = xr.DataArray(
        da.from_array(bands, chunks=(3, 16, 16)),
        dims=("band", "y", "x"),
        coords={
            "band": ["nir", "red", "green"],
            "y": np.arange(40.0),
            "x": np.arange(50.0),
            "spatial_ref": 0,
        },
    )
    index = compute_index(scene, "ndwi")
    assert isinstance(index.data, da.Array)
    assert index.dims == ("y", "x")
    assert index.name == "ndwi"
    assert set(index.coords) == {"y", "x", "spatial_ref"}
    np.testing.assert_array_equal(index.values, ndwi(bands[2], bands[0]))


def test_a_missing_band_is_named_with_the_way_out():
    scene = scene_of(red=np.ones((2, 2)), green=np.ones((2, 2)))
    with pytest.raises(BandError, match=r"ndwi needs .*green, nir.*nir missing.*--bands nir=4"):
        compute_index(scene, "ndwi")


def test_an_unknown_index_is_named_with_those_there_are():
    with pytest.raises(OptionError, match=r"no index 'wri'.*ndwi, mndwi"):
        compute_index(scene_of(red=np.ones((2, 2))), "wri")


@pytest.mark.parametrize(
    ("rgb", "hue"),
    [
        ((1, 0, 0), 0),
        ((1, 1, 0), 60),
        ((0, 1, 0), 120),
        ((0, 1, 1), 180),
        ((0, 0, 1), 240),
        ((1, 0, 1), 300),
    ],
)
def test_pure_colours_have_their_hue_in_degrees(rgb, hue):
    assert hsv_mask(colour(*rgb), (max(hue - 1, 0), 0.99, 0.99), (hue + 1, 1, 1)).all()
    assert not hsv_mask(colour(*rgb), ((hue + 20) % 360, 0, 0), ((hue + 340) % 360, 1, 1)).any()


def test_swapping_red_and_blue_turns_a_river_into_no_river():
    river, soil = colour(0.16, 0.32, 0.45), colour(0.45, 0.32, 0.16)
    low, high = DEFAULT_HSV.low, DEFAULT_HSV.high
    assert hsv_mask(river, low, high).all()
    assert not hsv_mask(river[::-1], low, high).any(), "blue was taken for red"
    assert not hsv_mask(soil, low, high).any()
    assert hsv_mask(soil[::-1], low, high).all()


def test_a_range_of_hues_wraps_around_through_red():
    reds = (330, 0.5, 0.5), (30, 1, 1)
    assert hsv_mask(colour(1, 0, 0.2), *reds).all()
    assert hsv_mask(colour(1, 0.2, 0), *reds).all()
    assert not hsv_mask(colour(0, 1, 0), *reds).any()


def test_both_ends_belong_to_the_range_and_nodata_does_not():
    rgb = np.concatenate([colour(0, 0, 0.5), colour(0, 0, np.nan)], axis=2)
    mask = hsv_mask(rgb, (240, 1, 0.5), (240, 1, 0.5))
    np.testing.assert_array_equal(mask, [[True, False]])


def test_unstretched_values_and_other_shapes_are_refused():
    with pytest.raises(ValueError, match=r"0 to 1, not 0 to 255\. Stretch"):
        hsv_mask(colour(0, 0, 255), DEFAULT_HSV.low, DEFAULT_HSV.high)
    with pytest.raises(ValueError, match=r"\(3, h, w\), not \(2, 2, 3\)"):
        hsv_mask(np.zeros((2, 2, 3)), DEFAULT_HSV.low, DEFAULT_HSV.high)


def test_a_range_is_read_from_text():
    assert parse_hsv("150-260, 0.1-1, .05-0.8") == HsvRange((150, 0.1, 0.05), (260, 1, 0.8))
    assert parse_hsv("330-30,0-1,0-1").low[0] == 330


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("blue", "three ranges LOW-HIGH"),
        ("150-260,0.1-1", "three ranges LOW-HIGH"),
        ("150-400,0-1,0-1", "Hue range 150-400 must lie in 0 to 360"),
        ("150-260,0-255,0-1", "Saturation range 0-255 must lie in 0 to 1"),
        ("150-260,0-1,0.8-0.1", "must run upwards.*Use 0.1-0.8"),
    ],
)
def test_a_wrong_range_says_what_is_wrong(text, part):
    with pytest.raises(OptionError, match=part):
        parse_hsv(text)
