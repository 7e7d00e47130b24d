"""The five zero-shot protocols: exact figures on what is made by hand, and all of them end to end."""

import itertools
import json
from dataclasses import dataclass, replace
from time import perf_counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage
from shapely import box as rectangle

from geosam.boxes import box_iou, suppress
from geosam.concepts import ConceptDetector
from geosam.cutouts import cut_out, mask_iou
from geosam.errors import BandError, InputError, ModelError, OptionError, PromptError
from geosam.generation import click_grid, generate_masks, stability
from geosam.generation_rules import GenerationRules
from geosam.protocols.edges import EdgeRules, edge_map, edges, score_edges, thin, true_edges
from geosam.protocols.examples import Example, example_of
from geosam.protocols.instances import Answers, Detections, instances, score_instances
from geosam.protocols.matching import THRESHOLDS, average_precision, match
from geosam.protocols.proposals import DENSE, proposals, score_proposals
from geosam.protocols.single_point import deepest_point, single_point
from geosam.protocols.text import TextRules, text, text_masks
from geosam.testing import FakeModel, synthetic_scene
from geosam.types import ManyMaskModel

SIZE = 64
MASK = arrays(bool, (7, 9))


def disc(row, col, radius, size=SIZE):
    rows, cols = np.mgrid[:size, :size]
    return np.hypot(rows - row, cols - col) <= radius


def square(row, col, side, size=SIZE):
    mask = np.zeros((size, size), bool)
    mask[row : row + side, col : col + side] = True
    return mask


def picture(*objects, ignore=None):
    """Objects painted in their number: a model can read off what lies under a prompt."""
    pixels = np.zeros((3, SIZE, SIZE), np.float32)
    for number, mask in enumerate(objects, 1):
        pixels[:, mask] = number / 10
    masks = np.array(objects).reshape(-1, SIZE, SIZE).astype(bool)
    ignore = np.zeros((SIZE, SIZE), bool) if ignore is None else ignore
    return Example(pixels, masks, ignore)


TWO = picture(square(4, 4, 20), disc(45, 45, 12))
THREE = picture(square(2, 2, 12), square(30, 4, 24), disc(20, 44, 10))


@dataclass(frozen=True)
class Oracle:
    """Knows the object under a click or in a box; rates a wider one best if it is vain."""

    size: int = SIZE
    name: str = "oracle"
    signature: str = "1" * 64
    vain: bool = False
    grown: int = 0
    wider: int = 3

    def encode(self, pixels):
        self.calls.append(len(pixels))
        return {"number": np.rint(pixels.mean(axis=1) * 10)}

    @property
    def calls(self):
        return CALLS

    def decode(self, features, prompts):
        numbers = features["number"]
        masks = [self._object(n, p) for n, p in zip(numbers, prompts, strict=True)]
        return np.stack([_logits(m) for m in masks]), np.full(len(masks), 0.95, np.float32)

    def decode_all(self, features, prompts):
        numbers = features["number"]
        masks = [self._object(n, p) for n, p in zip(numbers, prompts, strict=True)]
        grown = [
            ndimage.binary_dilation(m, iterations=self.wider) if self.wider else m for m in masks
        ]
        empty = [np.zeros_like(m) for m in masks]
        logits = [
            np.stack([_logits(m) for m in three]) for three in zip(masks, grown, empty, strict=True)
        ]
        scores = [0.9, 0.99, 0.1] if self.vain else [0.99, 0.9, 0.1]
        return np.stack(logits), np.tile(np.float32(scores), (len(masks), 1))

    def _object(self, numbers, prompt):
        if prompt.boxes is not None:
            x0, y0, x1, y1 = np.rint(prompt.boxes[0]).astype(int)
            inside = numbers[y0:y1, x0:x1]
            number = np.bincount(inside[inside > 0].astype(int), minlength=1).argmax()
        else:
            x, y = prompt.points[0, 0].astype(int)
            number = numbers[y, x]
        mask = (numbers == number) if number else np.zeros_like(numbers, bool)
        return ndimage.binary_dilation(mask, iterations=self.grown) if self.grown else mask


