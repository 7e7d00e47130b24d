"""Train the coarse water network of `river-tiny`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from geosam.models.device import place
from geosam.models.unet import CoarseWaterNet, ConvNorm, load_coarse, save_coarse
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
from geosam.training.losses import bce_loss, dice_loss, mask_iou
from geosam.training.river_tiny.augment import augment
from geosam.training.river_tiny.mixes import AERIAL, COLOURS, Mix
from geosam.training.river_tiny.painting import cast_shadows, lay_field, paint_river, real_water
from geosam.training.river_tiny.sources import Scene, load_scenes
from geosam.training.river_tiny.tiles import draw_tile
from geosam.training.sample import IGNORE, LAND, WATER, Sample

SMOOTHING = {"chips_s2_rgb": 0.05}
"""Label smoothing where labels are noisy."""

BATCHES = ((192, 16), (192, 16), (256, 12), (384, 6))
"""Tile size and batch size of a step, drawn at random: answers must not depend on the tile."""


@dataclass(frozen=True)
class CoarseRecipe:
    """Everything that decides a training of the coarse network."""

    minutes: float = 75.0
    """Wall time."""

    seed: int = 0
    """Seeds weights and tiles."""

    peak: float = 1e-3
    """Highest learning rate; at 2e-3 the first thousand steps learned less."""

    weight_decay: float = 0.02
    """Of matrices and kernels."""

    every: float = 5.0
    """Minutes between validations and checkpoints."""

    start: Path | None = None
    """Folder of a finished network to go on from; from scratch when it is None."""

    without: tuple[str, ...] = ()
    """Data sets to leave out, to see how well the network does on a source it never saw."""

    mix: Mix = COLOURS
    """What the network is for: what it learns from, and how that is shown."""

    of_processor: bool = False
    """Whether the minutes are those of one processor core."""

    resume: bool = False
    """Whether to go on from the checkpoint in the output folder, if there is one."""


THIN_PX = 7
"""Side, in pixels of a tile, of the square that fits into water that is not thin."""

THIN_WEIGHT = 2.0
"""How much more a pixel of thin water weighs. This and what follows came after the weights that ship."""

BANK_PX = 2
"""How far from a bank it is not said which pixels are water: no label is that exact."""

WORST_SHARE = 0.05
"""Share of the pixels of a tile that count once more."""

WORST_WEIGHT = 0.15
"""Weight of their loss. On dry tiles alone, at 0.4 for 0.04, it made the network call all land."""

FROZEN_FROM = 0.7
"""Progress from which batch normalisations keep their statistics, as in prediction."""


class TileSource:
    """Draws training tiles from several data sets by their shares."""

    def __init__(
        self, scenes: dict[str, list[Scene]], rng: np.random.Generator, mix: Mix = COLOURS
    ) -> None:
        self.scenes = {name: found for name, found in scenes.items() if found}
        self.rng, self.mix = rng, mix
        self.names = list(self.scenes)
        odds = np.array([mix.shares[name] for name in self.names])
        self.odds = odds / odds.sum()
        self.colours = water_colours([s for found in self.scenes.values() for s in found])
        self.wet_names = [n for n in self.names if any(len(s.wet) for s in self.scenes[n])]

    def draw(self, size: int) -> tuple[Sample, str]:
        """One augmented tile and the data set it came from."""
        name = str(self.rng.choice(self.names, p=self.odds))
        scene = _draw_scene(self.scenes[name], self.rng)
        bands = None
        if not scene.is_rgb and self.rng.random() < self.mix.false_colour:
            bands = self.mix.composites[self.rng.integers(len(self.mix.composites))]
        sample = draw_tile(scene, size, self.rng, bands)
        if bands is None:
            sample = self._paint(sample, name)
        return augment(sample, self.rng, self.mix.strength, self.mix.recoloured), name

    def _paint(self, sample: Sample, name: str) -> Sample:
        """Lay things over a tile of natural colours that its data set has too few of."""
        if name in AERIAL and self.rng.random() < self.mix.plain_fields:
            sample = lay_field(sample, self.rng)
        if self.rng.random() < self.mix.painted.get(name, 0.0):
            texture = self._water(sample.label.shape[0]) if self.rng.random() < 0.5 else None
            sample = paint_river(sample, self.rng, self.colours, texture)
        if name in AERIAL and self.rng.random() < self.mix.shadowed:
            sample = cast_shadows(sample, self.rng)
        return sample

    def _water(self, size: int) -> np.ndarray | None:
        """Pixels of real water, from a tile of any set that is mostly water, or None."""
        name = self.wet_names[self.rng.integers(len(self.wet_names))]
        wet = [scene for scene in self.scenes[name] if len(scene.wet)]
        sample = draw_tile(wet[self.rng.integers(len(wet))], size, self.rng, wet_share=1.0)
        return real_water(sample)


def _draw_scene(scenes: Sequence[Scene], rng: np.random.Generator) -> Scene:
    """A scene; wet and dry ones alike where a data set has both, small groups more often."""
    wet = [scene for scene in scenes if len(scene.wet)]
    if wet and len(wet) < 0.5 * len(scenes):
        dry = [scene for scene in scenes if not len(scene.wet)]
        scenes = wet if rng.random() < 0.5 else dry
    if scenes[0].source == "aerial_dry":
        groups, counts = np.unique([scene.group for scene in scenes], return_counts=True)
        chosen = rng.choice(groups, p=np.sqrt(counts) / np.sqrt(counts).sum())
        scenes = [scene for scene in scenes if scene.group == chosen]
    return scenes[int(rng.integers(len(scenes)))]


def water_colours(scenes: Sequence[Scene]) -> list[np.ndarray]:
    """Mean raw colour, 0 to 1, of the water in every 8-bit scene that has some."""
    colours = []
    for scene in scenes:
        if scene.is_rgb and len(scene.wet):
            rows, cols = scene.wet[:200].T
            colours.append(scene.levels[0][:, rows, cols].mean(1) / 255.0)
    return colours


def stack(samples: Sequence[Sample]) -> tuple[torch.Tensor, torch.Tensor]:
    """Pixels (n, 3, y, x) float32 and labels (n, y, x) uint8 of several tiles."""
    pixels = torch.from_numpy(np.stack([sample.pixels for sample in samples]))
    labels = torch.from_numpy(np.stack([sample.label for sample in samples]))
    return pixels, labels


def coarse_loss(
    logits: torch.Tensor, labels: torch.Tensor, smoothing: torch.Tensor
) -> torch.Tensor:
    """Cross-entropy, Dice where a tile has water, and the worst pixels once more.

    Water in thin lines weighs more. Where a label can be trusted, the pixels away from banks that are
    most wrong count once more: a roof called water, or a pond called land, is a small part of a tile.

    Parameters
    ----------
    logits : torch.Tensor, (n, 1, y, x)
    labels : torch.Tensor, (n, y, x)
        LAND, WATER and IGNORE.
    smoothing : torch.Tensor, (n,)
        Label smoothing of each tile; labels with some are noisy.

    Returns
    -------
    torch.Tensor, ()
    """
    logits = logits[:, 0].float()
    known = (labels != IGNORE).float()
    water = (labels == WATER).float()
    soft = water * (1 - 2 * smoothing[:, None, None]) + smoothing[:, None, None]
    entropy = bce_loss(logits, soft, known * (1 + THIN_WEIGHT * thin_water(labels))).mean()
    worst = (worst_loss(logits, water, known * (1 - near_banks(labels))) * (smoothing == 0)).mean()
    wet = (water.sum((1, 2)) > 0.002 * known.sum((1, 2))).float()
    dice = (dice_loss(logits, water, known) * wet).sum() / wet.sum().clamp(min=1)
    return entropy + 0.5 * dice + WORST_WEIGHT * worst


def thin_water(labels: torch.Tensor) -> torch.Tensor:
    """Where water is too thin for a square of `THIN_PX` to fit into it.

    Parameters
    ----------
    labels : torch.Tensor, (n, y, x)
        LAND, WATER and IGNORE. The last is taken for water, and so is what lies outside: what is thin
        there is not known.

    Returns
    -------
    torch.Tensor, (n, y, x) float32
        1 where it is, 0 elsewhere.
    """
    reach = THIN_PX // 2
    land = functional.pad((labels == LAND).float(), [2 * reach] * 4)
    inside = 1 - functional.max_pool2d(land, THIN_PX, 1)
    opened = functional.max_pool2d(inside, THIN_PX, 1)
    return (labels == WATER).float() * (1 - opened)


def near_banks(labels: torch.Tensor) -> torch.Tensor:
    """Where both water and land are within `BANK_PX`: (n, y, x) labels into float32, 1 where they are."""
    side = 2 * BANK_PX + 1
    kinds = torch.stack([labels == LAND, labels == WATER], dim=1).float()
    return functional.max_pool2d(kinds, side, 1, BANK_PX).prod(dim=1)


def worst_loss(logits: torch.Tensor, water: torch.Tensor, counted: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy of the pixels of each tile that are most wrong, (n,).

    Hard examples are mined pixel by pixel, as in Shrivastava, Gupta and Girshick 2016, Training
    region-based object detectors with online hard example mining, region by region.

    Parameters
    ----------
    logits, water, counted : torch.Tensor, (n, y, x)
        Target 0 or 1; `counted` is 0 where a pixel does not count.
    """
    entropy = functional.binary_cross_entropy_with_logits(logits, water, reduction="none")
    losses = (entropy * counted).flatten(1)
    most = max(1, round(WORST_SHARE * losses.shape[1]))
    return losses.topk(most, dim=1).values.mean(1)


