"""Prompts simulated from labels, against the river recipe counted by hand."""

from itertools import combinations

import numpy as np
import pytest
from scipy import ndimage

from geosam.prompts.control_points import (
    LAND_EROSION,
    LAND_SPREAD,
    distance_apart,
    erosion_count,
)
from geosam.training.clicks import deepest_click, eroded, river_clicks, seeded
from geosam.training.prompting import correct_prompt, draw_prompt, jittered_box
from geosam.training.recipe import PromptRecipe
from geosam.training.sample import IGNORE, LAND, WATER


def river(size=256, half_width=25, phase=0.0):
    rows, cols = np.mgrid[:size, :size]
    middle = size / 2 + size / 10 * np.sin(cols * 12 / size + phase)
    return (abs(rows - middle) < half_width).astype(np.uint8)


def values(points, label):
    return [label[int(y), int(x)] for x, y in points]


@pytest.mark.parametrize(
    ("n_px", "times", "three", "five"),
    [(13_000, 8, 104, 63), (5_000, 4, 65, 39), (500, 1, 20.5, 12)],
)
def test_erosion_and_distance_are_those_of_the_published_table(n_px, times, three, five):
    region = np.zeros(256 * 256, bool)
    region[:n_px] = True
    assert erosion_count(n_px, 1.0) == times
    assert distance_apart(region, 3) == pytest.approx(three, abs=0.6)
    assert distance_apart(region, 5) == pytest.approx(five, abs=0.6)


def test_land_around_a_fifth_of_water_is_eroded_thirteen_times():
    assert erosion_count(256 * 256 - 13_000, 1.0, LAND_EROSION) == 13


def test_points_lie_in_the_eroded_water_and_land_and_apart():
    label = river()
    label[:, :9] = IGNORE
    water = ndimage.binary_erosion(
        label == WATER, np.ones((3, 3)), erosion_count((label == WATER).sum(), 1.0), border_value=1
    )
    for seed in range(5):
        points, labels = river_clicks(label, 5, 4, seeded(seed, 0, 0))
        assert set(values(points[labels == 1], water)) == {True}
        assert set(values(points[labels == 0], label)) == {LAND}
        apart = distance_apart(water, 5)
        assert all(np.hypot(*(a - b)) > apart for a, b in combinations(points[labels == 1], 2))
        land = eroded(label == LAND, erosion_count(int((label == LAND).sum()), 1.0, LAND_EROSION))
        far = distance_apart(land, 4, LAND_SPREAD)
        assert all(np.hypot(*(a - b)) > far for a, b in combinations(points[labels == 0], 2))


def test_erosion_is_that_of_scipy_while_something_is_left():
    region = river() == WATER
    for times in (1, 5, 12):
        expected = ndimage.binary_erosion(region, np.ones((3, 3)), times, border_value=1)
        assert np.array_equal(eroded(region, times), expected)


def test_a_river_five_pixels_wide_still_has_a_point_and_no_padding():
    label = np.zeros((256, 256), np.uint8)
    label[100:105] = WATER
    label[110:250, 100:240] = 0
    points, labels = river_clicks(label, 3, 0, seeded(0, 0, 0))
    assert 1 <= len(points) <= 3
    assert (labels == 1).all()
    assert set(values(points, label)) == {WATER}


def test_where_there_is_no_room_there_are_fewer_points():
    label = np.zeros((64, 64), np.uint8)
    label[10, 10] = WATER
    points, labels = river_clicks(label, 3, 0, seeded(0, 0, 0))
    assert points.tolist() == [[10.5, 10.5]]
    assert labels.tolist() == [1]


def test_without_erosion_the_distance_is_still_kept():
    label = river()
    points, _ = river_clicks(label, 3, 0, seeded(0, 0, 0), erode=False)
    apart = distance_apart(label == WATER, 3)
    assert all(np.hypot(*(a - b)) > apart for a, b in combinations(points, 2))


def test_erosions_and_distances_grow_with_the_tile():
    small, large = river(256), river(1024, 100)
    assert erosion_count(int(large.sum()), 4.0) == 4 * erosion_count(int(small.sum()), 1.0)
    assert distance_apart(large, 3) == pytest.approx(4 * distance_apart(small, 3), rel=0.02)
    points, _ = river_clicks(large, 3, 0, seeded(0, 0, 0))
    assert points.max() > 256
    assert set(values(points, large)) == {WATER}


