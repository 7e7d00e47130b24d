"""The layers ``tiles`` and ``runs``: what became of each tile, and what was run."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
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
from geosam.masks import FAILED, STATUSES, TileMask
from geosam.pipeline import Prepared
from geosam.raster import Faults, fingerprint
from geosam.types import Tile

TileRow = tuple[Tile, TileMask]
"""A tile, and what became of it."""
AT_ONCE = 10_000
"""Tiles whose polygons are in memory at a time: a large scene has hundreds of thousands."""
_STATES = np.dtype("i4, i4, O, f8, f8, O")
_STATES.names = "row", "col", "status", "seconds", "predicted_iou", "error"


def tile_states(rows: Iterable[TileRow]) -> pd.DataFrame:
    """Return what became of tiles in some dozen bytes each: index, status, seconds, predicted IoU, error."""
    states = np.fromiter(
        (
            (*tile.index, mask.status, round(mask.seconds, 4), mask.predicted_iou, mask.error)
            for tile, mask in rows
        ),
        _STATES,
    )
    return pd.DataFrame(states).astype({"status": pd.CategoricalDtype(STATUSES)})


def with_faults(states: pd.DataFrame, faults: Faults, prepared: Prepared) -> pd.DataFrame:
    """Let the tiles fail that own pixels which could not be read."""
    areas, reasons = faults.areas()
    if not reasons:
        return states
    pixel = abs(prepared.grid.geobox.affine.determinant) ** 0.5
    tree = shapely.STRtree(shapely.buffer(areas, -pixel / 100, join_style="mitre"))
    failed: dict[int, str] = {}
    for part in _parts(states):
        owners, told = tree.query(_boxes(part, prepared), predicate="intersects")
        failed |= {part.index[n]: reasons[k] for n, k in zip(owners, told, strict=True)}
    states = states.copy()
    states.loc[list(failed), ["status", "seconds", "predicted_iou"]] = FAILED, 0.0, np.nan
    states.loc[list(failed), "error"] = list(failed.values())
    return states


def tile_table(states: pd.DataFrame, prepared: Prepared) -> gpd.GeoDataFrame:
    """Return tiles as the layer ``tiles`` has them, with the predicted IoU of each as one column more."""
    return gpd.GeoDataFrame(
        {
            "tile": [f"{row}_{col}" for row, col in zip(states.row, states.col, strict=True)],
            "status": states.status.astype(str).to_numpy(),
            "seconds": states.seconds.to_numpy(),
            "error": states.error.to_numpy(),
            "predicted_iou": states.predicted_iou.to_numpy(),
        },
        geometry=_boxes(states, prepared),
        crs=str(prepared.grid.geobox.crs),
    )


def tile_layer(states: pd.DataFrame, prepared: Prepared) -> Iterator[gpd.GeoDataFrame]:
    """Return the layer ``tiles``, :data:`AT_ONCE` rows at a time."""
    for part in _parts(states):
        yield tile_table(part, prepared).drop(columns="predicted_iou")


def count_tiles(states: pd.DataFrame) -> dict[str, int]:
    """Return how many tiles there are of each status that occurs."""
    return {str(name): int(n) for name, n in states.status.value_counts(sort=False).items() if n}


def _parts(states: pd.DataFrame) -> Iterator[pd.DataFrame]:
    starts = range(0, max(1, len(states)), AT_ONCE)
    return (states.iloc[start : start + AT_ONCE] for start in starts)


def _boxes(states: pd.DataFrame, prepared: Prepared) -> np.ndarray:
    """Return what each tile owns of the scene, as polygons in its CRS."""
    grid = prepared.grid
    tiles = (grid.tile((row, col)) for row, col in zip(states.row, states.col, strict=True))
    cores = [tile.core.intersection(grid.scene) for tile in tiles]
    corners = np.array([[c.col, c.row, c.col_end, c.row_end] for c in cores if c is not None])
    return moved(shapely.box(*corners.reshape(-1, 4).T), grid.geobox.affine)


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
