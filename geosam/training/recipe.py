"""A recipe: everything that decides a training, read from a small TOML file and written to one."""

from __future__ import annotations

import difflib
import json
import tomllib
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from geosam.errors import OptionError

PROMPT_KINDS = ("mixed", "points", "box", "mask", "none")
MASK_CHOICES = ("joint", "mean", "best", "minimum")
SCHEDULES = ("cosine", "constant")
PRECISIONS = ("auto", "fp32", "bf16", "fp16")
CACHES = ("auto", "fp32", "fp16", "off")
STARTS = ("checkpoint", "scratch")
DATA_KINDS = ("auto", "folder", "polygons", "geopackage", "hub")
UNMATCHED = ("refuse", "skip", "land")
BEST_BY = ("loss", "iou_median", "iou_mean", "f1")

AUTOSAM_LOSSES = ("ce+dice", "ce", "dice")
"""Of ``part = "autosam"``: those of the article."""
LARGE_LR = 1e-4
"""Of checkpoints other than the embedded one, which is a hundred times smaller than most."""
AUTOSAM_LR = 1e-3
"""Of ``part = "autosam"``, whose network starts from nothing."""


@dataclass(frozen=True)
class DataRecipe:
    """Where the labelled images come from, how they are seen, and which are set aside."""

    path: tuple[str, ...] = ()
    """Folders, scenes, GeoPackages or parquet files. Relative ones count from the recipe."""

    kind: str = "auto"
    """What they are: ``auto``, ``folder``, ``polygons``, ``geopackage`` or ``hub``."""

    labels: str = ""
    """Polygons of water, where the path is a scene."""

    labelled: str = ""
    """Polygons outside which nothing is known; all of a scene is without it."""

    scene: str = ""
    """The scene of a GeoPackage, where it is no longer where the run found it."""

    places: str = ""
    """The place each image shows: a JSON file, or ``prefix:N`` of its name."""

    water_value: int | None = None
    """The mask value that is water, such as 255; 1 without it."""

    unmatched: str = "refuse"
    """Images without a mask: ``refuse``, ``skip``, or all ``land``."""

    bands: str = ""
    """Band roles of scenes, as ``--bands``."""

    composite: str = "auto"
    """The three bands that the model sees, as ``--composite``."""

    stretch: str = "percentile"
    """The radiometric stretch of each image, as ``--stretch``; of a GeoPackage that of its run, unless
    this says otherwise."""

    resolution: float | None = None
    """Metres on the ground at which scenes are seen, as ``--resolution``; likewise."""

    zoom: float | None = None
    """Tile pixels for each pixel of an image; chosen from the ground resolution without it."""

    by: str = "auto"
    """What is kept whole when parts are set aside: ``auto``, ``place``, ``scene``, ``block``, or a
    split file, ``FILE.json`` or ``FILE.json:KEY``."""

    validation: float = 0.15
    """Share set aside to choose the best epoch by."""

    test: float = 0.15
    """Share that the training never looks at; its best checkpoint is measured on it at the end."""


@dataclass(frozen=True)
class ModelRecipe:
    """What is trained."""

    name: str = "river-tiny"
    """As ``--model``: an embedded model, a folder, a .pth file of the original SAM, or a
    Hugging Face id."""

    start: str = "checkpoint"
    """``checkpoint`` goes on from its weights, ``scratch`` keeps its layout only."""

    part: str = "auto"
    """``decoder``, ``last-blocks:N``, ``lora``, ``lora:RANK`` or ``all``; ``auto`` is the decoder of
    a checkpoint, and all from scratch. ``autosam`` trains a network that prompts the model, which
    stays as it is; ``loss.losses`` and ``fit.lr`` then have defaults of their own."""

    tile_size: int | None = None
    """Side of the tiles in pixels; the checkpoint's own without it."""


