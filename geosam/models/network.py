"""What the promptable networks of transformers share: pixels to maps, maps and prompts to masks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from geosam.errors import ModelError
from geosam.models.checkpoint import Normalisation
from geosam.models.device import Placement
from geosam.models.prompt_tensors import best_masks, prompt_tensors, upsample, wants_several_masks
from geosam.types import Features, Model, PixelPrompts


@dataclass(frozen=True)
class NetworkModel(ABC):
    """A checkpoint as a :class:`geosam.types.Model`; an architecture says what its maps are."""

    name: str
    """The name it was asked for by."""
    signature: str
    """SHA-256 over its weights, in hexadecimal."""
    size: int
    """Rows and columns of its input."""
    normalisation: Normalisation
    """What its preprocessor does to pixels."""
    placement: Placement
    """Where it runs, and in which number format."""
    network: Any
    """The network itself, as transformers has it."""
    draws: bool = False
    """Whether clicks and boxes are drawn into the mask prompt as well."""

    @abstractmethod
    def _maps(self, batch: torch.Tensor) -> dict[str, torch.Tensor]:
        """Turn normalised pixels into named maps, (n, channels, y, x) each."""

    @abstractmethod
    def _keywords(self, features: Features) -> dict[str, Any]:
        """Return maps as the keywords by which the network takes them."""

    @property
    def dense_shape(self) -> tuple[int, int, int]:
        """Channels, rows and columns of a dense prompt."""
        rows, cols = self.network.prompt_encoder.image_embedding_size
        return self.network.config.prompt_encoder_config.hidden_size, rows, cols

    @property
    def mask_size(self) -> tuple[int, int]:
        """Rows and columns of a mask prompt, and of an answer before it is enlarged."""
        _, rows, cols = self.dense_shape
        return 4 * rows, 4 * cols

    def embed(self, pixels: np.ndarray) -> dict[str, torch.Tensor]:
        """Encode with gradients where they are wanted: (n, 3, size, size) in [0, 1] to float32 maps."""
        batch = self.placement.send(self.normalisation.apply(pixels))
        with self.placement.cast():
            return {name: values.float() for name, values in self._maps(batch).items()}

    def answer(
        self, features: Features, prompts: Sequence[PixelPrompts], several: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Decode with gradients where they are wanted.

        Parameters
        ----------
        features
            Of n tiles.
        prompts
            One a tile, all of one kind.
        several
            Whether to give the masks of an ambiguous prompt or the one of a clear prompt.

        Returns
        -------
        tuple
            Logits (n, m, *mask_size) and predicted IoU (n, m), both float32.
        """
        drawn_px = self.size if self.draws else None
        output = self.network(
            **self._keywords(features),
            **prompt_tensors(prompts, self.mask_size, self.placement, drawn_px),
            multimask_output=several,
        )
        return output.pred_masks[:, 0].float(), output.iou_scores[:, 0].float()

    def encode(self, pixels: np.ndarray) -> Features:
        """Turn (n, 3, size, size) float32 in [0, 1] into float32 maps, (n, channels, y, x) each."""
        with torch.inference_mode():
            return self.embed(pixels)

    def decode(
        self, features: Features, prompts: Sequence[PixelPrompts]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return logits (n, size, size) and predicted IoU (n,), one for each tile."""
        several = wants_several_masks(prompts[0].kind)
        with torch.inference_mode():
            logits, scores = best_masks(*self.answer(features, prompts, several))
            return upsample(logits, self.size), scores.cpu().numpy()

    def decode_all(
        self, features: Features, prompts: Sequence[PixelPrompts]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return every mask of an ambiguous prompt: logits (n, m, size, size), scores (n, m)."""
        with torch.inference_mode():
            logits, scores = self.answer(features, prompts, several=True)
            full = upsample(logits.flatten(0, 1), self.size)
            return full.reshape(*scores.shape, self.size, self.size), scores.cpu().numpy()


class DenseNetwork(NetworkModel):
    """A checkpoint whose decoder takes a dense prompt of any origin."""

    @abstractmethod
    def decode_dense(
        self, features: Features, dense: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Decode dense prompts without any point or box, with gradients where they are wanted.

        Parameters
        ----------
        features
            Of n tiles.
        dense
            (n, channels, rows, columns), in the place of the prompt encoder's.

        Returns
        -------
        tuple
            Logits (n, *mask_size) and predicted IoU (n,).
        """


def as_dense(model: Model) -> DenseNetwork:
    """Return a model that takes dense prompts as what it is.

    Raises
    ------
    ModelError
        If it takes none.
    """
    if isinstance(model, DenseNetwork):
        return model
    raise ModelError(
        f"Model {model.name} takes no dense prompts, and autosam gives no others. Use a checkpoint of SAM, "
        "SAM-HQ or SAM 2."
    )
