"""The main job on a synthetic scene whose water is known, with its near infrared and without."""

from __future__ import annotations

import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from geosam.clock import Clock
from geosam.errors import OptionError, OutputError
from geosam.evaluation import Evaluation, evaluate
from geosam.report import Report
from geosam.runs import run
from geosam.testing import write_scene
from geosam.types import Model

SMALLEST_PX = 256
"""The synthetic river needs this much room."""
VARIANTS = {"with-nir": True, "rgb-only": False}
"""Folder of each scene, and whether it has a near infrared band."""


@dataclass(frozen=True)
class Trial:
    """One run of the demonstration."""

    folder: str
    """Where scene, truth and results are."""
    report: Report
    """What the run did."""
    scores: Evaluation
    """Its mask against the truth."""


@dataclass(frozen=True)
class Demonstration:
    """Both runs of the demonstration."""

    folder: str
    """Where everything is."""
    trials: dict[str, Trial]
    """By name: ``with-nir``, ``rgb-only``."""
    seconds: dict[str, float]
    """Time of each step; ``total`` is all of it."""

    def to_dict(self) -> dict[str, Any]:
        """Return the same as JSON-ready values."""
        return asdict(self)


def demo(
    folder: str | Path = "geosam-demo",
    *,
    size: int = 1024,
    seed: int = 0,
    model: str | Model = "river-tiny",
    overwrite: bool = False,
    progress: bool = False,
) -> Demonstration:
    """Make a synthetic river scene, run the main job on it twice, and compare with the truth.

    Parameters
    ----------
    folder
        Where to write: a folder for each run, with ``scene.tif``, ``truth.tif``, ``rivers.gpkg``,
        ``mask.tif``, ``probability.tif`` and ``rivers.png``.
    size
        Rows and columns of the scene in pixels of 1 m, at least 256.
    seed
        Another seed draws another river.
    model
        A name, a folder, a hub id, or a loaded model.
    overwrite
        Whether to write into a folder that holds something.
    progress
        Whether to show bars on standard error.

    Raises
    ------
    OutputError
        If the folder holds something and `overwrite` is False, or cannot be made.
    OptionError
        If `size` is too small.
    """
    if size < SMALLEST_PX:
        raise OptionError(f"--size {size} px is too small. Use {SMALLEST_PX} or more.")
    home = Path(folder)
    _check_folder(home, overwrite)
    clock = Clock()
    trials = {}
    for name, nir in VARIANTS.items():
        place = _empty_folder(home / name)
        with clock.time("draw the scene"):
            scene, truth = write_scene(place, shape=(size, size), seed=seed, nir=nir)
        with clock.time(name):
            report = _run(scene, place, model, progress)
        with clock.time("compare"):
            trials[name] = Trial(str(place), report, evaluate(place / "mask.tif", truth))
    return Demonstration(str(home), trials, clock.seconds())


def _run(scene: Path, place: Path, model: str | Model, progress: bool) -> Report:
    return run(
        scene,
        place / "rivers.gpkg",
        model=model,
        progress=progress,
        mask=place / "mask.tif",
        probability=place / "probability.tif",
        quicklook=place / "rivers.png",
    )


def _check_folder(folder: Path, overwrite: bool) -> None:
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder} is a file. Name a folder with -o.")
    if folder.is_dir() and any(folder.iterdir()) and not overwrite:
        raise OutputError(
            f"Folder {folder} is not empty. Use --overwrite to replace an earlier demo in it, or "
            "choose another with -o."
        )
    if not folder.parent.is_dir():
        raise OutputError(f"Folder {folder.parent} does not exist. Make it first.")
    if not os.access(folder if folder.is_dir() else folder.parent, os.W_OK):
        raise OutputError(f"Folder {folder} is not writable. Choose another with -o.")


def _empty_folder(folder: Path) -> Path:
    """Make a folder anew: what an earlier demonstration left in it goes."""
    if folder.is_dir():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    return folder
