"""Several scenes, one run each, into a folder."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from geosam.errors import OptionError, OutputError
from geosam.loading import load
from geosam.opening import inspect_source
from geosam.options import Options
from geosam.report import Report
from geosam.runs import run
from geosam.workspace import Targets, check_targets, unfinished


def is_folder(output: str | Path) -> bool:
    """Return whether an output names a folder: it is one, or its text ends with a slash."""
    return str(output).endswith(("/", os.sep)) or Path(output).is_dir()


def run_each(
    scenes: Sequence[str | Path], folder: str | Path, *, progress: bool = False, **options: Any
) -> dict[str, Report]:
    """Segment scenes one by one, each into ``FOLDER/<stem>.gpkg``.

    Every name and every scene is looked at before the first run starts. With ``resume`` the scenes that
    are finished are left out, and one that was interrupted is gone on with.

    Parameters
    ----------
    scenes
        Rasters.
    folder
        Where to write. It is made, its parent is not.
    progress
        Whether to show bars on standard error.
    **options
        Those of :class:`geosam.options.Options`.

    Returns
    -------
    dict
        The report of each scene that was run.

    Raises
    ------
    GeosamError
        If the request or a scene is wrong.
    """
    chosen = Options.of(options)
    outputs = _outputs([str(scene) for scene in scenes], Path(folder), chosen)
    if chosen.resume:
        outputs = {scene: path for scene, path in outputs.items() if not _is_finished(path)}
    for scene, output in outputs.items():
        if output.parent.is_dir():
            check_targets(Targets(output), [scene], chosen.overwrite or chosen.resume)
        inspect_source((scene,), chosen)
    model = load(chosen)
    made = _make(Path(folder))
    reports: dict[str, Report] = {}
    others = {name: value for name, value in options.items() if name not in ("model", "resume")}
    try:
        for scene, output in outputs.items():
            resume = chosen.resume and unfinished(output).is_dir()
            reports[scene] = run(
                scene, output, model=model, progress=progress, resume=resume, **others
            )
    finally:
        # What was interrupted stays, to be gone on with.
        if made and not any(Path(folder).iterdir()):
            Path(folder).rmdir()
    return reports


def _outputs(scenes: Sequence[str], folder: Path, options: Options) -> dict[str, Path]:
    extra = {
        "mask": options.mask,
        "probability": options.probability,
        "quicklook": options.quicklook,
    }
    named = [name for name, path in extra.items() if path is not None]
    if named and len(scenes) > 1:
        raise OptionError(
            f"--{named[0]} {extra[named[0]]} is one file, and {len(scenes)} scenes would write it. "
            "Run them one by one."
        )
    stems = Counter(Path(scene).stem for scene in scenes)
    twice = [stem for stem, n in stems.items() if n > 1]
    if twice:
        raise OutputError(
            f"{stems[twice[0]]} scenes would write {folder / twice[0]}.gpkg. Run them one by one."
        )
    return {scene: folder / f"{Path(scene).stem}.gpkg" for scene in scenes}


def _is_finished(output: Path) -> bool:
    return output.exists() and not unfinished(output).is_dir()


def _make(folder: Path) -> bool:
    """Make a folder and return whether it was not there."""
    if folder.is_dir():
        return False
    if not folder.parent.is_dir():
        raise OutputError(
            f"Output folder {folder.parent} does not exist. Make it first, or choose another."
        )
    if not os.access(folder.parent, os.W_OK):
        raise OutputError(f"Output folder {folder.parent} is not writable. Choose another.")
    folder.mkdir()
    return True
