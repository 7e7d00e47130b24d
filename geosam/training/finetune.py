"""``geosam.train``: labelled data and a recipe -> a folder with a model that is better on them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from geosam.clock import Clock
from geosam.errors import OptionError
from geosam.models.network import NetworkModel
from geosam.progress import Bar, count
from geosam.training.embeddings import Tiles
from geosam.training.fit import BEST, Progress, Watch, fit
from geosam.training.held_out import HeldOut, examine_held_out
from geosam.training.learner import PartTiles, embed_parts, load_learner, make_trainee
from geosam.training.parts import Parts, open_parts, write_windows
from geosam.training.recipe import Recipe
from geosam.training.records import without_nan, write_record
from geosam.training.sample import WATER
from geosam.training.settings import make_recipe
from geosam.training.team import Team, gather_team
from geosam.training.trainee import Trainee
from geosam.training.workplace import (
    EMBEDDINGS,
    check_workplace,
    leaving,
    open_workplace,
    publish_workplace,
    unfinished,
)

FIGURES = ("loss", "iou_median", "iou_mean", "f1", "precision", "recall", "false_water")
"""What is told of the validation part."""
TEST = "test.json"
"""What is told of every tile of the test part."""


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
    """Tiles of the parts: ``train``, of them ``with_water``, ``validation``, ``test``."""

    test: HeldOut | None = None
    """True pixel figures of the test part, before and after; None where there is none."""

    seconds: Mapping[str, float] = field(default_factory=dict)
    """Time of each step; ``total`` is all of it."""

    def to_dict(self) -> dict[str, Any]:
        """Return the same as JSON-ready values; what could not be measured is None."""
        own = {f.name: getattr(self, f.name) for f in fields(self)}
        return without_nan(own | {"test": None if self.test is None else self.test.summary()})


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
        take, ``metrics.csv`` and ``curves.png`` tell how it went, ``test.json`` what the best makes
        of the test part, tile by tile, ``windows.csv`` which tiles were in which part, and
        ``recipe.toml`` repeats it.
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
    if "," in device:
        raise OptionError(
            f"--device {device}: a training has one device a process. Name one, such as cuda:0, and start "
            "several processes with accelerate launch."
        )
    check_workplace(Path(output), recipe, resume, overwrite)
    clock, team = Clock(), gather_team()
    with clock.time("open"):
        model, source = load_learner(recipe, team.device if device == "auto" else device)
        parts = open_parts(recipe.data, model.size, recipe.fit.seed)
    return train_parts(
        parts, model, source, recipe, Path(output), clock, team, resume, overwrite, progress
    )


def train_parts(
    parts: Parts,
    model: NetworkModel,
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
    with leaving(partial):
        if team.leads and parts.split is not None:
            write_windows(partial / "windows.csv", parts.split)
        with clock.time("encode"):
            tiles = embed_parts(parts, model, recipe, partial / EMBEDDINGS, progress, team)
        with clock.time("train"):
            trainee = make_trainee(model, parts, tiles, recipe, source)
            done = _fit(trainee, parts, recipe, partial, resume, progress, team)
        with clock.time("test"):
            held_out = _examine(parts, tiles, recipe, partial, str(model.placement.device), team)
        if team.leads:
            publish_workplace(partial, output)
    sizes = {
        "train": len(parts.train),
        "with_water": sum(_is_wet(tiles.train, item) for item in trainee.items),
        "validation": len(parts.validation),
        "test": len(parts.test),
    }
    return _report(output, done, held_out, sizes, clock)


def _examine(
    parts: Parts, tiles: PartTiles, recipe: Recipe, partial: Path, device: str, team: Team
) -> HeldOut | None:
    """Measure the best checkpoint on the test part, and write what came of every tile of it."""
    if not len(parts.test) or not team.leads:
        return None
    held_out = examine_held_out(parts, tiles, recipe, partial / BEST, device)
    write_record(partial / TEST, held_out.to_dict())
    return held_out


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


def _report(
    output: Path,
    done: Progress,
    held_out: HeldOut | None,
    sizes: Mapping[str, int],
    clock: Clock,
) -> Trained:
    best = done.rows[done.best_epoch]
    return Trained(
        str(output),
        str(output / "best"),
        done.epoch,
        done.best_epoch,
        {name: done.rows[0][name] for name in FIGURES},
        {name: best[name] for name in FIGURES},
        sizes,
        held_out,
        clock.seconds(),
    )
