"""Losses and figures that do not depend on which way a river runs."""

import numpy as np
import pytest
import torch

from geosam.errors import OptionError
from geosam.training.losses import LOSSES, as_target, mask_iou, parse_loss
from geosam.training.mask_choice import asked, buckets, choose, gives_several
from geosam.training.scores import score_tile, summarise
from geosam.types import PixelPrompts


def straight(width, size=64, turned=False):
    label = torch.zeros(1, size, size, dtype=torch.uint8)
    label[:, 20 : 20 + width] = 1
    return label.transpose(1, 2) if turned else label


@pytest.mark.parametrize("name", [*LOSSES, "0.95*focal+0.05*dicece"])
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("width", [0, 1, 5, 40])
def test_a_perfect_prediction_costs_nothing_whatever_the_river(name, turned, width):
    target, weight = as_target(straight(width, turned=turned))
    loss = parse_loss(name)(60 * (2 * target - 1), target, weight)
    assert loss.shape == (1,)
    assert float(loss) == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_a_wrong_prediction_costs_the_same_turned_by_ninety_degrees(name):
    logits = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    target, weight = (t.expand(2, 3, -1, -1) for t in as_target(straight(9)))
    loss = LOSSES[name]
    upright = loss(logits, target, weight)
    assert upright.shape == (2, 3)
    assert float(upright.min()) > 0.01
    turned = loss(*(t.transpose(-1, -2) for t in (logits, target, weight)))
    assert torch.allclose(upright, turned, rtol=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_ignored_pixels_cost_nothing(name):
    label = straight(9)
    target, weight = as_target(label)
    logits = 60 * (2 * target - 1)
    label[:, 22:40, 10:50] = 255
    wrong = torch.where(label == 255, -logits, logits)
    target, weight = as_target(label)
    assert float(LOSSES[name](wrong, target, weight)) == pytest.approx(0, abs=1e-5)


def test_focal_and_dice_are_those_of_their_formulas():
    logits = torch.tensor([[[2.0, -1.0], [0.5, -3.0]]])
    label = torch.tensor([[[1, 0], [0, 1]]], dtype=torch.uint8)
    target, weight = as_target(label)
    p = 1 / (1 + np.exp(-logits.numpy()[0].ravel()))
    t = label.numpy()[0].ravel()
    right = np.where(t == 1, p, 1 - p)
    balance = np.where(t == 1, 0.25, 0.75)
    focal = (-balance * (1 - right) ** 2 * np.log(right)).mean()
    squared = 1 - (2 * (p * t).sum() + 1e-5) / ((p**2).sum() + (t**2).sum() + 1e-5)
    entropy = -np.log(right).mean()
    assert float(LOSSES["focal"](logits, target, weight)) == pytest.approx(focal, rel=1e-5)
    assert float(LOSSES["dicece"](logits, target, weight)) == pytest.approx(
        squared + entropy, rel=1e-5
    )
    both = parse_loss("0.95*focal + 0.05*dicece")(logits, target, weight)
    assert float(both) == pytest.approx(0.95 * focal + 0.05 * (squared + entropy), rel=1e-5)


@pytest.mark.parametrize("text", ["dise", "2dice", "dice*2", "", "focal+"])
def test_an_unknown_loss_is_refused_with_those_there_are(text):
    with pytest.raises(OptionError, match="focal, dice, ce, dicece"):
        parse_loss(text)


def test_missing_half_of_a_river_scores_two_thirds():
    for turned in (False, True):
        label = straight(10, turned=turned)[0].numpy()
        half = straight(5, turned=turned)[0].numpy()
        scores = score_tile(half == 1, label)
        assert scores.f1 == pytest.approx(2 / 3)
        assert scores.iou == 0.5
        assert summarise([scores])["iou_median"] == 0.5


def test_images_with_hardly_any_water_count_by_their_false_water():
    wet, dry = straight(10)[0].numpy(), np.zeros((64, 64), np.uint8)
    answer = np.zeros((64, 64), bool)
    answer[0] = True
    figures = summarise([score_tile(wet == 1, wet), score_tile(answer, dry)])
    assert figures["iou_median"] == figures["iou_mean"] == 1.0
    assert figures["false_water"] == pytest.approx(1 / 64)
    assert figures["precision"] == pytest.approx(640 / 704)


def prompt(labels, box=False):
    k = len(labels)
    points = np.arange(2.0 * k).reshape(1, k, 2)
    return PixelPrompts(points, np.array([labels]).reshape(1, k), np.ones((1, 4)) if box else None)


def test_points_are_asked_together_or_each_with_all_on_land():
    mixed = prompt([1, 1, 0, 1])
    assert asked(mixed, "joint") == [mixed]
    singles = asked(mixed, "mean")
    assert [p.labels.tolist() for p in singles] == [[[1, 0]]] * 3
    assert [p.points[0, 0, 0] for p in singles] == [0, 2, 6]
    assert len(asked(prompt([], box=True), "best")) == 1


def test_three_masks_are_asked_for_where_a_prompt_is_ambiguous():
    assert gives_several(prompt([1]), "joint")
    assert not gives_several(prompt([1, 1]), "joint")
    assert not gives_several(prompt([1]), "mean")
    assert gives_several(prompt([1, 1]), "minimum")


def test_prompts_are_grouped_by_count_and_kind():
    prompts = [prompt([1]), prompt([1, 1]), prompt([0]), prompt([], box=True)]
    assert buckets(prompts) == [[0, 2], [1], [3]]


def test_the_choice_of_a_mask_is_that_of_numpy():
    logits = torch.randn(3, 4, 4, generator=torch.Generator().manual_seed(0))
    scores, losses = torch.tensor([0.1, 0.9, 0.3]), torch.tensor([0.5, 0.4, 0.1])
    array = logits.numpy()
    assert np.allclose(choose(logits, scores, "mean", losses), array.mean(0))
    assert np.array_equal(choose(logits, scores, "best", losses), array[1])
    assert np.array_equal(choose(logits, scores, "minimum", losses), array[2])
    assert np.array_equal(choose(logits, scores, "joint", losses), array[2])
    for how in ("joint", "minimum"):
        assert np.array_equal(choose(logits, scores, how), array[1])


def test_only_the_mask_with_the_lowest_loss_learns():
    logits = torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(0), requires_grad=True)
    target, weight = (t.expand(3, -1, -1) for t in as_target(straight(2, 8)))
    losses = LOSSES["dice"](logits, target, weight)
    chosen = choose(logits, torch.zeros(3), "minimum", losses.detach())
    LOSSES["dice"](chosen, target[0], weight[0]).backward()
    moved = logits.grad.abs().sum((1, 2)) > 0
    assert moved.tolist() == [i == int(losses.argmin()) for i in range(3)]


def test_the_true_iou_leaves_out_what_is_ignored():
    label = straight(10)
    label[:, 25:] = 255
    predicted = (straight(20) == 1).float()
    target, weight = as_target(label)
    assert float(mask_iou(predicted, target, weight)) == 1.0
