"""The options of ``geosam train``: what each says in a recipe. Keywords of :func:`geosam.train`."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from geosam.errors import OptionError
from geosam.training.recipe import (
    Recipe,
    located,
    parse_recipe,
    read_recipe,
    read_tables,
)

Tables = dict[str, dict[str, Any]]
"""Tables of a recipe: title, key, value."""


@dataclass(frozen=True)
class Setting:
    """One option."""

    name: str
    """Of the keyword; the flag has dashes."""

    table: str
    """Table of the recipe."""

    key: str
    """Key in that table."""

    kind: type
    """``str``, ``int``, ``float`` or ``bool``."""

    metavar: str
    """What stands for the value on the help page."""

    help: str
    """What it means."""


SETTINGS = (
    Setting("labels", "data", "labels", str, "FILE", "Polygons of water, where DATA is a scene."),
    Setting(
        "labelled", "data", "labelled", str, "FILE", "Polygons outside which nothing is known."
    ),
    Setting("scene", "data", "scene", str, "FILE", "Scene of a GeoPackage, where it has moved."),
    Setting("places", "data", "places", str, "FILE|prefix:N", "Place of each image, kept whole."),
    Setting(
        "water_value", "data", "water_value", int, "N", "Mask value that is water, such as 255."
    ),
    Setting(
        "unmatched", "data", "unmatched", str, "HOW", "Images without a mask: refuse, skip, land."
    ),
    Setting("bands", "data", "bands", str, "ROLES", "Band roles, as in segment."),
    Setting("composite", "data", "composite", str, "ROLES", "Three bands that the model sees."),
    Setting("stretch", "data", "stretch", str, "STRETCH", "Radiometric stretch, as in segment."),
    Setting("resolution", "data", "resolution", float, "M", "Metres at which scenes are seen."),
    Setting("zoom", "data", "zoom", float, "N", "Tile pixels for each pixel of an image."),
    Setting("split", "data", "by", str, "RULE|FILE", "auto, place, scene, block, or a JSON file."),
    Setting("validation", "data", "validation", float, "SHARE", "Set aside to choose the best by."),
    Setting("test", "data", "test", float, "SHARE", "Set aside, and measured once at the end."),
    Setting("model", "model", "name", str, "NAME", "Model to start from."),
    Setting("start", "model", "start", str, "WEIGHTS", "checkpoint, or scratch: fresh weights."),
    Setting(
        "part",
        "model",
        "part",
        str,
        "PART",
        "decoder, last-blocks:N, lora, lora:RANK, all; autosam.",
    ),
    Setting("tile_size", "model", "tile_size", int, "PX", "Side of the tiles."),
    Setting("prompts", "prompts", "kind", str, "KIND", "mixed, points, box, mask, none."),
    Setting("points", "prompts", "n_pos", int, "N", "Control points on water."),
    Setting("negatives", "prompts", "n_neg", int, "N", "Points on land."),
    Setting("erode", "prompts", "erode", bool, "", "Keep control points away from the banks."),
    Setting("rounds", "prompts", "rounds", int, "N", "Corrective clicks after the first prompt."),
    Setting(
        "loss", "loss", "losses", str, "SUM[,SUM]", "First is optimised, all are logged: dicece."
    ),
    Setting("masks", "loss", "masks", str, "HOW", "joint, mean, best, minimum; for training."),
    Setting("validation_masks", "loss", "validation_masks", str, "HOW", "The same for validation."),
    Setting("epochs", "fit", "epochs", int, "N", "Times that every tile is seen."),
    Setting("batch_size", "fit", "batch", int, "N", "Tiles a step."),
    Setting("lr", "fit", "lr", float, "RATE", "Highest learning rate."),
    Setting("weight_decay", "fit", "weight_decay", float, "W", "Of AdamW."),
    Setting("schedule", "fit", "schedule", str, "SHAPE", "cosine, constant."),
    Setting("patience", "fit", "patience", int, "N", "Epochs without a better one to stop after."),
    Setting("best_by", "fit", "best_by", str, "FIGURE", "loss, iou_median, iou_mean, f1."),
    Setting("seed", "fit", "seed", int, "N", "Seeds everything random."),
    Setting(
        "precision", "fit", "precision", str, "FORMAT", "auto, fp32, bf16, fp16; the encoder's."
    ),
    Setting("flip", "fit", "flip", bool, "", "Flip and turn tiles; keeps no embeddings."),
    Setting("colour", "fit", "colour", float, "S", "Change colours, 0 to 1; likewise."),
    Setting("cache", "fit", "cache", str, "FORMAT", "Kept embeddings: auto, fp32, fp16, off."),
)


def make_recipe(data: Any = None, **options: Any) -> Recipe:
    """Return the recipe of a training: a file or data, changed by options. Its paths are absolute.

    Parameters
    ----------
    data
        A recipe (``.toml``, or a :class:`Recipe`), or labelled data: a path or several.
    **options
        Those of :data:`SETTINGS`.

    Raises
    ------
    OptionError
        If a key, an option or a value is wrong.
    """
    if isinstance(data, Recipe):
        recipe = apply_settings(data, options)
    elif isinstance(data, (str, Path)) and Path(data).suffix.lower() == ".toml":
        recipe = _overlaid(_said(Path(data)), options)
    else:
        paths = [data] if isinstance(data, (str, Path)) else list(data or ())
        found = [str(Path(path).resolve()) for path in paths]
        recipe = _overlaid({"data": {"path": found}}, options)
    return located(recipe, Path.cwd())


def _said(path: Path) -> Tables:
    """Return what a file says and nothing else, so that the rest can depend on the options."""
    tables, recipe = read_tables(path), read_recipe(path)
    return {
        title: {key: getattr(getattr(recipe, title), key) for key in table}
        for title, table in tables.items()
    }


def apply_settings(recipe: Recipe, options: Mapping[str, Any]) -> Recipe:
    """Return a recipe in which some options say otherwise; None says nothing.

    Raises
    ------
    OptionError
        If there is no such option, or its value is wrong.

    Examples
    --------
    >>> apply_settings(Recipe(), {"epochs": 3, "lr": None}).fit.epochs
    3
    """
    tables: Tables = {name: dict(table) for name, table in asdict(recipe).items()}
    if options.get("part") == "autosam" != recipe.model.part:
        # What nobody set takes the defaults of that part.
        _forget(tables, "loss", "losses")
        _forget(tables, "fit", "lr")
    return _overlaid(tables, options)


def _overlaid(tables: Tables, options: Mapping[str, Any]) -> Recipe:
    """Return the recipe of tables in which some options say otherwise; None says nothing."""
    known = {setting.name: setting for setting in SETTINGS}
    for name, value in options.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.3)
            raise OptionError(
                f"train has no option {name}." + (f" Did you mean {near[0]}?" if near else "")
            )
        if value is not None:
            table = tables.setdefault(known[name].table, {})
            table[known[name].key] = _as_listed(name, value)
    given = {
        title: {key: _plain(value) for key, value in table.items() if value is not None}
        for title, table in tables.items()
    }
    return parse_recipe(given, "the options")


def _forget(tables: Tables, table: str, key: str) -> None:
    """Drop a value that is a default."""
    if tables[table][key] == getattr(getattr(Recipe(), table), key):
        del tables[table][key]


def _as_listed(name: str, value: Any) -> Any:
    """Return several losses, which an option parts with commas, as a list."""
    return [text.strip() for text in value.split(",")] if name == "loss" else value


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
