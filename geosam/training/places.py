"""Which place each image shows."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from geosam.errors import InputError, OptionError


def find_places(rule: str | Path | Mapping[str, object], names: Sequence[str]) -> dict[str, str]:
    """Return the place of each name.

    Parameters
    ----------
    rule
        A JSON file or mapping of name to place; ``prefix``; or ``prefix:N``, the first N parts of
        the name, which ``_`` or ``-`` part.
    names
        Of the images.

    Raises
    ------
    OptionError, InputError
        The rule is none of these, the file cannot be read, or a name is not in it.

    Examples
    --------
    >>> find_places("prefix", ["tile1_part001", "tile2_part001"])
    {'tile1_part001': 'tile1', 'tile2_part001': 'tile2'}
    """
    match = re.fullmatch(r"prefix(?::([1-9]\d*))?", str(rule))
    if match:
        return {name: _prefix(name, int(match[1] or 1)) for name in names}
    table = rule if isinstance(rule, Mapping) else _read_table(Path(rule))
    missing = [name for name in names if name not in table]
    if missing:
        where = "" if isinstance(rule, Mapping) else f" in {rule}"
        raise InputError(
            f"{missing[0]} has no place{where} ({len(missing)} of {len(names)} images have none). "
            "Add it, or remove the image."
        )
    return {name: str(table[name]) for name in names}


def _prefix(name: str, parts: int) -> str:
    """Return the first parts of a name, with what parts them."""
    return "".join(re.split(r"([_-])", name)[: 2 * parts - 1])


def _read_table(path: Path) -> Mapping[str, object]:
    if path.suffix.lower() != ".json":
        raise OptionError(
            f"Places {str(path)!r} are not understood. Give a JSON file of name to place, prefix, "
            "or prefix:N."
        )
    table = read_json(path)
    if not isinstance(table, dict):
        raise InputError(f"{path} must hold one object of name to place.")
    return table


def read_json(path: Path) -> object:
    """Read a JSON file.

    Raises
    ------
    InputError
        It cannot be read, or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as JSON ({error}). Check the file.") from error
