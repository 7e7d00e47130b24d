"""A user's clicks and boxes with the water that is found there."""

import numpy as np
import pytest
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.features import rasterize

import geosam.prompts.meant
from geosam.prompts.meant import CLICK_LOGIT, _touched, with_water_meant
from geosam.prompts.scene_prompts import Patch, ScenePrompts, as_objects, merge_prompts
from geosam.types import Window

SHAPE = (120, 160)
BLOCK = 64


@pytest.fixture
def water():
    """A river across the scene, and a pond."""
    mask = np.zeros(SHAPE, bool)
    mask[40:50, :] = True
    mask[80:90, 100:115] = True
    return mask


def grid_of(shape):
    """A grid whose first pixel begins a block."""
    return GeoBox(shape, Affine.scale(1, -1), "EPSG:32633")


def evidence_of(water):
    """Logits of something that is sure everywhere; those that are given stay."""
    return np.where(water, 4.0, -4.0) if water.dtype == bool else water


def meant(water, **prompts):
    seen = []

    def find(window):
        seen.append(window)
        return evidence_of(water)[window.slices()]

    found = with_water_meant(ScenePrompts(**prompts), find, grid_of(SHAPE), BLOCK)
    shapes = [(polygon, 1) for polygon in found.polygons]
    drawn = rasterize(shapes, SHAPE, transform=Affine.identity()) if shapes else np.zeros(SHAPE)
    return drawn.astype(bool), found, seen


def clicks(*points, labels=None):
    n = len(points)
    return {
        "points": np.array(points, float),
        "labels": np.array(labels or [1] * n),
        "objects": np.ones(n, int),
        "sources": np.full(n, "user", object),
        "tiles": np.full(n, "", object),
    }


def boxes(*sides):
    n = len(sides)
    return {
        "boxes": np.array(sides, float),
        "box_objects": np.arange(1, n + 1),
        "box_tiles": np.full(n, "", object),
    }


def test_a_click_on_the_pond_means_the_pond_and_not_the_river(water):
    drawn, _, _ = meant(water, **clicks((105.5, 85.5)))
    assert (drawn == (water & (np.arange(120) > 60)[:, None])).all()


def test_a_click_just_beside_the_water_still_means_it(water):
    drawn, _, _ = meant(water, **clicks((99.5, 85.5)))
    assert drawn.sum() == 150


def test_a_click_on_a_field_adds_nothing(water):
    drawn, found, _ = meant(water, **clicks((20.5, 100.5)))
    assert not drawn.any()
    assert len(found.polygons) == 0
    assert len(found.points) == 1


def test_only_the_block_of_a_click_is_looked_at_where_nothing_leaves_it(water):
    water[40:50, 60:] = False
    _, _, seen = meant(water, **clicks((20.5, 45.5)))
    assert [(w.row, w.col, w.height, w.width) for w in seen] == [(0, 0, 67, 67)]


def test_a_click_on_a_river_means_all_of_it(water):
    drawn, _, seen = meant(water, **clicks((10.5, 45.5)))
    assert (drawn == (water & (np.arange(120) < 60)[:, None])).all()
    assert len(seen) == 3  # each block once, and only those the river runs through


def test_a_click_on_a_river_means_all_of_it_however_long_it_is():
    river = np.zeros((8, 900), bool)
    river[2:6] = True
    prompts = ScenePrompts(**clicks((450.5, 4.5)))
    found = with_water_meant(
        prompts, lambda w: evidence_of(river)[w.slices()], grid_of(river.shape), 10
    )
    assert shapely.union_all(found.polygons).equals(shapely.box(0, 2, 900, 6))


def test_water_that_comes_back_into_a_block_is_found_there_too():
    loop = np.zeros((40, 40), bool)
    loop[5, 5:35] = loop[25, 5:35] = loop[5:26, 34] = True
    prompts = ScenePrompts(**clicks((6.5, 5.5)))
    found = with_water_meant(
        prompts, lambda w: evidence_of(loop)[w.slices()], grid_of(loop.shape), 20
    )
    assert shapely.area(found.polygons).sum() == loop.sum()


def test_a_refusing_click_takes_its_component_away(water):
    alone = clicks((105.5, 85.5), (60.5, 45.5), labels=[1, 0])
    drawn, _, _ = meant(water, **alone)
    assert not drawn[45].any()
    assert drawn[85].any()


def test_a_box_means_the_water_inside_it(water):
    drawn, _, _ = meant(water, **boxes((30, 35, 60, 55)))
    expected = np.zeros(SHAPE, bool)
    expected[40:50, 30:60] = True
    assert (drawn == expected).all()


def test_a_box_on_a_field_with_a_little_water_in_a_corner_stays_a_box(water):
    drawn, found, _ = meant(water, **boxes((0, 49, 60, 119)))
    assert not drawn.any()
    assert len(found.boxes) == 1


def test_an_object_with_a_polygon_of_its_own_keeps_it(water):
    polygon = np.empty(1, object)
    polygon[0] = shapely.box(100, 80, 110, 85)
    asked = clicks((105.5, 85.5)) | {
        "polygons": polygon,
        "polygon_labels": np.ones(1, int),
        "polygon_objects": np.ones(1, int),
    }
    _, found, seen = meant(water, **asked)
    assert not seen
    assert len(found.polygons) == 1


def test_objects_keep_their_numbers(water):
    _, found, _ = meant(water, **boxes((30, 35, 60, 55), (95, 75, 120, 95)))
    assert sorted(set(found.polygon_objects.tolist())) == [1, 2]