def validation_tiles(
    scenes: dict[str, list[Scene]], count: int, size: int = 256, mix: Mix = COLOURS
) -> dict[str, list[Sample]]:
    """The same tiles at every call: each data set's scenes in turn, seeded."""
    rng = np.random.default_rng(12345)
    bands = mix.composites[0] if mix.false_colour == 1 else None
    return {
        name: [
            draw_tile(found[i % len(found)], size, rng, bands, wet_share=0.8) for i in range(count)
        ]
        for name, found in scenes.items()
        if found
    }


@torch.no_grad()
def validate(net: CoarseWaterNet, tiles: dict[str, list[Sample]]) -> dict[str, float]:
    """Median IoU of wet tiles and mean false-water share of dry ones, by data set."""
    figures = {}
    for name, samples in tiles.items():
        pixels, labels = stack(samples)
        water = torch.cat([net(part)[:, 0] > 0 for part in pixels.split(8)])
        known = (labels != IGNORE).float()
        truth = (labels == WATER).float()
        share = (truth * known).sum((1, 2)) / known.sum((1, 2)).clamp(min=1)
        iou = mask_iou(water.float(), truth, known)
        false = (water.float() * known).sum((1, 2)) / known.sum((1, 2)).clamp(min=1)
        wet, dry = share >= 0.01, (labels == LAND).any(2).any(1) & (share < 0.01)
        if wet.any():
            figures[f"{name}_iou"] = round(float(iou[wet].median()), 4)
        if dry.any():
            figures[f"{name}_false"] = round(float(false[dry].mean()), 4)
    return figures