def test_the_same_seed_epoch_and_item_draw_the_same_prompt_and_others_do_not():
    label, rule = river(), PromptRecipe(kind="points")
    drawn = [
        draw_prompt(label, rule, seeded(*key)).points.tolist()
        for key in ((1, 2, 3), (1, 2, 3), (2, 2, 3), (1, 3, 3), (1, 2, 4))
    ]
    assert drawn[0] == drawn[1]
    assert all(other != drawn[0] for other in drawn[2:])


def test_a_box_without_jitter_is_tight_and_with_it_moves_less_than_that():
    label = np.zeros((256, 256), np.uint8)
    label[60:100, 80:200] = WATER
    tight = np.array([80, 60, 200, 100])
    assert np.array_equal(jittered_box(label, 0, seeded(0, 0, 0)).boxes[0], tight)
    moves = np.array(
        [jittered_box(label, 10, seeded(s, 0, 0)).boxes[0] - tight for s in range(300)]
    )
    assert moves.min() == -10
    assert moves.max() == 9


def test_a_box_stays_in_the_tile_and_the_right_way_round():
    label = np.zeros((256, 256), np.uint8)
    label[0:2, 254:256] = WATER
    for seed in range(50):
        left, top, right, bottom = jittered_box(label, 10, seeded(seed, 0, 0)).boxes[0]
        assert 0 <= left < right <= 256
        assert 0 <= top < bottom <= 256


def test_a_tile_without_water_has_no_prompt_and_does_not_crash():
    dry = np.zeros((64, 64), np.uint8)
    for kind in ("points", "box", "mask", "mixed"):
        assert draw_prompt(dry, PromptRecipe(kind=kind), seeded(0, 0, 0)) is None
    assert draw_prompt(dry, PromptRecipe(kind="none"), seeded(0, 0, 0)).kind == (0, False, False)


def test_mixed_prompts_have_all_kinds():
    kinds = {draw_prompt(river(), PromptRecipe(), seeded(s, 0, 0)).kind for s in range(60)}
    assert {(0, True, False), (0, False, True), (1, False, False)} <= kinds
    assert {k for k, _, _ in kinds} == {0, 1, 2, 3}


def test_a_coarse_mask_of_a_large_tile_overlaps_its_water():
    label = river(1024, 60)
    masks = [
        draw_prompt(label, PromptRecipe(kind="mask"), seeded(s, 0, 0)).masks[0] for s in range(5)
    ]
    ious = [(m & (label == 1)).sum() / (m | (label == 1)).sum() for m in masks]
    assert masks[0].shape == (1024, 1024)
    assert np.median(ious) > 0.5
    assert min(ious) < 0.99


def brute_force_depth(region):
    inside = np.argwhere(region)
    outside = np.argwhere(~np.pad(region, 1)) - 1
    return {tuple(p): np.sqrt(((outside - p) ** 2).sum(1).min()) for p in inside}


def test_the_next_click_is_the_error_pixel_farthest_from_its_border():
    label = np.zeros((24, 24), np.uint8)
    label[2:20, 4:13] = WATER
    label[:, 22:] = IGNORE
    answer = np.zeros((24, 24), bool)
    answer[2:20, 10:24] = True
    missed = brute_force_depth((label == WATER) & ~answer)
    false = brute_force_depth((label == LAND) & answer)
    deepest = max([*missed.values(), *false.values()])
    point, kind = deepest_click(answer, label)
    pixel = (int(point[1]), int(point[0]))
    assert kind == 0
    assert false[pixel] == deepest > max(missed.values())


def test_a_right_answer_needs_no_click_and_what_is_ignored_is_no_error():
    label = river(64, 8)
    answer = label == WATER
    label[:10] = IGNORE
    answer[:10] = True
    assert deepest_click(answer, label) is None


def test_a_correction_adds_one_click_and_feeds_the_logits_back():
    label = river(64, 8)
    first = draw_prompt(label, PromptRecipe(kind="points", n_pos=1), seeded(0, 0, 0))
    logits = np.full((16, 16), -3.0, np.float32)
    then = correct_prompt(first, logits, label)
    assert then.kind == (2, False, True)
    assert np.array_equal(then.masks[0], logits)
    assert then.labels[0, 1] == 1
    assert label[int(then.points[0, 1, 1]), int(then.points[0, 1, 0])] == WATER
