"""A network in training -> a checkpoint that ``--model`` and transformers take."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from geosam.models.network import NetworkModel
from geosam.models.pretrained import silence
from geosam.training.adapters import merged_state

SIZES = ("size", "pad_size", "mask_size", "mask_pad_size")
"""Settings that hold pixels of an image's sides, the first of the image that the network sees."""
SETTINGS = ("preprocessor_config.json", "processor_config.json")
"""What a checkpoint says of the images it takes."""


def save_network(model: NetworkModel, source: Path, folder: Path) -> None:
    """Write ``config.json``, ``model.safetensors`` and ``preprocessor_config.json``.

    Parameters
    ----------
    model
        Its adapters, if it has some, are merged.
    source
        The folder or file that it came from.
    folder
        An existing folder.
    """
    with silence():
        model.network.save_pretrained(folder, state_dict=merged_state(model.network))
    _copy_settings(model, source, folder)


def _copy_settings(model: NetworkModel, source: Path, folder: Path) -> None:
    """Write the preprocessor settings of the checkpoint, or those it was used with."""
    there = [source / name for name in SETTINGS if (source / name).is_file()]
    for path in there:
        _write(_resized(json.loads(path.read_text()), model.size), folder / path.name)
    if not there:
        normalisation = model.normalisation
        facts = {"image_mean": list(normalisation.mean), "image_std": list(normalisation.std)}
        _write(facts, folder / SETTINGS[0])


def _write(facts: dict[str, Any], path: Path) -> None:
    path.write_text(json.dumps(facts, indent=2) + "\n")


def _resized(facts: dict[str, Any], size: int) -> dict[str, Any]:
    """Return settings of a processor for a network of another input size."""
    facts = {k: _resized(v, size) if k == "image_processor" else v for k, v in facts.items()}
    sides = facts.get(SIZES[0])
    if not isinstance(sides, dict) or max(sides.values()) == size:
        return facts
    before = max(sides.values())
    more = {
        name: {side: pixels * size // before for side, pixels in facts[name].items()}
        for name in SIZES
        if isinstance(facts.get(name), dict)
    }
    return facts | more
