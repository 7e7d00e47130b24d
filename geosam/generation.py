"""Masks of everything in a picture: what a model is asked, and what of its answers is sure and new.

Kirillov et al. 2023, Segment Anything, https://arxiv.org/abs/2304.02643, appendix B.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from scipy import ndimage
from skimage.transform import resize

from geosam.boxes import box_iou, suppress
from geosam.crops import NEAR_PX, crop_windows, near_crop_edge
from geosam.cutouts import Cutout, cut_out, mask_iou
from geosam.decoding import decode_clicks, decode_masks, encode_picture
from geosam.edges import edge_contrast, snap
from geosam.generation_rules import GenerationRules
from geosam.shapes import deepest, find_shapes
from geosam.small_regions import drop_small_islands, fill_small_holes
from geosam.types import Features, Model, Window

SAM_PX = 1024
"""Side of the pictures that SAM's distances are meant for."""

NEAR_SHAPE_PX, NEAR_SHAPE = 8, 0.25
"""Pixels around the box of a shape in which an answer counts: at least, and of its longer side."""
FAR_LOGIT = -32.0
"""Logit of what is denied."""
FAINT = 0.5
"""Share of the contrast that an edge must have which is enough to go on with what another tile is sure of."""
CUT_PX = 4
"""Pixels from the edge of what a tile sees within which a mask counts as cut by it: models shy away
from the edge of what they see."""
MOST_OF_PICTURE = 0.95
"""Share of a picture from which on a mask is of the picture and not of something in it."""


@dataclass(frozen=True)
class GeneratedMask:
    """One mask, and what the model thinks of it."""

    cutout: Cutout
    """The mask."""
    predicted_iou: float
    """The model's own estimate."""
    stability: float
    """IoU of the masks at a higher and at a lower threshold."""
    click: tuple[float, float]
    """x, y of the click that gave it, or of the deepest point of the shape that was asked about, in
    pixels from the outer corner of the first."""
    crop: Window
    """The part of the picture that it was seen in."""
    sure: bool = True
    """Whether its edge has the contrast that is wanted: a faint one only goes on with what is sure."""

    @property
    def confidence(self) -> float:
        """Mean of predicted IoU and stability: the order of proposals in the paper."""
        return (self.predicted_iou + self.stability) / 2


def generate_masks(
    model: Model,
    pixels: np.ndarray,
    rules: GenerationRules | None = None,
    valid: np.ndarray | None = None,
    features: Features | None = None,
    part: Window | None = None,
    goes_on: bool = False,
) -> list[GeneratedMask]:
    """Find masks of everything in one picture.

    Parameters
    ----------
    model
        Gives several masks a click, where there are clicks.
    pixels : (3, size, size) float32
        0 to 1, nodata 0.5; of the model's size.
    rules
        What is asked, and which masks stay.
    valid : (size, size) bool, optional
        False where nodata: there is neither click nor mask.
    features
        Of the whole picture, where they are known already.
    part
        What a mask must reach into; all of the picture by default. What lies elsewhere is not asked
        about, where that is known before.
    goes_on
        The picture is a tile of something larger. Masks that reach its edge are parts of objects then:
        their boxes, which the tile cuts alike, do not make them the same, and those with a faint
        edge come back as well.

    Returns
    -------
    list of GeneratedMask
        Best predicted IoU first.

    Raises
    ------
    InputError
        The picture has not the model's size.
    ModelError
        The model gives one mask a click only.
    """
    rules = rules or GenerationRules()
    known = np.ones((model.size, model.size), bool) if valid is None else valid
    crops = crop_windows(known.shape, rules.crop_n_layers, rules.crop_overlap_ratio)
    found: list[GeneratedMask] = []
    wanted = part or Window(0, 0, *known.shape)
    for layer, crop in crops:
        there = features if layer == 0 else None
        inner = wanted.intersection(crop)
        if inner is not None:
            place = layer, crop, inner
            found += _masks_of_crop(model, pixels, rules, known, place, there, goes_on)
    cut_by = known.shape if goes_on else None
    if len(crops) > 1:
        sizes = [-mask.crop.height * mask.crop.width for mask in found]
        found = _apart(found, sizes, rules.crop_nms_thresh, rules, cut_by)
    if rules.min_mask_region_area:
        found = _mend(found, rules, cut_by)
    return sorted(found, key=lambda mask: -mask.predicted_iou)