CALLS = []


def _logits(mask):
    return np.where(mask, 8, -8).astype(np.float32)


# Boxes, masks, generation


def test_the_overlap_of_boxes_is_that_of_shapely():
    rng = np.random.default_rng(1)
    corners = np.sort(rng.integers(0, 12, (30, 2, 2)), axis=1).reshape(30, 4).astype(float)
    ious = box_iou(corners[:15], corners[15:])
    for (i, a), (j, b) in itertools.product(enumerate(corners[:15]), enumerate(corners[15:])):
        first, second = rectangle(*a), rectangle(*b)
        union = first.union(second).area
        expected = first.intersection(second).area / union if union else 0
        assert ious[i, j] == pytest.approx(expected)


@settings(max_examples=40)
@given(st.lists(st.tuples(*[st.integers(0, 8)] * 4, st.integers(0, 3)), max_size=12))
def test_suppression_keeps_the_best_and_nothing_that_overlaps_it(rows):
    values = np.array(rows, float).reshape(-1, 5)
    boxes = np.concatenate([values[:, :2], values[:, :2] + values[:, 2:4]], axis=1)
    scores = values[:, 4]
    expected = []
    for i in sorted(range(len(rows)), key=lambda i: (-scores[i], i)):
        if all(box_iou(boxes[i : i + 1], boxes[j : j + 1])[0, 0] <= 0.5 for j in expected):
            expected.append(i)
    assert suppress(boxes, scores, 0.5).tolist() == expected


@given(MASK, MASK)
def test_the_iou_of_cut_out_masks_is_that_of_whole_ones(a, b):
    first, second = cut_out(a), cut_out(b)
    assert (first is None) == (not a.any())
    if first is not None and second is not None:
        assert mask_iou(first, second) == (a & b).sum() / (a | b).sum()
        np.testing.assert_array_equal(first.paste(a.shape), a)
        assert first.area == a.sum()


def test_grid_and_stability_are_those_computed_by_hand():
    assert click_grid(2, 1).tolist() == [[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75]]
    logits = np.array([[-3.0, -0.5, 0.2, 1.5, 4.0]])
    assert stability(logits) == pytest.approx(2 / 4)
    assert stability(logits, offset=0.1) == pytest.approx(1)
    assert stability(np.full((2, 4, 4), -9.0)).tolist() == [0, 0]


def test_each_of_several_objects_is_generated_once_and_the_picture_encoded_once():
    CALLS.clear()
    masks = generate_masks(Oracle(wider=0), THREE.pixels, GenerationRules(points_per_side=16))
    assert CALLS == [1]
    assert len(masks) == 3
    for truth in THREE.cutouts:
        assert max(mask_iou(mask.cutout, truth) for mask in masks) == 1
    for mask in masks:
        x, y = mask.click
        assert mask.cutout.paste((SIZE, SIZE))[int(y), int(x)]


def test_masks_that_are_unsure_unstable_or_too_large_are_not_generated():
    rules = GenerationRules(points_per_side=8)
    assert generate_masks(Oracle(), TWO.pixels, replace(rules, pred_iou_thresh=0.99)) == []
    assert generate_masks(Oracle(), TWO.pixels, replace(rules, stability_score_offset=99)) == []
    small = generate_masks(Oracle(), TWO.pixels, replace(rules, max_mask_share=0.1))
    assert [m.cutout.area for m in small] == [square(4, 4, 20).sum()]
    with pytest.raises(OptionError, match="asks the model nothing"):
        GenerationRules(points_per_side=0)


