"""The loss of the coarse network: thin water, banks, and the pixels that are most wrong."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

torch = pytest.importorskip("torch")

from torch.nn import functional  # noqa: E402

from geosam.training.river_tiny import coarse as training  # noqa: E402
from geosam.training.sample import IGNORE, LAND, WATER  # noqa: E402


def labels_of(seed: int, ignored: bool = True) -> np.ndarray:
    """Two tiles of ragged water of many widths, some of it unknown."""
    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(rng.standard_normal((2, 64, 64)), (0, 3, 3))
    label = np.where(noise > 0, WATER, LAND).astype(np.uint8)
    if ignored:
        label[ndimage.gaussian_filter(rng.standard_normal((2, 64, 64)), (0, 5, 5)) > 0.08] = IGNORE
    return label


@pytest.mark.parametrize("seed", range(4))
def test_thin_water_is_what_an_opening_takes_away(seed):
    label = labels_of(seed)
    square = np.ones((training.THIN_PX, training.THIN_PX), bool)
    margin = training.THIN_PX
    for one, found in zip(label, training.thin_water(torch.from_numpy(label)), strict=True):
        wet = np.pad(one != LAND, margin, constant_values=True)
        opened = ndimage.binary_opening(wet, square)[margin:-margin, margin:-margin]
        np.testing.assert_array_equal(found.numpy(), (one == WATER) & ~opened)


def test_a_line_is_thin_and_a_lake_is_not():
    label = np.zeros((1, 64, 64), np.uint8)
    label[0, 10:13], label[0, 30:50, 20:40] = WATER, WATER
    thin = training.thin_water(torch.from_numpy(label))[0].numpy()
    assert thin[10:13].all() and thin[30:50, 20:40].sum() == 0


def test_near_banks_is_where_both_kinds_are_within_reach():
    label = labels_of(7)
    square = np.ones((2 * training.BANK_PX + 1,) * 2, bool)
    for one, found in zip(label, training.near_banks(torch.from_numpy(label)), strict=True):
        near = [ndimage.binary_dilation(one == kind, square) for kind in (LAND, WATER)]
        np.testing.assert_array_equal(found.numpy(), near[0] & near[1])


def test_the_worst_loss_is_the_mean_of_the_largest_among_the_pixels_that_count():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (3, 20, 25)).astype(np.float32)
    water, counted = rng.random((2, 3, 20, 25)) < 0.7
    most = round(training.WORST_SHARE * 500)
    losses = np.where(counted, np.logaddexp(0, np.where(water, -logits, logits)), 0)
    wanted = np.sort(losses.reshape(3, -1), axis=1)[:, -most:].mean(axis=1)
    given = (torch.from_numpy(x).float() for x in (logits, water, counted))
    np.testing.assert_allclose(training.worst_loss(*given).numpy(), wanted, rtol=1e-5)


@pytest.mark.parametrize("kind", [LAND, WATER])
def test_a_patch_that_is_wrong_costs_more_than_its_share_and_a_right_answer_nothing(kind):
    label = torch.full((1, 64, 64), kind, dtype=torch.uint8)
    right = torch.full((1, 1, 64, 64), -30.0 if kind == LAND else 30.0)
    assert float(training.coarse_loss(right, label, torch.zeros(1))) < 1e-6
    wrong = right.clone()
    wrong[..., 10:20, 10:20] *= -0.1
    plain = functional.binary_cross_entropy_with_logits(wrong[:, 0], (label == WATER).float())
    dice = 0.5 * float(training.dice_loss(wrong[:, 0], (label == WATER).float(), torch.ones(1)))
    dice = dice if kind == WATER else 0.0
    loss = float(training.coarse_loss(wrong, label, torch.zeros(1)))
    assert loss - dice > 2 * float(plain)


def test_labels_that_are_noisy_are_not_taken_at_their_worst():
    label = torch.zeros(1, 64, 64, dtype=torch.uint8)
    wrong = torch.full((1, 1, 64, 64), -30.0)
    wrong[..., 10:20, 10:20] = 3.0
    target = torch.full((1, 64, 64), 0.05)
    soft = functional.binary_cross_entropy_with_logits(wrong[:, 0], target)
    loss = training.coarse_loss(wrong, label, torch.full((1,), 0.05))
    assert float(loss) == pytest.approx(float(soft))


def test_missing_a_line_costs_more_than_missing_as_many_pixels_of_a_lake():
    line, lake = (torch.zeros(1, 64, 64, dtype=torch.uint8) for _ in range(2))
    line[0, 10], lake[0, 20:28, 20:28] = WATER, WATER
    missed = torch.full((1, 1, 64, 64), -2.0)
    losses = [float(training.coarse_loss(missed, x, torch.zeros(1))) for x in (line, lake)]
    assert losses[0] > losses[1] + 0.02
