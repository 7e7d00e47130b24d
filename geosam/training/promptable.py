"""A promptable model that is trained: prompts from labels, masks from prompts, losses from masks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from geosam.errors import InputError
from geosam.models.network import NetworkModel
from geosam.training.answers import Answer, answer, enlarged
from geosam.training.clicks import seeded
from geosam.training.embeddings import Seen, Tiles
from geosam.training.freeze import check_frozen, free_part, parse_part, sign_frozen
from geosam.training.losses import as_target, mask_iou, parse_loss
from geosam.training.mask_choice import choose
from geosam.training.prompting import correct_prompt, draw_prompt
from geosam.training.recipe import Recipe
from geosam.training.sample import WATER
from geosam.training.saving import save_network
from geosam.training.scores import Answered, figures
from geosam.types import PixelPrompts


@dataclass(frozen=True)
class Judged:
    """One answer measured."""

    losses: dict[str, torch.Tensor]
    """By name, one number each; the first is optimised."""

    logits: torch.Tensor
    """(y, x) of the answer, on the decoder's grid."""


class Promptable:
    """A promptable network with the tiles it learns from; a :class:`geosam.training.trainee.Trainee`.

    Parameters
    ----------
    model
        As :func:`geosam.models.load.load_model` gives it. Its network is trained in place.
    train, validation
        Tiles of the two parts. The validation part may be empty.
    recipe
        Part, prompts and losses.
    source
        The folder the model came from; its preprocessor settings are written beside the weights.

    Raises
    ------
    InputError
        If there is nothing to learn from: no tile has the water that prompts are made of.
    """

    def __init__(
        self, model: NetworkModel, train: Tiles, validation: Tiles, recipe: Recipe, source: Path
    ) -> None:
        self._model, self._train, self._validation = model, train, validation
        self._recipe, self._source = recipe, source
        self._losses = [parse_loss(text) for text in recipe.loss.losses]
        self._items = _usable(train, recipe)
        self._part = parse_part(recipe.model.part, recipe.model.start)
        self._free = free_part(model.network, self._part, recipe.fit.seed)
        self._signed = sign_frozen(model.network, self._free)

    @property
    def items(self) -> Sequence[int]:
        """Numbers of the tiles that have the water which prompts are made of."""
        return self._items

    def parameters(self) -> Mapping[str, nn.Parameter]:
        """Return the tensors that are trained, by name."""
        return self._free

    def train(self) -> None:
        """Set the decoder to training mode, and the encoder where it is trained."""
        self._model.network.eval()
        self._model.network.mask_decoder.train()
        if self._part.has_encoder:
            self._model.network.vision_encoder.train()

    def losses(self, items: Sequence[int], epoch: int) -> dict[str, torch.Tensor]:
        """Return losses of some tiles: the optimised one, each by name, and that of the IoU head."""
        seen = self._train.read(items, epoch)
        rngs = [seeded(self._recipe.fit.seed, epoch, item) for item in items]
        drawn = [
            draw_prompt(label, self._recipe.prompts, rng)
            for label, rng in zip(seen.labels, rngs, strict=True)
        ]
        prompts = [prompt for prompt in drawn if prompt is not None]
        if len(prompts) < len(drawn):
            raise InputError("A tile lost its water between two readings. Leave the data alone.")
        return _mean_of_rounds(list(self._rounds(seen, prompts)))

    def _rounds(self, seen: Seen, prompts: list[PixelPrompts]) -> Iterator[dict[str, torch.Tensor]]:
        """Yield the losses of the first answer, and of each that corrects it."""
        loss = self._recipe.loss
        for left in range(self._recipe.prompts.rounds, -1, -1):
            answers = answer(self._model, seen.features, prompts, loss.masks)
            judged = [
                self._judge(given, label, loss.masks, learning=True)
                for given, label in zip(answers, seen.labels, strict=True)
            ]
            yield {name: torch.stack([j.losses[name] for j in judged]) for name in judged[0].losses}
            if left:
                prompts = _corrected(prompts, judged, seen.labels)

    def _judge(self, given: Answer, label: np.ndarray, how: str, learning: bool) -> Judged:
        """Choose one mask of an answer, and measure it at the tile's own pixels."""
        target, weight = (
            t.to(given.logits.device)[None].expand(len(given.logits), -1, -1)
            for t in as_target(torch.from_numpy(label))
        )
        full = enlarged(given.logits, label.shape)
        first = self._losses[0]
        ranked = first(full, target, weight).detach() if learning else None
        logits = choose(full, given.scores, how, ranked)
        named = {loss.name: loss(logits, target[0], weight[0]) for loss in self._losses}
        truth = mask_iou((full > 0).float(), target, weight)
        iou_head = ((given.scores - truth) ** 2).mean()
        total = named[first.name] + self._recipe.loss.iou_weight * iou_head
        small = choose(given.logits, given.scores, how, ranked).detach()
        return Judged({"total": total, **named, "iou_head": iou_head}, small)

    def validate(self) -> dict[str, float]:
        """Return the figures of the validation part with prompts that never change.

        ``loss`` is the first loss without that of the IoU head; the others are those of
        :func:`geosam.training.scores.summarise`.
        """
        return figures(self.answers(), [*(loss.name for loss in self._losses), "iou_head"])

    def answers(self) -> Iterator[Answered]:
        """Answer the validation tiles, those without water left out where a prompt needs some."""
        self._model.network.eval()
        with torch.no_grad():
            for items, prompts in self._fixed_prompts():
                seen = self._validation.read(items, 0)
                final = self._final(seen, prompts)
                for item, judged, label in zip(items, final, seen.labels, strict=True):
                    losses = {name: float(value) for name, value in judged.losses.items()}
                    full = enlarged(judged.logits[None], label.shape)[0] > 0
                    yield Answered(item, losses, full.cpu().numpy(), label)

    def _final(self, seen: Seen, prompts: list[PixelPrompts]) -> list[Judged]:
        """Return the last answers of a validation, after all corrections."""
        how = self._recipe.loss.validation_masks
        for left in range(self._recipe.prompts.rounds, -1, -1):
            answers = answer(self._model, seen.features, prompts, how)
            judged = [
                self._judge(given, label, how, learning=False)
                for given, label in zip(answers, seen.labels, strict=True)
            ]
            if left:
                prompts = _corrected(prompts, judged, seen.labels)
        return judged

    def _fixed_prompts(self) -> Iterator[tuple[list[int], list[PixelPrompts]]]:
        """Yield batches of the validation tiles that a prompt can be made for."""
        seed, rule = self._recipe.prompts.validation_seed, self._recipe.prompts
        batch: list[tuple[int, PixelPrompts]] = []
        for item in range(len(self._validation)):
            prompt = draw_prompt(self._validation.label(item), rule, seeded(seed, 0, item))
            if prompt is not None:
                batch.append((item, prompt))
            if len(batch) == self._recipe.fit.batch:
                yield [i for i, _ in batch], [p for _, p in batch]
                batch = []
        if batch:
            yield [i for i, _ in batch], [p for _, p in batch]

    def save(self, folder: Path) -> None:
        """Write config.json, model.safetensors and preprocessor_config.json.

        Raises
        ------
        GeosamError
            If a tensor changed that was not to be trained; nothing is written then.
        """
        check_frozen(self._model.network, self._free, self._signed)
        save_network(self._model, self._source, folder)


def _usable(tiles: Tiles, recipe: Recipe) -> list[int]:
    if recipe.prompts.kind == "none":
        return list(range(len(tiles)))
    wet = [i for i in range(len(tiles)) if (tiles.label(i) == WATER).any()]
    if not wet:
        raise InputError(
            f"None of the {len(tiles)} training tiles has water in its label, and prompts are made "
            "from water. Check that 1 is water in the masks, or give images that have some."
        )
    return wet


def _corrected(
    prompts: Sequence[PixelPrompts], judged: Sequence[Judged], labels: np.ndarray
) -> list[PixelPrompts]:
    return [
        correct_prompt(prompt, made.logits.cpu().numpy(), label)
        for prompt, made, label in zip(prompts, judged, labels, strict=True)
    ]


def _mean_of_rounds(rounds: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    return {name: torch.stack([losses[name] for losses in rounds]).mean(0) for name in rounds[0]}
