"""What speaks for water before the model is asked, and who speaks where an index does not know."""

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox
from odc.geo.xr import xr_coords
from scipy.ndimage import gaussian_filter

from geosam.coarse import (
    BANK_PX,
    COMPANION_WEIGHT,
    CORE_PX,
    DENIAL_WEIGHT,
    DETAIL_PX,
    DETAIL_WEIGHT,
    INDEX_LOGIT,
    MOST_EVIDENCE,
    NODATA,
    PROMPT_LOGIT,
    PROMPT_WEIGHT,
    bounded,
    denied,
    detail,
    mask_prompt,
    prompt_logits,
    with_companion,
)
from geosam.decision import decide
from geosam.options import Options
from geosam.views import view_array

GRID = GeoBox((120, 120), Affine(10, 0, 500_000, 0, -10, 4_000_000), "EPSG:32633")


def scene_of(green, nir):
    """Reflectances of which green and near infrared are given; (band, y, x)."""
    rng = np.random.default_rng(0)
    bands = np.stack([np.full(GRID.shape, 0.1), green, np.full(GRID.shape, 0.08), nir])
    bands = bands * (1 + rng.normal(0, 0.03, bands.shape))
    coords = {"band": ["red", "green", "blue", "nir"], **xr_coords(GRID)}
    return xr.DataArray(bands.astype("float32"), coords=coords, dims=("band", "y", "x"))


@pytest.fixture(scope="module")
def dull():
    """A scene in which NDWI is one hump about zero."""
    same = 0.12 * np.exp(np.random.default_rng(1).normal(0, 0.1, GRID.shape))
    return scene_of(same, same)


@pytest.fixture(scope="module")
def clear():
    """A scene with a river."""
    river = np.zeros(GRID.shape, bool)
    river[:, 50:70] = True
    return scene_of(np.where(river, 0.08, 0.1), np.where(river, 0.02, 0.35))


def test_the_learned_network_prompts_where_the_index_parts_nothing(dull):
    decision = decide(view_array(dull), Options())
    assert (decision.source, decision.witness, decision.index) == ("learned", "learned", "ndwi")
    assert decision.renditions[0].bands == ("nir", "red", "green")
    assert any("learned network, since the index does not part" in note for note in decision.notes)


@pytest.mark.parametrize("asked", [{"prompts": "index"}, {"index": "ndwi"}])
def test_an_index_that_is_asked_for_by_name_stays(dull, asked):
    assert decide(view_array(dull), Options(**asked)).source == "index"


def test_an_index_that_knows_prompts(clear):
    assert decide(view_array(clear), Options()).source == "index"


def test_the_network_adds_water_on_pixels_of_the_size_that_it_has_seen(clear):
    coarse = GeoBox(GRID.shape, Affine(90, 0, 500_000, 0, -90, 4_000_000), "EPSG:32633")
    assert decide(view_array(clear), Options()).adds
    assert not decide(view_array(clear.assign_coords(xr_coords(coarse))), Options()).adds
    assert not decide(view_array(clear), Options(composite="red,green,blue")).adds


def test_an_index_denies_but_never_affirms():
    index = xr.DataArray([[5.0, 0.0, -1.0, -INDEX_LOGIT, -9.0]], dims=("y", "x")).chunk()
    learned = xr.DataArray(np.full((1, 5), 3.0, np.float32), dims=("y", "x")).chunk()
    said = denied(learned, index).values[0]
    assert said[:3] == pytest.approx([3, 3, 3 - DENIAL_WEIGHT])
    assert (said[3:] < -20).all()


def test_whole_numbers_are_taken_as_they_are(clear):
    counts = (clear * 10_000).round().astype("uint16")
    assert decide(view_array(counts), Options()).source == "index"


def prompted(said, mask):
    said, mask = np.array([said], np.float32), np.array([mask], np.uint8)
    evidence, coarse = (xr.DataArray(v, dims=("y", "x")).chunk() for v in (said, mask))
    return prompt_logits(mask_prompt(evidence, coarse).values)[0]


