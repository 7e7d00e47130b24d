"""The prompts of a training batch, as the toolkit or a person would give them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from geosam.models.prior import draw_prior
from geosam.training.river_tiny.targets import (
    STRIDE,
    Target,
)
from geosam.training.simulation import (
    MAX_CLICK_LOGIT,
    corrective_click,
    corrupt,
    dense_logits,
    draw_box,
    draw_points,
    signed_distance,
)


@dataclass(frozen=True)
class PromptPlan:
    """The kind of prompts that every tile of one batch gets; a prompt is never padded."""

    dense: bool
    """Whether a coarse mask is given."""

    positive: int
    """Clicks on the object."""

    negative: int
    """Clicks beside it."""

    box: bool
    """Whether a box is given."""

    @property
    def is_ambiguous(self) -> bool:
        """One click alone: three answers, of which the best counts."""
        return not self.dense and not self.box and self.positive == 1 and self.negative == 0


@dataclass(frozen=True)
class Prompts:
    """Prompts of a batch, as `Sam2Model` takes them."""

    points: torch.Tensor | None
    """(n, 1, k, 2) x, y in tile pixels."""

    labels: torch.Tensor | None
    """(n, 1, k) 1 object, 0 not, -1 no point."""

    boxes: torch.Tensor | None
    """(n, 1, 4) x, y, x, y in tile pixels."""

    masks: torch.Tensor | None
    """(n, 1, y / 2, x / 2) logits."""


def draw_plan(rng: np.random.Generator) -> PromptPlan:
    """A kind of prompts: mostly a coarse mask with points, as the toolkit gives them."""
    draw = rng.random()
    if draw < 0.58:
        bare = rng.random() < 0.3
        positive = 0 if bare else int(rng.integers(0, 9))
        return PromptPlan(True, positive, 0 if bare else int(rng.integers(0, 5)), False)
    if draw < 0.72:
        return PromptPlan(False, 1, 0, False)
    if draw < 0.82:
        return PromptPlan(False, int(rng.integers(1, 9)), int(rng.integers(1, 5)), False)
    return PromptPlan(False, int(rng.integers(0, 2)), 0, True)


def choose_mask(target: Target, rng: np.random.Generator) -> np.ndarray:
    """The coarse mask that goes with a tile if it is of any use, else a corrupted truth."""
    truth = target.truth & target.known
    if target.coarse is not None:
        hint = target.coarse
        either = ((hint | truth) & target.known).sum()
        if (hint & truth).sum() > 0.3 * either:
            return hint
    return corrupt(
        truth, rng, keep_parts=target.kind in ("segment", "shape") and rng.random() < 0.5
    )


def make_prompts(targets: Sequence[Target], plan: PromptPlan, rng: np.random.Generator) -> Prompts:
    """Prompts of a batch, all of one kind."""
    masks = [choose_mask(target, rng) if plan.dense else None for target in targets]
    points, labels = None, None
    if plan.positive + plan.negative:
        drawn = [_draw_clicks(t, m, plan, rng) for t, m in zip(targets, masks, strict=True)]
        points = torch.from_numpy(np.stack([pair[0] for pair in drawn]))[:, None]
        labels = torch.from_numpy(np.stack([pair[1] for pair in drawn]))[:, None].long()
    boxes = None
    if plan.box:
        found = np.stack([draw_box(target.truth & target.known, rng) for target in targets])
        boxes = torch.from_numpy(found)[:, None]
    given = [None if mask is None else dense_logits(mask) for mask in masks]
    return drawn_out(Prompts(points, labels, boxes, None), given, targets[0].truth.shape)


def drawn_out(
    prompts: Prompts, masks: Sequence[np.ndarray | None], shape: tuple[int, ...]
) -> Prompts:
    """The same prompts with clicks and boxes drawn into their mask prompts.

    Parameters
    ----------
    prompts : Prompts
        Points and boxes of n tiles, (0, 0) the centre of the first pixel.
    masks : sequence of numpy.ndarray (y / 2, x / 2) float32, or None
        Logits of the n mask prompts.
    shape : (int, int)
        Rows and columns of a mask prompt.

    Returns
    -------
    Prompts
    """

    def row(values: torch.Tensor | None, k: int) -> np.ndarray | None:
        return None if values is None else values[k, 0].numpy()

    priors = []
    for k, mask in enumerate(masks):
        points, box = row(prompts.points, k), row(prompts.boxes, k)
        priors.append(
            draw_prior(
                (shape[0], shape[1]),
                STRIDE,
                None if points is None else points + 0.5,
                row(prompts.labels, k),
                None if box is None else box + 0.5,
                mask,
            )
        )
    return replace(prompts, masks=torch.from_numpy(np.stack(priors))[:, None])


def _draw_clicks(
    target: Target, mask: np.ndarray | None, plan: PromptPlan, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Clicks deep in the coarse mask and well outside it; without one, in the truth and outside."""
    truth = target.truth & target.known
    if mask is None:
        return draw_points(truth, target.known & ~truth, plan.positive, plan.negative, rng)
    agreed = mask & truth
    inside = agreed if agreed.any() and rng.random() < 0.9 else mask
    outside = (signed_distance(mask | target.truth) < -4) & target.known
    return draw_points(inside, outside, plan.positive, plan.negative, rng)


def correct(
    prompts: Prompts, logits: torch.Tensor, targets: Sequence[Target], rng: np.random.Generator
) -> Prompts:
    """Prompts of the next round: the answer, and one more click where it is wrong."""
    clicks = [
        corrective_click(one > 0, target.truth, target.known, rng)
        for one, target in zip(logits.detach().numpy(), targets, strict=True)
    ]
    points = torch.from_numpy(np.stack([click[0] for click in clicks]))[:, None, None]
    labels = torch.tensor([click[1] for click in clicks])[:, None, None]
    if prompts.points is not None and prompts.labels is not None:
        points = torch.cat([prompts.points, points], dim=2)
        labels = torch.cat([prompts.labels, labels], dim=2)
    fed = logits.detach().clamp(-MAX_CLICK_LOGIT, MAX_CLICK_LOGIT).numpy()
    asked = Prompts(points, labels, prompts.boxes, None)
    return drawn_out(asked, list(fed), fed.shape[1:])
