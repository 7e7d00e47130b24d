"""Only what hangs together with a prompt is meant."""

import numpy as np
import pytest
from scipy import ndimage

from geosam.following import EIGHT
from geosam.joined import keep_asked
from geosam.types import PixelPrompts


@pytest.fixture
def logits():
    """Three parts: above, in the middle with a corner that connects, and below."""
    out = np.full((30, 30), -4.0, np.float32)
    out[2:6, 3:20] = out[12:16, 5:9] = out[16:20, 9:12] = out[25:28, 25:28] = 5.0
    return out


def clicks(*points, labels=None):
    labels = [1] * len(points) if labels is None else labels
    return PixelPrompts(np.array([points], float), np.array([labels]))


def parts(logits):
    return ndimage.label(logits > 0, EIGHT)[1]


def test_parts_without_a_click_go_and_others_keep_their_logits(logits):
    kept = keep_asked(logits, [clicks((6.5, 13.5))])
    assert parts(kept) == 1
    assert (kept[16:20, 9:12] == 5.0).all()
    assert (kept[2:6, 3:20] == -5.0).all()


def test_a_refusing_click_holds_nothing(logits):
    kept = keep_asked(logits, [clicks((6.5, 13.5), (5.5, 3.5), labels=[1, 0])])
    assert (kept[2:6, 3:20] < 0).all()


def test_what_is_drawn_holds_too_and_objects_are_together(logits):
    drawn = np.zeros((1, 30, 30), bool)
    drawn[0, 26, 26] = True
    polygon = PixelPrompts(np.empty((1, 0, 2)), np.empty((1, 0), int), masks=drawn)
    assert parts(keep_asked(logits, [clicks((6.5, 13.5)), polygon])) == 2


def test_a_box_or_no_hold_at_all_leaves_everything(logits):
    boxed = PixelPrompts(
        np.empty((1, 0, 2)), np.empty((1, 0), int), boxes=np.array([[0.0, 0.0, 20.0, 20.0]])
    )
    assert np.array_equal(keep_asked(logits, [boxed]), logits)
    assert np.array_equal(keep_asked(logits, [clicks((22.5, 2.5))]), logits)
