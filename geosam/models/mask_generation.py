"""What a checkpoint says of how it is best asked for everything."""

from __future__ import annotations

import json
from typing import Any

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
    """
    folder = folder_at_hand(name)
    path = None if folder is None else folder / SETTINGS
    if path is None or not path.is_file():
        return {}
    return dict(json.loads(path.read_text()).get(KEY, {}))
