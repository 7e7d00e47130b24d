"""What a library raises while a network is loaded -> one sentence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError

from geosam.errors import ModelError

FAULTS = (
    OSError,
    SafetensorError,
    UnpicklingError,
    StrictDataclassError,
    RuntimeError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
)
"""What transformers raises about a configuration or weights that are not what they should be."""


@contextmanager
def loading(what: str, path: Path) -> Iterator[None]:
    """Turn what is wrong with a checkpoint into a sentence that names it.

    Parameters
    ----------
    what
        Is loaded, at the start of a sentence: ``Model facebook/sam-vit-base``.
    path
        Where it lies.

    Raises
    ------
    ModelError
        If it cannot be loaded.
    torch.OutOfMemoryError
        If there is no room for it: that says nothing of the checkpoint.
    """
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except FAULTS as error:
        raise ModelError(
            f"{what} in {path} cannot be loaded ({_first_line(error)}). Its configuration or weights "
            "may be corrupt: fetch the checkpoint anew."
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