def test_nodata_is_neither_clicked_nor_covered():
    valid = np.ones((SIZE, SIZE), bool)
    valid[:, 40:] = False
    for mask in generate_masks(Oracle(), TWO.pixels, GenerationRules(16), valid):
        assert mask.click[0] < 40
        assert not mask.cutout.paste((SIZE, SIZE))[:, 40:].any()


# Examples


def test_the_parts_of_a_label_are_objects_and_crumbs_are_unknown():
    label = (square(2, 2, 12) | square(30, 30, 20) | square(60, 0, 3)).astype(np.uint8)
    label[50:, 50:] = 255
    example = example_of(np.zeros((3, SIZE, SIZE), np.float32), label)
    assert sorted(example.objects.sum(axis=(1, 2))) == [144, 400]
    assert example.ignore.sum() == 14 * 14 + 9
    with pytest.raises(InputError, match="need the same size"):
        Example(np.zeros((3, 8, 8)), np.zeros((1, 9, 9), bool), np.zeros((8, 8), bool))


# One click


def test_a_perfect_model_has_a_mean_iou_of_one_from_one_click():
    scores = single_point(Oracle(), [TWO, THREE])
    assert (scores.n_objects, scores.top1, scores.oracle) == (5, 1, 1)
    assert scores.top1_by_size == {"small": 1, "medium": pytest.approx(np.nan, nan_ok=True)} | {
        "large": pytest.approx(np.nan, nan_ok=True)
    }


def test_a_model_that_rates_the_wrong_mask_best_has_the_oracle_above_it():
    scores = single_point(Oracle(vain=True), [TWO])
    ious = [mask.sum() / ndimage.binary_dilation(mask, iterations=3).sum() for mask in TWO.objects]
    assert scores.top1 == pytest.approx(np.mean(ious))
    assert scores.oracle == 1


@settings(max_examples=15, deadline=None)
@given(arrays(np.float32, (3, 16, 16), elements=st.floats(0, 1, width=32)), st.integers(0, 99))
def test_the_oracle_is_never_below_the_mask_rated_best(pixels, seed):
    label = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(16, 16)), 2) > 0
    example = example_of(pixels, label, min_px=5)
    scores = single_point(FakeModel(size=16), [example])
    if scores.n_objects:
        assert scores.oracle >= scores.top1


def test_the_click_is_where_the_object_is_deepest():
    mask = square(0, 0, 9, size=32) | square(20, 10, 3, size=32)
    assert deepest_point(mask) == (4.5, 4.5)
    u = square(4, 4, 20, size=32)
    u[4:16, 9:19] = False
    x, y = deepest_point(u)
    assert u[int(y), int(x)]


def test_unknown_pixels_are_out_of_the_iou_of_a_click():
    ignore = np.zeros((SIZE, SIZE), bool)
    ignore[:, 12:] = True
    part = picture(square(4, 4, 20), ignore=ignore)
    assert single_point(Oracle(grown=0), [part]).top1 == 1
    spread = single_point(Oracle(grown=2), [part])
    assert spread.top1 == pytest.approx(
        8 * 20 / ndimage.binary_dilation(square(4, 4, 20), iterations=2)[:, :12].sum()
    )


def test_a_model_of_one_mask_a_click_and_a_picture_of_another_size_are_refused():
    class Single(FakeModel):
        decode_all = None

    assert isinstance(FakeModel(), ManyMaskModel)
    with pytest.raises(ModelError, match="fake gives one mask for a click"):
        single_point(Single(), [TWO])
    with pytest.raises(InputError, match="cut or resample it to 32 px"):
        single_point(FakeModel(size=32), [TWO])


def test_labelled_tiles_and_plain_pairs_are_data_sets_as_well():
    @dataclass(frozen=True)
    class Tile:
        pixels: np.ndarray
        label: np.ndarray

    label = TWO.objects.any(axis=0).astype(np.uint8)
    for item in (Tile(TWO.pixels, label), (TWO.pixels, label)):
        assert repr(single_point(Oracle(), [item])) == repr(single_point(Oracle(), [TWO]))


