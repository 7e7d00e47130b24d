"""Tiles: they partition the plane, and the same ground has the same tile in every crop."""

import numpy as np
import pytest
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

from geosam.errors import OptionError
from geosam.tiles import (
    TileGrid,
    anchor,
    blend_weights,
    default_resolution,
    group_tiles,
    zoom,
    zoom_factor,
)

UTM = GeoBox((300, 500), Affine(10, 0, 600_030, 0, -10, 5_000_070), "EPSG:32633")
ROTATED = GeoBox(
    (200, 150),
    Affine.translation(600_000, 5_000_000) @ Affine.rotation(30) @ Affine.scale(5, -5),
    "EPSG:32633",
)
SOUTH_UP = GeoBox((200, 150), Affine(5, 0, 600_000, 0, 5, 5_000_000), "EPSG:32633")


@settings(max_examples=40, deadline=None)
@given(
    size=st.integers(2, 90),
    overlap=st.integers(0, 40),
    row=st.integers(-200, 200),
    col=st.integers(-200, 200),
)
def test_cores_partition_the_scene(size, overlap, row, col):
    if overlap > size // 2:
        overlap = size // 2
    geobox = GeoBox((61, 83), UTM.affine @ Affine.translation(col, row), UTM.crs)
    owners = np.zeros((61, 83), int)
    for tile in TileGrid(geobox, size, overlap):
        inside = tile.core.intersection(TileGrid(geobox, size, overlap).scene)
        owners[inside.slices()] += 1
    assert (owners == 1).all()


@pytest.mark.parametrize(
    "geobox", [UTM, ROTATED, SOUTH_UP], ids=["north-up", "rotated", "south-up"]
)
def test_a_crop_has_the_tiles_of_the_whole(geobox):
    crop = geobox[37:190, 21:140]
    whole = {tile.index: tile.read for tile in TileGrid(geobox, 64, 16)}
    for tile in TileGrid(crop, 64, 16):
        read = whole[tile.index]
        assert (tile.read.row + 37, tile.read.col + 21) == (read.row, read.col)


@pytest.mark.parametrize("factor", [2, 3, 9])
def test_a_crop_is_seen_on_the_coarse_pixels_of_the_whole(factor):
    crop = UTM[7:190, 5:140]
    whole, part = zoom(UTM, factor), zoom(crop, factor)
    steps = ~whole.affine @ (part.affine.c, part.affine.f)
    assert np.allclose(steps, np.round(steps), atol=1e-6)


def test_a_coarse_grid_covers_the_scene():
    coarse = zoom(UTM, 7)
    assert coarse.extent.geom.buffer(1e-6).contains(UTM.extent.geom)


def test_a_finer_grid_shares_the_corner():
    fine = zoom(UTM, 0.5)
    assert fine.shape == (600, 1000)
    assert (fine.affine.c, fine.affine.f) == (UTM.affine.c, UTM.affine.f)


def test_the_anchor_counts_from_the_origin_of_the_crs():
    assert anchor(UTM) == (-500_007, 60_003)


def test_groups_hold_every_tile_once():
    grid = TileGrid(UTM, 64, 16)
    tiles = [tile.index for group in group_tiles(grid, 3).values() for tile in group.tiles]
    assert sorted(tiles) == sorted(tile.index for tile in grid)


def test_a_group_reads_what_its_tiles_read():
    for group in group_tiles(TileGrid(UTM, 64, 16), 3).values():
        for tile in group.tiles:
            assert tile.read.intersection(group.read) == tile.read


def test_blend_weights_of_neighbours_sum_to_one():
    weights = blend_weights(16, 6)
    line = weights[8]
    assert np.allclose(line[10:] + line[:6], 1)
    assert weights.shape == (16, 16)
    assert weights.max() <= 1


def test_an_overlap_as_large_as_the_tile_is_refused():
    with pytest.raises(OptionError, match="overlap 64 px must be smaller than the tile size 64 px"):
        TileGrid(UTM, 64, 64)


@pytest.mark.parametrize(
    ("native", "wanted", "factor"),
    [
        (0.057, None, 4),
        (10.0, None, 0.5),
        (1.0, None, 1),
        (10.0, 30.0, 3),
        (30.0, 10.0, 1 / 3),
        (10.0, 10.0, 1),
    ],
)
def test_the_zoom_follows_the_ground_resolution(native, wanted, factor):
    assert zoom_factor(native, wanted) == pytest.approx(factor)


def test_drone_orthomosaics_are_seen_coarser_and_satellite_scenes_finer():
    assert default_resolution(0.05) == 0.25
    assert default_resolution(2.0) == 2.0
    assert default_resolution(10.0) == 5.0
