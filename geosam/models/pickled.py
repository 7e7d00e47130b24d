"""Tensors out of a file that ``torch.save`` wrote, and nothing but tensors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from geosam.errors import ModelError

WRAPPERS = ("model", "state_dict")
"""Where a training keeps the weights, beside its optimiser and the like."""


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Read a state dict without running anything of the file.

    A pickle may name any function to be called when it is opened. ``weights_only`` lets it name
    none but those that make tensors.

    Parameters
    ----------
    path
        In the format that torch has written since 1.6, which is mapped, not read: the tensors must
        be copied before the file changes.

    Raises
    ------
    ModelError
        If it asks for anything else, is damaged, or holds no state dict.
    """
    try:
        found = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except UnpicklingError as error:
        raise ModelError(_refusal(path, str(error))) from error
    except (OSError, RuntimeError, EOFError, ValueError, TypeError, LookupError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
        raise ModelError(
            f"Model {path} cannot be read ({reason}). The file may be cut short or no checkpoint: fetch "
            "it anew."
        ) from error
    return _state(path, found)


def _refusal(path: Path, reason: str) -> str:
    match = re.search(r"GLOBAL ([\w.]+)", reason)
    what = f" ({match[1]})" if match else ""
    return (
        f"Model {path} asks for something else than tensors when it is opened{what}, which could be any "
        "code: nothing of it was run. If you trust where it comes from, save its state dict alone."
    )


def _state(path: Path, found: Any) -> dict[str, torch.Tensor]:
    for name in WRAPPERS:
        if isinstance(found, Mapping) and isinstance(found.get(name), Mapping):
            found = found[name]
    named = isinstance(found, Mapping) and all(isinstance(name, str) for name in found)
    if not named or not found or not all(torch.is_tensor(value) for value in found.values()):
        raise ModelError(
            f"Model {path} holds no state dict, that is, tensors by name. Give a checkpoint of the "
            "original SAM, or the folder of one that transformers wrote."
        )
    return dict(found)