# Proposals


def cutouts(*masks):
    return [cut_out(mask) for mask in masks]


def test_perfect_proposals_have_a_recall_of_one():
    scores = proposals(Oracle(), [TWO, THREE], rules=GenerationRules(16))
    assert (scores.n_objects, scores.average_recall) == (5, 1)
    truth = [TWO.cutouts, THREE.cutouts]
    assert score_proposals(truth, truth).average_recall == 1
    assert score_proposals([[], []], truth).average_recall == 0


def test_recall_is_averaged_over_thresholds_and_limited_to_the_first():
    truth = square(0, 0, 10)
    half = square(0, 0, 10) & (np.arange(SIZE) < 8)  # IoU 0.8: found at 0.5 to 0.8
    other = square(40, 40, 10)
    scores = score_proposals([cutouts(half, other)], [cutouts(truth, other)])
    assert scores.average_recall == pytest.approx((0.7 + 1) / 2)
    first = score_proposals([cutouts(half, other)], [cutouts(truth, other)], limit=1)
    assert first.average_recall == pytest.approx(0.35)
    sizes = {"small": (0, 50), "large": (50, np.inf)}
    by_size = score_proposals(
        [cutouts(half)], [cutouts(truth, square(30, 30, 5))], sizes=sizes
    ).average_recall_by_size
    assert by_size == {"small": 0, "large": pytest.approx(0.7)}


def test_one_proposal_finds_one_object_only():
    both = square(0, 0, 10)
    assert score_proposals([cutouts(both)], [cutouts(both, both)]).average_recall == 0.5
    assert np.isnan(score_proposals([cutouts(both)], [[]]).average_recall)


# Instances


def coco_by_hand(scores, hits, n):
    """The best precision at each of 101 recalls or above, one by one."""
    order = sorted(range(len(hits)), key=lambda i: -scores[i])
    points, found = [], 0
    for k, i in enumerate(order, 1):
        found += hits[i]
        points.append((found / n, found / k))
    return np.mean(
        [max((p for r, p in points if r >= k / 100 - 1e-9), default=0) for k in range(101)]
    )


@given(
    st.lists(
        st.tuples(st.integers(0, 1000), st.booleans()),
        min_size=1,
        max_size=15,
        unique_by=lambda x: x[0],
    ),
    st.integers(0, 4),
)
def test_average_precision_is_that_of_101_recalls_by_hand(rows, missed):
    scores, hits = (np.array(column) for column in zip(*rows, strict=True))
    n = int(hits.sum()) + missed
    if n:
        assert average_precision(scores, hits, n) == pytest.approx(coco_by_hand(scores, hits, n))
    else:
        assert np.isnan(average_precision(scores, hits, n))


def test_answers_take_the_objects_they_fit_best_one_each():
    ious = np.array([[0.6, 0.9], [0.7, 0.95], [0.55, 0.2]])
    assert match(ious, 0.5).tolist() == [1, 0, -1]
    assert match(ious, 0.8).tolist() == [1, -1, -1]
    assert match(np.zeros((2, 0)), 0.5).tolist() == [-1, -1]


def test_true_boxes_and_a_perfect_model_are_an_average_precision_of_one():
    scores = instances(Oracle(), [TWO, THREE])
    assert (scores.n_objects, scores.n_boxes) == (5, 5)
    assert (scores.ap, scores.ap50, scores.ap75, scores.boundary_ap) == (1, 1, 1, 1)
    assert (scores.iou, scores.boundary_iou) == (1, 1)


def test_masks_that_are_too_wide_lose_precision_at_their_outlines_first():
    scores = instances(Oracle(grown=1), [TWO])
    ious = [m.sum() / ndimage.binary_dilation(m).sum() for m in TWO.objects]
    assert scores.iou == pytest.approx(np.mean(ious))
    expected = [average_precision(np.ones(2), np.array(ious) >= t, 2) for t in THRESHOLDS]
    assert scores.ap == pytest.approx(np.mean(expected))
    assert scores.boundary_iou < scores.iou
    assert scores.boundary_ap < scores.ap


