"""Checkpoints of the Hugging Face hub: those in its cache here, and those that must be fetched."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from geosam.errors import ModelError

FILES = ("config.json", "preprocessor_config.json", "model.safetensors")
"""What a machine without a network needs of a model, in one folder."""
PATIENCE_S = 3
"""The hub is asked whether it is there, and given up after this; its own patience is minutes."""
_WANTED = ("*.json", "*.safetensors", "merges.txt", "vocab.txt")


def cached_folder(name: str) -> Path | None:
    """Return the folder of a model in the local cache, None where it is not or not all there."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    def find(file: str) -> Path | None:
        found = try_to_load_from_cache(name, file)
        return Path(found) if isinstance(found, str) else None

    try:
        config = find("config.json")
        weights = find("model.safetensors") or find("model.safetensors.index.json")
    except HFValidationError:
        return None
    return config.parent if config and weights else None


def cached_names() -> Iterator[str]:
    """Yield the ids of all models in the local cache, of whatever kind."""
    from huggingface_hub import constants

    for folder in sorted(Path(constants.HF_HUB_CACHE).glob("models--*")):
        yield folder.name.removeprefix("models--").replace("--", "/")


def fetch(name: str) -> Path:
    """Return the folder of a model in the local cache, downloaded where it is not there yet.

    Raises
    ------
    ModelError
        If there is no network or no such model, or its licence must be agreed to first.
    """
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    if folder := cached_folder(name):
        return folder
    # OSError and that of the HTTP library, which differs between versions of the hub's.
    unreachable: tuple[type[BaseException], ...] = HfHubHTTPError.__bases__
    try:
        HfApi().repo_info(name, timeout=PATIENCE_S)
        return Path(snapshot_download(name, allow_patterns=list(_WANTED)))
    except HFValidationError as error:
        raise ModelError(
            f"Model {name!r} is neither a folder or file here nor a Hugging Face id. geosam models "
            "lists those known."
        ) from error
    except unreachable as error:
        raise ModelError(_refusal(name, error)) from error


def _refusal(name: str, error: BaseException) -> str:
    """Say why the hub did not give a model."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    if isinstance(error, GatedRepoError):
        return (
            f"Model {name} wants its licence agreed to: do that on https://huggingface.co/{name}, log in "
            "with hf auth login, and try again."
        )
    if isinstance(error, RepositoryNotFoundError):
        return (
            f"Model {name} is neither a folder or file here nor on the Hugging Face hub, or needs a "
            "login there (hf auth login). geosam models lists those known."
        )
    return _absent(name, error)


def _absent(name: str, error: BaseException) -> str:
    folder = name.split("/")[-1]
    return (
        f"Model {name} is not here and cannot be fetched ({type(error).__name__}): where there is a network, "
        f"run {fetch_command(name)}, copy the folder {folder} to this machine, and give its path to --model."
    )


def fetch_command(name: str) -> str:
    """Return the command that brings a model into a folder, where there is a network."""
    return f"hf download {name} {' '.join(FILES)} --local-dir {name.split('/')[-1]}"
