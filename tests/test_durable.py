"""Blocks kept on disk are those that one lazy graph gives, however they are cut into bands."""

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from test_mosaic import BOX, field_of

from geosam.clock import Clock
from geosam.crew import Threads
from geosam.durable import Durable, bands
from geosam.ledger import Ledger
from geosam.masks import TileMask
from geosam.mosaic import Answer, Mosaic, Work, accumulate, blended
from geosam.tiles import TileGrid, around, group_tiles


@pytest.fixture
def keep(tmp_path):
    return Durable(tmp_path, Threads(2), Clock())


def mosaic_of(asked):
    grid = TileGrid(BOX, 32, 8)

    def work(group):
        def answer():
            asked.append(group.index)
            logits = [field_of(tile) for tile in group.tiles]
            tiles = tuple(TileMask("done", None, 0.5) for _ in group.tiles)
            return Answer(accumulate(group, logits, [False] * len(logits), grid.overlap), tiles)

        return Work(answer, ())

    return Mosaic(grid, group_tiles(grid, 1), work)


@pytest.mark.parametrize("height", [1, 3, 100])
def test_a_mosaic_in_bands_is_that_of_one_graph_and_asks_each_group_once(keep, monkeypatch, height):
    monkeypatch.setattr("geosam.durable.BAND_ROWS", height)
    monkeypatch.setattr("geosam.durable.BAND_BLOCKS", 1)
    asked = []
    mosaic = mosaic_of(asked)
    kept = keep.mosaic(mosaic, "segment").compute()
    assert sorted(asked) == sorted(mosaic.groups)
    assert kept.tobytes() == blended(mosaic_of([])).compute().tobytes()
    assert all(
        [mask.status for mask in masks] == ["done"]
        for masks in keep.answers("segment").tiles(mosaic.groups).values()
    )


def test_what_is_kept_is_not_made_again(keep):
    asked = []
    mosaic = mosaic_of(asked)
    first = keep.mosaic(mosaic, "segment").compute()
    asked.clear()
    keep.mosaic(mosaic, "segment")
    assert asked == []
    lost = mosaic.rows[2], mosaic.cols[2]
    Ledger(keep.folder / "segment").forget(lost)
    again = keep.mosaic(mosaic, "segment").compute()
    assert set(asked) == set(around(lost))  # nobody keeps the answers that all blocks have
    assert first.tobytes() == again.tobytes()


def test_planes_are_dropped_when_no_block_needs_them(keep, monkeypatch):
    monkeypatch.setattr("geosam.durable.BAND_ROWS", 1)
    monkeypatch.setattr("geosam.durable.BAND_BLOCKS", 1)
    mosaic = mosaic_of([])
    keep.mosaic(mosaic, "segment")
    left = Ledger(keep.folder / "segment.answers" / "planes").finished()
    assert {row for row, _ in left} == {mosaic.rows[-1]}


def test_a_raster_comes_back_as_it_was(keep):
    rng = np.random.default_rng(0)
    values = rng.normal(size=(70, 90)).astype(np.float32)
    values[:32, :32], values[32:64, :32] = np.nan, -np.inf
    values[0, 40] = np.nan
    raster = xr.DataArray(da.from_array(values, 32), dims=("y", "x"))
    kept = keep.raster(raster, "values")
    assert kept.dtype == np.float32
    assert kept.values.tobytes() == values.tobytes()
    sizes = {path.name: path.stat().st_size for path in (keep.folder / "values").iterdir()}
    assert max(sizes["0_0.npz"], sizes["1_0.npz"]) < sizes["0_1.npz"] / 3


def test_bands_hold_every_block_once_in_whole_rows(monkeypatch):
    monkeypatch.setattr("geosam.durable.BAND_BLOCKS", 20)
    blocks = [(row, col) for row in range(-3, 40) for col in range(7)]
    cut = list(bands(blocks))
    assert [index for band in cut for index in band] == blocks
    assert {len(band) for band in cut[:-1]} == {4 * 7}
