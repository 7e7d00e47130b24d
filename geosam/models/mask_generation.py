"""What a checkpoint says of how it is best asked for everything."""

from __future__ import annotations

from typing import Any

from geosam.errors import ModelError
from geosam.models.checkpoint import read_json
from geosam.models.registry import folder_at_hand

SETTINGS = "preprocessor_config.json"
"""The file beside the weights."""
KEY = "mask_generation"
"""Its entry: rules of :class:`geosam.generation_rules.GenerationRules` by name."""


def recorded_rules(name: str) -> dict[str, Any]:
    """Return the rules that a checkpoint was measured with; none where it says nothing.

    Parameters
    ----------
    name
        An embedded model, a folder, or a hub id.

    Raises
    ------
    ModelError
        If what it says is corrupt.
    """
    folder = folder_at_hand(name)
    path = None if folder is None else folder / SETTINGS
    if path is None or not path.is_file():
        return {}
    rules = read_json(path).get(KEY, {})
    if not isinstance(rules, dict):
        raise ModelError(
            f"{path} has {KEY} {rules!r}, which names no rules. Fetch the checkpoint anew."
        )
    return rules
