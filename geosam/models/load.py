"""A name, a folder, a file or a hub id -> a model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from geosam.errors import ModelError
from geosam.models.checkpoint import find_checkpoint, read_config
from geosam.models.device import Placement, place
from geosam.models.faults import loading
from geosam.models.known import family_of
from geosam.models.sam import load_sam
from geosam.models.sam2 import load_sam2
from geosam.models.sam3 import load_sam3
from geosam.models.sam_hq import load_sam_hq
from geosam.types import Model

BACKENDS: dict[str, Callable[[str, Path, Placement, int | None], Model]] = {
    "sam": load_sam,
    "sam_hq": load_sam_hq,
    "sam2": load_sam2,
    "sam2_video": load_sam2,
    "sam3_tracker": load_sam3,
    "sam3_tracker_video": load_sam3,
    "sam3_video": load_sam3,
}
"""The loader of each architecture, by the ``model_type`` of its config.json."""


def load_model(
    name: str = "river-tiny",
    *,
    device: str = "auto",
    precision: str = "auto",
    tile_size: int | None = None,
) -> Model:
    """Load a promptable model.

    Parameters
    ----------
    name
        ``river-tiny``, a local folder that transformers wrote, a Hugging Face id, or a file of the
        original SAM repository (``.pth``).
    device, precision
        As in :func:`geosam.models.device.place`.
    tile_size
        Rows and columns of the input in pixels; the checkpoint's own without it.

    Raises
    ------
    ModelError
        If there is no such model, its weights are corrupt, or its architecture is not known here.
    """
    path = find_checkpoint(name)
    kind = read_config(path).get("model_type")
    if kind not in BACKENDS:
        raise ModelError(_unknown(name, kind))
    with loading(f"Model {name}", path):
        return BACKENDS[kind](name, path, place(device, precision), tile_size)


def _unknown(name: str, kind: str | None) -> str:
    family = family_of(kind)
    if family is not None:
        return (
            f"Model {name} is {family.name} and needs {family.needs}. Give a checkpoint of another family, "
            "for example facebook/sam2.1-hiera-tiny."
        )
    return (
        f"Model {name} has model_type {kind!r}; geosam loads {', '.join(BACKENDS)}. "
        "Give one of those."
    )
