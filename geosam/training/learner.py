"""What learns: the model of a recipe, the tiles it sees, and both as a trainee."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from geosam.errors import ModelError
from geosam.models.checkpoint import find_checkpoint
from geosam.models.load import load_model
from geosam.models.network import NetworkModel, as_dense
from geosam.progress import Bar, count
from geosam.training.autosam import auto_sam
from geosam.training.embeddings import FreshTiles, Tiles, store_tiles
from geosam.training.freeze import parse_part
from geosam.training.losses import parse_loss
from geosam.training.parts import Parts
from geosam.training.promptable import Promptable
from geosam.training.recipe import Recipe
from geosam.training.sample import Sample
from geosam.training.scratch import start_anew
from geosam.training.team import Team
from geosam.training.trainee import Trainee
from geosam.training.variation import Variation


@dataclass(frozen=True)
class PartTiles:
    """The tiles of all parts, as a model sees them."""

    train: Tiles
    """To learn from."""

    validation: Tiles
    """To choose the best epoch by."""

    test: Tiles
    """To look at when the training is over."""

    def seen_by(self, model: NetworkModel) -> PartTiles:
        """Return the same tiles as another network sees them: kept embeddings stay as they are."""
        return PartTiles(*(_seen_by(t, model) for t in (self.train, self.validation, self.test)))


def load_learner(recipe: Recipe, device: str, name: str = "") -> tuple[NetworkModel, Path]:
    """Load what a recipe starts from, and say where it lies.

    Parameters
    ----------
    recipe
        Model, start and precision.
    device
        As ``--device``.
    name
        A checkpoint to load instead of what the recipe starts from: one that it led to.

    Raises
    ------
    ModelError
        If it is no promptable network, or takes no dense prompts where these are trained.
    OptionError
        If the recipe names no such loss or part: said here, before the tiles are embedded.
    """
    settings = recipe.model
    parse_part(settings.part, settings.start)
    for text in recipe.loss.losses:
        parse_loss(text)
    found = name or settings.name
    model = load_model(
        found, device=device, precision=recipe.fit.precision, tile_size=settings.tile_size
    )
    if not isinstance(model, NetworkModel):
        raise ModelError(f"Model {found} is no SAM and cannot be trained here.")
    if settings.part == "autosam":
        as_dense(model)
    if settings.start == "scratch" and not name:
        start_anew(model.network, recipe.fit.seed)
    return model, find_checkpoint(found)


def keeps_embeddings(recipe: Recipe) -> bool:
    """Return whether the embeddings of a tile are the same in every epoch, and kept."""
    learns = parse_part(recipe.model.part, recipe.model.start).has_encoder
    return not (learns or recipe.fit.flip or recipe.fit.colour > 0 or recipe.fit.cache == "off")


def embed_parts(
    parts: Parts, model: NetworkModel, recipe: Recipe, folder: Path, progress: bool, team: Team
) -> PartTiles:
    """Return the tiles of all parts, embedded once into a folder where that is possible."""
    if not keeps_embeddings(recipe):
        return fresh_tiles(parts, model, recipe)
    found: list[Tiles] = []
    named = {"train": parts.train, "validation": parts.validation, "test": parts.test}
    with count("embeddings", sum(map(len, named.values())), progress and team.leads) as bar:
        for name, samples in named.items():
            found.append(_stored_tiles(samples, model, recipe, folder / name, bar, team))
    return PartTiles(*found)


def fresh_tiles(parts: Parts, model: NetworkModel, recipe: Recipe) -> PartTiles:
    """Return the tiles of all parts, embedded whenever they are read."""
    plan = recipe.fit
    varies = plan.flip or plan.colour > 0
    change = Variation(plan.seed, plan.flip, plan.colour) if varies else None
    learns = parse_part(recipe.model.part, recipe.model.start).has_encoder
    train = FreshTiles(model, parts.train, learns, change)
    return PartTiles(train, FreshTiles(model, parts.validation), FreshTiles(model, parts.test))


def _stored_tiles(
    samples: Sequence[Sample],
    model: NetworkModel,
    recipe: Recipe,
    folder: Path,
    bar: Bar,
    team: Team,
) -> Tiles:
    if not len(samples):
        return FreshTiles(model, samples)
    if not team.leads:
        team.wait()
    stored = store_tiles(model, samples, folder, recipe.fit.cache, recipe.fit.batch, bar.update)
    if team.leads:
        team.wait()
    return stored


def _seen_by(tiles: Tiles, model: NetworkModel) -> Tiles:
    return replace(tiles, model=model) if isinstance(tiles, FreshTiles) else tiles


def make_trainee(
    model: NetworkModel, parts: Parts, tiles: PartTiles, recipe: Recipe, source: Path
) -> Trainee:
    """Put together what the loop of :mod:`geosam.training.fit` trains."""
    if recipe.model.part == "autosam":
        samples = (parts.train, parts.validation)
        return auto_sam(as_dense(model), samples, (tiles.train, tiles.validation), recipe, source)
    return Promptable(model, tiles.train, tiles.validation, recipe, source)
