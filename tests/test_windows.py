"""Chunks with what lies around them, against the same function on the whole."""

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from scipy import ndimage

from geosam.types import Window
from geosam.windows import blocks_of, map_around, read_window, void_of, windows_of


@pytest.mark.parametrize("chunks", [100, 16, (7, 50)])
def test_chunks_with_a_margin_give_what_the_whole_gives(chunks):
    rng = np.random.default_rng(0)
    values, hidden = rng.normal(size=(61, 90)), rng.random((61, 90)) < 0.2

    def largest(values, hidden):
        return ndimage.maximum_filter(np.where(hidden, -9, values), 7, mode="constant", cval=-9)

    rasters = {"values": da.from_array(values, chunks), "hidden": da.from_array(hidden, 33)}
    found = map_around(largest, rasters, {"values": -9, "hidden": True}, 3, float)
    assert found.chunks == rasters["values"].chunks
    np.testing.assert_array_equal(found.compute(), largest(values, hidden))


@pytest.mark.parametrize(
    "window", [Window(16, 32, 16, 16), Window(-5, 60, 20, 50), Window(3, 2, 40, 7)]
)
def test_a_window_of_chunks_is_that_of_the_whole(window):
    values = np.random.default_rng(1).random((2, 61, 90))
    padded = np.pad(values, [(0, 0), (50, 50), (50, 50)], constant_values=-1)
    found = read_window(blocks_of(da.from_array(values, (1, 16, 16))), window, -1).compute()
    rows, cols = (slice(s.start + 50, s.stop + 50) for s in window.slices())
    np.testing.assert_array_equal(found, padded[:, rows, cols])
    np.testing.assert_array_equal(windows_of(values, -1)(window), padded[:, rows, cols])
    lazy = windows_of(da.from_array(values, (2, 16, 16)), -1)(window)
    np.testing.assert_array_equal(lazy.compute(), padded[:, rows, cols])


def test_a_pixel_without_data_has_none_in_any_band():
    values = np.random.default_rng(2).random((3, 20, 30)).astype(np.float32)
    values[:2, :9], values[:, 5:12, 4:8] = np.nan, np.nan
    scene = xr.DataArray(da.from_array(values, (1, 7, 30)), dims=("band", "y", "x"))
    np.testing.assert_array_equal(void_of(scene).compute(), np.isnan(values).all(axis=0))
