"""OWLv2 as transformers has it: boxes for phrases.

Minderer et al. 2023, Scaling Open-Vocabulary Object Detection, https://arxiv.org/abs/2306.09683.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from geosam.models.checkpoint import Normalisation, read_normalisation
from geosam.models.device import Placement
from geosam.models.pretrained import load_pretrained
from geosam.models.text_inputs import (
    corner_boxes,
    load_tokenizer,
    phrase_tensors,
    picture_tensor,
    read_side,
)


@dataclass(frozen=True)
class Owlv2:
    """Compares each patch of a picture with each phrase."""

    side: int
    normalisation: Normalisation
    placement: Placement
    tokenizer: Any
    network: Any

    def detect(
        self, image: np.ndarray, phrases: Sequence[str]
    ) -> tuple[np.ndarray, np.ndarray, list[str]]:
        """Return boxes (n, 4), scores (n,) and phrases: each box with the phrase it fits best."""
        pixels = picture_tensor(image, self.side, self.normalisation)
        inputs = phrase_tensors(self.tokenizer, phrases) | {"pixel_values": pixels}
        with torch.inference_mode():
            found = self.network(**{k: v.to(self.placement.device) for k, v in inputs.items()})
        scores = found.logits[0].float().sigmoid().cpu().numpy()
        boxes = corner_boxes(found.pred_boxes[0], image.shape[-1])
        return boxes, scores.max(axis=1), [phrases[k] for k in scores.argmax(axis=1)]


def load_owlv2(name: str, folder: Path, placement: Placement) -> Owlv2:
    """Load an OWLv2 checkpoint with its tokenizer from a folder."""
    from transformers import Owlv2ForObjectDetection

    network = load_pretrained(Owlv2ForObjectDetection, name, folder, placement)
    return Owlv2(
        read_side(folder, 960),
        read_normalisation(folder),
        placement,
        load_tokenizer(name, folder),
        network,
    )
