"""Doubtful water is believed where it hangs together with sure water, whatever the blocks and the extent."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox
from odc.geo.xr import xr_coords
from scipy import ndimage

from geosam import hysteresis
from geosam.coarse import STORED_LOGIT, coarse_from_network, store_evidence, stored_evidence
from geosam.hysteresis import CELL_PX, REACH_PX, SURE_LOGIT, near_sure

CORNER = (3, 5)
"""Row and column of the first pixel, counted from the origin of the CRS."""


def evidence_of(
    logits: np.ndarray, corner: tuple[int, int] = CORNER, chunks: int = 1000
) -> xr.DataArray:
    """Logits on a grid of pixels of 10 m that begins some pixels from the origin of its CRS."""
    row, col = corner
    grid = GeoBox(logits.shape, Affine(10, 0, 10 * col, 0, -10, -10 * row), "EPSG:32633")
    return xr.DataArray(
        da.from_array(logits, chunks=chunks), coords=xr_coords(grid), dims=("y", "x")
    )


def speckle(seed: int, shape: tuple[int, int] = (300, 340)) -> np.ndarray:
    """Doubtful water all over, sure water here and there, and no data in a corner."""
    rng = np.random.default_rng(seed)
    logits = ndimage.gaussian_filter(rng.standard_normal(shape), 4).astype(np.float32) - 0.01
    logits *= 0.9 * SURE_LOGIT / logits.max()
    logits[tuple(rng.integers(0, shape, (3, 2)).T)] = SURE_LOGIT + 1
    logits[:40, :30] = np.nan
    return logits


def walked(logits: np.ndarray, corner: tuple[int, int]) -> np.ndarray:
    """Walk from sure cells to their neighbours with water, a step at a time."""
    rows, cols = ((np.arange(n) + c) // CELL_PX for n, c in zip(logits.shape, corner, strict=True))
    cells = {"water": set(), "sure": set()}
    for row, col in np.argwhere(logits > 0):
        cells["water"].add((rows[row], cols[col]))
        if logits[row, col] > SURE_LOGIT:
            cells["sure"].add((rows[row], cols[col]))
    for _ in range(REACH_PX // CELL_PX):
        near = {(i + a, j + b) for i, j in cells["sure"] for a in (-1, 0, 1) for b in (-1, 0, 1)}
        cells["sure"] |= near & cells["water"]
    believed = np.zeros(logits.shape, bool)
    for row, col in np.argwhere(logits > 0):
        believed[row, col] = (rows[row], cols[col]) in cells["sure"]
    return believed


@pytest.mark.parametrize("chunks", [64, 150, 1000])
@pytest.mark.parametrize("corner", [(0, 0), CORNER, (-17, 1001)])
def test_it_is_the_water_that_can_be_walked_to_from_sure_water(monkeypatch, chunks, corner):
    monkeypatch.setattr(hysteresis, "REACH_PX", 64)
    monkeypatch.setattr(hysteresis, "_BLOCK_PX", 128)
    monkeypatch.setitem(globals(), "REACH_PX", 64)
    logits = speckle(1)
    found = near_sure(evidence_of(logits, corner, chunks)).compute()
    assert 0 < found.sum() < (logits > 0).sum()
    np.testing.assert_array_equal(found, walked(logits, corner))


def test_a_crop_gives_what_the_whole_gives_away_from_its_border(monkeypatch):
    monkeypatch.setattr(hysteresis, "REACH_PX", 64)
    logits = speckle(2, (400, 400))
    whole = near_sure(evidence_of(logits)).compute()
    crop = near_sure(evidence_of(logits[50:350, 70:390], (53, 75))).compute()
    inside = (slice(64 + CELL_PX, -64 - CELL_PX),) * 2
    np.testing.assert_array_equal(crop[inside], whole[50:350, 70:390][inside])


def test_where_nothing_is_sure_nothing_is_water():
    logits = np.full((80, 80), SURE_LOGIT, np.float32)
    assert not near_sure(evidence_of(logits)).compute().any()


def test_a_coarse_mask_of_the_network_drops_doubtful_patches_and_small_ones_and_knows_nodata():
    logits = np.full((120, 120), -3, np.float32)
    logits[10:30, 10:60], logits[20, 20] = 1, SURE_LOGIT + 1  # a river with a sure place
    logits[80:110, 80:110] = SURE_LOGIT - 0.5  # a field
    logits[60, 20:23] = SURE_LOGIT + 1  # three pixels
    logits[:, :4] = np.nan
    found = coarse_from_network(evidence_of(logits)).values
    wanted = np.zeros((120, 120), np.uint8)
    wanted[10:30, 10:60], wanted[:, :4] = 1, 255
    np.testing.assert_array_equal(found, wanted)


def test_evidence_is_kept_to_a_thirtieth_of_a_logit_within_its_bound_and_its_sign_never_turns():
    logits = speckle(3) * 4
    scene = evidence_of(np.where(np.isnan(logits), np.nan, 1.0).astype(np.float32))
    scene = scene.expand_dims(band=["red"])
    stored = store_evidence(evidence_of(logits), scene)
    again = stored_evidence(stored).values
    assert stored.dtype == np.uint8
    np.testing.assert_allclose(
        again, np.clip(logits, -STORED_LOGIT, STORED_LOGIT), atol=STORED_LOGIT / 254 + 1e-6
    )
    assert not ((again > 0) & (logits < 0)).any() and not ((again < 0) & (logits > 0)).any()
