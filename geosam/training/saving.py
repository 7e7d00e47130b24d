"""A network in training -> a checkpoint that ``--model`` and transformers take."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from geosam.models.network import NetworkModel
from geosam.models.pretrained import silence
from geosam.training.adapters import merged_state

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
        shutil.copyfile(path, folder / path.name)
    if not there:
        facts: dict[str, Any] = {
            "image_mean": list(model.normalisation.mean),
            "image_std": list(model.normalisation.std),
        }
        (folder / SETTINGS[0]).write_text(json.dumps(facts, indent=2) + "\n")
