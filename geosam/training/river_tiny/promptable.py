"""Train the small promptable SAM 2 of `river-tiny`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from transformers import Sam2Model

from geosam.models.unet import CoarseWaterNet, load_coarse
from geosam.training.loop import (
    Average,
    Clock,
    Schedule,
    Tally,
    append_row,
    build_optimizer,
    load_state,
    save_state,
    set_rate,
)
from geosam.training.losses import bce_loss, dice_loss, focal_loss, mask_iou
from geosam.training.river_tiny.batch_prompts import correct, draw_plan, make_prompts
from geosam.training.river_tiny.coarse import load_all
from geosam.training.river_tiny.network import (
    build_promptable,
    normalise,
    save_promptable,
    set_tile_size,
    start_from,
)
from geosam.training.river_tiny.rating import answer, rate_prompts, validation_targets
from geosam.training.river_tiny.target_source import TargetSource
from geosam.training.river_tiny.targets import (
    Target,
)
from geosam.training.simulation import (
    edge_weight,
)

BATCHES = ((128, 12), (128, 12), (192, 6), (192, 6), (256, 4), (320, 3))
"""Tile and batch size of a step: answers must agree across tile sizes."""


@dataclass(frozen=True)
class PromptableRecipe:
    """Everything that decides a training of the promptable network."""

    minutes: float = 68.0
    """Wall time."""

    seed: int = 0
    """Seeds weights, tiles and prompts."""

    peak: float = 6e-4
    """Highest learning rate."""

    weight_decay: float = 0.02
    """Of matrices and kernels."""

    every: float = 6.0
    """Minutes between validations and checkpoints."""

    coarse: Path | None = None
    """Folder of a coarse network; its masks become some of the prompts."""

    start: Path | None = None
    """Folder of a finished network to go on from; from scratch when it is None."""

    without: tuple[str, ...] = ()
    """Data sets to leave out, to see how well the network does on a source it never saw."""

    of_processor: bool = False
    """Whether the minutes are those of one processor core."""

    resume: bool = False
    """Whether to go on from the checkpoint in the output folder, if there is one."""


def prompted_loss(
    logits: torch.Tensor,
    scores: torch.Tensor,
    truth: torch.Tensor,
    weight: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Loss of the best mask of each tile, and which it is.

    Parameters
    ----------
    logits : torch.Tensor, (n, m, y, x)
    scores : torch.Tensor, (n, m)
        Predicted IoU.
    truth, weight : torch.Tensor, (n, y, x)
        Weight 0 where the truth is unknown, higher along outlines.

    Returns
    -------
    loss : torch.Tensor, ()
        Cross-entropy, 5 focal, Dice, and squared error of the predicted IoU.
    best : torch.Tensor, (n,)
    """
    truth, weight = (x[:, None].expand_as(logits) for x in (truth, weight))
    known = (weight > 0).float()
    entropy = bce_loss(logits, truth, weight)
    focal = focal_loss(logits, truth, weight, alpha=0.5)
    each = entropy + 5 * focal + dice_loss(logits, truth, known)
    best = each.argmin(dim=1)
    actual = mask_iou((logits > 0).float(), truth, known)
    rating = ((scores - actual) ** 2).mean(dim=1)
    chosen = each.gather(1, best[:, None])[:, 0]
    return (chosen + rating).mean(), best


def promptable_step(model: Sam2Model, source: TargetSource, size: int, count: int) -> torch.Tensor:
    """Draw a batch and answer it, with a second round of clicks for some; returns the loss."""
    rng = source.rng
    plan = draw_plan(rng)
    targets = [source.draw(plan, size) for _ in range(count)]
    prompts = make_prompts(targets, plan, rng)
    truth = torch.from_numpy(np.stack([t.truth for t in targets])).float()
    weight = torch.from_numpy(np.stack([edge_weight(t.truth, t.known) for t in targets]))
    pixels = normalise(torch.from_numpy(np.stack([t.pixels for t in targets])))
    with torch.autocast("cpu", torch.bfloat16):
        logits, scores, embeddings = answer(
            set_tile_size(model, size), prompts, pixels, multimask=plan.is_ambiguous
        )
    loss, best = prompted_loss(logits, scores, truth, weight)
    if not plan.dense and rng.random() < 0.5:
        chosen = logits[torch.arange(count), best]
        again = correct(prompts, chosen, targets, rng)
        with torch.autocast("cpu", torch.bfloat16):
            logits, scores, _ = answer(model, again, embeddings=embeddings)
        loss = loss + prompted_loss(logits, scores, truth, weight)[0]
    return loss


def train_promptable(data: Path, out: Path, cache: Path | None, recipe: PromptableRecipe) -> None:
    """Train, logging to `promptable_log.csv` and writing the averaged network to `promptable/`.

    Parameters
    ----------
    data : Path
        Folder with the data sets.
    out : Path
        Gets the log, `promptable.pt` and `promptable/`.
    cache : Path, optional
        Folder for packed pixels.
    recipe : PromptableRecipe
        Time, seed, rates and the coarse network whose masks become prompts.
    """
    out.mkdir(parents=True, exist_ok=True)
    coarse = _load_if_there(recipe.coarse)
    rng = np.random.default_rng([recipe.seed, recipe.resume])
    source = TargetSource(load_all(data, "train", cache, recipe.without), rng, coarse)
    held = load_all(data, "val", cache)
    model = start_from(recipe.start) if recipe.start else build_promptable(recipe.seed)
    model.train()
    run_promptable(model, source, validation_targets(held), out, recipe)


def _load_if_there(folder: Path | None) -> CoarseWaterNet | None:
    if folder is None or not (folder / "config.json").exists():
        return None
    return load_coarse(folder)


def run_promptable(
    model: Sam2Model,
    source: TargetSource,
    targets: list[Target],
    out: Path,
    recipe: PromptableRecipe,
) -> Sam2Model:
    """The loop itself; returns the averaged network."""
    average, optimizer = Average(model), build_optimizer(model, recipe.weight_decay)
    schedule = Schedule(recipe.minutes, recipe.peak)
    tally, losses = Tally(), []
    if recipe.resume and (out / "promptable.pt").exists():
        tally = load_state(out / "promptable.pt", model, average)
    clock = Clock(recipe.minutes, recipe.every, tally.minutes, of_processor=recipe.of_processor)
    while True:
        size, count = BATCHES[source.rng.integers(len(BATCHES))]
        set_rate(optimizer, schedule.rate(clock.progress))
        loss = promptable_step(model, source, size, count)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        average.update(model)
        losses.append(float(loss.detach()))
        tally.add(count)
        if clock.rings() or clock.progress >= 1:
            tally.minutes = round(clock.elapsed, 1)
            row = {**asdict(tally), "loss": round(float(np.mean(losses)), 4)}
            losses.clear()
            source.coarse = _load_if_there(recipe.coarse)
            rates = rate_prompts(average.net, targets, source.coarse)
            append_row(out / "promptable_log.csv", {**row, **rates})
            save_state(out / "promptable.pt", model, average, **asdict(tally))
            save_promptable(average.net, out / "promptable")
        if clock.progress >= 1:
            return average.net
