"""Edges of masks against shapes whose true pixels are known."""

import numpy as np
import pytest

from geosam.cutouts import cut_out, mask_iou
from geosam.edges import edge_contrast, snap

SIDE = 80


def disc(x=40.0, y=40.0, radius=18.0):
    rows, cols = np.mgrid[:SIDE, :SIDE] + 0.5
    return np.hypot(cols - x, rows - y) < radius


def picture(mask, contrast, noise=0.02, seed=0):
    grain = noise * np.random.default_rng(seed).standard_normal((3, SIDE, SIDE))
    return (0.4 + contrast * mask + grain).astype(np.float32)


EVERYWHERE = np.ones((SIDE, SIDE), bool)


@pytest.mark.parametrize("wrong", [disc(41.5, 39), disc(radius=16), disc(radius=20)])
def test_an_edge_moves_to_the_one_in_the_picture(wrong):
    true = cut_out(disc())
    before = cut_out(wrong)
    after = snap(before, picture(disc(), 0.3), 3, EVERYWHERE)
    assert mask_iou(before, true) < 0.93
    assert mask_iou(after, true) > 0.99


def test_an_edge_moves_no_further_than_it_may():
    after = snap(cut_out(disc(radius=10)), picture(disc(), 0.3), 2, EVERYWHERE).paste((SIDE, SIDE))
    assert not (after & ~disc(radius=13)).any()


def test_without_contrast_and_beside_nodata_an_edge_stays():
    mask = disc()
    plain = snap(cut_out(mask), np.full((3, SIDE, SIDE), 0.4, np.float32), 3, EVERYWHERE)
    np.testing.assert_array_equal(plain.paste(mask.shape), mask)
    known = np.broadcast_to(np.arange(SIDE) < 40, mask.shape)
    pixels = picture(disc(radius=16), 0.3)
    half = snap(cut_out(mask & known), pixels, 3, known).paste(mask.shape)
    assert not (half & ~known).any()
    assert half[40, 39], "the border of what is known is no edge"


@pytest.mark.parametrize("contrast", [0.04, 0.1, 0.2])
def test_the_contrast_of_an_edge_is_in_standard_deviations(contrast):
    found = edge_contrast(cut_out(disc()), picture(disc(), contrast), EVERYWHERE)
    assert found == pytest.approx(contrast / 0.02, rel=0.15)


def test_noise_has_little_contrast_and_what_has_no_edge_has_all():
    assert edge_contrast(cut_out(disc()), picture(disc(), 0.0), EVERYWHERE) < 0.7
    assert edge_contrast(cut_out(EVERYWHERE), picture(disc(), 0.3), EVERYWHERE) == float("inf")


def test_what_shares_half_its_edge_with_an_object_has_no_contrast():
    left = disc() & (np.arange(SIDE) < 38)
    assert edge_contrast(cut_out(left), picture(disc(), 0.3), EVERYWHERE) < 1


def test_holes_are_the_edges_of_something_else():
    ground = disc(radius=30) & ~disc(radius=24)
    assert edge_contrast(cut_out(ground), picture(disc(radius=24), 0.3), EVERYWHERE) < 1
    assert edge_contrast(cut_out(ground), picture(ground, 0.3), EVERYWHERE) > 5
