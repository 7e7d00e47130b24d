"""The mask generator's parts against the reference implementation, where it is installed.

PyPI's segment-anything 1.0, without its dependencies: ``pip install --no-deps segment-anything==1.0``.
"""

import sys
import types
from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from geosam.crops import crop_windows, near_crop_edge
from geosam.cutouts import Cutout
from geosam.errors import OptionError
from geosam.generation import click_grid, generate_masks, is_cut, stability
from geosam.generation_rules import GenerationRules
from geosam.rle import decode_mask, encode_mask
from geosam.shapes import deepest, find_shapes
from geosam.small_regions import drop_small_islands, fill_small_holes
from geosam.testing import object_scene
from geosam.types import Window


@pytest.fixture(scope="module")
def amg():
    """The helpers of the reference; what they import of torchvision is never called here."""
    names = ("torchvision", "torchvision.ops", "torchvision.ops.boxes", "torchvision.transforms")
    stubs = {name: types.ModuleType(name) for name in (*names, "torchvision.transforms.functional")}
    stubs["torchvision.ops.boxes"].batched_nms = stubs["torchvision.ops.boxes"].box_area = None
    stubs["torchvision.transforms.functional"].resize = None
    stubs["torchvision.transforms.functional"].to_pil_image = None
    added = {name: stub for name, stub in stubs.items() if name not in sys.modules}
    sys.modules.update(added)
    try:
        return pytest.importorskip(
            "segment_anything.utils.amg", reason="segment-anything 1.0 is not installed"
        )
    finally:
        for name in added:
            sys.modules.pop(name)


@pytest.mark.parametrize("n", [1, 2, 7, 32])
def test_the_grid_is_that_of_the_reference(amg, n):
    np.testing.assert_allclose(click_grid(n, 1), amg.build_point_grid(n), atol=1e-12)


@pytest.mark.parametrize("shape", [(80, 100), (1024, 1024), (333, 1001)])
@pytest.mark.parametrize("layers", [0, 1, 2])
def test_crops_are_those_of_the_reference(amg, shape, layers):
    boxes, numbers = amg.generate_crop_boxes(shape, layers, 512 / 1500)
    found = crop_windows(shape, layers, 512 / 1500)
    assert [layer for layer, _ in found] == numbers
    assert [[w.col, w.row, w.col_end, w.row_end] for _, w in found] == boxes


def test_boxes_near_the_edge_of_a_crop_are_those_of_the_reference(amg):
    import torch

    rng = np.random.default_rng(0)
    low = rng.integers(0, 60, (200, 2))
    boxes = np.concatenate([low, low + rng.integers(5, 60, (200, 2))], axis=1)
    crop = Window(20, 0, 60, 70)
    theirs = amg.is_box_near_crop_edge(
        torch.as_tensor(boxes - (0, 20, 0, 20)), [0, 20, 70, 80], [0, 0, 100, 120], atol=7.0
    )
    ours = near_crop_edge(boxes, crop, (120, 100), near=7)
    np.testing.assert_array_equal(ours, theirs.numpy())
    assert ours.any() and not ours.all()


def test_stability_and_run_lengths_are_those_of_the_reference(amg):
    import torch

    logits = np.random.default_rng(1).normal(0, 3, (6, 17, 23)).astype(np.float32)
    logits = ndimage.gaussian_filter(logits, (0, 2, 2)) * 4
    theirs = amg.calculate_stability_score(torch.as_tensor(logits), 0.0, 1.0)
    np.testing.assert_allclose(stability(logits), theirs.numpy(), rtol=1e-6)
    rles = amg.mask_to_rle_pytorch(torch.as_tensor(logits > 0))
    for mask, rle in zip(logits > 0, rles, strict=True):
        assert encode_mask(mask) == rle
        np.testing.assert_array_equal(decode_mask(rle), amg.rle_to_mask(rle))


def test_crops_of_a_picture_by_hand():
    found = crop_windows((80, 100), 1, 0.25)
    assert found[0] == (0, Window(0, 0, 80, 100))
    assert [w for _, w in found[1:]] == [
        Window(row, col, 50, 60) for col in (0, 40) for row in (0, 30)
    ]


def test_small_holes_are_filled_and_small_islands_dropped():
    mask = np.zeros((20, 20), bool)
    mask[2:12, 2:12] = True
    mask[4:6, 4:6] = mask[8:11, 8:11] = False
    mask[15, 15] = True
    filled = fill_small_holes(mask, 5)
    assert filled[4:6, 4:6].all() and not filled[8:11, 8:11].any()
    assert not drop_small_islands(mask, 2)[15, 15]
    assert drop_small_islands(mask, 2).sum() == mask.sum() - 1
    assert drop_small_islands(mask, 1000).sum() == mask.sum() - 1, "the largest stays"


class Grown:
    """Answers a mask with itself, but for a speck and a pinhole; counts what it encodes."""

    size, name, signature = 96, "grown", "3" * 64

    def __init__(self):
        self.encoded = 0

    def encode(self, pixels):
        self.encoded += len(pixels)
        return {"nothing": pixels[:, :1, :1, :1]}

    def decode(self, features, prompts):
        masks = np.stack([prompt.masks[0] for prompt in prompts]).copy()
        for mask in masks:
            rows, cols = np.nonzero(mask)
            mask[int(rows.mean()), int(cols.mean())] = False
        return np.where(masks, 8.0, -8.0).astype(np.float32), np.full(len(masks), 0.9)