@torch.no_grad()
def settle_threshold(net: CoarseWaterNet, tiles: dict[str, list[Sample]]) -> float:
    """Move the network's logits so that cutting them at 0 is best on validation tiles.

    Parameters
    ----------
    net : CoarseWaterNet
        Its last bias is changed in place.
    tiles : dict of list of Sample
        Validation tiles by data set; every data set counts alike.

    Returns
    -------
    float
        The logit that was subtracted: the one where mean IoU of wet tiles less
        three times the mean false-water share of dry ones is highest.
    """
    levels = np.arange(-1.0, 2.01, 0.25)
    gains = np.mean([_gains(net, samples, levels) for samples in tiles.values()], axis=0)
    best = float(levels[int(np.argmax(gains))])
    cast("torch.Tensor", net.head.bias).sub_(best)
    return best


def _gains(net: CoarseWaterNet, samples: list[Sample], levels: np.ndarray) -> list[float]:
    """Mean IoU less three times the mean false-water share, at each level."""
    pixels, labels = stack(samples)
    logits = torch.cat([net(part)[:, 0] for part in pixels.split(8)])
    known, truth = (labels != IGNORE).float(), (labels == WATER).float()
    area = known.sum((1, 2)).clamp(min=1)
    wet = truth.sum((1, 2)) / area >= 0.01
    gains = []
    for level in levels:
        water = (logits > float(level)).float()
        iou = mask_iou(water, truth, known)[wet]
        false = ((water * known).sum((1, 2)) / area)[~wet]
        gain = float(iou.mean()) if wet.any() else 0.0
        gains.append(gain - 3 * float(false.mean()) if (~wet).any() else gain)
    return gains


def load_all(
    data: Path, split: str, cache: Path | None, without: Sequence[str] = (), mix: Mix = COLOURS
) -> dict[str, list[Scene]]:
    """Scenes of every data set of a mix but those left out."""
    names = [name for name in mix.shares if name not in without]
    return {name: load_scenes(data, name, split, cache, mix.agreed) for name in names}


def train_coarse(data: Path, out: Path, cache: Path | None, recipe: CoarseRecipe) -> None:
    """Train, logging to `coarse_log.csv` and writing the averaged network to `coarse/`.

    Parameters
    ----------
    data : Path
        Folder with the data sets.
    out : Path
        Gets the log, `coarse.pt` and `coarse/`.
    cache : Path, optional
        Folder for packed pixels.
    recipe : CoarseRecipe
        Time, seed and rates.
    """
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(recipe.seed)
    rng = np.random.default_rng([recipe.seed, recipe.resume])
    scenes = load_all(data, "train", cache, recipe.without, recipe.mix)
    source = TileSource(scenes, rng, recipe.mix)
    held = load_all(data, "val", cache, mix=recipe.mix)
    tiles = validation_tiles(held, count=24, mix=recipe.mix)
    net = start_from(recipe.start, source) if recipe.start else CoarseWaterNet()
    net.train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    run_coarse(net, source, tiles, out, recipe)