def masks_at(
    model: Model,
    pixels: np.ndarray,
    point: tuple[float, float],
    rules: GenerationRules | None = None,
    valid: np.ndarray | None = None,
    features: Features | None = None,
    most: int = 3,
) -> list[GeneratedMask]:
    """Find what a single click may mean: whole, part and subpart.

    Parameters
    ----------
    model
        Gives several masks a click.
    pixels : (3, size, size) float32
        0 to 1, nodata 0.5; of the model's size.
    point
        x, y in pixels from the outer corner of the first.
    rules
        What is asked: the click, and with ``shapes`` also the shapes under it. Of the thresholds only
        ``mask_nms_thresh`` and ``edge_contrast`` are read.
    valid : (size, size) bool, optional
        False where nodata: there is no mask.
    features
        Of the picture, where they are known already.
    most
        How many masks come back.

    Returns
    -------
    list of GeneratedMask
        Those with edges that the picture has come first, and of these the more confident. No two are
        alike.
    """
    rules = replace(
        rules or GenerationRules(),
        pred_iou_thresh=0.0,
        stability_score_thresh=0.0,
        max_mask_share=MOST_OF_PICTURE,
    )
    if features is None:
        features = encode_picture(model, pixels)
    known = np.ones((model.size, model.size), bool) if valid is None else valid
    found = list(_clicked(model, features, np.array([point]), rules, known))
    if rules.shapes:
        pixel = Window(int(point[1]), int(point[0]), 1, 1)
        under = [shape for shape in find_shapes(pixels, known) if _reaches(shape, pixel)]
        found += _of_shapes(model, features, under, rules, known)
    found = _distinct(_on_edges(found, pixels, rules, known), rules.mask_nms_thresh)

    def rank(mask: GeneratedMask) -> tuple[bool, float]:
        # What surrounds all else has no outer edge to be known by.
        contrast = edge_contrast(mask.cutout, pixels, known) if rules.edge_contrast else np.inf
        return not rules.edge_contrast <= contrast < np.inf, -mask.confidence

    return sorted(found, key=rank)[:most]


def click_grid(per_side: int, size: int) -> np.ndarray:
    """Lay clicks in the middles of equal squares, row by row: (n, 2) of x, y in pixels.

    Examples
    --------
    >>> click_grid(2, 8).tolist()
    [[2.0, 2.0], [6.0, 2.0], [2.0, 6.0], [6.0, 6.0]]
    """
    middles = (np.arange(per_side) + 0.5) / max(per_side, 1) * size
    y, x = np.meshgrid(middles, middles, indexing="ij")
    return np.stack([x.ravel(), y.ravel()], axis=1)


def stability(logits: np.ndarray, offset: float = 1.0) -> np.ndarray:
    """Compute how little masks depend on their threshold, (..., y, x) -> (...).

    The pixels above `offset` over those above minus `offset`: the IoU of the two masks. A mask
    that is empty at both has 0.

    Examples
    --------
    >>> stability(np.array([[[2.0, 0.5, -0.5, -2.0]]])).tolist()
    [0.3333333333333333]
    """
    high = (logits > offset).sum(axis=(-2, -1))
    low = (logits > -offset).sum(axis=(-2, -1))
    return np.divide(high, low, out=np.zeros(high.shape), where=low > 0)


def _masks_of_crop(
    model: Model,
    pixels: np.ndarray,
    rules: GenerationRules,
    known: np.ndarray,
    place: tuple[int, Window, Window],
    features: Features | None,
    goes_on: bool,
) -> list[GeneratedMask]:
    """Find the masks of one crop that reach a part of it, in pixels of the whole picture."""
    layer, crop, part = place
    shown = pixels if layer == 0 else _enlarged(pixels[(..., *crop.slices())], model.size)
    if features is None:
        features = encode_picture(model, shown)
    there = known[crop.slices()]
    per_side = int(rules.points_per_side / rules.crop_n_points_downscale_factor**layer)
    points = _on_data(click_grid(per_side, model.size), there, model.size)
    found = list(_clicked(model, features, points, rules, there)) if len(points) else []
    if rules.shapes:
        valid = resize(there, shown.shape[1:], order=0).astype(bool)
        inner = _enlarged_window(part, crop, model.size)
        shapes = [shape for shape in find_shapes(shown, valid) if _reaches(shape, inner)]
        found += _of_shapes(model, features, shapes, rules, there)
    moved = [_uncropped(mask, crop, model.size) for mask in found]
    near = NEAR_PX * max(known.shape) / SAM_PX
    boxes = np.array([mask.cutout.box for mask in moved], float).reshape(-1, 4)
    cut = near_crop_edge(boxes, crop, known.shape, near)
    whole = [
        mask
        for mask, is_cut in zip(moved, cut, strict=True)
        if not is_cut and _reaches(mask.cutout, part)
    ]
    rated = [mask.predicted_iou for mask in whole]
    best = _apart(whole, rated, rules.box_nms_thresh, rules, known.shape if goes_on else None)
    edged = _on_edges(best, pixels, rules, known)
    clear = _with_contrast(edged, pixels, rules, known, goes_on)
    return _distinct(clear, rules.mask_nms_thresh)


