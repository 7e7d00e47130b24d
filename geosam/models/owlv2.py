"""OWLv2 as transformers has it: boxes for phrases.

Minderer et al. 2023, Scaling Open-Vocabulary Object Detection, https://arxiv.org/abs/2306.09683.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from geosam.models.device import Placement
from geosam.models.text_inputs import TextNetwork, corner_boxes, phrase_tensors


@dataclass(frozen=True)
class Owlv2(TextNetwork):
    """Compares each patch of a picture with each phrase."""

    def detect(
        self, image: np.ndarray, phrases: Sequence[str]
    ) -> tuple[np.ndarray, np.ndarray, list[str]]:
        """Return boxes (n, 4), scores (n,) and phrases: each box with the phrase it fits best."""
        pixels = self.look(image)
        inputs = phrase_tensors(self.tokenizer, phrases) | {"pixel_values": pixels}
        found = self.ask(inputs)
        scores = found.logits[0].float().sigmoid().cpu().numpy()
        boxes = corner_boxes(found.pred_boxes[0], image.shape[-1])
        return boxes, scores.max(axis=1), [phrases[k] for k in scores.argmax(axis=1)]


def load_owlv2(name: str, folder: Path, placement: Placement) -> Owlv2:
    """Load an OWLv2 checkpoint with its tokenizer from a folder."""
    from transformers import Owlv2ForObjectDetection

    return Owlv2.load(Owlv2ForObjectDetection, name, folder, placement, side=960)