def field(size=96):
    pixels, objects = object_scene((size, size), 2, seed=3, radius=(7, 10))
    return pixels.astype(np.float32) / 255, objects


def test_shapes_hold_every_object_and_stay_off_nodata():
    pixels, objects = field()
    found = find_shapes(pixels)
    for true in objects:
        whole = true.paste((96, 96))
        best = max(
            (s.paste((96, 96)) & whole).sum() / (s.paste((96, 96)) | whole).sum() for s in found
        )
        assert best > 0.8
    valid = np.ones((96, 96), bool)
    valid[:, :30] = False
    assert all(shape.window.col >= 30 for shape in find_shapes(pixels, valid))


def test_the_deepest_point_is_inside_and_deepest():
    mask = np.zeros((9, 12), bool)
    mask[1:8, 1:4] = True
    mask[1:6, 4:9] = True
    x, y = deepest(Cutout(Window(10, 20, 9, 12), mask))
    depth = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    assert depth[int(y) - 10, int(x) - 20] == depth.max()


def pinholes(mask):
    """Count the pixels of holes; ground hangs together at corners, as in the reference."""
    filled = ndimage.binary_fill_holes(mask.cutout.mask, np.ones((3, 3)))
    return filled.sum() - mask.cutout.area


def test_layers_of_crops_encode_each_crop_and_pinholes_are_mended():
    pixels, objects = field()
    rules = GenerationRules(points_per_side=0, shapes=True, max_mask_share=0.5)
    model = Grown()
    plain = generate_masks(model, pixels, rules)
    assert model.encoded == 1
    model = Grown()
    layered = generate_masks(
        model, pixels, GenerationRules(
            points_per_side=0, shapes=True, max_mask_share=0.5, crop_n_layers=1,
            min_mask_region_area=6,
        ),
    )  # fmt: skip
    assert model.encoded == 5
    for true in objects:
        whole = true.paste((96, 96))
        for found, least in ((plain, 0.75), (layered, 0.75)):
            masks = [mask.cutout.paste((96, 96)) for mask in found]
            assert max((m & whole).sum() / (m | whole).sum() for m in masks) > least
    small = [m for m in layered if m.crop.width < 96]
    assert small, "the smallest crop comes first"
    assert max(map(pinholes, layered)) == 0 < max(map(pinholes, plain))


@pytest.mark.parametrize("more", [{}, {"min_mask_region_area": 6}, {"crop_n_layers": 1}])
def test_masks_of_a_tile_that_its_edge_cuts_are_told_apart_by_masks_not_boxes(more):
    """A river from corner to corner and the land on both sides of it have the same box."""
    y, x = np.mgrid[:96, :96]
    river = abs(x - y) < 12
    pixels = np.where(river, 0.2, 0.6) + np.zeros((3, 1, 1))
    pixels[1] += 0.2 * (x - y > 12)
    rules = GenerationRules(points_per_side=0, shapes=True, **more)
    pixels = pixels.astype(np.float32)

    def wide(goes_on):
        found = generate_masks(Grown(), pixels, rules, goes_on=goes_on)
        return [m for m in found if m.cutout.window.height * m.cutout.window.width > 0.7 * 96**2]

    assert len(wide(False)) < len(wide(True))
    best = max((m.cutout.paste((96, 96)) == river).mean() for m in wide(True))
    assert best > 0.9


def test_faint_masks_come_back_only_where_a_tile_cuts_them():
    """A pale disc in the middle, and a pale strip through the picture; faint beside the rule."""
    y, x = np.mgrid[:96, :96]
    rng = np.random.default_rng(0)
    shown = ((y - 30) ** 2 + (x - 48) ** 2 < 15**2) | (abs(y - 75) < 8)
    pixels = 0.4 + 0.06 * shown + 0.02 * rng.standard_normal((3, 96, 96))
    rules = GenerationRules(points_per_side=0, shapes=True, edge_contrast=4.0)

    def found(goes_on, **changed):
        return generate_masks(
            Grown(), pixels.astype(np.float32), replace(rules, **changed), goes_on=goes_on
        )

    assert any(m.cutout.window.row_end < 50 for m in found(False, edge_contrast=1.0))
    assert found(False) == []
    faint = found(True)
    assert faint
    assert not any(mask.sure for mask in faint)
    assert all(is_cut(mask.cutout, (96, 96)) for mask in faint), "the disc is not among them"


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        ({"pred_iou_thresh": 1.2}, "--pred-iou-thresh 1.2 must lie between 0 and 1"),
        ({"points_per_batch": 0}, "--points-per-batch 0 must be 1 or more"),
        ({"stability_score_offset": 0}, "must be greater than 0"),
        ({"crop_n_layers": 5}, "must be 4 or less"),
        ({"points_per_side": 0}, "asks the model nothing"),
    ],
)
def test_rules_outside_their_range_are_refused(rules, words):
    with pytest.raises(OptionError, match=words):
        GenerationRules(**rules)


def test_what_is_asked_for_comes_before_what_a_model_recorded():
    recorded = {"points_per_side": 8, "pred_iou_thresh": 0.5, "unknown": 1}
    rules = GenerationRules.of({"points_per_side": 4, "pred_iou_thresh": None}, recorded)
    assert (rules.points_per_side, rules.pred_iou_thresh, rules.box_nms_thresh) == (4, 0.5, 0.7)
