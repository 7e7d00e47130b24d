"""Masks of objects whose boxes are given: average precision, of masks and of their outlines.

Kirillov et al. 2023, Segment Anything, https://arxiv.org/abs/2304.02643, section 7.4; outlines by
Cheng et al. 2021, Boundary IoU, https://arxiv.org/abs/2103.16562.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from geosam.cutouts import Cutout, cut_out, mask_iou
from geosam.decoding import decode_boxes, encode_picture
from geosam.errors import InputError
from geosam.protocols.examples import Dataset, Example, examples
from geosam.protocols.matching import THRESHOLDS, average_precision, match
from geosam.protocols.strata import mean
from geosam.scores import boundary_iou
from geosam.types import Model

BAND_SHARE = 0.02
"""Width of the band along an outline, as a share of the picture's diagonal: the authors' choice."""


@dataclass(frozen=True)
class Detections:
    """What a detector found in a picture."""

    boxes: np.ndarray
    """(n, 4): x_min, y_min, x_max, y_max in pixels from the outer corner of the first."""
    scores: np.ndarray
    """(n,): how sure it is."""

    def __post_init__(self) -> None:
        if self.boxes.shape != (len(self.scores), 4):
            raise InputError(
                f"{len(self.scores)} scores and boxes of shape {self.boxes.shape} are no "
                "detections: there must be one box of four numbers for each."
            )


@dataclass(frozen=True)
class Answers:
    """The masks of a picture's boxes, and the true objects."""

    found: Sequence[Cutout | None]
    """One mask a box; None where it is empty."""
    scores: np.ndarray
    """(n,): the higher the surer."""
    truths: Sequence[Cutout]
    """True objects."""
    shape: tuple[int, int]
    """Rows and columns of the picture."""


@dataclass(frozen=True)
class InstanceScores:
    """Average precision; NaN where there is no object."""

    n_objects: int
    """True objects."""
    n_boxes: int
    """Boxes given."""
    ap: float
    """COCO's: 101 recalls, mean over IoU thresholds 0.5 to 0.95."""
    ap50: float
    """At IoU 0.5."""
    ap75: float
    """At IoU 0.75."""
    boundary_ap: float
    """The first, of the lesser of mask IoU and boundary IoU."""
    iou: float
    """Mean mask IoU over the true objects, 0 where no mask has IoU 0.5 with one."""
    boundary_iou: float
    """Mean boundary IoU of the same masks, 0 likewise."""

    def to_dict(self) -> dict[str, Any]:
        """Return the figures by name."""
        return asdict(self)


def instances(
    model: Model,
    dataset: Dataset,
    detections: Sequence[Detections] | None = None,
    *,
    batch: int = 16,
) -> InstanceScores:
    """Turn boxes into masks, and compare these with the true objects.

    Parameters
    ----------
    model
        Decodes a box.
    dataset
        Of pictures of the model's size.
    detections
        Of each picture. Where left out, the boxes of the true objects are given, and the model's
        predicted IoU says how sure it is.
    batch
        Boxes decoded at once. A picture is encoded once.

    Returns
    -------
    InstanceScores

    Raises
    ------
    InputError
        A picture has not the model's size, or there are more or fewer detections than pictures.
    """
    if detections is not None and len(detections) != len(dataset):
        raise InputError(
            f"There are detections for {len(detections)} pictures and {len(dataset)} pictures: one "
            "entry is needed for each."
        )
    answers = [
        _answer(model, example, detections[i] if detections is not None else None, batch)
        for i, example in enumerate(examples(dataset))
    ]
    return score_instances(answers)


