"""Chunks with what lies around them, against the same function on the whole."""

import dask.array as da
import numpy as np
import pytest
from scipy import ndimage

from geosam.windows import map_around


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
