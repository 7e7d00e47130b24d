"""Where the dense prompt network of a checkpoint lies, and what it says of itself: files alone."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from geosam.errors import ModelError
from geosam.models.checkpoint import sign_weights
from geosam.models.registry import AUTOSAM, folder_at_hand

CONFIG_NAME = "config.json"
WEIGHTS_NAME = "model.safetensors"
ARCHITECTURE = "DensePrompter"

_HOW = "Train one: geosam train DATA -o DIR --model {name} --part autosam"


@dataclass(frozen=True)
class PrompterCard:
    """What the ``config.json`` of a dense prompt network says."""

    checkpoint: str
    """The model it was trained for, as it was named."""

    checkpoint_sha256: str
    """Signature of that checkpoint's weights: it prompts no others."""

    channels: int
    """Of the dense prompt."""

    patch: int
    """Tile pixels for each cell of the dense prompt."""

    widths: tuple[int, ...]
    """Channels at strides 2 to 32."""

    depths: tuple[int, ...]
    """Residual blocks at those strides."""

    def check(self, name: str, signature: str) -> None:
        """Refuse a checkpoint it was not trained for.

        Raises
        ------
        ModelError
            If the signatures differ.
        """
        if signature != self.checkpoint_sha256:
            raise ModelError(
                f"The dense prompt network beside {name} was trained for {self.checkpoint} with "
                f"weights {self.checkpoint_sha256[:12]}, and the weights here are "
                f"{signature[:12]} (SHA-256). {_HOW.format(name=name)}"
            )


@dataclass(frozen=True)
class PrompterFiles:
    """A dense prompt network on disk."""

    folder: Path
    """Holds its ``config.json`` and ``model.safetensors``."""

    card: PrompterCard
    """What it says of itself."""

    @property
    def signature(self) -> str:
        """SHA-256 over its weights, in hexadecimal."""
        return sign_weights(self.folder)

    @property
    def sentence(self) -> str:
        """Where the prompts come from, for a person."""
        return f"Prompts: the dense prompt network {self.folder} ({self.signature[:12]})."


def prompter_of(name: str, folder: Path) -> PrompterFiles:
    """Find the dense prompt network beside a checkpoint.

    Parameters
    ----------
    name
        The model, as it was asked for.
    folder
        Of the checkpoint.

    Raises
    ------
    ModelError
        If there is none, or its settings cannot be read.
    """
    beside = folder / AUTOSAM
    if not (beside / CONFIG_NAME).is_file() or not (beside / WEIGHTS_NAME).is_file():
        raise ModelError(
            f"--prompts autosam: model {name} has no dense prompt network in {beside}. "
            f"{_HOW.format(name=name)}"
        )
    return PrompterFiles(beside, _read_card(beside / CONFIG_NAME))


def _read_card(path: Path) -> PrompterCard:
    try:
        config = json.loads(path.read_text())
        if config.pop("architecture", None) != ARCHITECTURE:
            raise ValueError(f"it does not name the architecture {ARCHITECTURE}")
        lists = {key: tuple(value) for key, value in config.items() if isinstance(value, list)}
        return PrompterCard(**{**config, **lists})
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ModelError(
            f"{path} describes no dense prompt network ({error}). Copy the folder anew."
        ) from error


def write_card(card: PrompterCard, folder: Path) -> None:
    """Write the ``config.json`` of a dense prompt network."""
    text = json.dumps({"architecture": ARCHITECTURE, **asdict(card)}, indent=2)
    (folder / CONFIG_NAME).write_text(text + "\n")


def prompter_at_hand(name: str) -> PrompterFiles | None:
    """Find the dense prompt network of a model before that is loaded, and check that it fits.

    Returns
    -------
    PrompterFiles or None
        None where the model itself is not at hand yet.

    Raises
    ------
    ModelError
        If the model has no dense prompt network, or that of another checkpoint.
    """
    folder = folder_at_hand(name)
    if folder is None:
        return None
    files = prompter_of(name, folder)
    files.card.check(name, sign_weights(folder))
    return files
