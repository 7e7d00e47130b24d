"""A name or a folder -> what finds objects by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from geosam.concepts import ConceptDetector
from geosam.errors import ModelError
from geosam.models.checkpoint import find_checkpoint, read_config
from geosam.models.clipseg import load_clipseg
from geosam.models.device import Placement, place
from geosam.models.faults import loading
from geosam.models.grounding_dino import load_grounding_dino
from geosam.models.owlv2 import load_owlv2
from geosam.types import TextDetector

COLOUR = "colour"
"""The detector without a network: it knows the words of :data:`geosam.concepts.CONCEPTS`."""
DETECTORS: dict[str, Callable[[str, Path, Placement], TextDetector]] = {
    "grounding-dino": load_grounding_dino,
    "owlv2": load_owlv2,
    "clipseg": load_clipseg,
}
"""The loader of each architecture, by the ``model_type`` of its config.json."""


def load_detector(
    name: str = COLOUR,
    *,
    roles: tuple[str, str, str] = ("red", "green", "blue"),
    device: str = "auto",
    precision: str = "auto",
) -> TextDetector:
    """Load what finds objects by name.

    Parameters
    ----------
    name
        ``colour``, which needs no network, a folder that transformers wrote, or a Hugging Face id.
    roles
        What the three bands of its pictures are.
    device, precision
        As in :func:`geosam.models.device.place`.

    Raises
    ------
    ModelError
        If there is no such detector, or its files are corrupt, or it is of an architecture that is not known
        here.
    """
    if name == COLOUR:
        return ConceptDetector(roles=roles)
    folder = find_checkpoint(name)
    kind = read_config(folder).get("model_type")
    if kind not in DETECTORS:
        raise ModelError(
            f"Detector {name} has model_type {kind!r}; detectors are {', '.join(DETECTORS)}, and "
            f"{COLOUR!r}, which needs no network. Give one of those."
        )
    with loading(f"Detector {name}", folder):
        return DETECTORS[kind](name, folder, place(device, precision))