def _apart(
    found: Sequence[GeneratedMask],
    scores: Sequence[float],
    most: float,
    rules: GenerationRules,
    cut_by: tuple[int, ...] | None,
) -> list[GeneratedMask]:
    """Drop the worse of masks with like boxes, or of cut ones, whose boxes are all of a tile, like masks."""
    cut = [cut_by is not None and is_cut(mask.cutout, cut_by) for mask in found]
    inner = [k for k, c in enumerate(cut) if not c]
    parts = [k for k, c in enumerate(cut) if c]
    best = _best([found[k] for k in inner], [scores[k] for k in inner], most)
    cut_scores = [scores[k] for k in parts]
    return best + _distinct([found[k] for k in parts], rules.mask_nms_thresh, cut_scores)


def _with_contrast(
    found: Sequence[GeneratedMask],
    pixels: np.ndarray,
    rules: GenerationRules,
    valid: np.ndarray,
    goes_on: bool,
) -> Iterator[GeneratedMask]:
    """Keep masks whose edges the picture has, and faint ones that a tile cuts."""
    if not rules.edge_contrast:
        yield from found
        return
    for mask in found:
        contrast = edge_contrast(mask.cutout, pixels, valid) / rules.edge_contrast
        if contrast >= 1:
            yield mask
        elif contrast >= FAINT and goes_on and is_cut(mask.cutout, valid.shape):
            yield replace(mask, sure=False)


def is_cut(cutout: Cutout, shape: tuple[int, ...]) -> bool:
    """Return whether a mask reaches the edge of a picture of some rows and columns."""
    window = cutout.window
    first, last = min(window.row, window.col), (window.row_end, window.col_end)
    return first <= CUT_PX or any(end >= n - CUT_PX for end, n in zip(last, shape, strict=True))


def _clicked(
    model: Model, features: Features, points: np.ndarray, rules: GenerationRules, valid: np.ndarray
) -> Iterator[GeneratedMask]:
    for part, logits, scores in decode_clicks(model, features, points, rules.points_per_batch):
        for point, masks, rated in zip(points[part], logits, scores, strict=True):
            yield from _sure([tuple(point)] * len(masks), masks, rated, rules, valid)


def _of_shapes(
    model: Model,
    features: Features,
    shapes: Sequence[Cutout],
    rules: GenerationRules,
    valid: np.ndarray,
) -> Iterator[GeneratedMask]:
    answers = decode_masks(model, features, shapes, rules.points_per_batch)
    for part, logits, scores in answers:
        asked = [partial(deepest, shape) for shape in shapes[part]]
        for answer, shape in zip(logits, shapes[part], strict=True):
            _stay_near(answer, shape)
        yield from map(_in_one_part, _sure(asked, logits, scores, rules, valid))


def _stay_near(logits: np.ndarray, shape: Cutout) -> None:
    """Deny what an answer says far from the shape that was asked about: it is of other things alike."""
    window = shape.window
    beside = max(NEAR_SHAPE_PX, int(NEAR_SHAPE * max(window.height, window.width)))
    rows = slice(max(window.row - beside, 0), window.row_end + beside)
    cols = slice(max(window.col - beside, 0), window.col_end + beside)
    near = logits[rows, cols].copy()
    logits[:] = FAR_LOGIT
    logits[rows, cols] = near


def _sure(
    points: Sequence,
    logits: np.ndarray,
    scores: np.ndarray,
    rules: GenerationRules,
    valid: np.ndarray,
) -> Iterator[GeneratedMask]:
    """Keep masks, (n, size, size), that are rated well, stable, and neither empty nor all."""
    stable = stability(logits, rules.stability_score_offset)
    sure = (scores > rules.pred_iou_thresh) & (stable >= rules.stability_score_thresh)
    most = rules.max_mask_share * valid.size
    for i in np.flatnonzero(sure).tolist():
        inside = (
            logits[i] if logits[i].shape == valid.shape else resize(logits[i], valid.shape, order=1)
        )
        cutout = cut_out((inside > 0) & valid)
        if cutout is not None and cutout.area <= most:
            x, y = points[i]() if callable(points[i]) else points[i]
            whole = Window(0, 0, *valid.shape)
            yield GeneratedMask(
                cutout, float(scores[i]), float(stable[i]), (float(x), float(y)), whole
            )


