"""The layers ``tiles`` and ``runs``: what became of each tile, and what was run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely

from geosam import __version__
from geosam.clock import Clock
from geosam.ground import moved
from geosam.job import Job
from geosam.layers import LAYERS
from geosam.masks import FAILED, TileMask
from geosam.pipeline import Prepared
from geosam.raster import Faults, fingerprint
from geosam.types import Tile

TileRow = tuple[Tile, TileMask]
"""A tile, and what became of it."""


def with_faults(rows: list[TileRow], faults: Faults, prepared: Prepared) -> list[TileRow]:
    """Let the tiles fail that own pixels which could not be read."""
    areas, reasons = faults.areas()
    if not reasons:
        return rows
    pixel = abs(prepared.grid.geobox.affine.a)
    tree = shapely.STRtree(shapely.buffer(areas, -pixel / 100, join_style="mitre"))
    owners, told = tree.query(_boxes(rows, prepared), predicate="intersects")
    failed = {
        int(owner): TileMask(FAILED, error=reasons[k])
        for owner, k in zip(owners, told, strict=True)
    }
    return [(tile, failed.get(n, mask)) for n, (tile, mask) in enumerate(rows)]


def tile_table(rows: list[TileRow], prepared: Prepared) -> gpd.GeoDataFrame:
    """Return the layer ``tiles``, with the predicted IoU of each as one column more."""
    return gpd.GeoDataFrame(
        {
            "tile": [tile.name for tile, _ in rows],
            "status": [mask.status for _, mask in rows],
            "seconds": [round(mask.seconds, 4) for _, mask in rows],
            "error": [mask.error for _, mask in rows],
            "predicted_iou": [mask.predicted_iou for _, mask in rows],
        },
        geometry=_boxes(rows, prepared),
        crs=str(prepared.grid.geobox.crs),
    )


def _boxes(rows: Sequence[TileRow], prepared: Prepared) -> np.ndarray:
    """Return what each tile owns of the scene, as polygons in its CRS."""
    scene = prepared.grid.scene
    cores = [tile.core.intersection(scene) for tile, _ in rows]
    corners = np.array([[c.col, c.row, c.col_end, c.row_end] for c in cores if c is not None])
    return moved(shapely.box(*corners.reshape(-1, 4).T), prepared.grid.geobox.affine)


def run_row(
    command: str,
    source: str,
    parameters: Mapping[str, Any],
    started: datetime,
    clock: Clock,
    **known: str,
) -> pd.DataFrame:
    """Return the row of the layer ``runs`` of any command; what is not `known` stays empty.

    Parameters
    ----------
    command
        Its name.
    source
        The files that it read.
    parameters
        Its options, kept as JSON.
    started, clock
        When it began, and how long it has taken.
    **known
        Other columns of the layer.
    """
    row = dict.fromkeys(LAYERS["runs"].columns, "") | {
        "geosam_version": __version__,
        "command": command,
        "scene": source,
        "parameters": json.dumps(parameters, default=str),
        "started": started.isoformat(timespec="seconds"),
        "seconds": clock.seconds()["total"],
        **known,
    }
    return pd.DataFrame([row])


def run_table(
    job: Job, prepared: Prepared, command: str = "segment", more: dict[str, Any] | None = None
) -> pd.DataFrame:
    """Return the row of the layer ``runs``, with parameters beyond the options in `more`."""
    decision = prepared.decision
    return run_row(
        command,
        ", ".join(job.source.paths),
        {**job.options.to_dict(), **(more or {}), "notes": decision.notes},
        job.started,
        job.clock,
        scene_fingerprint=fingerprint(job.source),
        bands=", ".join(job.views.roles),
        stretch=json.dumps(decision.stretch.to_dict()),
        model=prepared.model.name,
        model_sha256=prepared.model.signature,
        prompts=decision.source,
    )
