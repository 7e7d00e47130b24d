"""Train the two networks of `river-tiny`, and measure them; run each with `python -m`.

geosam.training.river_tiny coarse --data ../shared/data --out runs
geosam.training.river_tiny coarse --data ../shared/data --out runs --infrared
geosam.training.river_tiny promptable --data ../shared/data --out runs --coarse runs/coarse
geosam.training.river_tiny evaluate --data ../shared/data --out runs --networks a=runs/coarse
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from geosam.models.unet import load_coarse, save_coarse
from geosam.training.river_tiny.coarse import (
    CoarseRecipe,
    load_all,
    settle_threshold,
    train_coarse,
    validation_tiles,
)
from geosam.training.river_tiny.mixes import COLOURS, INFRARED
from geosam.training.river_tiny.promptable import PromptableRecipe, train_promptable
from geosam.training.river_tiny.report import report

EMBEDDED = Path(__file__).parents[2] / "models" / "river_tiny"
"""Where the weights that ship lie."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command of the training script."""
    options = _parser().parse_args(arguments)
    torch.set_num_threads(options.threads)
    _COMMANDS[options.command](options)


def _train_coarse(options: argparse.Namespace) -> None:
    recipe = CoarseRecipe(
        options.minutes,
        options.seed,
        options.peak or CoarseRecipe.peak,
        start=options.start,
        without=tuple(options.without),
        mix=INFRARED if options.infrared else COLOURS,
        of_processor=options.of_processor,
        resume=options.resume,
    )
    train_coarse(options.data, options.out, options.cache, recipe)


def _train_promptable(options: argparse.Namespace) -> None:
    recipe = PromptableRecipe(
        options.minutes,
        options.seed,
        options.peak or PromptableRecipe.peak,
        coarse=options.coarse,
        start=options.start,
        without=tuple(options.without),
        of_processor=options.of_processor,
        resume=options.resume,
    )
    train_promptable(options.data, options.out, options.cache, recipe)


def _export(options: argparse.Namespace) -> None:
    """Put what was trained into the package: the networks that are named into `--out`.

    Their logs are added to those of earlier phases.
    """
    named = {"coarse": options.coarse, "coarse_infrared": options.coarse_infrared}
    options.out.mkdir(parents=True, exist_ok=True)
    for name, folder in named.items():
        if folder is not None:
            _export_coarse(folder, options.out / name, options)
            _add_log(folder.parent / "coarse_log.csv", options.out)
    if options.promptable is not None:
        for path in sorted(options.promptable.iterdir()):
            shutil.copyfile(path, options.out / path.name)
        _add_log(options.promptable.parent / "promptable_log.csv", options.out)
    for path in options.out.rglob("*.*"):
        path.chmod(0o644)


def _export_coarse(folder: Path, out: Path, options: argparse.Namespace) -> None:
    mix, bits = (COLOURS, 16) if out.name == "coarse" else (INFRARED, 8)
    settled = load_coarse(folder)
    if options.settle:
        held = load_all(options.data, "val", options.cache, mix=mix)
        shift = settle_threshold(settled, validation_tiles(held, count=24, mix=mix))
        sys.stdout.write(f"threshold of {out.name} moved by {shift:+.2f}\n")
    save_coarse(settled, out, bits)


def _add_log(log: Path, out: Path) -> None:
    with (out / "training_log.csv").open("a") as log_file:
        log_file.write(log.read_text() + "\n")


def _evaluate(options: argparse.Namespace) -> None:
    pairs = (text.split("=", 1) for text in options.networks)
    networks = {title: Path(folder) for title, folder in pairs}
    table = report(networks, options.promptable, options.data, options.cache, options.most)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "evaluation.md").write_text(table + "\n")
    sys.stdout.write(table + "\n")


_COMMANDS = {
    "coarse": _train_coarse,
    "promptable": _train_promptable,
    "export": _export,
    "evaluate": _evaluate,
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="river_tiny", description=__doc__)
    parser.add_argument("command", choices=list(_COMMANDS))
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--coarse", type=Path)
    parser.add_argument("--coarse-infrared", type=Path)
    parser.add_argument("--promptable", type=Path)
    parser.add_argument("--without", nargs="*", default=[], metavar="SET")
    parser.add_argument("--infrared", action="store_true", help="for scenes with near infrared")
    parser.add_argument("--start", type=Path)
    parser.add_argument("--peak", type=float)
    parser.add_argument("--settle", action="store_true", help="move the threshold by validation")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--networks", nargs="*", default=[f"coarse={EMBEDDED / 'coarse'}"])
    parser.add_argument("--most", type=int, default=60, help="images of a data set")
    parser.add_argument("--minutes", type=float, default=75.0)
    parser.add_argument("--of-processor", action="store_true", help="minutes of one core")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    return parser


if __name__ == "__main__":
    main()