def test_boxes_of_a_detector_are_ranked_by_it_and_false_ones_cost_precision():
    boxes = np.array([TWO.cutouts[0].box, (0, 50, 10, 60), TWO.cutouts[1].box], float)
    surest = instances(Oracle(), [TWO], [Detections(boxes, np.array([0.9, 0.1, 0.8]))])
    assert surest.ap == 1
    doubtful = instances(Oracle(), [TWO], [Detections(boxes, np.array([0.9, 0.85, 0.8]))])
    assert doubtful.ap == pytest.approx((51 * 1 + 50 * 2 / 3) / 101)
    none = instances(Oracle(), [TWO], [Detections(np.empty((0, 4)), np.empty(0))])
    assert (none.ap, none.iou) == (0, 0)
    with pytest.raises(InputError, match="detections for 1 pictures and 2"):
        instances(Oracle(), [TWO, TWO], [Detections(boxes, np.ones(3))])
    with pytest.raises(InputError, match="no detections"):
        Detections(boxes, np.ones(2))


def test_what_a_detector_finds_on_unknown_ground_costs_nothing():
    ignore, nowhere = np.zeros((2, SIZE, SIZE), bool)
    ignore[44:, :20] = True
    both = picture(TWO.objects[0], square(50, 4, 8))
    boxes = Detections(np.array([c.box for c in both.cutouts], float), np.array([0.5, 0.9]))
    for unknown, ap in ((ignore, 1), (nowhere, 0.5)):
        seen = Example(both.pixels, both.objects[:1], unknown)
        assert instances(Oracle(), [seen], [boxes]).ap == pytest.approx(ap)


def test_pictures_without_objects_have_no_average_precision():
    empty = Answers([], np.empty(0), [], (SIZE, SIZE))
    assert np.isnan(score_instances([empty]).ap)


# Edges


def most_pairs(here, there, tolerance):
    """The size of the largest matching, by augmenting paths, one after the other."""
    near = [[j for j, b in enumerate(there) if np.hypot(*(a - b)) <= tolerance] for a in here]
    owner = {}

    def place(i, seen):
        for j in near[i]:
            if j not in seen:
                seen.add(j)
                if j not in owner or place(owner[j], seen):
                    owner[j] = i
                    return True
        return False

    return sum(place(i, set()) for i in range(len(here)))


def test_ideal_edges_score_one():
    truth = [true_edges(TWO), true_edges(THREE)]
    scores = score_edges([t.astype(float) for t in truth], truth)
    assert (scores.ods, scores.ois, scores.ap, scores.r50) == (1, 1, 1, 1)
    assert scores.tolerance_px == pytest.approx(0.0075 * np.hypot(64, 64))
    assert scores.n_pictures == 2


@settings(max_examples=25, deadline=None)
@given(
    arrays(np.float32, (6, 7), elements=st.sampled_from([0, 0, 0.2, 0.6, 0.9])),
    arrays(bool, (6, 7)),
    st.sampled_from([0, 1, 1.5]),
)
def test_edge_scores_are_those_of_the_largest_matching(strength, truth, tolerance):
    if not truth.any():
        return
    scores = score_edges([strength], [truth], tolerance_px=tolerance, n_thresholds=3)
    f1 = []
    for cut in (0.25, 0.5, 0.75):
        here, there = np.argwhere(strength >= cut), np.argwhere(truth)
        f1.append(2 * most_pairs(here, there, tolerance) / (len(here) + len(there)))
    assert scores.ods == pytest.approx(max(f1))
    assert scores.ois == pytest.approx(max(f1))
    turned = score_edges([strength.T], [truth.T], tolerance_px=tolerance, n_thresholds=3)
    assert turned == scores


