"""Which models are known, which are here, and how to get the others."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from geosam.errors import InputError, ModelError
from geosam.models.checkpoint import EMBEDDED, find_checkpoint, read_config, side_px
from geosam.models.hub import cached_folder, cached_names, fetch_command
from geosam.models.known import FAMILIES, KNOWN, KnownModel, family_of

AUTOSAM = "autosam"
"""Folder of a dense prompt network, beside the checkpoint's own files."""
_ORIGINAL = next(family for family in FAMILIES if not family.model_types)


def list_models(folders: Iterable[str | Path] = ()) -> list[dict[str, Any]]:
    """Return the known models, and what else of their kind is here.

    Parameters
    ----------
    folders
        To look into, beside the cache of the Hugging Face hub: checkpoints in them, as folders or as
        files of the original SAM.

    Returns
    -------
    list of dict
        The fields of :class:`geosam.models.known.KnownModel`, ``at_hand`` (bool), ``autosam`` (bool:
        whether a dense prompt network lies beside it), ``folder`` (where it lies, or None), ``fetch``
        (the command that fetches it into a folder, or None) and ``folder_name`` (the name of that
        folder).

    Raises
    ------
    InputError
        If a folder is none.
    """
    known = {model.name for model in KNOWN}
    cached = ((name, cached_folder(name)) for name in cached_names() if name not in known)
    there = [(name, folder) for name, folder in cached if folder is not None]
    there += [(str(path), path) for folder in folders for path in _inside(Path(folder))]
    found = [_found(name, path) for name, path in there]
    return [*map(_row, KNOWN), *(row for row in found if row is not None)]


def list_families() -> list[dict[str, Any]]:
    """Return the families of models, each with the fields of :class:`geosam.models.known.Family`."""
    return [asdict(family) for family in FAMILIES]


def _row(model: KnownModel) -> dict[str, Any]:
    folder = EMBEDDED.get(model.name) or cached_folder(model.name)
    row = asdict(model)
    if folder is not None and model.name in EMBEDDED:
        row["parameters_m"] = _count_parameters(folder)
    fetch = None if model.name in EMBEDDED else fetch_command(model.name)
    return {**row, **_place(folder), "fetch": fetch, "folder_name": model.name.split("/")[-1]}


def _place(path: Path | None) -> dict[str, Any]:
    return {
        "at_hand": path is not None,
        "autosam": path is not None and (path / AUTOSAM / "config.json").is_file(),
        "folder": None if path is None else str(path),
    }


def _inside(folder: Path) -> Iterator[Path]:
    """Yield what may be a checkpoint: the folder itself, folders in it, and files."""
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder. Name one that checkpoints lie in.")
    for path in [folder, *sorted(folder.iterdir())]:
        if (path / "config.json").is_file() or path.suffix == ".pth":
            yield path


def _found(name: str, path: Path) -> dict[str, Any] | None:
    """Return the row of a checkpoint that nobody told of, None where it is of another kind."""
    from safetensors import SafetensorError

    try:
        kind = read_config(find_checkpoint(str(path))).get("model_type")
        family = _ORIGINAL if path.is_file() else family_of(kind)
        parameters_m = _count_parameters(path)
    except (ModelError, SafetensorError):
        return None
    if family is None:
        return None
    model = KnownModel(name, family.name, parameters_m, 0, "", "")
    return {**asdict(model), **_place(path), "fetch": None, "folder_name": path.name}


def _count_parameters(path: Path) -> float:
    """Return millions of weights in safetensors files; 0 where there are none to count."""
    from math import prod

    from safetensors import safe_open

    total = 0
    for part in sorted(path.rglob("*.safetensors")):
        with safe_open(part, framework="numpy") as weights:
            total += sum(prod(weights.get_slice(key).get_shape()) for key in weights.keys())  # noqa: SIM118
    return round(total / 1e6, 2)


def folder_at_hand(name: str) -> Path | None:
    """Return the folder or file of a model that need not be fetched, None where it must be.

    Raises
    ------
    ModelError
        If a local folder is no model.
    """
    local = name in EMBEDDED or os.path.exists(Path(name).expanduser())
    return find_checkpoint(name) if local else cached_folder(name)


def input_size(name: str) -> int | None:
    """Return rows and columns of a model's input from its configuration alone, None where the
    model is not at hand.

    Raises
    ------
    ModelError
        If a local folder or file is no model.
    """
    path = folder_at_hand(name)
    if path is None:
        return None
    config = read_config(path)
    config = config.get("tracker_config", config)
    fixed = config.get("model_type") in ("sam", "sam_hq")
    part = config.get("vision_config" if fixed else "prompt_encoder_config")
    family = family_of(config.get("model_type"))
    return side_px(part) or (family.size_px if family else None)