def score_instances(answers: Sequence[Answers]) -> InstanceScores:
    """Compute average precision and mean IoU over pictures.

    An answer stands for one object at most: each, surest first, takes the object it fits best
    among those still free.
    """
    sorted_ = [_by_score(answer) for answer in answers]
    ious = [_both_ious(answer) for answer in sorted_]
    masks, lesser = [m for m, _ in ious], [np.minimum(m, b) for m, b in ious]
    scores = np.concatenate([np.empty(0), *(answer.scores for answer in sorted_)])
    n_objects = sum(len(answer.truths) for answer in answers)
    aps = {t: _precision_at(masks, scores, n_objects, t) for t in THRESHOLDS}
    edge_aps = [_precision_at(lesser, scores, n_objects, t) for t in THRESHOLDS]
    matched = [_matched(m, b) for m, b in ious]
    both = np.concatenate([np.empty((0, 2)), *matched])
    return InstanceScores(
        n_objects=n_objects,
        n_boxes=len(scores),
        ap=float(np.mean(list(aps.values()))),
        ap50=aps[0.5],
        ap75=aps[0.75],
        boundary_ap=float(np.mean(edge_aps)),
        iou=mean(both[:, 0]),
        boundary_iou=mean(both[:, 1]),
    )


def box_masks(
    model: Model, pixels: np.ndarray, boxes: np.ndarray, batch: int = 16
) -> tuple[np.ndarray, np.ndarray]:
    """Decode boxes on one picture: masks (n, size, size) bool, and predicted IoU (n,)."""
    masks = np.zeros((len(boxes), *pixels.shape[1:]), bool)
    scores = np.zeros(len(boxes))
    if len(boxes):
        features = encode_picture(model, pixels)
        for part, logits, rated in decode_boxes(model, features, boxes, batch):
            masks[part], scores[part] = logits > 0, rated
    return masks, scores


def _answer(model: Model, example: Example, given: Detections | None, batch: int) -> Answers:
    truths = example.cutouts
    boxes = (
        np.array([t.box for t in truths], float).reshape(-1, 4) if given is None else given.boxes
    )
    masks, rated = box_masks(model, example.pixels, boxes, batch)
    found = [cut_out(mask & ~example.ignore) for mask in masks]
    scores = rated if given is None else np.asarray(given.scores, float)
    counted = [
        i for i, mask in enumerate(masks)
        if not _lies_on(example.ignore, mask) or _fits_any(found[i], truths)
    ]  # fmt: skip
    return Answers([found[i] for i in counted], scores[counted], truths, example.ignore.shape)


def _lies_on(ignored: np.ndarray, mask: np.ndarray) -> bool:
    """Whether more than half of a mask is on ignored ground, where nobody knows if it is right."""
    return bool(2 * (mask & ignored).sum() > mask.sum())


def _fits_any(found: Cutout | None, truths: Sequence[Cutout]) -> bool:
    return found is not None and any(mask_iou(found, t) >= THRESHOLDS[0] for t in truths)


def _by_score(answer: Answers) -> Answers:
    order = np.argsort(-answer.scores, kind="stable")
    found = [answer.found[i] for i in order]
    return Answers(found, answer.scores[order], answer.truths, answer.shape)


def _both_ious(answer: Answers) -> tuple[np.ndarray, np.ndarray]:
    """Mask IoU and boundary IoU of answers with objects, (n, m) each."""
    masks = np.zeros((len(answer.found), len(answer.truths)))
    edges = np.zeros_like(masks)
    width = max(1.0, BAND_SHARE * float(np.hypot(*answer.shape)))
    for i, found in enumerate(answer.found):
        for j, truth in enumerate(answer.truths):
            masks[i, j] = 0.0 if found is None else mask_iou(found, truth)
            if found is not None and masks[i, j] >= THRESHOLDS[0]:
                pair = found.paste(answer.shape), truth.paste(answer.shape)
                edges[i, j] = boundary_iou(*pair, width)
    return masks, edges


def _precision_at(
    ious: Sequence[np.ndarray], scores: np.ndarray, n_objects: int, threshold: float
) -> float:
    hits = np.concatenate([np.empty(0, bool), *(match(m, threshold) >= 0 for m in ious)])
    return average_precision(scores, hits, n_objects)


def _matched(masks: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Mask IoU and boundary IoU of each object's answer, (m, 2), 0 where it has none."""
    out = np.zeros((masks.shape[1], 2))
    for i, j in enumerate(match(masks, THRESHOLDS[0])):
        if j >= 0:
            out[j] = masks[i, j], edges[i, j]
    return out