def test_thick_edges_and_edges_too_far_off_score_less():
    truth = true_edges(TWO)
    thick = ndimage.binary_dilation(truth, iterations=2).astype(float)
    assert score_edges([thick], [truth], tolerance_px=2).ods < 0.5
    moved = np.roll(truth, 1, axis=0).astype(float)
    assert score_edges([moved], [truth], tolerance_px=1).ods == 1
    assert score_edges([moved], [truth], tolerance_px=0).ods < 0.7
    nothing = score_edges([np.zeros_like(moved)], [truth])
    assert (nothing.ods, nothing.ap, nothing.r50) == (0, 0, 0)


def test_each_picture_may_have_a_threshold_of_its_own_in_ois_only():
    truth = true_edges(TWO)
    noise = np.zeros((SIZE, SIZE))
    noise[0, ::2] = 1
    strong = np.maximum(truth * 0.9, noise * 0.5)
    weak = np.maximum(truth * 0.4, noise * 0.2)
    scores = score_edges([strong, weak], [truth, truth], tolerance_px=0)
    assert scores.ois == 1
    n, extra = 2 * truth.sum(), (noise > 0).sum()
    assert scores.ods == pytest.approx(2 * n / (2 * n + extra))


def test_a_picture_without_an_edge_takes_the_threshold_that_predicts_the_fewest():
    truth = true_edges(TWO)
    faint = np.where(np.arange(SIZE) % 2, 0.1, 0.0) * np.ones((SIZE, 1))
    scores = score_edges([truth * 0.9, faint], [truth, np.zeros_like(truth)], tolerance_px=0)
    assert scores.ois == scores.ods == 1


def test_unknown_places_have_no_edges():
    ignore = np.zeros((SIZE, SIZE), bool)
    ignore[:, 32:] = True
    half = replace(TWO, ignore=ignore)
    strength = np.zeros((SIZE, SIZE))
    strength[:, 40] = 1
    strength[true_edges(half)] = 1
    assert score_edges([strength], [true_edges(half)], [ignore]).ods == 1


def test_edge_maps_of_a_perfect_model_meet_the_outlines():
    oracle, rules = Oracle(wider=0), EdgeRules(clicks_per_side=8)
    strength = edge_map(oracle, THREE.pixels, rules)
    assert strength.shape == (SIZE, SIZE)
    assert strength.max() == 1
    scores = edges(oracle, [TWO, THREE], rules=rules, tolerance_px=2)
    assert scores.ods > 0.95
    assert edge_map(Oracle(), np.zeros((3, SIZE, SIZE))).max() == 0


def test_thinning_keeps_the_ridge_of_a_blurred_line_in_any_direction():
    for angle in np.deg2rad([0, 30, 45, 90, 120, 135]):
        rows, cols = np.mgrid[:41, :41] - 20
        across = rows * np.cos(angle) + cols * np.sin(angle)
        strength = np.exp(-(across**2) / 8)
        slopes = np.stack(np.broadcast_arrays(np.cos(angle), np.sin(angle)))[:, None, None]
        kept = thin(strength, np.broadcast_to(slopes, (2, 41, 41)))[5:-5, 5:-5] > 0.3
        assert kept.any()
        assert np.abs(across[5:-5, 5:-5][kept]).max() < 1


def test_edges_that_cannot_be_compared_are_refused():
    truth = true_edges(TWO)
    with pytest.raises(InputError, match="at least one"):
        score_edges([], [])
    with pytest.raises(InputError, match="same sizes"):
        score_edges([truth[:5]], [truth])
    with pytest.raises(OptionError, match="tolerance"):
        score_edges([truth], [truth], tolerance_px=-1)
    assert np.isnan(score_edges([truth * 0.0], [truth & False]).ods)


# Text


