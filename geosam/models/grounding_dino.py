"""Grounding DINO as transformers has it: boxes for phrases.

Liu et al. 2024, Grounding DINO, https://arxiv.org/abs/2303.05499.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from geosam.models.device import Placement
from geosam.models.text_inputs import TextNetwork, corner_boxes


@dataclass(frozen=True)
class GroundingDino(TextNetwork):
    """Reads all phrases as one text, and gives each token of it a score for each box."""

    def detect(
        self, image: np.ndarray, phrases: Sequence[str]
    ) -> tuple[np.ndarray, np.ndarray, list[str]]:
        """Return boxes (n, 4), scores (n,) and phrases: each box with the phrase it fits best, by the
        surest of the phrase's tokens.
        """
        text, spans = _as_text(phrases)
        words = self.tokenizer(text, return_offsets_mapping=True, return_tensors="pt")
        offsets = words.pop("offset_mapping")[0]
        pixels = self.look(image)
        inputs = {k: words[k] for k in ("input_ids", "attention_mask")} | {"pixel_values": pixels}
        found = self.ask(inputs)
        tokens = found.logits[0].float().sigmoid().cpu().numpy()
        scores = np.stack([_score(tokens, offsets.numpy(), span) for span in spans], axis=1)
        best = scores.argmax(axis=1)
        boxes = corner_boxes(found.pred_boxes[0], image.shape[-1])
        return boxes, scores.max(axis=1), [phrases[k] for k in best]


def _as_text(phrases: Sequence[str]) -> tuple[str, list[tuple[int, int]]]:
    """Join phrases as the network was trained on them, ``water. bare soil.``, and say where each is."""
    text, spans = "", []
    for phrase in phrases:
        word = phrase.strip().rstrip(".").lower()
        spans.append((len(text), len(text) + len(word)))
        text += f"{word}. "
    return text.strip(), spans


def _score(tokens: np.ndarray, offsets: np.ndarray, span: tuple[int, int]) -> np.ndarray:
    """Return the highest score of the tokens of a phrase, for each box."""
    start, end = offsets[:, 0], offsets[:, 1]
    mine = np.flatnonzero((start >= span[0]) & (end <= span[1]) & (end > start))
    mine = mine[mine < tokens.shape[1]]
    return tokens[:, mine].max(axis=1) if len(mine) else np.zeros(len(tokens), tokens.dtype)


def load_grounding_dino(name: str, folder: Path, placement: Placement) -> GroundingDino:
    """Load a Grounding DINO checkpoint with its tokenizer from a folder."""
    from transformers import GroundingDinoForObjectDetection

    return GroundingDino.load(GroundingDinoForObjectDetection, name, folder, placement, side=800)