def _uncropped(mask: GeneratedMask, crop: Window, size: int) -> GeneratedMask:
    """Move a mask from its crop to where that lies in the picture."""
    window = mask.cutout.window
    moved = Window(window.row + crop.row, window.col + crop.col, window.height, window.width)
    x, y = mask.click
    click = crop.col + x * crop.width / size, crop.row + y * crop.height / size
    return replace(mask, cutout=Cutout(moved, mask.cutout.mask), click=click, crop=crop)


def _best(
    found: Sequence[GeneratedMask], scores: Sequence[float], most: float
) -> list[GeneratedMask]:
    """Keep the best of masks whose boxes overlap."""
    if not found:
        return []
    boxes = np.array([mask.cutout.box for mask in found])
    return [found[i] for i in suppress(boxes, np.array(scores), most)]


def _distinct(
    found: Iterable[GeneratedMask], most: float, scores: Sequence[float] | None = None
) -> list[GeneratedMask]:
    """Keep the best of masks that overlap, sure ones before faint ones: by predicted IoU without scores."""
    masks = list(found)
    rated = [mask.predicted_iou for mask in masks] if scores is None else scores
    order = sorted(range(len(masks)), key=lambda k: (not masks[k].sure, -rated[k]))
    ranked = [masks[k] for k in order]
    if most >= 1:
        return ranked
    kept: list[GeneratedMask] = []
    for mask in ranked:
        box = np.array([mask.cutout.box])
        boxes = np.array([other.cutout.box for other in kept]).reshape(-1, 4)
        # Two masks that overlap by a share have boxes that overlap somewhat.
        near = np.flatnonzero(box_iou(box, boxes)[0] > most / 4)
        if all(mask_iou(mask.cutout, kept[k].cutout) <= most for k in near):
            kept.append(mask)
    return kept


def _mend(
    found: list[GeneratedMask], rules: GenerationRules, cut_by: tuple[int, ...] | None
) -> list[GeneratedMask]:
    """Mend small regions; of masks that are the same then, one that was not mended stays."""
    mended, scores = [], []
    for mask in found:
        # A margin, so that the ground outside the box is one part and large.
        edge = int(rules.min_mask_region_area) + 1
        padded = np.pad(mask.cutout.mask, edge)
        whole = drop_small_islands(
            fill_small_holes(padded, rules.min_mask_region_area), rules.min_mask_region_area
        )
        inner = whole[edge:-edge, edge:-edge]
        same = np.array_equal(inner, mask.cutout.mask)
        mended.append(mask if same else replace(mask, cutout=_trimmed(mask.cutout, inner)))
        scores.append(float(same))
    most = max(rules.box_nms_thresh, rules.crop_nms_thresh)
    return _apart(mended, scores, most, rules, cut_by)


def _trimmed(cutout: Cutout, mask: np.ndarray) -> Cutout:
    inner = cut_out(mask)
    assert inner is not None
    window = inner.window
    place = Window(
        window.row + cutout.window.row, window.col + cutout.window.col, window.height, window.width
    )
    return Cutout(place, inner.mask)


def _on_edges(
    found: Sequence[GeneratedMask], pixels: np.ndarray, rules: GenerationRules, valid: np.ndarray
) -> list[GeneratedMask]:
    """Move the edges of masks to where colours part."""
    reach = rules.snap_px
    if not reach:
        return list(found)
    return [replace(m, cutout=snap(m.cutout, pixels, reach, valid)) for m in found]


def _in_one_part(mask: GeneratedMask) -> GeneratedMask:
    """Keep the largest part of a mask: islands far away make its box that of something else."""
    parts, n = ndimage.label(mask.cutout.mask)
    if n == 1:
        return mask
    largest = np.bincount(parts.ravel())[1:].argmax() + 1
    return replace(mask, cutout=_trimmed(mask.cutout, parts == largest))


def _reaches(shape: Cutout, part: Window) -> bool:
    there = shape.window.intersection(part)
    return there is not None and bool(shape.mask[there.slices(shape.window)].any())


def _enlarged_window(part: Window, crop: Window, size: int) -> Window:
    """Bring a part of a crop from pixels of the picture to those that the model sees of the crop."""
    by_row, by_col = size / crop.height, size / crop.width
    row, col = int((part.row - crop.row) * by_row), int((part.col - crop.col) * by_col)
    return Window(row, col, round(part.height * by_row), round(part.width * by_col))


def _on_data(points: np.ndarray, valid: np.ndarray, size: int) -> np.ndarray:
    """Keep the clicks of a crop that are not on nodata."""
    scale = np.array(valid.shape[::-1]) / size
    cols, rows = (points * scale).astype(int).T
    return points[valid[rows, cols]]


def _enlarged(pixels: np.ndarray, size: int) -> np.ndarray:
    return resize(pixels, (len(pixels), size, size), order=1).astype(np.float32)