@dataclass(frozen=True)
class PromptRecipe:
    """What prompts are simulated from the labels."""

    kind: str = "mixed"
    """``points``, ``box``, ``mask`` (with points), ``none``, or ``mixed``: a quarter points, a
    quarter boxes, half masks, the mix of SAM 2's own training."""

    n_pos: int = 3
    """Control points on water; in ``mixed`` 1 to this many, beside a mask 0 to this many."""

    n_neg: int = 0
    """Points on land, likewise from 0 in ``mixed``."""

    erode: bool = True
    """Whether control points keep away from the banks."""

    box_jitter: int = 10
    """Pixels that each side of a box moves at most, in a tile of 256 px; larger tiles more."""

    rounds: int = 0
    """Further clicks, each where the last answer is wrong deepest, its logits fed back."""

    validation_seed: int = 0
    """Seeds the prompts of the validation part, the same in every epoch."""


@dataclass(frozen=True)
class LossRecipe:
    """What is optimised."""

    losses: tuple[str, ...] = ("dicece", "focal", "0.95*focal+0.05*dicece")
    """Weighted sums of ``focal``, ``dice``, ``ce``, ``dicece``. The first is optimised, all are
    logged. On the validation parts of two of three sets ``dicece`` did better than the article's
    sum (F1 0.959 and 0.924, 0.690 and 0.615) and equal to it on the third."""

    masks: str = "joint"
    """One answer of several masks while training: ``joint``, ``mean``, ``best``, ``minimum``."""

    validation_masks: str = "joint"
    """The same for validation."""

    iou_weight: float = 1.0
    """Weight of the error of the predicted IoU."""


