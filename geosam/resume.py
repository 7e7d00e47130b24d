"""What unfinished work belongs to. It is gone on with only if all of that is as it was."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from geosam import __version__
from geosam.errors import OutputError
from geosam.options import Options

STATE = "run.json"
"""The file that says what a folder of unfinished work belongs to."""
MAY_CHANGE = frozenset(
    {
        "mask", "probability", "quicklook", "threshold", "min_area", "min_island", "simplify",
        "join_gap", "rivers", "spacing", "spur", "flow", "overwrite", "resume", "workers",
        "scheduler",
    }
)  # fmt: skip
"""Options that no finished block depends on."""


def describe_run(options: Options, scene: str, model: str, choices: Mapping[str, Any]) -> dict:
    """Return all that the blocks of a run depend on, by name, JSON-ready.

    Parameters
    ----------
    options
        What was asked for.
    scene
        Its fingerprint.
    model
        SHA-256 of its weights.
    choices
        What was chosen for the scene.
    """
    asked = {f"--{name.replace('_', '-')}": value for name, value in options.to_dict().items()}
    free = {f"--{name.replace('_', '-')}" for name in MAY_CHANGE}
    files = {
        f"the content of {path}": _digest(path)
        for name, value in asked.items()
        if name not in free and (path := named_file(value)) is not None
    }
    kept = {name: value for name, value in asked.items() if name not in free}
    return {
        "the version of geosam": __version__,
        "the scene's fingerprint": scene,
        "the model's weights": model,
        **kept,
        **files,
        "what was chosen": json.loads(json.dumps(choices, default=str)),
    }


def settle(folder: Path, now: Mapping[str, Any]) -> None:
    """Write down what unfinished work belongs to, or check that it is the same as before.

    Raises
    ------
    OutputError
        If it is not; the message says what changed.
    """
    path = folder / STATE
    if not path.exists():
        unfinished = path.with_suffix(".unfinished")
        unfinished.write_text(json.dumps(now, indent=2, default=str) + "\n")
        unfinished.replace(path)
        return
    before, same = json.loads(path.read_text()), json.loads(json.dumps(now, default=str))
    names = [name for name in {**before, **same} if before.get(name) != same.get(name)]
    if names:
        raise OutputError(
            f"{folder} cannot be gone on with: {_changes(names[0], before, same)}. Put it back as it "
            "was, or use --overwrite to start anew."
        )


def _changes(name: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    if name.startswith("--") or name == "the version of geosam":
        return f"{name} was {before.get(name)} and is {now.get(name)}"
    return f"{name} changed since the interruption"


def named_file(value: Any) -> Path | None:
    """Return the file that an option names, also where ``:VALUES`` stands behind it."""
    if not isinstance(value, str):
        return None
    # Unlike a Path, os.path takes a text that is too long for a name for that of no file.
    candidates = (value, value.rpartition(":")[0])
    return next((Path(name) for name in candidates if os.path.isfile(name)), None)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
