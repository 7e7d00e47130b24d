"""Training of a dense prompt network, with the SAM it prompts frozen.

Shaharabany et al. 2023, AutoSAM, https://arxiv.org/abs/2306.06370: cross-entropy and Dice (Tversky
at 0.5 and 0.5) on the mask that the frozen decoder draws, no other prompt. A sigmoid where they
stretch each mask from its own least to its own largest value, which would find water in any tile.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from geosam.models.autosam import load_prompter, save_prompter
from geosam.models.checkpoint import find_checkpoint
from geosam.models.dense_prompter import DensePrompter, PrompterConfig
from geosam.models.prompter_files import prompter_of
from geosam.models.registry import AUTOSAM
from geosam.models.sam import Sam
from geosam.models.sam2 import Sam2
from geosam.training.embeddings import Change, FreshTiles, StoredTiles, Tiles, check_size
from geosam.training.freeze import check_frozen, sign_frozen
from geosam.training.losses import as_target, parse_loss
from geosam.training.recipe import AUTOSAM_LOSSES, Recipe
from geosam.training.sample import Sample
from geosam.training.scores import Answered, figures

_PROBES = 8


def new_prompter(model: Sam | Sam2, seed: int = 0) -> DensePrompter:
    """Make an untrained dense prompt network that fits a model.

    It starts at the model's "no dense prompt", and reaches about twice as far as mask prompts do.
    """
    channels, rows, _ = model.dense_shape
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        rest, reach = _prompt_range(model)
        config = PrompterConfig(channels, model.size // rows)
        return DensePrompter(config, rest, reach).to(model.placement.device)


def start_prompter(model: Sam | Sam2, source: Path, seed: int) -> DensePrompter:
    """Return the network that lies beside a checkpoint, to be trained on, or else a new one."""
    if not (source / AUTOSAM).is_dir():
        return new_prompter(model, seed)
    files = prompter_of(model.name, source)
    files.card.check(model.name, model.signature)
    return load_prompter(files).to(model.placement.device).requires_grad_(True)


def _prompt_range(model: Sam | Sam2) -> tuple[torch.Tensor, torch.Tensor]:
    """What the model takes for no dense prompt, and how far from it some of its own go."""
    encoder = model.network.prompt_encoder
    _, rows, cols = model.dense_shape
    probes = torch.randn(_PROBES, 1, rows, cols, device=model.placement.device)
    masks = functional.interpolate(probes, size=(4 * rows, 4 * cols), mode="bilinear").sign() * 6
    with torch.no_grad():
        rest = encoder.no_mask_embed.weight[0].clone()
        away = encoder.mask_embed(masks) - rest[:, None, None]
    return rest, 2 * away.square().mean((0, 2, 3)).sqrt()


@dataclass(frozen=True)
class Shown:
    """Some tiles as a step sees them."""

    pixels: np.ndarray
    """(n, 3, size, size) float32 in [0, 1]."""

    features: Mapping[str, torch.Tensor]
    """Of the frozen encoder, as the model's ``encode`` names them."""

    labels: np.ndarray
    """(n, size, size) uint8 of LAND, WATER and IGNORE."""


@dataclass(frozen=True)
class PromptedTiles:
    """The tiles of a training or validation part, with their pixels."""

    model: Sam | Sam2
    """Embeds them."""

    samples: Sequence[Sample]
    """The tiles, of the model's size."""

    stored: StoredTiles | None = None
    """Their embeddings, where they are kept."""

    change: Change | None = None
    """Shows a tile otherwise in every epoch; embeddings cannot be kept then."""

    def show(self, items: Sequence[int], epoch: int) -> Shown:
        """Return some tiles as they are shown in an epoch."""
        samples = [check_size(self.samples[i], i, self.model.size) for i in items]
        if self.change is not None:
            samples = [self.change(s, i, epoch) for s, i in zip(samples, items, strict=True)]
        pixels = np.stack([sample.pixels for sample in samples])
        labels = np.stack([sample.label for sample in samples])
        return Shown(pixels, self._embed(pixels, items, epoch), labels)

    def _embed(
        self, pixels: np.ndarray, items: Sequence[int], epoch: int
    ) -> Mapping[str, torch.Tensor]:
        if self.stored is not None and self.change is None:
            return self.stored.read(items, epoch).features
        with torch.no_grad():
            return self.model.embed(pixels)


