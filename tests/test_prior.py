"""Clicks and boxes as a map of logits."""

import numpy as np

from geosam.models.prior import CLICK_RADIUS, SURE, draw_prior

SHAPE = (20, 20)


def test_a_click_that_contradicts_a_mask_prompt_is_drawn_and_one_that_agrees_is_not():
    doubts = np.where(np.arange(20) < 10, 0.5, -0.5) * np.ones(SHAPE, np.float32)
    clicks = np.array([[10.0, 20.0], [30.0, 20.0]])
    agreed = draw_prior(SHAPE, 2, clicks, np.array([1, 0]), mask=doubts)
    assert (agreed == doubts).all()
    turned = draw_prior(SHAPE, 2, clicks, np.array([0, 1]), mask=doubts)
    assert (turned[10, 5], turned[10, 15]) == (-SURE, SURE)
    changed = int((turned != doubts).sum())
    assert 0 < changed <= 2 * (2 * CLICK_RADIUS + 1) ** 2


def test_without_a_mask_prompt_every_click_is_drawn():
    drawn = draw_prior(SHAPE, 2, np.array([[10.0, 20.0]]), np.array([1]))
    assert drawn[10, 5] == SURE
    assert drawn[0, 0] == 0
