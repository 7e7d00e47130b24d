"""``geosam.train``: labelled data and a recipe -> a folder with a model that is better on them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from geosam.clock import Clock
from geosam.errors import ModelError, OptionError
from geosam.models.checkpoint import find_checkpoint
from geosam.models.load import load_model
from geosam.models.sam import Sam
from geosam.models.sam2 import Sam2
from geosam.progress import Bar, count
from geosam.training.autosam import auto_sam
from geosam.training.embeddings import FreshTiles, Tiles, store_tiles
from geosam.training.fit import Progress, Watch, fit
from geosam.training.freeze import parse_part
from geosam.training.parts import Parts, open_parts, write_windows
from geosam.training.promptable import Promptable
from geosam.training.recipe import Recipe
from geosam.training.sample import WATER
from geosam.training.scratch import start_anew
from geosam.training.settings import make_recipe
from geosam.training.team import Team, gather_team
from geosam.training.trainee import Trainee
from geosam.training.variation import Variation
from geosam.training.workplace import (
    EMBEDDINGS,
    check_workplace,
    leave_workplace,
    open_workplace,
    publish_workplace,
    unfinished,
)

FIGURES = ("loss", "iou_median", "iou_mean", "f1", "precision", "recall", "false_water")
"""What is told of the validation part."""


@dataclass(frozen=True)
class Trained:
    """What a training brought."""

    output: str
    """The folder."""

    model: str
    """The best checkpoint, as ``--model`` takes it."""

    epochs: int
    """Epochs done."""

    best_epoch: int
    """The epoch of the best; 0 if training made nothing better."""

    before: Mapping[str, float]
    """Figures of the validation part before training."""

    after: Mapping[str, float]
    """The same of the best epoch."""

    tiles: Mapping[str, int]
    """Tiles of the parts: ``train``, of them ``with_water``, ``validation``."""

    seconds: Mapping[str, float] = field(default_factory=dict)
    """Time of each step; ``total`` is all of it."""

    def to_dict(self) -> dict[str, Any]:
        """Return the same as JSON-ready values; what could not be measured is None."""
        values = asdict(self)
        for name in ("before", "after"):
            values[name] = {k: None if math.isnan(v) else v for k, v in values[name].items()}
        return values


def train(
    data: Any,
    output: str | Path,
    *,
    device: str = "auto",
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = False,
    **options: Any,
) -> Trained:
    """Train or fine-tune a promptable model: exactly what ``geosam train`` does.

    Parameters
    ----------
    data
        A recipe (``.toml``, or a :class:`Recipe`), or labelled data as
        :func:`geosam.training.examples.read_examples` takes it: a path or several.
    output
        The folder to make: ``best/`` and ``last/`` are checkpoints that ``model`` and transformers
        take, ``metrics.csv`` and ``curves.png`` tell how it went, ``windows.csv`` which tiles were in which
        part, and ``recipe.toml`` repeats it.
    device
        ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
    resume
        Whether to go on with a training of this output that was cut.
    overwrite
        Whether to replace an earlier training of this output.
    progress
        Whether to show a bar on standard error.
    **options
        What the recipe says otherwise: ``epochs``, ``lr``, ``prompts`` and the like; see
        :data:`geosam.training.settings.SETTINGS`.

    Raises
    ------
    GeosamError
        If recipe, data or model are wrong; nothing is written then. If a loss is not finite: the
        checkpoints before it stay in ``OUTPUT.partial``.
    KeyboardInterrupt
        With a sentence that says how to go on.

    Examples
    --------
    >>> geosam.train("chips/", "tuned", epochs=20).after["iou_median"]  # doctest: +SKIP
    0.91
    """
    recipe = make_recipe(data, **options)
    if not recipe.data.path:
        raise OptionError(
            "There is no data to train with: name it, or give data.path in the recipe."
        )
    check_workplace(Path(output), recipe, resume, overwrite)
    clock, team = Clock(), gather_team()
    with clock.time("open"):
        model, source = _load(recipe, team.device if device == "auto" else device)
        parts = open_parts(recipe.data, model.size, recipe.fit.seed)
    return train_parts(
        parts, model, source, recipe, Path(output), clock, team, resume, overwrite, progress
    )


def train_parts(
    parts: Parts,
    model: Sam | Sam2,
    source: Path,
    recipe: Recipe,
    output: Path,
    clock: Clock,
    team: Team,
    resume: bool,
    overwrite: bool,
    progress: bool,
) -> Trained:
    """Train on parts that are at hand, and publish the result; see :func:`train`."""
    partial = unfinished(output)
    if team.leads:
        partial = open_workplace(output, recipe, resume, overwrite)
    with _leaving(partial):
        if team.leads and parts.split is not None:
            write_windows(partial / "windows.csv", parts.split)
        with clock.time("encode"):
            tiles = _embed(parts, model, recipe, partial, progress, team)
        with clock.time("train"):
            trainee = _trainee(model, parts, tiles, recipe, source)
            done = _fit(trainee, parts, recipe, partial, resume, progress, team)
        if team.leads:
            publish_workplace(partial, output)
    sizes = {
        "train": len(parts.train),
        "with_water": sum(_is_wet(tiles[0], item) for item in trainee.items),
        "validation": len(parts.validation),
    }
    return _report(output, done, sizes, clock)


def _load(recipe: Recipe, device: str) -> tuple[Sam | Sam2, Path]:
    settings = recipe.model
    model = load_model(
        settings.name, device=device, precision=recipe.fit.precision, tile_size=settings.tile_size
    )
    if not isinstance(model, (Sam, Sam2)):
        raise ModelError(f"Model {settings.name} is no SAM and cannot be trained here.")
    if settings.start == "scratch":
        start_anew(model.network, recipe.fit.seed)
    return model, find_checkpoint(settings.name)


def _embed(
    parts: Parts, model: Sam | Sam2, recipe: Recipe, partial: Path, progress: bool, team: Team
) -> tuple[Tiles, Tiles]:
    """Return the tiles of both parts, embedded once where that is possible."""
    plan = recipe.fit
    learns = parse_part(recipe.model.part, recipe.model.start).has_encoder
    varies = plan.flip or plan.colour > 0
    if learns or varies or plan.cache == "off":
        change = Variation(plan.seed, plan.flip, plan.colour) if varies else None
        train = FreshTiles(model, parts.train, learns, change)
        return train, FreshTiles(model, parts.validation)
    found: list[Tiles] = []
    total = len(parts.train) + len(parts.validation)
    with count("embeddings", total, progress and team.leads) as bar:
        for name, samples in (("train", parts.train), ("validation", parts.validation)):
            if not len(samples):
                found.append(FreshTiles(model, samples))
                continue
            folder = partial / EMBEDDINGS / name
            if not team.leads:
                team.wait()
            found.append(store_tiles(model, samples, folder, plan.cache, plan.batch, bar.update))
            if team.leads:
                team.wait()
    return found[0], found[1]


def _trainee(
    model: Sam | Sam2, parts: Parts, tiles: tuple[Tiles, Tiles], recipe: Recipe, source: Path
) -> Trainee:
    if recipe.model.part == "autosam":
        return auto_sam(model, (parts.train, parts.validation), tiles, recipe, source)
    return Promptable(model, *tiles, recipe, source)


def _fit(
    trainee: Trainee,
    parts: Parts,
    recipe: Recipe,
    partial: Path,
    resume: bool,
    progress: bool,
    team: Team,
) -> Progress:
    steps = math.ceil(len(trainee.items) / recipe.fit.batch) * recipe.fit.epochs
    with count("training", steps, progress and team.leads) as bar:
        watch = Watch(bar.update, lambda row: _tell(bar, row))
        return fit(
            trainee,
            recipe.fit,
            partial,
            names=parts.names,
            resume=resume,
            watch=watch,
            team=team,
        )


def _tell(bar: Bar, row: Mapping[str, float]) -> None:
    bar.set_description(
        f"epoch {row['epoch']:.0f}, loss {row['loss']:.3f}, IoU {row['iou_median']:.3f}"
    )


def _is_wet(tiles: Tiles, item: int) -> bool:
    return bool((tiles.label(item) == WATER).any())


@contextmanager
def _leaving(partial: Path) -> Iterator[None]:
    """Leave nothing of a failed start, and say of an interruption how to go on."""
    interrupted = False
    try:
        yield
    except KeyboardInterrupt as error:
        interrupted = True
        raise KeyboardInterrupt(
            f"The unfinished training stays in {partial}; the same command with --resume goes on."
        ) from error
    finally:
        if not interrupted:
            leave_workplace(partial)


def _report(output: Path, done: Progress, sizes: Mapping[str, int], clock: Clock) -> Trained:
    best = done.rows[done.best_epoch]
    return Trained(
        str(output),
        str(output / "best"),
        done.epoch,
        done.best_epoch,
        {name: done.rows[0][name] for name in FIGURES},
        {name: best[name] for name in FIGURES},
        sizes,
        clock.seconds(),
    )
