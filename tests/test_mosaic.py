"""Blending: a field that is smooth comes back as it was, and what was not decided is told apart."""

import dask
import numpy as np
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox

from geosam.mosaic import SKIPPED, Answer, Mosaic, Work, accumulate, blended
from geosam.tiles import TileGrid, group_tiles

BOX = GeoBox((150, 210), Affine(10, 0, 600_030, 0, -10, 5_000_070), "EPSG:32633")


def field_of(tile):
    """A plane over the scene's pixels, cut to the tile."""
    rows = np.arange(tile.read.row, tile.read.row_end)[:, None]
    cols = np.arange(tile.read.col, tile.read.col_end)
    return (0.01 * rows - 0.02 * cols).astype(np.float32)


def mosaic(grid, per_side, answer):
    groups = group_tiles(grid, per_side)

    def work(group):
        def planes():
            answers = [answer(tile) for tile in group.tiles]
            logits = [a if isinstance(a, np.ndarray) else None for a in answers]
            skipped = [a == "skip" for a in map(str, answers)]
            return Answer(accumulate(group, logits, skipped, grid.overlap))

        return Work(planes, ())

    return blended(Mosaic(grid, groups, work))


@pytest.mark.parametrize(("size", "overlap"), [(32, 8), (40, 20), (64, 0)])
@pytest.mark.parametrize("per_side", [1, 2, 5])
def test_a_plane_comes_back_whatever_the_tiles(size, overlap, per_side):
    grid = TileGrid(BOX, size, overlap)
    blended = mosaic(grid, per_side, field_of).compute()
    expected = 0.01 * np.arange(150)[:, None] - 0.02 * np.arange(210)
    np.testing.assert_allclose(blended, expected, atol=1e-4)


def test_the_blend_is_the_brute_force_weighted_mean():
    from geosam.tiles import blend_weights

    grid = TileGrid(BOX, 32, 12)
    rng = np.random.default_rng(3)
    answers = {tile.index: rng.normal(size=(32, 32)).astype(np.float32) for tile in grid}
    total, weight = np.zeros((2, 400, 400))
    for tile in grid:
        where = (
            slice(tile.read.row + 100, tile.read.row_end + 100),
            slice(tile.read.col + 100, tile.read.col_end + 100),
        )
        total[where] += answers[tile.index] * blend_weights(32, 12)
        weight[where] += blend_weights(32, 12)
    blended = mosaic(grid, 3, lambda tile: answers[tile.index]).compute()
    np.testing.assert_allclose(blended, (total / weight)[100:250, 100:310], atol=1e-5)


def test_a_skipped_tile_is_land_and_a_failed_one_unknown():
    grid = TileGrid(BOX, 32, 8)
    rows, cols = grid.index_range()
    skipped, failed = (rows[2], cols[2]), (rows[4], cols[4])
    answers = {skipped: "skip", failed: "fail"}
    blended = mosaic(grid, 2, lambda tile: answers.get(tile.index, field_of(tile))).compute()
    inner = {index: grid.tile(index).core for index in (skipped, failed)}
    middle = {index: blended[core.row + 12, core.col + 12] for index, core in inner.items()}
    assert middle[skipped] == SKIPPED
    assert np.isnan(middle[failed])


def test_one_group_needs_only_its_neighbours():
    grid = TileGrid(BOX, 32, 8)
    seen = []

    def answer(tile):
        seen.append(tile.index)
        return field_of(tile)

    block = mosaic(grid, 1, answer).blocks[0, 0]
    dask.compute(block)
    assert len(seen) == 4
