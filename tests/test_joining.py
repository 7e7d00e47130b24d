"""Pieces of tiles become segments: hand-made pieces with a known answer."""

from dataclasses import replace

import numpy as np
import shapely

from geosam.segments.joining import _areal, join
from geosam.segments.pieces import CUT_PX, Pieces

SIDE, OVERLAP = 100, 20
"""Pixels a side that a tile owns, and that two neighbours both see."""


def pieces(*told):
    """Pieces of tiles in one row: (column of the tile, polygon, predicted IoU)."""
    half = OVERLAP // 2
    cols = np.array([col for col, *_ in told])
    cores = np.stack([cols * SIDE, 0 * cols, (cols + 1) * SIDE, 0 * cols + SIDE], axis=1)
    reads = cores + np.array([-half, -half, half, half])
    polygons = np.empty(len(told), object)
    polygons[:] = [polygon for _, polygon, _ in told]
    bounds = shapely.bounds(polygons)
    near = bounds * (1, 1, -1, -1) <= reads * (1, 1, -1, -1) + CUT_PX
    cut = near[:, 0] & (cols > 0) | near[:, 2]
    points = shapely.get_coordinates(shapely.point_on_surface(polygons))
    rated = np.array([iou for *_, iou in told])
    tiles = np.stack([0 * cols, cols], axis=1)
    sure = np.ones(len(told), bool)
    return Pieces(polygons, rated, rated, points, tiles, cores, reads, cut, sure)


def seen_by(col, shape):
    half = OVERLAP // 2
    return shape & shapely.box(col * SIDE - half, -half, (col + 1) * SIDE + half, SIDE + half)


def test_an_object_over_three_tiles_is_one():
    field = shapely.box(20, 30, 280, 70) - shapely.box(140, 40, 160, 60)
    found = join(pieces(*((col, seen_by(col, field), 0.9) for col in range(3))))
    assert len(found) == 1
    assert found.polygon[0].equals(field)


def test_two_masks_that_share_their_other_half_are_both_whole():
    field, hedge = shapely.box(40, 10, 190, 60), shapely.box(40, 60, 85, 95)
    beyond = seen_by(1, field)
    found = join(
        pieces((0, seen_by(0, field), 0.9), (0, seen_by(0, field | hedge), 0.8), (1, beyond, 0.9)),
        most=0.95,
    )
    both = sorted(found.polygon, key=lambda polygon: polygon.area)
    assert len(both) == 2
    assert both[0].equals(field)
    assert both[1].equals(field | hedge)


def test_a_small_variant_of_a_large_object_is_not_told_twice():
    field, corner = shapely.box(80, 10, 290, 90), shapely.box(60, 10, 80, 30)
    parts = [(col, seen_by(col, field), 0.9) for col in range(3)]
    found = join(pieces(*parts, (0, seen_by(0, field | corner), 0.8)), most=0.99)
    assert len(found) == 1
    assert found.polygon[0].equals(field)


def test_what_two_tiles_dispute_goes_as_a_whole_to_who_owns_most_of_it():
    field = shapely.box(20, 20, 180, 80)
    mostly_left, mostly_right = shapely.box(91, 20, 104, 30), shapely.box(97, 70, 109, 80)
    left = seen_by(0, field) - mostly_right
    right = seen_by(1, field) - mostly_left
    found = join(pieces((0, left, 0.9), (1, right, 0.9)))
    assert len(found) == 1
    assert found.polygon[0].equals(field), "no straight edge at the border of the two tiles"
    swapped = join(pieces((0, seen_by(0, field) - mostly_left, 0.9), (1, right | mostly_left, 0.9)))
    assert swapped.polygon[0].equals(field - mostly_left)


def test_a_part_that_touches_shared_ground_along_a_line_is_no_error():
    """GEOS gives a collection of polygons and lines there, and refuses some pairs of those."""
    mixed = shapely.GeometryCollection(
        [shapely.box(0, 0, 4, 4), shapely.LineString([(6, 0), (6, 5)]), shapely.Point(9, 9)]
    )
    plain = shapely.box(2, 2, 3, 3)
    cleaned = _areal(np.array([mixed, plain], dtype=object))
    assert cleaned[0].equals(shapely.box(0, 0, 4, 4))
    assert cleaned[1] is plain
    left = shapely.box(60, 40, 90, 50) | shapely.box(60, 50, 108, 90)
    right = shapely.box(110, 40, 150, 50) | shapely.box(91, 50, 150, 90)
    ground = shapely.box(90, -10, 110, 110)
    assert (left & ground).geom_type == (right & ground).geom_type == "GeometryCollection"
    found = join(pieces((0, left, 0.9), (1, right, 0.8)))
    assert len(found) == 1
    assert found.polygon[0].equals(left | right)


def test_a_cut_mask_that_no_neighbour_knows_goes_where_its_tile_makes_much_of_its_outline():
    field, hedge = shapely.box(20, 10, 110, 90), shapely.box(20, 40, 110, 44)
    assert len(join(pieces((0, field, 0.9)))) == 0
    assert len(join(pieces((0, hedge, 0.9)))) == 1


def test_a_bend_that_a_tile_sees_as_two_legs_is_one():
    bend = shapely.box(20, 20, 180, 80) - shapely.box(20, 40, 150, 60)
    legs = shapely.get_parts(seen_by(0, bend))
    assert len(legs) == 2
    told = pieces(*((0, leg, 0.9) for leg in legs), (1, seen_by(1, bend), 0.8))
    found = join(told)
    assert len(found) == 1
    assert found.polygon[0].equals(bend)


def test_two_objects_of_a_tile_that_another_takes_for_one_stay_apart_where_they_overlap():
    small, large = shapely.box(20, 20, 180, 80), shapely.box(20, 20, 180, 95)
    told = pieces(
        (0, seen_by(0, small), 0.9), (0, seen_by(0, large), 0.9), (1, seen_by(1, small), 0.9)
    )
    found = join(told, most=0.99)
    assert sorted(found.polygon, key=shapely.area)[0].equals(small)
    assert len(found) == 2


def test_a_faint_piece_goes_on_with_a_sure_one_and_is_nothing_alone():
    river = shapely.box(20, 30, 380, 70)
    told = pieces(*((col, seen_by(col, river), 0.9) for col in range(4)))
    faint = replace(told, sure=np.array([True, False, False, False]))
    assert join(faint).polygon[0].equals(river)
    assert len(join(replace(told, sure=np.zeros(4, bool)))) == 0
    hedge = pieces((0, shapely.box(20, 40, 110, 44), 0.9))
    assert len(join(hedge)) == 1
    assert len(join(replace(hedge, sure=np.zeros(1, bool)))) == 0


def test_nothing_gives_nothing():
    one = pieces((0, shapely.box(10, 10, 20, 20), 0.9))
    assert len(join(one.take(np.zeros(1, bool)))) == 0
    assert len(join(replace(one, cut=np.ones(1, bool)))) == 1


def test_what_the_others_lie_on_is_not_put_together_where_it_has_many_tiles():
    pond = shapely.box(60, 40, 80, 60)
    ground = shapely.box(20, 10, 780, 90) - pond
    rows = [(col, seen_by(col, ground), 0.9) for col in range(8)]
    told = pieces(*rows, (0, pond, 0.8))
    assert len(join(told)) == len(join(told, largest=ground.area + 1)) == 2
    found = join(told, largest=ground.area - 1)
    assert [polygon.equals(pond) for polygon in found.polygon] == [True]
