"""Paths that mean the same in any working directory, so that they can be sent to other processes."""

from __future__ import annotations

import os
from pathlib import Path


def anywhere(path: str | Path) -> str:
    """Return the absolute path of a file or folder that is here; anything else, such as a URL, as it is."""
    return str(Path(path).absolute() if os.path.exists(path) else path)
