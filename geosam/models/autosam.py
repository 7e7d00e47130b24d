"""A model that prompts itself: each tile's dense prompt comes from a network trained for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from geosam.errors import ModelError
from geosam.models.checkpoint import find_checkpoint
from geosam.models.dense_prompter import DensePrompter, PrompterConfig
from geosam.models.network import DenseNetwork, as_dense
from geosam.models.prompt_tensors import upsample
from geosam.models.prompter_files import (
    WEIGHTS_NAME,
    PrompterCard,
    PrompterFiles,
    prompter_of,
    write_card,
)
from geosam.types import Features, Model, PixelPrompts

DENSE = "dense_prompt"
"""Name of the dense prompt among the features of a tile."""


@dataclass(frozen=True)
class AutoPrompted:
    """A model and its prompter, as one model that ignores all other prompts."""

    model: DenseNetwork
    """Encodes and decodes."""
    prompter: DensePrompter
    """Makes the dense prompts; on the model's device."""

    @property
    def name(self) -> str:
        """The name the model was asked for by."""
        return self.model.name

    @property
    def signature(self) -> str:
        """SHA-256 over the model's weights."""
        return self.model.signature

    @property
    def size(self) -> int:
        """Rows and columns of the input."""
        return self.model.size

    def encode(self, pixels: np.ndarray) -> Features:
        """Turn (n, 3, size, size) float32 in [0, 1] into the model's features and dense prompts."""
        return self.prompt(self.model.encode(pixels), pixels)

    def prompt(self, features: Features, pixels: np.ndarray) -> Features:
        """Add the dense prompts of some tiles to what the model has seen of them."""
        placement = self.model.placement
        with torch.inference_mode(), placement.cast():
            batch = placement.send(pixels)
            dense = self.prompter(batch.contiguous(memory_format=torch.channels_last))
        return {**features, DENSE: dense.float()}

    def decode(
        self, features: Features, prompts: Sequence[PixelPrompts]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return logits (n, size, size) and predicted IoU (n,), one for each tile."""
        maps = {name: array for name, array in features.items() if name != DENSE}
        with torch.inference_mode():
            logits, scores = self.model.decode_dense(maps, features[DENSE])
        return upsample(logits, self.size), scores.float().cpu().numpy()


def auto_prompted(model: Model) -> AutoPrompted:
    """Give a loaded model the dense prompt network that lies beside its checkpoint.

    Raises
    ------
    ModelError
        If the model takes no dense prompts, or there is no network, that of another checkpoint, or
        a corrupt one.
    """
    if isinstance(model, AutoPrompted):
        return model
    dense = as_dense(model)
    files = prompter_of(model.name, find_checkpoint(model.name))
    files.card.check(dense.name, dense.signature)
    prompter = load_prompter(files).to(dense.placement.device)
    return AutoPrompted(dense, prompter.to(memory_format=torch.channels_last))  # type: ignore[call-overload]


def load_prompter(files: PrompterFiles) -> DensePrompter:
    """Load a dense prompt network in float32, ready to predict.

    Raises
    ------
    ModelError
        If its weights are corrupt or do not fit its settings.
    """
    card = files.card
    try:
        config = PrompterConfig(card.channels, card.patch, card.widths, card.depths)
        prompter = DensePrompter(config)
        prompter.load_state_dict(load_file(files.folder / WEIGHTS_NAME))
    except (OSError, SafetensorError, RuntimeError, ValueError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
        raise ModelError(
            f"The dense prompt network in {files.folder} cannot be loaded ({reason}). "
            "The file may be corrupt: copy the folder anew."
        ) from error
    return prompter.eval().requires_grad_(False)


def save_prompter(prompter: DensePrompter, model: DenseNetwork, folder: Path) -> None:
    """Write ``config.json`` and ``model.safetensors`` (float32) of a dense prompt network.

    Parameters
    ----------
    prompter
        The network.
    model
        The model it was trained for.
    folder
        An existing folder.
    """
    config = prompter.config
    # A path on the machine that trained it says nothing elsewhere.
    named = Path(model.name).name if Path(model.name).exists() else model.name
    card = PrompterCard(
        named, model.signature, config.channels, config.patch, config.widths, config.depths
    )
    state = {name: value.cpu().contiguous() for name, value in prompter.state_dict().items()}
    save_file(state, folder / WEIGHTS_NAME, metadata={"format": "pt"})
    write_card(card, folder)