class AutoSam:
    """A dense prompt network in training; a :class:`geosam.training.trainee.Trainee`.

    Parameters
    ----------
    model : Sam or Sam2
        Frozen: gradients go through its decoder and change nothing in it.
    prompter : DensePrompter
        Is trained; on the model's device.
    training, validation : PromptedTiles
        The tiles.
    losses : sequence of str
        The first is optimised, all are logged.
    batch : int
        Validation tiles at a time.
    source : pathlib.Path, optional
        The folder the model came from, which `save` copies; found by the model's name without it.
    """

    def __init__(
        self,
        model: Sam | Sam2,
        prompter: DensePrompter,
        training: PromptedTiles,
        validation: PromptedTiles,
        losses: Sequence[str] = AUTOSAM_LOSSES,
        batch: int = 4,
        source: Path | None = None,
    ) -> None:
        self.model, self.prompter = model, prompter
        self.training, self.validation = training, validation
        self.batch, self.source = batch, source or find_checkpoint(model.name)
        self._losses = [parse_loss(text) for text in losses]
        model.network.eval().requires_grad_(False)
        self._signed = sign_frozen(model.network, ())

    @property
    def items(self) -> Sequence[int]:
        """Numbers of the training tiles."""
        return range(len(self.training.samples))

    def parameters(self) -> Mapping[str, nn.Parameter]:
        """Return the weights of the prompter, by name."""
        return dict(self.prompter.named_parameters())

    def train(self) -> None:
        """Prepare for an epoch."""
        self.prompter.train()
        self.model.network.eval()

    def losses(self, items: Sequence[int], epoch: int) -> Mapping[str, torch.Tensor]:
        """Return losses of some tiles, the optimised one as ``total`` and each by name."""
        shown = self.training.show(items, epoch)
        named = self._measure(self._answer(shown), shown.labels)
        return {"total": named[self._losses[0].name], **named}

    def _answer(self, shown: Shown) -> torch.Tensor:
        """Logits of some tiles at their own resolution, (n, size, size)."""
        pixels = torch.as_tensor(shown.pixels).to(self.model.placement.device)
        dense = self.prompter(pixels.contiguous(memory_format=torch.channels_last))
        logits, _ = self.model.decode_dense(shown.features, dense)
        size = (self.model.size, self.model.size)
        full = functional.interpolate(logits[:, None].float(), size=size, mode="bilinear")
        return full[:, 0]

    def _measure(self, logits: torch.Tensor, labels: np.ndarray) -> dict[str, torch.Tensor]:
        target, weight = as_target(torch.as_tensor(labels).to(logits.device))
        return {loss.name: loss(logits, target, weight) for loss in self._losses}

    def validate(self) -> Mapping[str, float]:
        """Return the losses of the validation part by name, the first as ``loss`` too, and the
        figures of :func:`geosam.training.scores.summarise`; NaN where there is no such part.
        """
        return figures(self.answers(), [loss.name for loss in self._losses])

    def answers(self) -> Iterator[Answered]:
        """Answer the validation tiles."""
        self.prompter.eval()
        numbers = range(len(self.validation.samples))
        with torch.no_grad():
            for start in range(0, len(numbers), self.batch):
                items = numbers[start : start + self.batch]
                shown = self.validation.show(items, 0)
                logits = self._answer(shown)
                rows = _rows(self._measure(logits, shown.labels))
                waters = (logits > 0).cpu().numpy()
                yield from map(Answered, items, rows, waters, shown.labels)

    def save(self, folder: Path) -> None:
        """Write the checkpoint as it was, with the dense prompt network beside it.

        Raises
        ------
        GeosamError
            If a weight of the checkpoint changed.
        """
        check_frozen(self.model.network, (), self._signed)
        for path in self.source.iterdir():
            if path.is_file() and path.suffix in (".json", ".safetensors", ".bin"):
                shutil.copy(path, folder / path.name)
        beside = folder / AUTOSAM
        beside.mkdir()
        save_prompter(self.prompter, self.model, beside)


def auto_sam(
    model: Sam | Sam2,
    samples: tuple[Sequence[Sample], Sequence[Sample]],
    tiles: tuple[Tiles, Tiles],
    recipe: Recipe,
    source: Path,
) -> AutoSam:
    """Set up the training of a recipe.

    Parameters
    ----------
    model
        As :func:`geosam.models.load.load_model` gives it.
    samples
        Of the training and the validation part.
    tiles
        The same, embedded: kept embeddings are used, and where tiles vary, as they vary.
    recipe
        Losses, batch and seed.
    source
        The folder the model came from. A dense prompt network that lies in it is trained on.
    """
    training, validation = (
        PromptedTiles(
            model,
            found,
            shown if isinstance(shown, StoredTiles) else None,
            shown.change if isinstance(shown, FreshTiles) else None,
        )
        for found, shown in zip(samples, tiles, strict=True)
    )
    prompter = start_prompter(model, source, recipe.fit.seed)
    losses, batch = recipe.loss.losses, recipe.fit.batch
    return AutoSam(model, prompter, training, validation, losses, batch, source)


def _rows(columns: Mapping[str, torch.Tensor]) -> list[dict[str, float]]:
    """Turn (n,) values by name into one mapping a tile."""
    lists = {name: values.tolist() for name, values in columns.items()}
    return [dict(zip(lists, row, strict=True)) for row in zip(*lists.values(), strict=True)]
