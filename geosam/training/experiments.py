"""Many trainings on the same data, compared: ``geosam train --experiments``."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from geosam.clock import Clock
from geosam.errors import ModelError, OptionError, TrainingError
from geosam.models.network import NetworkModel
from geosam.progress import Bar, count
from geosam.training.embeddings import Tiles
from geosam.training.experiment_table import (
    ALL_WATER,
    TUNED,
    ZERO_SHOT,
    Row,
    draw_table,
    write_csv,
    write_markdown,
)
from geosam.training.fit import BEST, LAST, STATE, Progress, Watch, fit
from geosam.training.grid import Cell, Grid, make_cells, read_grid
from geosam.training.held_out import examine_held_out, without_images
from geosam.training.learner import (
    PartTiles,
    embed_parts,
    fresh_tiles,
    keeps_embeddings,
    load_learner,
    make_trainee,
)
from geosam.training.parts import Parts, open_parts, write_windows
from geosam.training.recipe import Recipe
from geosam.training.records import read_record, without_nan, write_record
from geosam.training.sample import WATER
from geosam.training.scores import Answered, examine
from geosam.training.settings import make_recipe
from geosam.training.team import Team
from geosam.training.workplace import (
    EMBEDDINGS,
    RECIPE,
    RESULT,
    RUNS,
    check_workplace,
    leaving,
    open_workplace,
    publish_workplace,
)

TABLE, PICTURE, COLUMNS = "experiments.md", "experiments.png", "experiments.csv"


@dataclass(frozen=True)
class Experiments:
    """What a comparison brought."""

    output: str
    """The folder."""

    rows: tuple[Row, ...]
    """An answer of nothing but water, networks as they were, then tuned ones, as in the table."""

    seconds: Mapping[str, float]
    """Time of each step; ``total`` is all of it."""

    def to_dict(self) -> dict[str, Any]:
        """Return the same as JSON takes it."""
        rows = [row.to_dict() for row in self.rows]
        return {"output": self.output, "rows": rows, "seconds": dict(self.seconds)}


@dataclass(frozen=True)
class Bench:
    """What all cells of an experiment share."""

    parts: Parts
    """The samples."""

    model: NetworkModel
    """What all start from; cells train copies of it."""

    tiles: PartTiles
    """The same samples, embedded once."""

    folder: Path
    """Where the unfinished work lies."""

    @property
    def device(self) -> str:
        """Where everything runs."""
        return str(self.model.placement.device)

    def tiles_of(self, recipe: Recipe) -> PartTiles:
        """Return the tiles as a cell is shown them."""
        if keeps_embeddings(recipe):
            return self.tiles
        return fresh_tiles(self.parts, self.model, recipe)


def run_experiments(
    data: Any,
    output: str | Path,
    grid: str | Grid = "one-by-one",
    *,
    device: str = "auto",
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = False,
    **options: Any,
) -> Experiments:
    """Train once for each cell of a grid, and compare all on the test part.

    Every cell starts from the same weights and is measured before and after, with true pixel
    figures. Where the encoder stays as it is, tiles are embedded once for all cells.

    Parameters
    ----------
    data
        A recipe or labelled data, as :func:`geosam.train` takes it. What the grid varies is as the
        grid says, whatever the recipe says.
    output
        The folder to make, with ``experiments.md``, ``experiments.csv`` and ``experiments.png``; in
        ``runs`` the recipe, the epochs and the figures of every cell.
    grid
        ``one-by-one`` varies the factors of the river article one at a time, ``cross`` takes every
        combination; or a TOML file, as :func:`geosam.training.grid.read_grid` has it.
    device, resume, overwrite, progress
        As for :func:`geosam.train`; a cell that is finished is not trained again.
    **options
        Those of :data:`geosam.training.settings.SETTINGS`.

    Raises
    ------
    GeosamError
        If recipe, grid, data or model are wrong; nothing is written then. A cell whose loss is not
        finite is a row that says so.
    KeyboardInterrupt
        With a sentence that says how to go on.
    """
    recipe = make_recipe(data, **options)
    cells = make_cells(grid if isinstance(grid, Grid) else read_grid(grid), recipe)
    _check_recipe(recipe)
    check_workplace(Path(output), recipe, resume, overwrite)
    clock = Clock()
    with clock.time("open"):
        model, _ = load_learner(recipe, device)
        parts = open_parts(recipe.data, model.size, recipe.fit.seed)
        _check_test(parts)
    partial = open_workplace(Path(output), recipe, resume, overwrite)
    with leaving(partial):
        if parts.split is not None:
            write_windows(partial / "windows.csv", parts.split)
        with clock.time("encode"):
            kept = next((c.recipe for c in cells if keeps_embeddings(c.recipe)), cells[0].recipe)
            tiles = embed_parts(parts, model, kept, partial / EMBEDDINGS, progress, Team())
        bench = Bench(parts, model, tiles, partial)
        with clock.time("train"):
            records = _run_cells(cells, bench, progress)
        rows = (_all_water(cells[0], tiles.test), *_rows(cells, records))
        _write(partial, rows, recipe, bench)
        publish_workplace(partial, Path(output))
    return Experiments(str(output), rows, clock.seconds())


def _check_recipe(recipe: Recipe) -> None:
    if not recipe.data.path:
        raise OptionError(
            "There is no data to experiment with: name it, or give data.path in the recipe."
        )
    if recipe.model.part == "autosam":
        raise OptionError(
            "--experiments compares prompts, and --part autosam takes none. Leave one of them out."
        )


def _check_test(parts: Parts) -> None:
    if not len(parts.test):
        raise OptionError(
            "--experiments measures on the test part, and the data has none. Set some aside: --test "
            "0.15, or name it in the split file."
        )


def _run_cells(cells: list[Cell], bench: Bench, progress: bool) -> list[dict[str, Any]]:
    total = sum(cell.recipe.fit.epochs for cell in cells)
    with count("experiments", total, progress) as bar:
        return [_run_cell(cell, bench, bar) for cell in cells]


def _run_cell(cell: Cell, bench: Bench, bar: Bar) -> dict[str, Any]:
    """Train and measure one cell, unless that was done before; return what was found."""
    folder = bench.folder / RUNS / cell.key(bench.model.signature)
    bar.set_description(cell.name)
    if (folder / RESULT).is_file():
        bar.update(cell.recipe.fit.epochs)
        return read_record(folder / RESULT)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / RECIPE).write_text(cell.recipe.to_toml())
    clock = Clock()
    try:
        found = _train_cell(cell, bench, folder, bar)
    except TrainingError as error:
        found = {"error": str(error)}
    write_record(folder / RESULT, found | {"seconds": clock.seconds()["total"]})
    for name in (BEST, LAST):
        shutil.rmtree(folder / name, ignore_errors=True)
    (folder / STATE).unlink(missing_ok=True)
    return read_record(folder / RESULT)


def _train_cell(cell: Cell, bench: Bench, folder: Path, bar: Bar) -> dict[str, Any]:
    recipe = cell.recipe
    tiles = bench.tiles_of(recipe)
    model, source = load_learner(recipe, bench.device)
    if model.signature != bench.model.signature:
        raise ModelError(
            f"The weights in {source} changed while the experiment ran. Leave them alone, and use "
            "--resume with them as they are now: every cell is trained anew."
        )
    trainee = make_trainee(model, bench.parts, tiles.seen_by(model), recipe, source)
    watch = Watch(epoch=lambda row: bar.update(int(row["epoch"] > 0)))
    names = bench.parts.names
    done = fit(trainee, recipe.fit, folder, names=names, resume=True, watch=watch)
    bar.update(recipe.fit.epochs - done.epoch)
    held_out = examine_held_out(bench.parts, tiles, recipe, folder / BEST, bench.device)
    return {"test": held_out.to_dict(), **_epochs(done)}


def _epochs(done: Progress) -> dict[str, Any]:
    best = done.rows[done.best_epoch]
    return {"epochs": done.epoch, "best_epoch": done.best_epoch, "validation": best}


def _all_water(cell: Cell, test: Tiles) -> Row:
    """Return what calling everything water would give: of labels with little land, a lot."""
    labels = [(item, test.label(item)) for item in range(len(test))]
    answers = [
        Answered(item, {}, np.ones(label.shape, bool), label)
        for item, label in labels
        if (label == WATER).any()
    ]
    found = examine(answers)
    figures = None if found is None else without_nan(without_images(found.to_dict()))
    return Row(ALL_WATER, "", dict.fromkeys(cell.options, ""), figures)


def _rows(cells: list[Cell], records: list[dict[str, Any]]) -> Iterator[Row]:
    """Yield a row for each network that was not trained, then one for each that was."""
    untrained: dict[str, Row] = {}
    for cell, record in zip(cells, records, strict=True):
        row = Row(ZERO_SHOT, cell.name, prompting(cell.shown), _figures(record, "before"))
        if "error" not in record:
            untrained.setdefault(repr(row.options), row)
    yield from untrained.values()
    for cell, record in zip(cells, records, strict=True):
        yield Row(TUNED, cell.name, cell.shown, _figures(record, "after"), record)


def prompting(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return what matters to a network that is not trained: how it is prompted and read."""
    matters = ("prompts", "points", "negatives", "erode", "rounds", "validation_masks")
    found = {name: value if name in matters else "" for name, value in options.items()}
    if "masks" in options:
        found["masks"] = str(options["masks"]).rpartition("/")[2]
    return found


def _figures(record: Mapping[str, Any], when: str) -> dict[str, Any] | None:
    figures = record.get("test", {}).get(when)
    return None if figures is None else without_images(figures)


def _write(folder: Path, rows: tuple[Row, ...], recipe: Recipe, bench: Bench) -> None:
    parts = bench.parts
    sizes = [len(part) for part in (parts.train, parts.validation, parts.test)]
    about = (
        f"{recipe.model.name} (weights {bench.model.signature[:12]}); {sizes[0]} tiles to train with, {sizes[1]} to choose the best epoch "
        f"by, {sizes[2]} to test with; at most {recipe.fit.epochs} epochs, batches of "
        f"{recipe.fit.batch}, learning rate {recipe.fit.lr:g}, seed {recipe.fit.seed}."
    )
    write_markdown(folder / TABLE, rows, about, PICTURE)
    write_csv(folder / COLUMNS, rows)
    draw_table(folder / PICTURE, rows)
