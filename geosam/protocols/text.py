"""From words to masks: a detector's boxes, the best of those that overlap, a mask each.

The chain of Ren et al. 2024, Grounded SAM, https://arxiv.org/abs/2401.14159.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from geosam.boxes import suppress
from geosam.errors import OptionError, PromptError
from geosam.protocols.examples import Dataset, examples
from geosam.protocols.instances import box_masks
from geosam.scores import IGNORED
from geosam.summaries import SetEvaluation, score_label, summarise
from geosam.types import Model, TextDetector


@dataclass(frozen=True)
class TextRules:
    """Which of the detector's boxes stay."""

    min_score: float = 0.3
    """A box goes unless the detector is surer than this."""
    max_overlap: float = 0.5
    """Of boxes for one phrase with a higher IoU than this only the surest stays."""
    batch: int = 16
    """Boxes decoded at once."""

    def __post_init__(self) -> None:
        if not (0 <= self.min_score <= 1 and 0 <= self.max_overlap <= 1):
            raise OptionError(
                f"A least score of {self.min_score} and an overlap of {self.max_overlap} must lie "
                "in 0 to 1. Use 0.3 and 0.5."
            )


@dataclass(frozen=True)
class TextMasks:
    """What phrases name in one picture, the surest first."""

    masks: np.ndarray
    """(n, size, size) bool."""
    boxes: np.ndarray
    """(n, 4): x_min, y_min, x_max, y_max in pixels from the outer corner of the first."""
    scores: np.ndarray
    """(n,): how sure the detector is."""
    predicted_iou: np.ndarray
    """(n,): the model's own estimate of its mask."""
    labels: tuple[str, ...]
    """The phrase each is for."""

    @property
    def ids(self) -> np.ndarray:
        """(size, size) int32: the number of the surest mask there from 1, or 0."""
        out = np.zeros(self.masks.shape[1:], np.int32)
        for i in range(len(self.masks) - 1, -1, -1):
            out[self.masks[i]] = i + 1
        return out


@dataclass(frozen=True)
class TextScores:
    """Agreement of all masks of a phrase together with the true objects."""

    phrase: str
    """The phrase."""
    n_boxes: int
    """Boxes that stayed."""
    figures: SetEvaluation
    """Of the pixels, picture by picture and pooled; pictures without it by what is false."""

    def to_dict(self) -> dict[str, Any]:
        """Return the figures by name."""
        return {"phrase": self.phrase, "n_boxes": self.n_boxes, **self.figures.to_dict()}


def text(
    model: Model,
    dataset: Dataset,
    phrase: str,
    detector: TextDetector,
    *,
    rules: TextRules | None = None,
    tolerance_px: float = 2,
) -> TextScores:
    """Find what a phrase names, and compare it with the true objects, all of which it names.

    Parameters
    ----------
    model
        Decodes a box.
    dataset
        Of pictures of the model's size.
    phrase
        What the objects are called.
    detector
        Finds boxes by name.
    rules
        Which of its boxes stay.
    tolerance_px
        How far a bank may be off and still count as found.

    Returns
    -------
    TextScores

    Raises
    ------
    PromptError
        The phrase is empty, or the detector does not know it.
    InputError
        A picture has not the model's size.
    """
    images, n_boxes = [], 0
    for i, example in enumerate(examples(dataset)):
        found = text_masks(model, example.pixels, [phrase], detector, rules)
        n_boxes += len(found.boxes)
        truth = np.where(example.ignore, IGNORED, example.union).astype(np.uint8)
        answer = (found.ids > 0).astype(np.uint8)
        images.append(score_label(answer, truth, tolerance_px, name=str(i)))
    return TextScores(phrase, n_boxes, summarise(images))


def text_masks(
    model: Model,
    pixels: np.ndarray,
    phrases: Sequence[str],
    detector: TextDetector,
    rules: TextRules | None = None,
) -> TextMasks:
    """Find what phrases name in one picture.

    Parameters
    ----------
    model
        Decodes a box.
    pixels : (3, size, size) float32
        0 to 1, nodata 0.5; of the model's size.
    phrases
        What to look for.
    detector
        Finds boxes by name.
    rules
        Which of its boxes stay.

    Returns
    -------
    TextMasks
        Without any mask where the detector knows the phrases and finds nothing.

    Raises
    ------
    PromptError
        There is no phrase, or the detector does not know one.
    """
    rules = rules or TextRules()
    if not phrases or not all(phrase.strip() for phrase in phrases):
        raise PromptError(f"The phrases {list(phrases)} name nothing to look for. Use 'water'.")
    boxes, scores, labels = detector.detect(pixels, phrases)
    kept = _kept(np.asarray(boxes, float).reshape(-1, 4), np.asarray(scores, float), labels, rules)
    boxes = np.asarray(boxes, float).reshape(-1, 4)[kept]
    masks, rated = box_masks(model, pixels, boxes, rules.batch)
    return TextMasks(
        masks, boxes, np.asarray(scores, float)[kept], rated, tuple(labels[i] for i in kept)
    )


def _kept(
    boxes: np.ndarray, scores: np.ndarray, labels: Sequence[str], rules: TextRules
) -> np.ndarray:
    """Choose boxes, phrase by phrase, the surest of all first."""
    sure = np.flatnonzero(scores > rules.min_score)
    chosen: list[int] = []
    for label in dict.fromkeys(labels):
        own = np.array([i for i in sure.tolist() if labels[i] == label], dtype=int)
        chosen += own[suppress(boxes[own], scores[own], rules.max_overlap)].tolist()
    return np.array(sorted(chosen, key=lambda i: -scores[i]), dtype=int)
