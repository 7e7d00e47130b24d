"""Which tensors of a SAM are trained, and a check that no other changed."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from geosam.errors import GeosamError, OptionError
from geosam.training.adapters import DEFAULT_RANK, add_adapters

_PART = re.compile(r"(decoder|all|last-blocks:([1-9]\d*)|lora(?::([1-9]\d*))?|autosam)")
ENCODER_SIDE = ("mask_decoder.conv_s0.", "mask_decoder.conv_s1.")
"""SAM 2 counts these to its decoder but applies them to the embeddings, before any prompt: they
stay frozen with the encoder, or kept embeddings would be those of other weights."""


FIXED = "positional_embedding"
"""The random frequencies of the positional code, a constant that transformers keeps as a weight."""


@dataclass(frozen=True)
class Part:
    """The part of a network that is trained."""

    kind: str
    """``decoder``, ``last-blocks``, ``lora`` or ``all``; ``autosam`` is a network beside it."""

    number: int = 0
    """Blocks of the encoder, or rank of the adapters."""

    @property
    def has_encoder(self) -> bool:
        """Whether embeddings change while it is trained."""
        return self.kind not in ("decoder", "autosam")


def parse_part(text: str, start: str = "checkpoint") -> Part:
    """Read what is to be trained; ``auto`` depends on what it starts from.

    Raises
    ------
    OptionError
        If it is none of ``decoder``, ``last-blocks:N``, ``lora``, ``lora:RANK``, ``all`` and
        ``autosam``, or a network is to prompt weights that have learned nothing.

    Examples
    --------
    >>> parse_part("last-blocks:2")
    Part(kind='last-blocks', number=2)
    """
    if text == "auto":
        text = "all" if start == "scratch" else "decoder"
    match = _PART.fullmatch(text)
    if match is None:
        raise OptionError(
            f"Part {text!r} must be decoder, last-blocks:N, lora, lora:RANK, all or autosam."
        )
    if text == "autosam" and start == "scratch":
        raise OptionError(
            "Part autosam leaves the model as it is, and from scratch it knows nothing. Start from a "
            "checkpoint."
        )
    kind = text.split(":")[0]
    return Part(kind, int(match[2] or match[3] or (DEFAULT_RANK if kind == "lora" else 0)))


def free_part(network: Any, part: Part, seed: int) -> dict[str, nn.Parameter]:
    """Freeze a network but for one part, in place, and return what is free.

    Parameters
    ----------
    network
        A promptable network of transformers.
    part
        What is trained.
    seed
        Seeds the first weights of adapters.

    Raises
    ------
    OptionError
        If there are fewer blocks than asked for.
    """
    network.requires_grad_(False)
    starts = _starts(network, part)
    for name, parameter in network.named_parameters():
        frozen = part.kind == "decoder" and name.startswith(ENCODER_SIDE)
        fixed = name.split(".")[-1] == FIXED
        parameter.requires_grad_(name.startswith(starts) and not (frozen or fixed))
    if part.kind == "lora":
        add_adapters(network.vision_encoder, part.number, seed)
    return {name: p for name, p in network.named_parameters() if p.requires_grad}


def _starts(network: Any, part: Part) -> tuple[str, ...]:
    if part.kind == "all":
        return ("",)
    if part.kind == "last-blocks":
        home, blocks = encoder_blocks(network)
        if part.number > len(blocks):
            raise OptionError(
                f"last-blocks:{part.number}: the encoder has {len(blocks)} blocks. Use fewer."
            )
        last = range(len(blocks) - part.number, len(blocks))
        return ("mask_decoder.", "vision_encoder.neck.", *(f"{home}.{i}." for i in last))
    return ("mask_decoder.",)


def encoder_blocks(network: Any) -> tuple[str, nn.ModuleList]:
    """Return where the blocks of the image encoder are, by name, and the blocks."""
    encoder = network.vision_encoder
    if hasattr(encoder, "layers"):
        return "vision_encoder.layers", encoder.layers
    if hasattr(encoder.backbone, "layers"):
        return "vision_encoder.backbone.layers", encoder.backbone.layers
    return "vision_encoder.backbone.blocks", encoder.backbone.blocks


def sign_frozen(network: nn.Module, trained: Collection[str]) -> dict[str, str]:
    """Return a digest of every tensor that is not trained, by name."""
    return {
        name: _digest(tensor)
        for name, tensor in network.state_dict().items()
        if name not in trained
    }


def _digest(tensor: torch.Tensor) -> str:
    values = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    return hashlib.blake2b(values.numpy().data, digest_size=16).hexdigest()


def check_frozen(network: nn.Module, trained: Collection[str], signed: dict[str, str]) -> None:
    """Check that every other tensor is still what it was, bit for bit.

    Raises
    ------
    GeosamError
        If one is not.
    """
    now = sign_frozen(network, trained)
    changed = [name for name, digest in signed.items() if now.get(name) != digest]
    if changed:
        raise GeosamError(
            f"{len(changed)} frozen tensors changed while training (first: {changed[0]}), and "
            "nothing was saved. This is a defect of geosam: please report it."
        )
