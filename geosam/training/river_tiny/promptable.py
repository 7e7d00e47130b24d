"""Train the small promptable SAM 2 of `river-tiny`, from scratch."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import nn
from transformers import Sam2Config, Sam2Model
from transformers.models.sam2.configuration_sam2 import (
    Sam2MaskDecoderConfig,
    Sam2PromptEncoderConfig,
    Sam2VisionConfig,
)

from geosam.models.prior import draw_prior
from geosam.models.sam2 import NoPositions
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
from geosam.training.river_tiny.augment import augment
from geosam.training.river_tiny.coarse import load_all, water_colours
from geosam.training.river_tiny.painting import paint_river
from geosam.training.river_tiny.sources import Scene
from geosam.training.river_tiny.targets import (
    STRIDE,
    Target,
    halve_label,
    land_target,
    one_component,
    segment_target,
    shape_target,
    water_target,
)
from geosam.training.river_tiny.tiles import FALSE_COLOURS, NODATA_FILL, draw_tile
from geosam.training.sample import IGNORE, LAND, WATER, Sample
from geosam.training.simulation import (
    DENSE_LOGIT,
    MAX_CLICK_LOGIT,
    corrective_click,
    corrupt,
    dense_logits,
    draw_box,
    draw_points,
    edge_weight,
    signed_distance,
)

TILE = 256
"""Tile size written into the configuration; others work by `set_tile_size`."""

PIXEL_STD = 0.25
"""Pixels 0 to 1 are shown to the network as (pixel - 0.5) / 0.25; nodata becomes 0."""

WATER_SHARES = {
    "chips_s2_rgb": 0.12,
    "chips_multispectral": 0.34,
    "aerial_ste_marguerite": 0.12,
    "aerial_dubai": 0.17,
    "aerial_monterey": 0.05,
    "aerial_dry": 0.20,
    "synthetic": 0.45,
}
"""Where tiles that ask for water come from; dry images get a painted river."""

INDEXED = {"chips_multispectral": 0.35, "synthetic": 0.6}
"""Share of the tiles of a set whose coarse mask is a water index."""

DENSE_KINDS = {"water": 0.62, "land": 0.1, "segment": 0.2, "shape": 0.08}
SPARSE_KINDS = {"water": 0.42, "land": 0.05, "segment": 0.3, "shape": 0.23}
"""What is asked for by a coarse mask, and what by clicks or a box."""

BATCHES = ((128, 12), (128, 12), (192, 6), (192, 6), (256, 4), (320, 3))
"""Tile and batch size of a step: answers must agree across tile sizes."""


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

    resume: bool = False
    """Whether to go on from the checkpoint in the output folder, if there is one."""


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


def promptable_config(size: int = TILE) -> Sam2Config:
    """The SAM 2 layout of `river-tiny`: a stride of 2 in the stem, the embedding at stride 8."""
    widths = [24, 64, 128, 192]
    vision = Sam2VisionConfig(
        backbone_config={
            "model_type": "sam2_hiera_det_model",
            "hidden_size": widths[0],
            "num_attention_heads": 1,
            "image_size": [size, size],
            "patch_kernel_size": [7, 7],
            "patch_stride": [2, 2],
            "patch_padding": [3, 3],
            "window_positional_embedding_background_size": [7, 7],
            "blocks_per_stage": [1, 1, 3, 1],
            "embed_dim_per_stage": widths,
            "num_attention_heads_per_stage": [1, 2, 2, 3],
            "window_size_per_stage": [8, 8, 8, 8],
            "global_attention_blocks": [3],
            "mlp_ratio": 2.0,
        },
        backbone_channel_list=widths[::-1],
        backbone_feature_sizes=feature_sizes(size),
        fpn_hidden_size=96,
        fpn_top_down_levels=[0, 1, 2, 3],
    )
    prompts = Sam2PromptEncoderConfig(
        hidden_size=96, image_size=size, patch_size=8, mask_input_channels=64
    )
    decoder = Sam2MaskDecoderConfig(
        hidden_size=96,
        mlp_dim=384,
        num_attention_heads=4,
        iou_head_hidden_dim=96,
        dynamic_multimask_via_stability=False,
    )
    return Sam2Config(
        vision_config=vision, prompt_encoder_config=prompts, mask_decoder_config=decoder
    )


def feature_sizes(size: int) -> list[list[int]]:
    """Heights and widths of the three feature maps of a square tile."""
    return [[size // stride, size // stride] for stride in (2, 4, 8)]


def set_tile_size(model: Sam2Model, size: int) -> Sam2Model:
    """Make a loaded `river-tiny` take square tiles of another size, in place.

    No weight depends on the size; what does are a few numbers that the model
    read from its configuration.

    Parameters
    ----------
    model : Sam2Model
    size : int
        A multiple of 32.

    Returns
    -------
    Sam2Model
    """
    encoder = model.prompt_encoder
    patch = cast("Any", model.config.prompt_encoder_config).patch_size
    model.backbone_feature_sizes = feature_sizes(size)
    encoder.image_embedding_size = (size // patch, size // patch)
    encoder.mask_input_size = (4 * size // patch, 4 * size // patch)
    encoder.input_image_size = size
    return model


def build_promptable(seed: int) -> Sam2Model:
    """An untrained network with weights of a sensible spread."""
    torch.manual_seed(seed)
    model = Sam2Model._from_config(promptable_config(), attn_implementation="eager")
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
        elif isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=0.5)
    _balance(model)
    model.vision_encoder.neck.position_encoding = NoPositions()
    return model


def start_from(folder: Path) -> Sam2Model:
    """A finished network to go on from."""
    model = Sam2Model.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32)
    model.vision_encoder.neck.position_encoding = NoPositions()
    return model


def _balance(model: Any) -> None:
    """Let the mask prompt come through from the first step.

    With plain initialisation the image's features drown it by a factor of four
    where they meet, and the network falls into answering with nothing.
    """
    quiet = [block.attn.proj for block in model.vision_encoder.backbone.blocks]
    quiet += [block.mlp.proj_out for block in model.vision_encoder.backbone.blocks]
    decoder = model.mask_decoder
    quiet += [m.o_proj for m in decoder.transformer.modules() if hasattr(m, "o_proj")]
    quiet += [layer.mlp.proj_out for layer in decoder.transformer.layers]
    quiet += [decoder.conv_s0, decoder.conv_s1]
    for module in quiet:
        module.weight.data.mul_(0.3)
    for mlp in decoder.output_hypernetworks_mlps:
        mlp.proj_out.weight.data.mul_(0.3)
        nn.init.normal_(mlp.proj_out.bias, std=0.5)
    model.prompt_encoder.mask_embed.conv3.weight.data.mul_(4.0)
    nn.init.trunc_normal_(model.vision_encoder.backbone.pos_embed_window, std=0.02)


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


class TargetSource:
    """Draws tiles that ask for something, and the coarse masks that go with some."""

    def __init__(
        self,
        scenes: dict[str, list[Scene]],
        rng: np.random.Generator,
        coarse: CoarseWaterNet | None = None,
    ) -> None:
        self.rng, self.coarse = rng, coarse
        self.scenes = {name: found for name, found in scenes.items() if found}
        self.wet = {
            name: [s for s in found if len(s.wet) or name == "aerial_dry"]
            for name, found in self.scenes.items()
        }
        self.wet = {name: found for name, found in self.wet.items() if found}
        self.colours = water_colours([s for found in self.scenes.values() for s in found])

    def draw(self, plan: PromptPlan, size: int) -> Target:
        """One tile and its object; redrawn until there is something to ask for."""
        kinds = DENSE_KINDS if plan.dense else SPARSE_KINDS
        while True:
            kind = str(self.rng.choice(list(kinds), p=list(kinds.values())))
            target = self._draw_kind(kind, size, plan.dense)
            if target is not None and (target.truth & target.known).sum() >= 12:
                return target if plan.dense else self._narrow(target)

    def _narrow(self, target: Target) -> Target:
        """A click or a box mostly asks for one part; clicks on all the water stay possible."""
        if target.kind in ("water", "land") and self.rng.random() < 0.8:
            return one_component(target, self.rng)
        return target

    def _draw_kind(self, kind: str, size: int, dense: bool) -> Target | None:
        if kind == "shape":
            return shape_target(size, self.rng)
        if kind == "segment":
            name = str(self.rng.choice(list(self.scenes)))
            scene = self.scenes[name][self.rng.integers(len(self.scenes[name]))]
            return segment_target(self._show(scene, size, 0.3), self.rng)
        return self._draw_water(kind, size, dense)

    def _draw_water(self, kind: str, size: int, dense: bool) -> Target | None:
        odds = np.array([WATER_SHARES.get(name, 0.1) for name in self.wet])
        name = str(self.rng.choice(list(self.wet), p=odds / odds.sum()))
        scene = self.wet[name][self.rng.integers(len(self.wet[name]))]
        if dense and kind == "water" and self.rng.random() < INDEXED.get(name, 0.0):
            return self._draw_index(scene, size)
        sample = self._show(scene, size, 0.9)
        if name == "aerial_dry" or self.rng.random() < 0.05:
            sample = paint_river(sample, self.rng, self.colours)
        sample = augment(sample, self.rng, strength=0.8)
        if kind == "land":
            return land_target(sample)
        target = water_target(sample)
        is_rgb = scene.is_rgb
        if target is None or not (dense and is_rgb and self.coarse and self.rng.random() < 0.3):
            return target
        return replace(target, coarse=coarse_mask(self.coarse, sample.pixels))

    def _show(self, scene: Scene, size: int, wet_share: float) -> Sample:
        return draw_tile(scene, size, self.rng, self._composite(scene), wet_share)

    def _composite(self, scene: Scene) -> tuple[int, ...] | None:
        if scene.is_rgb or self.rng.random() < 0.25:
            return None
        return FALSE_COLOURS[self.rng.integers(len(FALSE_COLOURS))]

    def _draw_index(self, scene: Scene, size: int) -> Target | None:
        """A tile whose coarse mask is a water index, as the toolkit makes it.

        The same random numbers cut and turn label and index alike.
        """
        indexed = replace(scene, labels=(index_label(scene, self.rng),))
        bands = self._composite(scene)
        twin = copy.deepcopy(self.rng)
        sample = augment(draw_tile(scene, size, self.rng, bands, 0.9), self.rng, 0.5)
        hint = augment(draw_tile(indexed, size, twin, bands, 0.9), twin, 0.5)
        target = water_target(sample)
        return None if target is None else replace(target, coarse=halve_label(hint.label)[0])


def index_label(scene: Scene, rng: np.random.Generator) -> np.ndarray:
    """NDWI or MNDWI of a five-band chip against about zero, as a label array (y, x)."""
    bands = scene.levels[0].astype(np.float32)
    green, other = bands[1], bands[int(rng.integers(3, 5))]
    water = green - other > rng.normal(0, 0.06) * (green + other)
    return np.where(scene.labels[0] == IGNORE, IGNORE, np.where(water, WATER, LAND)).astype(
        np.uint8
    )


@torch.inference_mode()
def coarse_mask(net: CoarseWaterNet, pixels: np.ndarray) -> np.ndarray:
    """What the coarse network calls water, (y / 2, x / 2) bool."""
    return (net.half_size(torch.from_numpy(pixels)[None])[0, 0] > 0).numpy()


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


def normalise(pixels: torch.Tensor) -> torch.Tensor:
    """Pixels 0 to 1 as the network takes them; nodata becomes 0."""
    return (pixels - NODATA_FILL) / PIXEL_STD


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
    clock = Clock(recipe.minutes, recipe.every, tally.minutes)
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
            append_row(out / "promptable_log.csv", {**row, **rate_prompts(average.net, targets)})
            save_state(out / "promptable.pt", model, average, **asdict(tally))
            save_promptable(average.net, out / "promptable")
            source.coarse = _load_if_there(recipe.coarse)
        if clock.progress >= 1:
            return average.net


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


@torch.no_grad()
def rate_prompts(model: Sam2Model, targets: list[Target]) -> dict[str, float]:
    """Median IoU of wrong masks, of the answers to them, and of a click and a box."""
    set_tile_size(model, TILE)
    batches = [targets[k : k + 8] for k in range(0, len(targets), 8)]
    embedded = [model.get_image_embeddings(_pixels(batch)) for batch in batches]
    figures = {}
    for name, shift in VALIDATION_MASKS.items():
        pairs = [_rate_mask(model, b, e, shift) for b, e in zip(batches, embedded, strict=True)]
        before, after = (torch.cat(side) for side in zip(*pairs, strict=True))
        figures[f"{name}_in"] = round(float(before.median()), 4)
        figures[f"{name}_out"] = round(float(after.median()), 4)
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
    model: Sam2Model, targets: Sequence[Target], embeddings: list[torch.Tensor], shift: float
) -> tuple[torch.Tensor, torch.Tensor]:
    wrong = np.stack([move_outline(target.truth, shift) for target in targets])
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


def save_promptable(model: Sam2Model, folder: Path) -> None:
    """Write config.json, model.safetensors (float16) and preprocessor_config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    copied = copy.deepcopy(set_tile_size(model, TILE))
    copied.half().save_pretrained(folder)
    facts = {
        "image_processor_type": "Sam2ImageProcessorFast",
        "do_resize": True,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [NODATA_FILL] * 3,
        "image_std": [PIXEL_STD] * 3,
        "size": {"height": TILE, "width": TILE},
        "mask_size": {"height": TILE // STRIDE, "width": TILE // STRIDE},
        "dense_logit": DENSE_LOGIT,
        "sparse_as_mask": True,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(facts, indent=2) + "\n")
