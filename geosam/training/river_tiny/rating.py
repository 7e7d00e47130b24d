"""How well the promptable network follows prompts on validation tiles."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from transformers import Sam2Model

from geosam.models.unet import CoarseWaterNet
from geosam.training.losses import mask_iou
from geosam.training.river_tiny.batch_prompts import PromptPlan, Prompts, make_prompts
from geosam.training.river_tiny.network import TILE, normalise, set_tile_size
from geosam.training.river_tiny.painting import paint_river
from geosam.training.river_tiny.sources import Scene
from geosam.training.river_tiny.target_source import TargetSource, coarse_mask
from geosam.training.river_tiny.targets import (
    Target,
    one_component,
    water_target,
)
from geosam.training.river_tiny.tiles import FALSE_COLOURS, draw_tile
from geosam.training.simulation import (
    DENSE_LOGIT,
    signed_distance,
)


def answer(
    model: Sam2Model,
    prompts: Prompts,
    pixels: torch.Tensor | None = None,
    embeddings: list[torch.Tensor] | None = None,
    multimask: bool = False,
) -> tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]]:
    """Mask logits (n, m, y / 2, x / 2), predicted IoU (n, m), and the image embeddings."""
    out = model(
        pixel_values=pixels,
        image_embeddings=embeddings,
        input_points=prompts.points,
        input_labels=prompts.labels,
        input_boxes=prompts.boxes,
        input_masks=prompts.masks,
        multimask_output=multimask,
    )
    return out.pred_masks[:, 0].float(), out.iou_scores[:, 0].float(), out.image_embeddings


def validation_targets(scenes: dict[str, list[Scene]], count: int = 12) -> list[Target]:
    """The same wet tiles at every call, `count` from each data set, shown at their usual scale."""
    source = TargetSource(scenes, np.random.default_rng(54321))
    targets: list[Target] = []
    for name, found in source.wet.items():
        drawn: list[Target] = []
        k = 0
        while len(drawn) < count and k < 10 * count:
            scene = found[k % len(found)]
            sample = draw_tile(scene, TILE, source.rng, _default_composite(scene), 1.0)
            if name == "aerial_dry":
                sample = paint_river(sample, source.rng, source.colours)
            target, k = water_target(sample), k + 1
            drawn += [] if target is None else [target]
        targets += drawn
    return targets


def _default_composite(scene: Scene) -> tuple[int, ...] | None:
    return None if scene.is_rgb else FALSE_COLOURS[0]


def move_outline(mask: np.ndarray, pixels: float) -> np.ndarray:
    """A mask grown by so many logit pixels, or eroded; unchanged if nothing would be left."""
    moved = signed_distance(mask) + pixels > 0
    return moved if moved.any() else mask


VALIDATION_MASKS = {"eroded": -3.0, "dilated": 3.0, "clean": 0.0}
"""Logit pixels by which a validation mask is moved; one is about one native satellite pixel."""


def validation_masks(coarse: CoarseWaterNet | None) -> dict[str, Callable[[Target], np.ndarray]]:
    """The masks that the network is given of a validation tile, by name."""
    masks: dict[str, Callable[[Target], np.ndarray]] = {
        name: partial(_moved, pixels=pixels) for name, pixels in VALIDATION_MASKS.items()
    }
    return masks if coarse is None else {**masks, "coarse": partial(_found, coarse=coarse)}


def _moved(target: Target, pixels: float) -> np.ndarray:
    return move_outline(target.truth, pixels)


def _found(target: Target, coarse: CoarseWaterNet) -> np.ndarray:
    return coarse_mask(coarse, target.pixels)


@torch.no_grad()
def rate_prompts(
    model: Sam2Model, targets: list[Target], coarse: CoarseWaterNet | None = None
) -> dict[str, float]:
    """Median IoU of wrong masks, of the answers to them, and of a click and a box.

    With a coarse network its masks are among the wrong ones; their medians are of the tiles where it
    found something.
    """
    set_tile_size(model, TILE)
    batches = [targets[k : k + 8] for k in range(0, len(targets), 8)]
    embedded = [model.get_image_embeddings(_pixels(batch)) for batch in batches]
    figures = {}
    for name, mask in validation_masks(coarse).items():
        pairs = [_rate_mask(model, b, e, mask) for b, e in zip(batches, embedded, strict=True)]
        before, after = (torch.cat(side) for side in zip(*pairs, strict=True))
        figures[f"{name}_in"] = round(float(before[before > 0].median()), 4)
        figures[f"{name}_out"] = round(float(after[before > 0].median()), 4)
    for name, plan in (
        ("click", PromptPlan(False, 1, 0, False)),
        ("box", PromptPlan(False, 0, 0, True)),
    ):
        rates = [_rate_plan(model, b, e, plan) for b, e in zip(batches, embedded, strict=True)]
        figures[name] = round(float(torch.cat(rates).median()), 4)
    return figures


def _pixels(targets: Sequence[Target]) -> torch.Tensor:
    return normalise(torch.from_numpy(np.stack([target.pixels for target in targets])))


def _truth(targets: Sequence[Target]) -> tuple[torch.Tensor, torch.Tensor]:
    truth = torch.from_numpy(np.stack([target.truth for target in targets])).float()
    return truth, torch.from_numpy(np.stack([target.known for target in targets])).float()


def _rate_mask(
    model: Sam2Model,
    targets: Sequence[Target],
    embeddings: list[torch.Tensor],
    mask: Callable[[Target], np.ndarray],
) -> tuple[torch.Tensor, torch.Tensor]:
    wrong = np.stack([mask(target) for target in targets])
    given = torch.from_numpy(wrong).float()
    prompts = Prompts(None, None, None, (2 * given - 1)[:, None] * DENSE_LOGIT)
    logits, _, _ = answer(model, prompts, embeddings=embeddings)
    truth, known = _truth(targets)
    return mask_iou(given, truth, known), mask_iou((logits[:, 0] > 0).float(), truth, known)


def _rate_plan(
    model: Sam2Model, targets: Sequence[Target], embeddings: list[torch.Tensor], plan: PromptPlan
) -> torch.Tensor:
    """IoU of the answer with the highest predicted IoU, asking for one component."""
    rng = np.random.default_rng(1)
    parts = [one_component(target, rng) for target in targets]
    prompts = make_prompts(parts, plan, rng)
    logits, scores, _ = answer(model, prompts, embeddings=embeddings, multimask=plan.is_ambiguous)
    best = logits[torch.arange(len(parts)), scores.argmax(dim=1)]
    truth, known = _truth(parts)
    return mask_iou((best > 0).float(), truth, known)