def test_a_click_outside_the_grid_is_left_alone(water):
    _, found, seen = meant(water, **clicks((-500.0, -500.0)))
    assert not seen
    assert len(found.polygons) == 0


def test_a_gap_of_a_few_pixels_does_not_end_a_river_and_a_wide_one_does(water):
    water[40:50, 50:54] = False  # a bridge
    water[40:50, 90:96] = False
    drawn, _, _ = meant(water, **clicks((10.5, 45.5)))
    assert (drawn == (water & (np.arange(120) < 60)[:, None] & (np.arange(160) < 90))).all()


@pytest.mark.parametrize("first", range(58, 68))
def test_a_gap_is_crossed_wherever_blocks_meet(first):
    river = np.zeros((20, 140), bool)
    river[8:12] = True
    river[:, first : first + 4] = False
    found = with_water_meant(
        ScenePrompts(**clicks((5.5, 10.5))),
        lambda w: evidence_of(river)[w.slices()],
        grid_of(river.shape),
        BLOCK,
    )
    assert shapely.area(found.polygons).sum() == river.sum()


def test_a_refusing_click_beyond_a_gap_takes_its_piece_away(water):
    water[40:50, 50:54] = False
    asked = clicks((10.5, 45.5), (58.5, 45.5), labels=[1, 0])
    drawn, _, _ = meant(water, **asked)
    assert drawn[45, :50].all()
    assert not drawn[45, 50:].any()


def test_following_ends_where_blocks_refuse_what_enters_from_each_other(water, monkeypatch):
    visits = []

    def touched(*asked):
        visits.append(asked)
        assert len(visits) < 20, "blocks ask each other for ever"
        return _touched(*asked)

    monkeypatch.setattr(geosam.prompts.meant, "_touched", touched)
    water[10:14] = water[40:50] = True
    places = (20.5, 12.5), (100.5, 12.5), (100.5, 45.5), (20.5, 45.5)
    drawn, _, _ = meant(water, **clicks(*places, labels=[1, 0, 1, 0]))
    assert drawn[10:14, :BLOCK].all()
    assert drawn[40:50, BLOCK : 2 * BLOCK].all()
    assert not drawn[40:50, :BLOCK].any()
    assert not drawn[10:14, BLOCK : 2 * BLOCK].any()


def weak():
    """A lake of which a part was found, a part is likely, and a bay that only looks like water."""
    evidence = np.full(SHAPE, -5.0)
    evidence[40:60, 20:60] = -0.5
    evidence[40:60, 30:50] = 2.0
    evidence[40:60, 60:70] = -1.5
    return evidence


def test_a_box_means_what_is_likely_in_it_where_water_was_found():
    drawn, _, _ = meant(weak(), **boxes((18, 38, 72, 62)))
    assert (drawn == (weak() > -1)).all()
    beside, _, _ = meant(weak(), **boxes((20, 40, 29, 60)))
    assert not beside.any()


def test_a_click_means_what_was_found_and_not_what_is_likely_alone():
    drawn, _, _ = meant(weak(), **clicks((40.5, 50.5)))
    assert (drawn == (weak() > 0)).all()
    drawn, _, _ = meant(weak(), **clicks((25.5, 50.5)))
    assert not drawn.any()


def test_a_click_means_what_is_a_little_less_likely_beside_what_was_found():
    evidence = weak()
    evidence[40:60, 20:30] = -0.2
    drawn, _, _ = meant(evidence, **clicks((40.5, 50.5)))
    assert (drawn == (evidence > CLICK_LOGIT)).all()
    assert drawn[50, 25]


class TestABoxThatIsFullOfWater:
    def patch(self, evidence, *sides, **others):
        _, found, _ = meant(evidence, **boxes(sides), **others)
        return found.patches[0] if len(found.patches) else None

    def test_what_is_found_speaks_beside_the_model_in_it(self, water):
        evidence = np.where(water, 5.0, -20.0)
        patch = self.patch(evidence, 99, 79, 116, 91)
        assert patch.window == Window(79, 99, 12, 17)
        wanted = np.where(water[79:91, 99:116], 2.5, -4.0)
        np.testing.assert_allclose(patch.logits, wanted)

    def test_a_box_that_is_drawn_wide_stays_a_box(self, water):
        assert self.patch(evidence_of(water), 90, 70, 125, 100) is None

    def test_a_refusing_click_in_it_leaves_the_model_alone(self, water):
        no = clicks((105.5, 85.5), labels=[0])
        assert self.patch(evidence_of(water), 99, 79, 116, 91, **no) is None

    def test_patches_move_and_are_cut_with_the_other_prompts(self):
        patch = Patch(Window(10, 20, 4, 6), np.ones((4, 6), np.float32))
        prompts = ScenePrompts(patches=as_objects([patch]), patch_objects=np.array([7]))
        assert len(prompts.within(Window(0, 0, 10, 100)).patches) == 0
        here = prompts.within(Window(8, 18, 10, 10)).moved(-18, -8)
        assert here.patches[0].window == Window(2, 2, 4, 6)
        on = here.patches[0].on(Window(0, 0, 4, 4))
        expected = np.zeros((4, 4))
        expected[2:, 2:] = 1
        np.testing.assert_array_equal(on, expected)
        both = merge_prompts([prompts, here])
        assert both.patch_objects.tolist() == [7, 7]