@dataclass(frozen=True)
class FitRecipe:
    """How it is optimised."""

    epochs: int = 50
    """Times that every tile is seen."""

    batch: int = 5
    """Tiles a step."""

    lr: float = 1e-3
    """Highest learning rate of AdamW: measured with ``river-tiny``. Whoever names another checkpoint
    and no rate gets 1e-4."""

    weight_decay: float = 2e-4
    """Of AdamW."""

    warmup: int = 10
    """Steps in which the rate rises from a tenth."""

    schedule: str = "cosine"
    """``cosine`` falls to a hundredth at the end, ``constant`` does not."""

    clip: float = 1.0
    """Largest norm of the gradient; 0 for any."""

    patience: int = 10
    """Epochs without a better one after which it stops; 0 for never."""

    best_by: str = "loss"
    """What the best epoch is best by, on the validation part."""

    seed: int = 42
    """Seeds everything random."""

    precision: str = "auto"
    """Of the image encoder: ``auto``, ``fp32``, ``bf16``, ``fp16``."""

    flip: bool = False
    """Whether tiles are flipped and turned; then embeddings cannot be kept."""

    colour: float = 0.0
    """Strength of changes of brightness, contrast and tint, 0 to 1; likewise."""

    cache: str = "auto"
    """How embeddings of a frozen encoder are kept: ``fp32``, ``fp16``, ``off``; ``auto`` takes
    float32 up to 4 GB."""


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a training."""

    data: DataRecipe = field(default_factory=DataRecipe)
    """Where the labelled images come from."""

    model: ModelRecipe = field(default_factory=ModelRecipe)
    """What is trained."""

    prompts: PromptRecipe = field(default_factory=PromptRecipe)
    """What prompts are simulated."""

    loss: LossRecipe = field(default_factory=LossRecipe)
    """What is optimised."""

    fit: FitRecipe = field(default_factory=FitRecipe)
    """How it is optimised."""

    def __post_init__(self) -> None:
        _check(self)

    def to_toml(self) -> str:
        """Return the recipe as TOML, every key with its value.

        Examples
        --------
        >>> "lr = 0.001" in Recipe().to_toml()
        True
        """
        return "\n".join(_table(name, getattr(self, name)) for name in _names(self))


def read_recipe(path: str | Path) -> Recipe:
    """Read a recipe from a TOML file; what it does not say keeps its default.

    Raises
    ------
    OptionError
        If it is not TOML, or a key or a value is wrong; the sentence names the nearest right key.
    """
    recipe = parse_recipe(read_tables(path), str(path))
    return located(recipe, Path(path).parent)


def read_tables(path: str | Path) -> dict[str, Any]:
    """Read the tables of a TOML file, unchecked.

    Raises
    ------
    OptionError
        If there is no such file, or it is not TOML.
    """
    path = Path(path)
    try:
        return tomllib.loads(path.read_text())
    except FileNotFoundError as error:
        raise OptionError(f"Recipe {path} does not exist. Check its path.") from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise OptionError(f"Recipe {path} cannot be read as TOML ({error}). Mend it.") from error


def located(recipe: Recipe, folder: Path) -> Recipe:
    """Return the same recipe, the files and folders named beside it whole, counted from a folder."""
    found = tuple(_beside(text, folder) for text in recipe.data.path)
    data = absolute_files(replace(recipe.data, path=found), folder)
    return replace(recipe, data=data, model=absolute_model(recipe.model, folder))


def absolute_model(model: ModelRecipe, folder: Path) -> ModelRecipe:
    """Return the same model, a folder or file that lies beside named whole."""
    beside = folder / model.name
    return replace(model, name=str(beside.resolve())) if beside.exists() else model


def absolute_files(data: DataRecipe, folder: Path) -> DataRecipe:
    """Return the same data, the files named beside it whole, counted from a folder."""
    return replace(
        data,
        labels=_beside(data.labels, folder),
        labelled=_beside(data.labelled, folder),
        scene=_beside(data.scene, folder),
        places=_beside(data.places, folder) if ".json" in data.places else data.places,
        by=_beside(data.by, folder) if ".json" in data.by else data.by,
    )


def parse_recipe(tables: Mapping[str, Any], source: str = "the recipe") -> Recipe:
    """Turn TOML tables into a recipe.

    Raises
    ------
    OptionError
        If a table, a key or a value is wrong.

    Examples
    --------
    >>> parse_recipe({"fit": {"epochs": 3}}).fit.epochs
    3
    """
    parts = typing.get_type_hints(Recipe)
    for name, table in tables.items():
        if name not in parts or not isinstance(table, Mapping):
            homes = [part for part, kind in parts.items() if name in _names(kind)]
            raise OptionError(_unknown(source, name, list(parts), homes))
    model = tables.get("model", {})
    if model.get("part") == "autosam":
        tables = {
            **tables,
            "loss": {"losses": list(AUTOSAM_LOSSES), **tables.get("loss", {})},
            "fit": {"lr": AUTOSAM_LR, **tables.get("fit", {})},
        }
    if model.get("name", ModelRecipe.name) != ModelRecipe.name:
        tables = {**tables, "fit": {"lr": LARGE_LR, **tables.get("fit", {})}}
    return Recipe(**{name: _part(parts[name], tables[name], source, name) for name in tables})


def _part(kind: Any, table: Mapping[str, Any], source: str, title: str) -> Any:
    hints = typing.get_type_hints(kind)
    values = {}
    for key, value in table.items():
        if key not in hints:
            raise OptionError(_unknown(f"{source}, [{title}]", key, list(hints), []))
        values[key] = _value(hints[key], value, f"{source}, [{title}]", key)
    return kind(**values)


def _unknown(source: str, key: str, known: list[str], homes: list[str]) -> str:
    if homes:
        return f"{source}: {key} stands outside its table. Put it under [{homes[0]}]."
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.3)
    hint = f"Did you mean {near[0]}?" if near else f"Known are {', '.join(known)}."
    return f"{source} has the unknown key {key}. {hint}"


def _value(hint: Any, value: Any, source: str, key: str) -> Any:
    """Return a value as the field's type, a single text also where several may stand."""
    if typing.get_origin(hint) is tuple:
        several = [value] if isinstance(value, str) else value
        if isinstance(several, list) and all(isinstance(text, str) for text in several):
            return tuple(several)
    kinds = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if float in kinds and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) in kinds:
        return value
    words = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
    wanted = words.get(kinds[0], "a list of texts")
    raise OptionError(f"{source}: {key} = {value!r} must be {wanted}.")


