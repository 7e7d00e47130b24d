"""Which trainings an experiment compares: factors, their values, and the cells these make."""

from __future__ import annotations

import difflib
import hashlib
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from geosam.errors import OptionError
from geosam.training.recipe import Recipe
from geosam.training.settings import SETTINGS, apply_settings

ONE_BY_ONE, CROSS = "one-by-one", "cross"
_SHARED = {"cache", "precision"}
"""Options that decide the embeddings, which all cells share."""
KNOWN = tuple(
    s.name
    for s in SETTINGS
    if (s.table in ("prompts", "loss", "fit") and s.name not in _SHARED) or s.name == "part"
)
"""Options of ``geosam train`` that may be factors."""
_MEANINGLESS = {
    "box": ("points", "negatives", "erode", "masks"),
    "none": ("points", "negatives", "erode"),
}
"""Factors that change nothing of a kind of prompt: a box has no points, and is answered once."""


@dataclass(frozen=True)
class Factor:
    """One thing that is varied."""

    name: str
    """An option of ``geosam train``. ``masks`` may also be two, as ``TRAINING/VALIDATION``."""

    values: tuple[Any, ...]
    """The first belongs to the base."""


FACTORS = (
    Factor("prompts", ("points", "box", "mask")),
    Factor("points", (3, 1, 10)),
    Factor("negatives", (0, 10)),
    Factor("erode", (True, False)),
    Factor("masks", ("joint", "mean", "best")),
    Factor("loss", ("dicece", "0.95*focal+0.05*dicece", "focal")),
)
"""Those of the river article (water-surf, https://github.com/geo-smart/water-surf), whose ``dice`` is
``dicece`` and whose ``19-1`` is the first loss."""


@dataclass(frozen=True)
class Grid:
    """What is compared."""

    factors: tuple[Factor, ...] = FACTORS
    """What is varied."""

    crossed: bool = False
    """Whether every combination is trained; else each factor is varied alone from the base."""

    @property
    def base(self) -> dict[str, Any]:
        """The first value of every factor."""
        return {factor.name: factor.values[0] for factor in self.factors}


@dataclass(frozen=True)
class Cell:
    """One training of an experiment."""

    name: str
    """What is other than in the base."""

    options: Mapping[str, Any]
    """The value of every factor."""

    recipe: Recipe
    """All that decides it."""

    @property
    def shown(self) -> dict[str, Any]:
        """The same, empty where a factor means nothing to this kind of prompt."""
        idle = _idle(self.options)
        return {name: "" if name in idle else value for name, value in self.options.items()}

    def key(self, signature: str = "") -> str:
        """Return a name for files, the same for the same training of the same weights.

        Parameters
        ----------
        signature
            Of the model that is trained.
        """
        text = self.recipe.to_toml() + signature
        digest = hashlib.sha256(text.encode()).hexdigest()[:8]
        words = "".join(c if c.isalnum() else "-" for c in self.name)
        return f"{words[:40].strip('-')}-{digest}"


def read_grid(text: str) -> Grid:
    """Read what is to be compared.

    Parameters
    ----------
    text
        ``one-by-one``, ``cross``, or a TOML file with a table ``factors`` of lists, the first value
        of each being that of the base, and, optional, ``cross = true`` before it.

    Raises
    ------
    OptionError
        If it is none of these, or a factor is no option that can be varied.
    """
    if text in (ONE_BY_ONE, CROSS):
        return Grid(crossed=text == CROSS)
    path = Path(text)
    try:
        tables = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise OptionError(
            f"--experiments {text} is neither {ONE_BY_ONE} nor {CROSS}, and cannot be read as a TOML "
            f"file ({error}). Use one of these."
        ) from error
    factors, crossed = tables.get("factors"), tables.get("cross", False)
    unknown = sorted(set(tables) - {"factors", "cross"})
    if unknown or not isinstance(factors, Mapping) or not factors or not isinstance(crossed, bool):
        raise OptionError(
            f"{path} must hold a table [factors] and may say cross = true before it"
            + (f"; {unknown[0]} is unknown." if unknown else ".")
        )
    return Grid(tuple(_factor(name, values, path) for name, values in factors.items()), crossed)


def _factor(name: str, values: Any, path: Path) -> Factor:
    if name not in KNOWN:
        near = difflib.get_close_matches(name, KNOWN, n=1, cutoff=0.3)
        hint = f" Did you mean {near[0]}?" if near else f" Known are {', '.join(KNOWN)}."
        raise OptionError(f"{path}: {name} cannot be a factor.{hint}")
    if not isinstance(values, list) or not values:
        raise OptionError(
            f"{path}: {name} = {values!r} must be a list of values, the base's first."
        )
    return Factor(name, tuple(values))


def make_cells(grid: Grid, recipe: Recipe) -> list[Cell]:
    """Return the trainings of a grid, the base first, each only once.

    Parameters
    ----------
    grid
        What is varied.
    recipe
        All that is not.

    Raises
    ------
    OptionError
        If a value is wrong.
    """
    chosen = [_meaningful(options, grid.base) for options in _combinations(grid)]
    unique = {tuple(map(repr, options.values())): options for options in chosen}
    return [
        Cell(_name(options, grid.base), options, _apply(recipe, options))
        for options in unique.values()
    ]


def _combinations(grid: Grid) -> Iterator[dict[str, Any]]:
    names = [factor.name for factor in grid.factors]
    if grid.crossed:
        for values in product(*(factor.values for factor in grid.factors)):
            yield dict(zip(names, values, strict=True))
        return
    yield grid.base
    for factor in grid.factors:
        for value in factor.values[1:]:
            yield grid.base | {factor.name: value}


def _meaningful(options: dict[str, Any], base: Mapping[str, Any]) -> dict[str, Any]:
    """Return options with the base's values where others would change nothing."""
    idle = _idle(options)
    return {name: base[name] if name in idle else value for name, value in options.items()}


def _idle(options: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the factors that change nothing."""
    idle = _MEANINGLESS.get(str(options.get("prompts")), ())
    asks_for_three = "minimum" in str(options.get("masks"))
    return tuple(name for name in idle if name != "masks" or not asks_for_three)


def _name(options: Mapping[str, Any], base: Mapping[str, Any]) -> str:
    other = [f"{name} {told(value)}" for name, value in options.items() if value != base[name]]
    return ", ".join(other) or "base"


def told(value: Any) -> str:
    """Return a value as a table has it.

    Examples
    --------
    >>> told(True), told(0.001)
    ('yes', '0.001')
    """
    return ("no", "yes")[value] if isinstance(value, bool) else str(value)


def _apply(recipe: Recipe, options: Mapping[str, Any]) -> Recipe:
    """Return the recipe of a cell. Its validation has the same masks, and logs the same losses."""
    given = dict(options)
    if "masks" in given:
        train, _, validation = str(given["masks"]).partition("/")
        given |= {"masks": train, "validation_masks": validation or train}
    if "loss" in given:
        first = str(given["loss"]).strip()
        given["loss"] = ",".join([first, *(x for x in recipe.loss.losses if x != first)])
    return apply_settings(recipe, given)
