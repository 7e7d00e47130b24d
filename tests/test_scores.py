"""Arrays against arrays: boundary IoU, calibration, rank correlation, figures of a set."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from geosam.calibration import calibration_error, spearman
from geosam.errors import InputError
from geosam.evaluation import evaluate_set
from geosam.scores import banks, boundary_iou, pixel_scores
from geosam.summaries import score_label, summarise

SMALL = arrays(bool, (9, 11))
LABELS = arrays(np.uint8, (9, 11), elements=st.sampled_from([0, 1, 255]))


def river(rows=(20, 40), shape=(60, 80)):
    mask = np.zeros(shape, bool)
    mask[rows[0] : rows[1]] = True
    return mask


def brute_band(mask, width):
    inside, outside = np.argwhere(mask), np.argwhere(~mask)
    if not len(outside):
        return np.zeros_like(mask)
    near = np.zeros_like(mask)
    for row, col in inside:
        near[row, col] = np.hypot(*(outside - (row, col)).T).min() <= width
    return near


@settings(max_examples=30)
@given(SMALL, SMALL, st.sampled_from([1, 1.5, 3]))
def test_boundary_iou_is_that_of_brute_force_and_of_the_transposed(pred, truth, width):
    a, b = brute_band(pred, width), brute_band(truth, width)
    expected = (a & b).sum() / (a | b).sum() if (a | b).any() else 1
    assert boundary_iou(pred, truth, width) == pytest.approx(expected)
    assert boundary_iou(pred.T, truth.T, width) == boundary_iou(pred, truth, width)


def test_boundary_iou_is_stricter_than_iou_for_large_masks():
    moved = river((23, 43))
    assert boundary_iou(moved, river(), 2) == 0
    assert pixel_scores(moved, river()).iou > 0.7


@given(LABELS, LABELS)
def test_counts_add_up_over_images(pred, truth):
    whole = score_label(pred, truth)
    parts = [score_label(pred[:4], truth[:4]), score_label(pred[4:], truth[4:])]
    assert parts[0].pixels + parts[1].pixels == whole.pixels


@pytest.mark.parametrize("turn", [0, 1])
@pytest.mark.parametrize("width", [2, 10, 40])
def test_half_of_any_river_is_an_f1_of_two_thirds_in_any_orientation(turn, width):
    truth = np.rot90(river((5, 5 + width)), turn)
    half = np.rot90(river((5, 5 + width)) & (np.arange(80) < 40), turn)
    assert score_label(truth, truth).figures.f1 == 1
    assert score_label(half, truth).figures.f1 == pytest.approx(2 / 3)


def test_the_figures_of_a_set_are_those_of_its_images_and_of_all_pixels():
    truth = river()
    preds = [river((20, 20 + kept)) for kept in (20, 15, 10, 5)]
    dry = np.zeros_like(truth)
    speck = dry.copy()
    speck[:6, :80] = True
    pairs = {f"wet{i}": (pred, truth) for i, pred in enumerate(preds)}
    found = evaluate_set({**pairs, "dry": (speck, dry), "clean": (dry, dry)})
    ious = np.array([1, 0.75, 0.5, 0.25])
    assert found.wet["iou"].mean == pytest.approx(ious.mean())
    assert found.wet["iou"].median == pytest.approx(np.median(ious))
    assert found.wet["iou"].lower_quartile == pytest.approx(np.quantile(ious, 0.25))
    assert found.wet["iou"].upper_quartile == pytest.approx(np.quantile(ious, 0.75))
    assert found.wet["recall"].median == pytest.approx(np.median(ious))
    assert (found.n_wet, found.n_dry) == (4, 2)
    assert found.false_water_mean == pytest.approx(0.05)
    assert found.false_water_90th == pytest.approx(np.percentile([0, 0.1], 90))
    joined = pixel_scores(np.stack([*preds, speck, dry]), np.stack([truth] * 4 + [dry] * 2))
    assert (found.pooled.iou, found.pooled.f1) == (joined.iou, joined.f1)


def test_a_dry_image_has_no_iou_and_an_unknown_one_counts_nowhere():
    truth = river()
    unknown = np.full(truth.shape, 255, np.uint8)
    dry = np.zeros_like(truth)
    dry[0, :40] = True  # 0.8 %
    found = evaluate_set({"wet": (truth, truth), "dry": (dry, dry), "none": (truth, unknown)})
    assert (found.n_wet, found.n_dry, found.unknown) == (1, 1, ("none",))
    figures = found.to_dict()
    assert figures["images"]["dry"]["iou"] is None
    assert figures["images"]["dry"]["false_water_share"] == 0
    assert figures["images"]["wet"]["iou"] == 1
    assert json.loads(json.dumps(figures)) == figures
    with pytest.raises(InputError, match="None of the 1 images"):
        evaluate_set([(truth, unknown)])
    with pytest.raises(InputError, match="no pair"):
        evaluate_set([])


def test_a_set_of_dry_images_has_no_iou_at_all():
    dry = np.zeros((20, 20), bool)
    found = summarise([score_label(dry, dry, name="a")])
    assert np.isnan(found.wet["iou"].median)
    assert found.false_water_mean == 0


def test_masks_of_other_sizes_and_values_are_refused_by_name():
    with pytest.raises(InputError, match=r"Image b: .*60 x 80.*60 x 70"):
        evaluate_set({"b": (river(), river()[:, :70])})
    with pytest.raises(InputError, match="holds the value 7"):
        score_label(np.full((3, 3), 7, np.uint8), np.zeros((3, 3), np.uint8))


def test_probabilities_that_are_true_have_no_calibration_error():
    rng = np.random.default_rng(1)
    said = rng.random((400, 400))
    truth = rng.random((400, 400)) < said
    assert calibration_error(said, truth, near=None) < 0.01
    assert calibration_error(said**3, truth, near=None) > 0.1
    assert calibration_error(truth.astype(float), truth, near=None) == 0
    river_half = river((0, 30))
    assert calibration_error(1.0 - river_half, river_half, near=None, bins=2) == 1


def test_calibration_error_is_that_of_fifteen_bins_by_hand():
    rng = np.random.default_rng(2)
    said, truth = rng.random((30, 50)), rng.random((30, 50)) < 0.4
    order = np.argsort(said.ravel())
    bins = order.reshape(15, 100)
    gaps = [abs(said.ravel()[b].mean() - truth.ravel()[b].mean()) for b in bins]
    assert calibration_error(said, truth, near=None) == pytest.approx(np.mean(gaps))
    assert calibration_error(said.T, truth.T, near=None) == pytest.approx(np.mean(gaps))


def test_equal_probabilities_do_not_depend_on_the_order_of_pixels():
    truth = river((0, 30))
    assert calibration_error(np.full(truth.shape, 0.5), truth, near=None) == pytest.approx(0)


def test_only_pixels_near_a_true_or_a_predicted_bank_are_calibrated():
    truth = river((0, 30))
    said = np.where(truth, 0.9, 0.1)
    said[45:] = 0.3
    said[:8] = 0.6
    near = (np.abs(np.arange(60) + 0.5 - 30) < 8)[:, None]
    parts = [abs(0.9 - 1), abs(0.1 - 0)]
    assert calibration_error(said, truth, bins=2) == pytest.approx(np.mean(parts))
    assert calibration_error(said, truth) == pytest.approx(
        calibration_error(said, np.where(near, truth, 255).astype(np.uint8), near=None), abs=1e-9
    )
    elsewhere = said.copy()
    elsewhere[:8] = 0.4
    assert calibration_error(elsewhere, truth) > 0.1


def test_unknown_pixels_and_images_without_a_bank_do_not_count_in_calibration():
    truth = river().astype(np.uint8)
    said = np.where(truth == 1, 1.0, 0.0)
    hidden = said.copy()
    hidden[:, :40] = 0.5
    label = truth.copy()
    label[:, :40] = 255
    assert calibration_error(hidden, label) == 0
    assert calibration_error([hidden, said], [label, truth]) == 0
    assert np.isnan(calibration_error(np.zeros((9, 9)), np.zeros((9, 9), bool)))
    said[:, 40:] = np.nan
    assert calibration_error(said, truth) == 0


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=3, max_size=20))
def test_spearman_is_that_of_scipy(pairs):
    a, b = zip(*pairs, strict=True)
    if len(set(a)) == 1 or len(set(b)) == 1:
        assert np.isnan(spearman(a, b))
    else:
        assert spearman(a, b) == pytest.approx(stats.spearmanr(a, b).statistic)


def test_series_of_other_lengths_are_not_correlated():
    with pytest.raises(InputError, match="2 and 3 values"):
        spearman([1, 2], [1, 2, 3])


def test_a_bank_is_water_with_land_beside_it():
    assert banks(river())[[20, 39]].all()
    assert banks(river()).sum() == 160
    assert not banks(np.ones((5, 5), bool)).any()