def _beside(text: str, folder: Path) -> str:
    """Return a path that counts from the recipe's folder."""
    return str((folder / text).resolve()) if text else ""


def _check(recipe: Recipe) -> None:
    choices = (
        ("prompts.kind", recipe.prompts.kind, PROMPT_KINDS),
        ("loss.masks", recipe.loss.masks, MASK_CHOICES),
        ("loss.validation_masks", recipe.loss.validation_masks, MASK_CHOICES),
        ("fit.schedule", recipe.fit.schedule, SCHEDULES),
        ("fit.precision", recipe.fit.precision, PRECISIONS),
        ("fit.cache", recipe.fit.cache, CACHES),
        ("fit.best_by", recipe.fit.best_by, BEST_BY),
        ("model.start", recipe.model.start, STARTS),
        ("data.kind", recipe.data.kind, DATA_KINDS),
        ("data.unmatched", recipe.data.unmatched, UNMATCHED),
    )
    for name, value, known in choices:
        if value not in known:
            raise OptionError(f"{name} is {value!r} and must be one of {', '.join(known)}.")
    _check_numbers(recipe)
    if recipe.prompts.kind == "points" and recipe.prompts.n_pos < 1:
        raise OptionError("prompts.n_pos is 0: points need at least one on water. Use 1.")
    if not recipe.loss.losses:
        raise OptionError("loss.losses is empty: name what is optimised, for example focal.")


def _check_numbers(recipe: Recipe) -> None:
    fit, prompts = recipe.fit, recipe.prompts
    least = (
        ("fit.epochs", fit.epochs, 1),
        ("fit.batch", fit.batch, 1),
        ("fit.weight_decay", fit.weight_decay, 0),
        ("fit.warmup", fit.warmup, 0),
        ("fit.clip", fit.clip, 0),
        ("fit.patience", fit.patience, 0),
        ("fit.seed", fit.seed, 0),
        ("fit.colour", fit.colour, 0),
        ("prompts.n_pos", prompts.n_pos, 0),
        ("prompts.n_neg", prompts.n_neg, 0),
        ("prompts.box_jitter", prompts.box_jitter, 0),
        ("prompts.rounds", prompts.rounds, 0),
        ("prompts.validation_seed", prompts.validation_seed, 0),
        ("loss.iou_weight", recipe.loss.iou_weight, 0),
    )
    for name, value, bound in least:
        if not value >= bound:
            raise OptionError(f"{name} is {value} and must be {bound} or more.")
    data = recipe.data
    if not (data.validation > 0 and data.test >= 0 and data.validation + data.test < 1):
        raise OptionError(
            f"data.validation {data.validation} must be above 0, data.test {data.test} not below, and "
            "both leave something to train with. Use 0.15 each."
        )
    if not 0 < fit.lr < 1:
        raise OptionError(f"fit.lr is {fit.lr} and must lie between 0 and 1. Use 1e-4.")


def _names(part: Any) -> list[str]:
    return [f.name for f in fields(part)]


def _table(title: str, part: Any) -> str:
    rows = [(name, getattr(part, name)) for name in _names(part)]
    lines = [f"{name} = {_literal(value)}" for name, value in rows if value is not None]
    return "\n".join([f"[{title}]", *lines, ""])


def _literal(value: Any) -> str:
    """Write a value as TOML. JSON's texts, lists and truth values are TOML's as well."""
    if isinstance(value, float):
        return repr(value) if "." in repr(value) or "e" in repr(value) else f"{value!r}.0"
    return json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=False)
