from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox

from geosam import tables
from geosam.masks import DONE, FAILED, SKIPPED_NODATA, TileMask
from geosam.raster import Faults
from geosam.tables import count_tiles, tile_layer, tile_states, tile_table, with_faults
from geosam.tiles import TileGrid

GRID = TileGrid(GeoBox.from_bbox((5e5, 0, 500700, 500), "EPSG:32633", resolution=1), 64, 16)
PREPARED = SimpleNamespace(grid=GRID)


@pytest.fixture
def states():
    """Every other tile is done."""
    masks = (
        TileMask(DONE, None, 0.5, 0.25) if n % 2 else TileMask(SKIPPED_NODATA) for n in range(999)
    )
    return tile_states(zip(GRID, masks, strict=False))


def test_states_hold_what_became_of_every_tile_in_order(states):
    assert list(zip(states.row, states.col, strict=True)) == [tile.index for tile in GRID]
    assert count_tiles(states) == {"done": len(GRID) // 2, "skipped_nodata": -(-len(GRID) // 2)}
    assert states.predicted_iou[1] == 0.5 and np.isnan(states.predicted_iou[0])


def test_the_layer_in_parts_is_the_table_and_covers_the_scene(states, monkeypatch):
    monkeypatch.setattr(tables, "AT_ONCE", 50)
    parts = list(tile_layer(states, PREPARED))
    assert [len(part) for part in parts[:-1]] == [50] * (len(parts) - 1)
    together = pd.concat(parts, ignore_index=True)
    whole = tile_table(states, PREPARED).drop(columns="predicted_iou")
    assert together.tile.tolist() == [tile.name for tile in GRID]
    assert together.equals(whole)
    assert shapely.equals(together.union_all(), shapely.box(5e5, 0, 500700, 500))


def test_a_tile_that_owns_what_could_not_be_read_fails_with_the_reason(
    states, tmp_path, monkeypatch
):
    monkeypatch.setattr(tables, "AT_ONCE", 50)
    faults, hurt = Faults(tmp_path / "faults"), GRID.geobox[100:130, 200:230]
    faults.tell(hurt, "torn")
    after = with_faults(states, faults, PREPARED)
    owners = tile_table(states, PREPARED).intersects(hurt.extent.geom.buffer(-0.01)).to_numpy()
    assert 0 < owners.sum() < len(GRID)
    assert ((after.status == FAILED) == owners).all()
    assert (after.error[owners] == "torn").all() and (after.error[~owners] == "").all()
    assert after[~owners].equals(states[~owners])


def test_a_tile_beside_what_could_not_be_read_does_not_fail_in_a_turned_scene(tmp_path):
    turned = Affine.translation(5e5, 0) * Affine.rotation(90) * Affine.scale(1, -1)
    grid = TileGrid(GeoBox((500, 700), turned, "EPSG:32633"), 64, 16)
    prepared = SimpleNamespace(grid=grid)
    table = tile_states((tile, TileMask(SKIPPED_NODATA)) for tile in grid)
    hurt = list(grid)[len(grid) // 2]
    faults = Faults(tmp_path / "faults")
    faults.tell(grid.geobox[hurt.core.slices()], "torn")
    after = with_faults(table, faults, prepared)
    failed = after[after.status == FAILED]
    assert list(zip(failed.row, failed.col, strict=True)) == [hurt.index]


def test_without_faults_nothing_changes(states, tmp_path):
    assert with_faults(states, Faults(tmp_path / "none"), PREPARED) is states
