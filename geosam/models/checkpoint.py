"""Find a checkpoint, read its settings and weigh it: everything about files, nothing about networks."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from geosam.errors import ModelError

EMBEDDED = {"river-tiny": Path(__file__).parent / "river_tiny"}
"""Models that ship inside the package, by name."""

WEIGHT_FILES = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")


@dataclass(frozen=True)
class Normalisation:
    """What a checkpoint's preprocessor does to an image in [0, 1]."""

    mean: tuple[float, float, float]
    """Subtracted, per channel."""
    std: tuple[float, float, float]
    """Divided by, per channel."""

    def apply(self, pixels: np.ndarray) -> np.ndarray:
        """Normalise (n, 3, height, width) float32 in [0, 1]; a pixel at 0.5 in all channels is
        nodata to the callers and becomes whatever 0.5 normalises to.
        """
        shape = (1, 3, 1, 1)
        mean = np.asarray(self.mean, np.float32).reshape(shape)
        std = np.asarray(self.std, np.float32).reshape(shape)
        return (pixels - mean) / std


def find_checkpoint(name: str) -> Path:
    """Return the folder of an embedded model, a local folder, or a Hugging Face id.

    Raises
    ------
    ModelError
        If it is neither embedded nor a folder with a config.json, nor at hand from the hub.
    """
    if name in EMBEDDED:
        return EMBEDDED[name]
    folder = Path(name).expanduser()
    if folder.is_dir():
        return _check_folder(folder)
    if folder.exists():
        raise ModelError(
            f"Model {name} is a file; a model is a folder with config.json and model.safetensors. "
            "Give the folder, or river-tiny."
        )
    return _from_hub(name)


def _check_folder(folder: Path) -> Path:
    if not (folder / "config.json").is_file():
        raise ModelError(
            f"Model folder {folder} has no config.json. Give a folder that transformers wrote."
        )
    if not any((folder / name).is_file() for name in WEIGHT_FILES):
        raise ModelError(
            f"Model folder {folder} has no weights ({WEIGHT_FILES[0]}). Copy them beside config.json."
        )
    return folder


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    wanted = ["*.json", "*.safetensors"]
    try:
        try:
            return Path(snapshot_download(name, allow_patterns=wanted, local_files_only=True))
        except LocalEntryNotFoundError:
            return Path(snapshot_download(name, allow_patterns=wanted))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise ModelError(
            f"Model {name!r} is no embedded model ({', '.join(EMBEDDED)}), no folder here, and could "
            f"not be fetched from the Hugging Face hub ({type(error).__name__}). Fetch its config.json, "
            "preprocessor_config.json and model.safetensors where there is a network and give their folder."
        ) from error


def read_config(folder: Path) -> dict:
    """Return the checkpoint's config.json.

    Raises
    ------
    ModelError
        If it is not a JSON object.
    """
    try:
        config = json.loads((folder / "config.json").read_text())
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ModelError(
            f"{folder / 'config.json'} cannot be read as JSON ({error}). Fetch the checkpoint anew."
        ) from error
    if not isinstance(config, dict):
        raise ModelError(
            f"{folder / 'config.json'} is not a model configuration. Fetch the checkpoint anew."
        )
    return config


def read_normalisation(folder: Path) -> Normalisation:
    """Return mean and standard deviation of the checkpoint's preprocessor, ImageNet's without one."""
    settings = _preprocessor(folder)
    if not settings:
        return Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    return Normalisation(tuple(settings["image_mean"]), tuple(settings["image_std"]))


def draws_prompts(folder: Path) -> bool:
    """Return whether the checkpoint wants clicks and boxes drawn into its mask prompt as well; its
    preprocessor settings say so in ``sparse_as_mask``.
    """
    return bool(_preprocessor(folder).get("sparse_as_mask", False))


def _preprocessor(folder: Path) -> dict[str, Any]:
    for name in ("preprocessor_config.json", "processor_config.json"):
        path = folder / name
        if path.is_file():
            settings = json.loads(path.read_text())
            return settings.get("image_processor", settings)
    return {}


def sign_weights(folder: Path) -> str:
    """Return the SHA-256 over the checkpoint's weight files, in hexadecimal."""
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.iterdir() if p.suffix in (".safetensors", ".bin")):
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