@dataclass(frozen=True)
class Stub:
    """Says what it was told to say."""

    boxes: tuple
    scores: tuple
    labels: tuple

    def detect(self, image, phrases):
        return np.array(self.boxes, float).reshape(-1, 4), np.array(self.scores), list(self.labels)


def test_boxes_reach_the_model_and_stay_aligned_with_scores_and_labels():
    first, second = (c.box for c in TWO.cutouts)
    near = np.add(first, (0, 0, 1, 1))
    stub = Stub((second, near, first, (0, 0, 5, 5)), (0.6, 0.5, 0.9, 0.2), ("b", "a", "a", "a"))
    found = text_masks(Oracle(), TWO.pixels, ["a", "b"], stub)
    assert (found.labels, found.scores.tolist()) == (("a", "b"), [0.9, 0.6])
    np.testing.assert_array_equal(found.boxes, [first, second])
    np.testing.assert_array_equal(found.masks, TWO.objects)
    assert (found.ids[TWO.objects[0]] == 1).all()
    assert (found.ids[TWO.objects[1]] == 2).all()


def test_a_higher_least_score_never_gives_more_masks():
    rng = np.random.default_rng(3)
    corner = rng.integers(0, 40, (20, 2))
    boxes = np.concatenate([corner, corner + rng.integers(5, 20, (20, 2))], axis=1)
    stub = Stub(tuple(boxes), tuple(rng.random(20)), ("a",) * 20)
    counts = [
        len(text_masks(Oracle(), TWO.pixels, ["a"], stub, TextRules(min_score=s)).boxes)
        for s in (0, 0.2, 0.4, 0.6, 0.8)
    ]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > counts[-1]


def coloured(water, ground=(0.5, 0.45, 0.3), colour=(0.1, 0.25, 0.5)):
    return np.where(water, np.reshape(colour, (3, 1, 1)), np.reshape(ground, (3, 1, 1))).astype(
        np.float32
    )


def test_the_offline_detector_boxes_the_parts_of_a_concept():
    water = square(4, 4, 20) | square(40, 30, 15)
    boxes, scores, labels = ConceptDetector().detect(coloured(water), ["river"])
    assert sorted(map(tuple, boxes)) == [(4, 4, 24, 24), (30, 40, 45, 55)]
    assert (scores.tolist(), labels) == ([1, 1], ["river"] * 2)
    infrared = coloured(water, (0.5, 0.2, 0.2), (0.05, 0.1, 0.15))
    detector = ConceptDetector(roles=("nir", "red", "green"))
    boxes, scores, _ = detector.detect(infrared, ["water"])
    assert sorted(map(tuple, boxes)) == [(4, 4, 24, 24), (30, 40, 45, 55)]
    assert scores == pytest.approx([(0.1 / 0.2 + 1) / 2] * 2)
    plants, _, _ = detector.detect(infrared, ["vegetation"])
    assert plants.tolist() == [[0, 0, SIZE, SIZE]]


def test_an_unknown_phrase_names_what_is_known_and_is_never_an_empty_success():
    for phrase in ("helicopter", "watermelon"):
        with pytest.raises(PromptError, match=r"is not known .* Known are water, river"):
            text_masks(FakeModel(), TWO.pixels, [phrase], ConceptDetector())
    for phrases in ([], [" "]):
        with pytest.raises(PromptError, match="nothing to look for"):
            text_masks(FakeModel(), TWO.pixels, phrases, ConceptDetector())
    with pytest.raises(BandError, match=r"water is found in the bands green\+nir or"):
        ConceptDetector(roles=("swir1", "red", "nir")).detect(TWO.pixels, ["water"])
    with pytest.raises(OptionError, match="0 to 1"):
        TextRules(min_score=2)


