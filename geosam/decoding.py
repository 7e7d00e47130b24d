"""Many prompts on one picture, which is encoded once for all of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from geosam.cutouts import Cutout
from geosam.errors import InputError, ModelError
from geosam.masks import PROMPTS_AT_ONCE, take
from geosam.types import Features, Model, PixelPrompts


def encode_picture(model: Model, pixels: np.ndarray) -> Features:
    """Encode one picture, (3, size, size) float32 of 0 to 1.

    Raises
    ------
    InputError
        It has not the size of the model's input.
    """
    if pixels.shape != (3, model.size, model.size):
        raise InputError(
            f"A picture has the shape {pixels.shape}, and {model.name} takes "
            f"{(3, model.size, model.size)}: cut or resample it to {model.size} px."
        )
    return model.encode(pixels[None].astype(np.float32))


def decode_clicks(
    model: Model, features: Features, points: np.ndarray, batch: int = PROMPTS_AT_ONCE
) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """Decode single clicks, and keep every mask of each.

    Parameters
    ----------
    model
        One that has ``decode_all``.
    features
        Of one picture.
    points : (n, 2)
        x, y in pixels from the outer corner of the first.
    batch : int
        Clicks that are decoded at once.

    Yields
    ------
    tuple
        Which clicks, their logits (b, m, size, size) and predicted IoU (b, m).

    Raises
    ------
    ModelError
        The model gives one mask a prompt only.
    """
    # Not isinstance: what stands for a model has the method by __getattr__ alone.
    decode_all = getattr(model, "decode_all", None)
    if not callable(decode_all):
        raise ModelError(
            f"{model.name} gives one mask for a click, and all of them are needed here: give it a "
            "method decode_all(features, prompts), or use a checkpoint of SAM or SAM 2."
        )
    label = np.ones((1, 1), int)
    for part in _parts(len(points), batch):
        prompts = [PixelPrompts(np.reshape(point, (1, 1, 2)), label) for point in points[part]]
        yield part, *decode_all(take(features, [0] * len(prompts)), prompts)


def decode_boxes(
    model: Model, features: Features, boxes: np.ndarray, batch: int = PROMPTS_AT_ONCE
) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """Decode boxes, (n, 4) of x_min, y_min, x_max, y_max: one mask each.

    Yields
    ------
    tuple
        Which boxes, their logits (b, size, size) and predicted IoU (b,).
    """
    for part in _parts(len(boxes), batch):
        prompts = [
            PixelPrompts(np.empty((1, 0, 2)), np.empty((1, 0), int), np.reshape(box, (1, 4)))
            for box in boxes[part]
        ]
        yield part, *model.decode(take(features, [0] * len(prompts)), prompts)


def decode_masks(
    model: Model, features: Features, masks: Sequence[Cutout], batch: int = PROMPTS_AT_ONCE
) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """Decode dense prompts: a mask is given, and the model's own is the answer.

    Yields
    ------
    tuple
        Which masks, their logits (b, size, size) and predicted IoU (b,).
    """
    shape = (model.size, model.size)
    for part in _parts(len(masks), batch):
        prompts = [
            PixelPrompts(np.empty((1, 0, 2)), np.empty((1, 0), int), masks=mask.paste(shape)[None])
            for mask in masks[part]
        ]
        yield part, *model.decode(take(features, [0] * len(prompts)), prompts)


def _parts(n: int, batch: int) -> Iterator[slice]:
    return (slice(start, min(start + batch, n)) for start in range(0, n, batch))
