"""Small JSON files that tell what came of something."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def without_nan(value: Any) -> Any:
    """Return values as JSON takes them: what is not a number is None.

    Examples
    --------
    >>> without_nan({"iou": float("nan"), "n": (1, 2)})
    {'iou': None, 'n': [1, 2]}
    """
    if isinstance(value, Mapping):
        return {str(name): without_nan(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_record(path: Path, values: Mapping[str, Any]) -> None:
    """Write values as JSON, in one step."""
    partial = path.with_suffix(".unfinished")
    partial.write_text(json.dumps(without_nan(values), indent=2, allow_nan=False) + "\n")
    partial.replace(path)


def read_record(path: Path) -> dict[str, Any]:
    """Read what :func:`write_record` wrote."""
    return dict(json.loads(path.read_text()))
