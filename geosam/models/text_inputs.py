"""A network that reads phrases, and a picture and phrases as the tensors that it takes.

What their image processors do to a square picture is little: it is resized and normalised here, from the
settings that lie beside the checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812

from geosam.errors import InputError, ModelError
from geosam.models.checkpoint import Normalisation, read_json, read_normalisation
from geosam.models.device import Placement
from geosam.models.pretrained import load_pretrained, silence

TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "vocab.json")
"""One of these lies beside a checkpoint that reads words."""


@dataclass(frozen=True)
class TextNetwork:
    """A network of transformers that looks at a picture and reads phrases."""

    side: int
    """Rows and columns of the pictures it looks at."""
    normalisation: Normalisation
    """Of their colours."""
    placement: Placement
    """Where it runs."""
    tokenizer: Any
    """Turns phrases into numbers."""
    network: Any
    """The network itself."""

    @classmethod
    def load(
        cls, network_class: Any, name: str, folder: Path, placement: Placement, side: int
    ) -> Self:
        """Load a checkpoint with its tokenizer from a folder; it looks at pictures of `side` pixels
        where its preprocessor says nothing else.

        Raises
        ------
        ModelError
            If it is incomplete.
        """
        network = load_pretrained(network_class, name, folder, placement)
        seen = read_side(folder, side), read_normalisation(folder)
        return cls(*seen, placement, load_tokenizer(name, folder), network)

    def look(self, image: np.ndarray) -> torch.Tensor:
        """Return a picture (3, y, x) as the network takes it, (1, 3, side, side)."""
        return picture_tensor(image, self.side, self.normalisation)

    def ask(self, inputs: Mapping[str, torch.Tensor]) -> Any:
        """Return what the network says to tensors by name."""
        with torch.inference_mode():
            return self.network(**{k: v.to(self.placement.device) for k, v in inputs.items()})


def load_tokenizer(name: str, folder: Path) -> Any:
    """Load the tokenizer that lies beside a checkpoint.

    Raises
    ------
    ModelError
        If there is none.
    """
    from transformers import AutoTokenizer

    there = [file for file in TOKENIZER_FILES if (folder / file).is_file()]
    try:
        if not there:
            raise OSError("it has no file of words")
        with silence():
            return AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"Detector {name} has no tokenizer in {folder}. Copy its tokenizer.json and "
            "tokenizer_config.json beside config.json."
        ) from error


def read_side(folder: Path, default: int) -> int:
    """Return the rows and columns that a checkpoint's preprocessor brings a square picture to.

    Raises
    ------
    ModelError
        If its settings are corrupt.
    """
    path = folder / "preprocessor_config.json"
    size = read_json(path).get("size", {}) if path.is_file() else {}
    sides = size if isinstance(size, dict) else {"height": size}
    side = sides.get("height") or sides.get("shortest_edge") or default
    if not isinstance(side, int) or side < 1:
        raise ModelError(
            f"{path} has size {size!r}, and a side is a number of pixels. Fetch the checkpoint anew."
        )
    return side


def picture_tensor(image: np.ndarray, side: int, normalisation: Normalisation) -> torch.Tensor:
    """Resize and normalise (3, n, n) float32 of 0 to 1: (1, 3, side, side).

    Raises
    ------
    InputError
        If the picture is not square.
    """
    if image.ndim != 3 or image.shape[1] != image.shape[2]:
        raise InputError(
            f"A detector sees square tiles; this picture has the shape {image.shape}. Cut it."
        )
    pixels = torch.as_tensor(np.asarray(image, np.float32))[None]
    resized = F.interpolate(
        pixels, size=(side, side), mode="bilinear", align_corners=False, antialias=True
    )
    return torch.as_tensor(normalisation.apply(resized.numpy()))


def phrase_tensors(tokenizer: Any, phrases: Sequence[str]) -> dict[str, torch.Tensor]:
    """Return ``input_ids`` and ``attention_mask`` of phrases, (n, longest)."""
    words = [phrase.strip().lower() for phrase in phrases]
    out = tokenizer(words, padding=True, truncation=True, return_tensors="pt")
    return {name: out[name] for name in ("input_ids", "attention_mask")}


def corner_boxes(boxes: torch.Tensor, side: int) -> np.ndarray:
    """Turn (n, 4) of x, y of the middle, width and height as shares of a square picture into x_min,
    y_min, x_max, y_max in its pixels, inside it.
    """
    middle, size = boxes[:, :2].float(), boxes[:, 2:].float()
    corners = torch.cat([middle - size / 2, middle + size / 2], dim=1) * side
    return corners.clamp(0, side).cpu().numpy().astype(np.float64)
