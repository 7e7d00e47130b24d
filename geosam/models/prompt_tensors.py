"""Prompts of a batch of tiles as the tensors that transformers' SAM classes take."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812

from geosam.models.device import Placement
from geosam.models.prior import SURE, draw_prior
from geosam.types import PixelPrompts

DENSE_LOGIT = SURE
"""The dense mask prompt is given as logits: this inside the coarse mask, minus this outside."""


def prompt_tensors(
    prompts: Sequence[PixelPrompts],
    mask_size: tuple[int, int],
    placement: Placement,
    drawn_px: int | None = None,
) -> dict[str, torch.Tensor]:
    r"""Stack the prompts of n tiles, one object each.

    SAM and SAM 2 take (0, 0) as the centre of the first pixel and add 0.5 themselves, while
    :class:`PixelPrompts` counts from its corner: 0.5 is subtracted here and nowhere else.

    Parameters
    ----------
    prompts
        One a tile, all of one kind.
    mask_size
        (height, width) of the network's mask input.
    placement
        Where the network runs.
    drawn_px
        Side of the tiles in pixels where clicks and boxes are drawn into the mask prompt as well
        (:mod:`geosam.models.prior`); None where they are not.

    Returns
    -------
    dict
        ``input_points`` (n, 1, k, 2), ``input_labels`` (n, 1, k), ``input_boxes`` (n, 1, 4),
        ``input_masks`` (n, 1, *mask_size): those there are.
    """
    k, has_boxes, has_masks = prompts[0].kind
    tensors: dict[str, torch.Tensor] = {}
    if k:
        points = np.stack([p.points for p in prompts]) - 0.5
        tensors["input_points"] = torch.as_tensor(points, dtype=torch.float32)
        tensors["input_labels"] = torch.as_tensor(
            np.stack([p.labels for p in prompts]), dtype=torch.int32
        )
    if has_boxes:
        boxes = np.stack([p.boxes for p in prompts if p.boxes is not None]) - 0.5
        tensors["input_boxes"] = torch.as_tensor(boxes, dtype=torch.float32)
    if has_masks:
        masks = np.stack([p.masks for p in prompts if p.masks is not None])
        tensors["input_masks"] = _mask_logits(masks, mask_size)
    if drawn_px is not None and (k or has_boxes):
        tensors["input_masks"] = _drawn(prompts, mask_size, drawn_px, tensors.get("input_masks"))
    return {name: _move(tensor, placement) for name, tensor in tensors.items()}


def _drawn(
    prompts: Sequence[PixelPrompts],
    mask_size: tuple[int, int],
    side: int,
    masks: torch.Tensor | None,
) -> torch.Tensor:
    """Mask prompts with clicks and boxes drawn into them, (n, 1, *mask_size)."""
    maps = [
        draw_prior(
            mask_size,
            side / mask_size[1],
            p.points[0],
            p.labels[0],
            None if p.boxes is None else p.boxes[0],
            None if masks is None else masks[i, 0].numpy(),
        )
        for i, p in enumerate(prompts)
    ]
    return torch.from_numpy(np.stack(maps))[:, None]


def wants_several_masks(kind: tuple[int, bool, bool]) -> bool:
    """Return whether the prompt is ambiguous (a single click), so that the best of three masks
    is wanted; a box, a mask or several points mean one.
    """
    return kind == (1, False, False)


def best_masks(logits: torch.Tensor, scores: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Pick the mask with the highest predicted IoU: (n, m, h, w), (n, m) -> (n, h, w), (n,)."""
    best = scores.argmax(dim=1)
    rows = torch.arange(len(best), device=best.device)
    return logits[rows, best], scores[rows, best]


def upsample(logits: torch.Tensor, size: int) -> np.ndarray:
    """Bring (n, h, w) logits to (n, size, size) float32 on the CPU, bilinearly."""
    full = F.interpolate(
        logits[:, None].float(), size=(size, size), mode="bilinear", align_corners=False
    )
    return full[:, 0].cpu().numpy()


def _mask_logits(masks: np.ndarray, mask_size: tuple[int, int]) -> torch.Tensor:
    if np.issubdtype(masks.dtype, np.floating):
        # Logits of an earlier answer.
        return F.adaptive_avg_pool2d(torch.as_tensor(masks, dtype=torch.float32), mask_size)
    share = F.adaptive_avg_pool2d(torch.as_tensor(masks, dtype=torch.float32), mask_size)
    # Half a cell counts as inside, so that a line one pixel wide is not lost.
    return torch.where(share >= 0.5, DENSE_LOGIT, -DENSE_LOGIT)


def _move(tensor: torch.Tensor, placement: Placement) -> torch.Tensor:
    return tensor.to(placement.device)
