"""The test part, which a training never looks at: what the best network makes of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from geosam.models.network import NetworkModel
from geosam.summaries import SetEvaluation
from geosam.training.learner import PartTiles, load_learner, make_trainee
from geosam.training.parts import Parts
from geosam.training.recipe import Recipe
from geosam.training.scores import examine


@dataclass(frozen=True)
class HeldOut:
    """True pixel figures of the test part."""

    tiles: int
    """Tiles of it, those without water in the label among them."""

    before: SetEvaluation | None
    """What the recipe starts from makes of it; None where no tile can be answered: a prompt needs
    water."""

    after: SetEvaluation | None
    """The same of the best checkpoint."""

    def to_dict(self) -> dict[str, Any]:
        """Return the figures by name, those of every tile among them."""
        answered = 0 if self.after is None else len(self.after.images)
        both = {"before": _told(self.before), "after": _told(self.after)}
        return {"tiles": self.tiles, "answered": answered, **both}

    def summary(self) -> dict[str, Any]:
        """Return the same without those of single tiles."""
        values = self.to_dict()
        for name in ("before", "after"):
            values[name] = None if values[name] is None else without_images(values[name])
        return values


def without_images(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Return the figures of a set of tiles without those of single ones."""
    return {name: value for name, value in figures.items() if name not in ("images", "unknown")}


def _told(found: SetEvaluation | None) -> dict[str, Any] | None:
    return None if found is None else found.to_dict()


def examine_held_out(
    parts: Parts, tiles: PartTiles, recipe: Recipe, best: Path, device: str
) -> HeldOut:
    """Measure a checkpoint and what it came from on the test part.

    Parameters
    ----------
    parts, tiles
        Of the training.
    recipe
        Its prompts are made for the test part too, seeded by ``prompts.validation_seed``.
    best
        The checkpoint.
    device
        Where it runs.
    """
    before = measure(*load_learner(recipe, device), parts, tiles, recipe)
    after = measure(*load_learner(recipe, device, str(best)), parts, tiles, recipe)
    return HeldOut(len(parts.test), before, after)


def measure(
    model: NetworkModel, source: Path, parts: Parts, tiles: PartTiles, recipe: Recipe
) -> SetEvaluation | None:
    """Measure one network on the test part; None where no tile can be answered."""
    seen = tiles.seen_by(model)
    trainee = make_trainee(
        model,
        replace(parts, validation=parts.test),
        replace(seen, validation=seen.test),
        recipe,
        source,
    )
    return examine(trainee.answers(), parts.test_names)