def test_a_phrase_is_scored_by_all_its_masks_together_and_by_false_water_where_there_is_none():
    dark = square(4, 4, 20) | square(40, 30, 15)
    wet = example_of(coloured(dark), dark)
    dry = example_of(coloured(dark), np.zeros_like(dark))
    scores = text(FakeModel(), [wet, dry], "Water.", ConceptDetector())
    assert (scores.n_boxes, scores.figures.n_wet, scores.figures.n_dry) == (4, 1, 1)
    answer = wet.pixels.mean(axis=0) < 0.5
    assert scores.figures.wet["iou"].median == pytest.approx(dark.sum() / answer.sum())
    assert scores.figures.false_water_mean == pytest.approx(answer.mean())


@dataclass(frozen=True)
class Infrared(FakeModel):
    """Finds what is dark in the first band inside the box, as water is in near infrared."""

    size: int = 256

    def encode(self, pixels):
        return {"nir": pixels[:, 0]}

    def decode(self, features, prompts):
        masks = np.zeros(features["nir"].shape, bool)
        for mask, nir, prompt in zip(masks, features["nir"], prompts, strict=True):
            x0, y0, x1, y1 = np.rint(prompt.boxes[0]).astype(int)
            mask[y0:y1, x0:x1] = nir[y0:y1, x0:x1] < 0.08
        return np.where(masks, 8, -8).astype(np.float32), np.full(len(masks), 0.9, np.float32)


def test_the_word_river_finds_the_river_of_a_synthetic_tile_without_a_download():
    made = synthetic_scene((256, 256), seed=5, nodata_corner=0)
    pixels = np.clip(made.scene.values[[3, 0, 1]] / 10_000, 0, 1).astype(np.float32)
    detector = ConceptDetector(roles=("nir", "red", "green"))
    example = example_of(pixels, made.truth.values)
    scores = text(Infrared(), [example], "river", detector)
    assert scores.figures.wet["iou"].median >= 0.7


# All of them


def synthetic_tiles(n, size):
    tiles = []
    for seed in range(n):
        made = synthetic_scene((size, size), seed=seed)
        rgb = made.scene.values[:3].astype(np.float32)
        low, high = np.percentile(rgb, (1, 99))
        pixels = np.clip((rgb - low) / (high - low), 0, 1)
        tiles.append((pixels, made.truth.values))
    return tiles


def run_all(model, tiles, per_side):
    rules = replace(DENSE, points_per_side=per_side)
    return [
        single_point(model, tiles),
        edges(model, tiles, rules=EdgeRules(per_side), n_thresholds=19),
        proposals(model, tiles, rules=rules),
        instances(model, tiles),
        text(model, tiles, "water", ConceptDetector()),
    ]


def check_all(results, n_tiles):
    point, edge, proposal, instance, words = results
    assert point.n_objects == proposal.n_objects == instance.n_objects == instance.n_boxes
    assert point.n_objects >= n_tiles
    assert 0 < point.top1 <= point.oracle <= 1
    assert -1 <= point.rank_correlation <= 1
    assert edge.n_pictures == n_tiles
    assert 0 < edge.ods < 1
    assert 0 < edge.ois < 1
    assert proposal.n_proposals > 0
    assert 0 <= proposal.average_recall < 1
    assert 0 <= instance.boundary_ap <= instance.ap <= instance.ap50 < 1
    assert words.n_boxes > 0
    assert words.figures.n_wet == n_tiles
    for result in results:
        assert "nan" in repr(result) or json.loads(json.dumps(result.to_dict()))


def test_all_protocols_run_on_the_shipped_model():
    from geosam.models.load import load_model

    model = load_model()
    check_all(run_all(model, synthetic_tiles(1, model.size), 3), 1)


@pytest.mark.slow
def test_all_protocols_run_on_twenty_tiles_in_two_minutes():
    from geosam.models.load import load_model

    model = load_model()
    tiles, started = synthetic_tiles(20, model.size), perf_counter()
    check_all(run_all(model, tiles, 8), 20)
    assert perf_counter() - started < 120
