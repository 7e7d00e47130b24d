"""``geosam train``: a model that is better on a user's own river."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from geosam.cli import flags, text
from geosam.training.settings import SETTINGS, Setting

if TYPE_CHECKING:
    from geosam.training.finetune import Trained
    from geosam.training.held_out import HeldOut

EXAMPLES = """\b
Examples:
  geosam train chips/ -o tuned                          folder of images and masks
  geosam train scene.tif --labels water.gpkg -o tuned   a scene and its polygons
  geosam train rivers.gpkg -o tuned                     outlines that a person corrected
  geosam train chips/ -o tuned --model facebook/sam-vit-base --prompts points --epochs 50
  geosam train chips/ --write-recipe recipe.toml        write a recipe, train nothing
  geosam train recipe.toml -o tuned
  geosam train recipe.toml -o tuned --resume            go on after an interruption
  geosam train chips/ -o table --experiments one-by-one  prompts, losses and the like compared
  geosam segment scene.tif -o rivers.gpkg --model tuned/best
"""
GROUPS = {"data": "scene", "model": "model", "prompts": "prompts", "loss": "model", "fit": "model"}
"""Where options of each table of a recipe stand on the help page."""


def setting_flags(command: Callable) -> Callable:
    """Add every option of a recipe."""
    for setting in reversed(SETTINGS):
        command = _flag(setting)(command)
    return command


def _flag(setting: Setting) -> Callable:
    flag = "--" + setting.name.replace("_", "-")
    is_bool = setting.kind is bool
    return click.option(
        f"{flag}/--no-{flag[2:]}" if is_bool else flag,
        setting.name,
        default=None,
        type=None if is_bool else setting.kind,
        metavar=None if is_bool else setting.metavar,
        help=setting.help,
        cls=flags.GroupedOption,
        group=GROUPS[setting.table],
    )


@click.command(cls=flags.GroupedCommand, epilog=EXAMPLES)
@click.argument("data", metavar="RECIPE_OR_DATA...", nargs=-1, required=True)
@flags.output_flag("DIR", "Folder to make.", required=False)
@setting_flags
@flags.flag(
    "--device",
    "Where the model is trained.",
    group="model",
    default="auto",
    show_default=True,
    metavar="auto|cpu|cuda|cuda:1|mps",
)
@flags.flag(
    "--write-recipe",
    "Write everything that decides the training as TOML, and train nothing.",
    metavar="FILE",
)
@flags.flag(
    "--experiments",
    "Train once for each cell of a grid, and write a table and a picture of figures before and "
    "after on the test part instead of a model. one-by-one varies kind of prompt, points, negatives, "
    "erosion, masks and loss alone; cross takes every combination; a TOML file has lists of values "
    "under [factors], the base's first.",
    metavar="GRID",
)
@flags.flag("--resume", "Go on with an unfinished training of this output.", is_flag=True)
@flags.only_flags("overwrite")
@flags.report_flags
def train(
    data: tuple[str, ...],
    output: str | None,
    write_recipe: str | None,
    experiments: str | None,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Train or fine-tune a promptable model.

    RECIPE_OR_DATA is a recipe (.toml), a folder with images/ and masks/, a scene with --labels, a
    GeoPackage that segment wrote and a person corrected, or a dataset with columns image and label.
    Masks hold 0 land, 1 water, 255 ignored. The decoder is trained and the rest stays as it is,
    unless --part says otherwise. --part autosam leaves the whole model as it is and trains a
    network that prompts it, for segment --prompts autosam.
    """
    if write_recipe is not None:
        _write(data, write_recipe, options)
        return
    if output is None:
        raise click.UsageError("Missing option '-o' / '--output': name the folder to make.")
    if experiments is not None:
        _experiment(data, output, experiments, as_json, not quiet, options)
        return
    from geosam.training.finetune import train as run

    trained = run(_one(data), output, progress=not quiet, **options)
    if as_json:
        text.show_json(trained.to_dict())
    else:
        text.show_table(summary(trained))


def _one(data: tuple[str, ...]) -> Any:
    return data[0] if len(data) == 1 else data


def _write(data: tuple[str, ...], path: str, options: dict[str, Any]) -> None:
    """Write the recipe that the options make."""
    from geosam.training.settings import make_recipe
    from geosam.workspace import check_writable

    check_writable(Path(path), options["overwrite"])
    ours = {"device", "resume", "overwrite"}
    recipe = make_recipe(
        _one(data), **{name: value for name, value in options.items() if name not in ours}
    )
    Path(path).write_text(recipe.to_toml())
    text.show_table([("Written", path)])


def _test_summary(test: HeldOut) -> Iterator[tuple[str, str]]:
    before, after = test.before, test.after
    if before is None or after is None:
        yield "Test", "no tile has water, and prompts are made from water"
        return
    for name, title in (("iou", "median IoU"), ("f1", "median F1")):
        yield from _change(f"Test {title}", before.wet[name].median, after.wet[name].median)
    yield from _change("Test F1, all pixels", before.pooled.f1, after.pooled.f1)
    yield from _change("Test false water", before.false_water_mean, after.false_water_mean)


def _change(title: str, before: float, after: float) -> Iterator[tuple[str, str]]:
    if not math.isnan(before):
        yield title, f"{before:.3f} before, {after:.3f} after"


def _experiment(
    data: tuple[str, ...],
    output: str,
    grid: str,
    as_json: bool,
    progress: bool,
    options: dict[str, Any],
) -> None:
    """Compare the cells of a grid."""
    from geosam.training.experiments import TABLE, run_experiments

    done = run_experiments(_one(data), output, grid, progress=progress, **options)
    if as_json:
        text.show_json(done.to_dict())
        return
    lines = [
        (row.weights, row.name, *(f"{row.median(name):.3f}" for name in ("iou", "f1")))
        for row in done.rows
    ]
    text.show_columns(("Weights", "Cell", "Median IoU", "Median F1"), lines)
    text.show_table(
        [("Time", text.seconds(done.seconds)), ("Table", str(Path(done.output) / TABLE))]
    )


def summary(trained: Trained) -> Iterator[tuple[str, str]]:
    """Return names and values of what a person wants to know of a training."""
    tiles = trained.tiles
    yield (
        "Tiles",
        f"{tiles['train']} to train with, {tiles['with_water']} of them with water, "
        f"{tiles['validation']} to validate with, {tiles['test']} to test with",
    )
    yield "Epochs", f"{trained.epochs}, the best is {trained.best_epoch}"
    for name, title in (("iou_median", "median IoU"), ("f1", "F1"), ("false_water", "false water")):
        yield from _change(f"Validation {title}", trained.before[name], trained.after[name])
    if trained.test is not None:
        yield from _test_summary(trained.test)
    yield "Time", text.seconds(trained.seconds)
    yield "Model", trained.model
