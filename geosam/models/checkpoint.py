"""Find a checkpoint, read its settings and weigh it: everything about files, nothing about networks."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from geosam.errors import ModelError
from geosam.models.hub import fetch
from geosam.whereabouts import anywhere

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
    """Return the folder of an embedded model, of a local one or of a Hugging Face id; or a local file,
    which may be one of the original SAM repository.

    Raises
    ------
    ModelError
        If it is neither embedded nor a folder with a config.json, nor a file, nor at hand from the
        hub.
    """
    if name in EMBEDDED:
        return EMBEDDED[name]
    path = Path(name).expanduser()
    if os.path.isdir(path):
        return _check_folder(path)
    return path if os.path.exists(path) else fetch(name)


def located(name: str) -> str:
    """Return the name of a model as it holds in any working directory: the absolute path of what is here."""
    path = Path(name).expanduser()
    return anywhere(path) if name not in EMBEDDED and os.path.exists(path) else name


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


def read_config(path: Path) -> dict[str, Any]:
    """Return the config.json of a checkpoint, or what the shapes in a file of the original SAM say.

    Raises
    ------
    ModelError
        If it is not a JSON object, or the file is something else.
    """
    if path.is_file():
        from geosam.models.original import describe_original

        return describe_original(path)
    config = read_json(path / "config.json")
    parts = [
        name for name, value in config.items() if name.endswith("_config") and value is not None
    ]
    if not all(isinstance(config[name], dict) for name in parts):
        raise ModelError(
            f"{path / 'config.json'} is not a model configuration. Fetch the checkpoint anew."
        )
    return config


def side_px(config: Mapping[str, Any] | None) -> int | None:
    """Return rows and columns of the input that a part of a configuration names, None where it
    names none.

    Raises
    ------
    ModelError
        If they differ or are no number of pixels.
    """
    size = (config or {}).get("image_size")
    sides = set(size) if isinstance(size, (list, tuple)) else {size}
    side = sides.pop()
    if sides or not (side is None or (isinstance(side, int) and side > 0)):
        raise ModelError(
            f"The configuration of a model has image_size {size!r}; geosam takes square tiles. Give "
            "another checkpoint."
        )
    return side


def read_json(path: Path) -> dict[str, Any]:
    """Return what a file of settings beside a checkpoint says.

    Raises
    ------
    ModelError
        If it is not a JSON object.
    """
    try:
        config = json.loads(path.read_text())
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ModelError(
            f"{path} cannot be read as JSON ({error}). Fetch the checkpoint anew."
        ) from error
    if not isinstance(config, dict):
        raise ModelError(f"{path} is not a model configuration. Fetch the checkpoint anew.")
    return config


def read_normalisation(path: Path) -> Normalisation:
    """Return mean and standard deviation of the checkpoint's preprocessor, ImageNet's without one.

    Raises
    ------
    ModelError
        If its settings are there and do not say.
    """
    settings = _preprocessor(path)
    if not settings:
        return Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    try:
        red, green, blue = zip(settings["image_mean"], settings["image_std"], strict=True)
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(
            f"The preprocessor settings of model {path} have no image_mean and image_std. Fetch its "
            "preprocessor_config.json anew."
        ) from error
    return Normalisation((red[0], green[0], blue[0]), (red[1], green[1], blue[1]))


def draws_prompts(folder: Path) -> bool:
    """Return whether the checkpoint wants clicks and boxes drawn into its mask prompt as well; its
    preprocessor settings say so in ``sparse_as_mask``.
    """
    return bool(_preprocessor(folder).get("sparse_as_mask", False))


def _preprocessor(folder: Path) -> dict[str, Any]:
    for name in ("preprocessor_config.json", "processor_config.json"):
        path = folder / name
        if path.is_file():
            settings = read_json(path)
            return settings.get("image_processor", settings)
    return {}


def sign_weights(path: Path) -> str:
    """Return the SHA-256 over the checkpoint's weight files, in hexadecimal."""
    digest = hashlib.sha256()
    for part in [path] if path.is_file() else _weight_files(path):
        with part.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def _weight_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix in (".safetensors", ".bin"))
