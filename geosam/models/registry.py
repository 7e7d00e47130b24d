"""The models known by name: what they are, under which licence, where they come from, and whether
they are at hand.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from geosam.models.checkpoint import EMBEDDED, find_checkpoint, read_config

FILES = ("config.json", "preprocessor_config.json", "model.safetensors")
"""What a machine without a network needs of a model, in one folder."""
AUTOSAM = "autosam"
"""Folder of a dense prompt network, beside the checkpoint's own files."""
DEFAULT_SIZE_PX = 1024
"""Input of SAM and SAM 2 where a configuration does not say."""


@dataclass(frozen=True)
class KnownModel:
    """A model that geosam can load by name."""

    name: str
    """What ``--model`` takes."""
    parameters_m: float
    """Number of weights in millions."""
    download_mb: int
    """Size of its weights; 0 where they ship with geosam."""
    licence: str
    """SPDX identifier of the licence of the weights."""
    source: str
    """Where the weights come from."""
    note: str = ""
    """What it is good for."""


_SAM = "Meta AI, Segment Anything (2023), https://huggingface.co/"
_SAM2 = "Meta AI, SAM 2.1 (2024), https://huggingface.co/"

KNOWN = (
    KnownModel(
        "river-tiny",
        0.0,
        0,
        "Apache-2.0",
        "trained by the geosam developers; ships with geosam",
        "the default; made for water, quick on a CPU",
    ),
    # Parameters: counted from the configurations; downloads: four bytes a weight.
    KnownModel("facebook/sam-vit-base", 93.7, 375, "Apache-2.0", f"{_SAM}facebook/sam-vit-base"),
    KnownModel(
        "facebook/sam-vit-large", 312.3, 1249, "Apache-2.0", f"{_SAM}facebook/sam-vit-large"
    ),
    KnownModel("facebook/sam-vit-huge", 641.1, 2564, "Apache-2.0", f"{_SAM}facebook/sam-vit-huge"),
    # Parameters: the table of the SAM 2 repository.
    KnownModel(
        "facebook/sam2.1-hiera-tiny",
        38.9,
        156,
        "Apache-2.0",
        f"{_SAM2}facebook/sam2.1-hiera-tiny",
    ),
    KnownModel(
        "facebook/sam2.1-hiera-small",
        46.0,
        184,
        "Apache-2.0",
        f"{_SAM2}facebook/sam2.1-hiera-small",
    ),
    KnownModel(
        "facebook/sam2.1-hiera-base-plus",
        80.8,
        324,
        "Apache-2.0",
        f"{_SAM2}facebook/sam2.1-hiera-base-plus",
    ),
    KnownModel(
        "facebook/sam2.1-hiera-large",
        224.4,
        898,
        "Apache-2.0",
        f"{_SAM2}facebook/sam2.1-hiera-large",
    ),
)
"""Everything else that transformers saves as ``sam``, ``sam2`` or ``sam2_video`` loads as well."""


def list_models() -> list[dict[str, Any]]:
    """Return the known models, each with where it lies here and how to get it.

    Returns
    -------
    list of dict
        The fields of :class:`KnownModel`, ``at_hand`` (bool), ``autosam`` (bool: whether a dense
        prompt network lies beside it), ``folder`` (where it lies, or None), ``fetch`` (the command
        that fetches it into a folder) and ``folder_name`` (the name of that folder).
    """
    return [_row(model) for model in KNOWN]


def _row(model: KnownModel) -> dict[str, Any]:
    folder = EMBEDDED.get(model.name) or cached_folder(model.name)
    at_hand = folder is not None and (folder / "config.json").is_file()
    row = asdict(model)
    if model.name in EMBEDDED:
        row["parameters_m"] = _count_parameters(EMBEDDED[model.name])
    return {
        **row,
        "at_hand": at_hand,
        "autosam": folder is not None and (folder / AUTOSAM / "config.json").is_file(),
        "folder": str(folder) if at_hand else None,
        "fetch": None if model.name in EMBEDDED else fetch_command(model.name),
        "folder_name": model.name.split("/")[-1],
    }


def cached_folder(name: str) -> Path | None:
    """Return the folder of a model in the local cache of the Hugging Face hub, None without it."""
    from huggingface_hub import try_to_load_from_cache

    config, weights = (
        try_to_load_from_cache(name, file) for file in ("config.json", "model.safetensors")
    )
    return Path(config).parent if isinstance(config, str) and isinstance(weights, str) else None


def folder_at_hand(name: str) -> Path | None:
    """Return the folder of a model that need not be fetched, None where it must be.

    Raises
    ------
    ModelError
        If a local folder is no model.
    """
    local = name in EMBEDDED or Path(name).expanduser().exists()
    return find_checkpoint(name) if local else cached_folder(name)


def fetch_command(name: str) -> str:
    """Return the command that brings a model into a folder, where there is a network."""
    return f"hf download {name} {' '.join(FILES)} --local-dir {name.split('/')[-1]}"


def _count_parameters(folder: Path) -> float:
    from math import prod

    from safetensors import safe_open

    total = 0
    for path in sorted(folder.rglob("*.safetensors")):
        with safe_open(path, framework="numpy") as weights:
            total += sum(prod(weights.get_slice(key).get_shape()) for key in weights.keys())  # noqa: SIM118
    return round(total / 1e6, 2)


def input_size(name: str) -> int | None:
    """Return rows and columns of a model's input from its configuration alone, None where the
    model is not at hand.

    Raises
    ------
    ModelError
        If a local folder is no model.
    """
    folder = folder_at_hand(name)
    if folder is None:
        return None
    config = read_config(folder)
    part = "vision_config" if config.get("model_type") == "sam" else "prompt_encoder_config"
    return int(config.get(part, {}).get("image_size", DEFAULT_SIZE_PX))