@torch.no_grad()
def start_from(folder: Path, source: TileSource) -> CoarseWaterNet:
    """A finished network made trainable again: its folded normalisations are taken out.

    Parameters
    ----------
    folder : Path
        What `save_coarse` wrote.
    source : TileSource
        Gives the tiles whose statistics the normalisations start with.

    Returns
    -------
    CoarseWaterNet
        Answers as before in evaluation mode.
    """
    folded = load_coarse(folder)
    net = CoarseWaterNet(folded.config).eval()
    net.load_state_dict(_unfolded(folded), strict=False)
    pairs = list(zip(_blocks(folded), _blocks(net), strict=True))
    hooks = [one[0].register_forward_hook(_settle(other.norm)) for one, other in pairs]
    folded(stack([source.draw(192)[0] for _ in range(48)])[0])
    for hook in hooks:
        hook.remove()
    return net


def _blocks(net: CoarseWaterNet) -> list[ConvNorm]:
    return [module for module in net.modules() if isinstance(module, ConvNorm)]


def _unfolded(folded: CoarseWaterNet) -> dict[str, torch.Tensor]:
    """Weights of a folded network but for the biases that stand for its normalisations."""
    inside = {id(block[0].bias) for block in _blocks(folded)}
    named = folded.state_dict(keep_vars=True)
    return {name: value.detach() for name, value in named.items() if id(value) not in inside}


def _settle(norm: nn.BatchNorm2d) -> Callable[..., None]:
    """Set a normalisation so that it only adds the bias of the convolution it was folded into."""

    def hook(conv: nn.Conv2d, _: object, answer: torch.Tensor) -> None:
        spread = answer.var((0, 2, 3)).clamp(min=1e-3)
        mean, bias = answer.mean((0, 2, 3)), cast("torch.Tensor", conv.bias)
        norm.running_var, norm.running_mean = spread - norm.eps, mean - bias
        norm.weight.copy_(spread.sqrt())
        norm.bias.copy_(mean)

    return hook


def run_coarse(
    net: CoarseWaterNet,
    source: TileSource,
    tiles: dict[str, list[Sample]],
    out: Path,
    recipe: CoarseRecipe,
) -> CoarseWaterNet:
    """The loop itself; returns the averaged network."""
    average, optimizer = Average(net), build_optimizer(net, recipe.weight_decay)
    schedule = Schedule(recipe.minutes, recipe.peak)
    tally, losses = Tally(), []
    if recipe.resume and (out / "coarse.pt").exists():
        tally = load_state(out / "coarse.pt", net, average)
    clock = Clock(recipe.minutes, recipe.every, tally.minutes, of_processor=recipe.of_processor)
    while True:
        size, count = BATCHES[source.rng.integers(len(BATCHES))]
        set_rate(optimizer, schedule.rate(clock.progress))
        if clock.progress > FROZEN_FROM:
            freeze_norms(net, average.net)
        losses.append(coarse_step(net, source, optimizer, size, count))
        average.update(net)
        tally.add(count)
        if clock.rings() or clock.progress >= 1:
            tally.minutes = round(clock.elapsed, 1)
            loss = round(float(np.mean(losses)), 4)
            losses.clear()
            figures = validate(average.net, tiles)
            append_row(out / "coarse_log.csv", {**asdict(tally), "loss": loss, **figures})
            save_state(out / "coarse.pt", net, average, **asdict(tally))
            save_coarse(average.net, out / "coarse")
        if clock.progress >= 1:
            return average.net


def freeze_norms(net: CoarseWaterNet, average: CoarseWaterNet) -> None:
    """Give batch normalisations the averaged statistics, once, and stop them from moving."""
    for module, settled in zip(net.modules(), average.modules(), strict=True):
        if isinstance(module, nn.BatchNorm2d) and module.training:
            module.load_state_dict(settled.state_dict() | _affine(module))
            module.eval()


def _affine(norm: nn.BatchNorm2d) -> dict[str, torch.Tensor]:
    """The learned part of a batch normalisation."""
    return {"weight": norm.weight.detach(), "bias": norm.bias.detach()}


def coarse_step(
    net: CoarseWaterNet,
    source: TileSource,
    optimizer: torch.optim.Optimizer,
    size: int,
    count: int,
) -> float:
    """Draw a batch and take one step; returns the loss."""
    samples, names = zip(*(source.draw(size) for _ in range(count)), strict=True)
    pixels, labels = stack(samples)
    smoothing = torch.tensor([SMOOTHING.get(name, 0.0) for name in names])
    with place("cpu").cast():
        logits = net(pixels.contiguous(memory_format=torch.channels_last))
    loss = coarse_loss(logits, labels, smoothing)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
    optimizer.step()
    return float(loss.detach())
