"""CLIPSeg as transformers has it: a heat map for each phrase, and boxes around what is hot.

Lüddecke and Ecker 2022, Image Segmentation Using Text and Image Prompts,
https://arxiv.org/abs/2112.10003.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch.nn.functional as F  # noqa: N812

from geosam.boxes import boxes_of_parts
from geosam.models.device import Placement
from geosam.models.text_inputs import TextNetwork, phrase_tensors

SMALLEST_PX = 64
"""Smaller hot parts are not found: the map is coarse."""


@dataclass(frozen=True)
class ClipSeg(TextNetwork):
    """Draws where a phrase is, coarsely."""

    def heat(self, image: np.ndarray, phrases: Sequence[str]) -> np.ndarray:
        """Return how much each pixel is what each phrase names, (n, y, x) float32 of 0 to 1."""
        pixels = self.look(image)
        inputs = phrase_tensors(self.tokenizer, phrases)
        inputs["pixel_values"] = pixels.repeat(len(phrases), 1, 1, 1)
        found = self.ask(inputs)
        maps = found.logits.float().reshape(len(phrases), 1, *found.logits.shape[-2:])
        size = image.shape[-2:]
        whole = F.interpolate(maps, size=size, mode="bilinear", align_corners=False)
        return whole[:, 0].sigmoid().cpu().numpy()

    def detect(
        self, image: np.ndarray, phrases: Sequence[str]
    ) -> tuple[np.ndarray, np.ndarray, list[str]]:
        """Return boxes (n, 4) around what is hotter than a half, the mean heat there, and phrases."""
        boxes, scores, labels = [np.empty((0, 4))], [np.empty(0)], []
        for phrase, heat in zip(phrases, self.heat(image, phrases), strict=True):
            found, rated = boxes_of_parts(heat, SMALLEST_PX)
            boxes.append(found)
            scores.append(rated)
            labels += [phrase] * len(found)
        return np.concatenate(boxes), np.concatenate(scores), labels


def load_clipseg(name: str, folder: Path, placement: Placement) -> ClipSeg:
    """Load a CLIPSeg checkpoint with its tokenizer from a folder."""
    from transformers import CLIPSegForImageSegmentation

    return ClipSeg.load(CLIPSegForImageSegmentation, name, folder, placement, side=352)