def test_a_mask_prompt_keeps_the_doubts_of_the_evidence_within_its_bounds():
    logits = prompted([-30.0, -2.0, 0.0, 1.5, 9.0], [0, 0, 0, 1, 1])
    doubts = PROMPT_WEIGHT * np.array([-2.0, 0.0, 1.5])
    assert logits == pytest.approx([-PROMPT_LOGIT, *doubts, PROMPT_LOGIT], abs=0.03)


def test_a_mask_prompt_is_sure_where_water_was_dropped_or_drawn_or_nothing_is_known():
    logits = prompted([2.0, 2.0, -1.0, np.nan, -1.0], [0, NODATA, 1, 0, NODATA])
    sure = PROMPT_LOGIT
    assert logits == pytest.approx([-sure, -sure, sure, -sure, -PROMPT_WEIGHT], abs=0.03)


def test_a_window_beyond_a_mask_prompt_is_land():
    assert (prompt_logits(np.full((2, 2), NODATA, np.uint8)) == -PROMPT_LOGIT).all()


class TestTheNetworkBesideAnIndex:
    @pytest.fixture
    def said(self) -> tuple[xr.DataArray, xr.DataArray]:
        """An index that sees a river, and a network that sees it too, wider, and a lake."""
        index, learned = np.full((2, 60, 60), -3, np.float32)
        index[20:26], learned[18:28], learned[40:52, 10:50] = 3, 4, 4
        learned[:, :3] = np.nan
        return tuple(
            xr.DataArray(da.from_array(values, chunks=25), dims=("y", "x"))
            for values in (index, learned)
        )

    def test_it_adds_the_middle_of_what_the_index_leaves_out(self, said):
        found = with_companion(*said, adds=True).values > 0
        wanted = np.zeros((60, 60), bool)
        wanted[20:26] = True  # banks are the index's own
        wanted[40 + CORE_PX : 52 - CORE_PX, 10 + CORE_PX : 50 - CORE_PX] = True
        np.testing.assert_array_equal(found, wanted)

    def test_it_adds_nothing_where_it_has_a_small_word_alone(self, said):
        found = with_companion(*said, adds=False).values
        known = np.nan_to_num(np.clip(said[1].values, -MOST_EVIDENCE, MOST_EVIDENCE))
        np.testing.assert_allclose(found, said[0].values + COMPANION_WEIGHT * known)


class TestWhatIsFineInEvidence:
    @pytest.fixture
    def logits(self) -> np.ndarray:
        """Logits with some beyond their bound."""
        return np.random.default_rng(4).normal(0, 3, (70, 90)).astype(np.float32)

    @pytest.fixture
    def water(self) -> np.ndarray:
        """A coarse mask with a river."""
        mask = np.zeros((70, 90), np.uint8)
        mask[:, 30:50] = 1
        return mask

    def rasters(self, chunks: int, *arrays: np.ndarray) -> list[xr.DataArray]:
        return [xr.DataArray(da.from_array(a, chunks=chunks), dims=("y", "x")) for a in arrays]

    def test_near_banks_it_is_what_a_gaussian_takes_out_whatever_the_chunks(self, logits, water):
        known = np.clip(logits, -MOST_EVIDENCE, MOST_EVIDENCE)
        wanted = DETAIL_WEIGHT * (known - gaussian_filter(known, DETAIL_PX, mode="constant"))
        col = np.arange(90)
        near = (abs(col - 29.5) < BANK_PX) | (abs(col - 49.5) < BANK_PX)
        for chunks in (90, 25):
            found = detail(*self.rasters(chunks, logits, water)).values
            np.testing.assert_allclose(found, np.where(near, wanted, 0), atol=1e-4)

    def test_where_evidence_is_even_there_is_none(self, water):
        even = np.full(water.shape, -3, np.float32)
        found = detail(*self.rasters(25, even, water)).values
        assert abs(found[10:-10, 10:-10]).max() < 1e-4

    def test_it_is_added_only_where_water_is_meant(self, logits, water):
        said, meant = self.rasters(40, logits, water)
        fine = bounded(said, meant, 0.5, detail(said, meant)).values
        dropped = (logits > 0) & (water == 0)
        np.testing.assert_array_equal(fine[dropped], -MOST_EVIDENCE)
        plain = bounded(said, meant, 0.5).values + detail(said, meant).values
        np.testing.assert_allclose(fine[~dropped], plain[~dropped], atol=1e-5)
