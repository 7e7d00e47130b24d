"""The layers of a GeoPackage: geometry and columns of each, so that empty ones keep both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import geopandas as gpd
import pandas as pd

from geosam.errors import OptionError

_INT, _FLOAT, _TEXT, _BOOL = "int64", "float64", "str", "bool"


@dataclass(frozen=True)
class Layer:
    """What a layer holds."""

    geometry: str | None
    """``Polygon``, ``LineString`` or ``Point``; None for a plain table."""
    columns: Mapping[str, str]
    """Columns in order, with their pandas dtypes. Units stand in the names."""


LAYERS: Mapping[str, Layer] = {
    "outlines": Layer(
        "Polygon",
        {
            "outline_id": _INT,
            "river_id": _INT,
            "kind": _TEXT,
            "area_m2": _FLOAT,
            "perimeter_m": _FLOAT,
            "n_islands": _INT,
            "probability": _FLOAT,
            "predicted_iou": _FLOAT,
            "stability": _FLOAT,
            "truncated": _BOOL,
            "needs_review": _BOOL,
        },
    ),
    "islands": Layer(
        "Polygon", {"island_id": _INT, "outline_id": _INT, "river_id": _INT, "area_m2": _FLOAT}
    ),
    "prompts": Layer("Point", {"object": _INT, "label": _INT, "source": _TEXT, "tile": _TEXT}),
    "prompt_boxes": Layer(
        "Polygon", {"object": _INT, "label": _INT, "source": _TEXT, "tile": _TEXT}
    ),
    "tiles": Layer("Polygon", {"tile": _TEXT, "status": _TEXT, "seconds": _FLOAT, "error": _TEXT}),
    "runs": Layer(
        None,
        {
            "geosam_version": _TEXT,
            "command": _TEXT,
            "scene": _TEXT,
            "scene_fingerprint": _TEXT,
            "bands": _TEXT,
            "stretch": _TEXT,
            "model": _TEXT,
            "model_sha256": _TEXT,
            "prompts": _TEXT,
            "parameters": _TEXT,
            "started": _TEXT,
            "seconds": _FLOAT,
        },
    ),
    "centerlines": Layer(
        "LineString",
        {
            "reach_id": _INT,
            "river_id": _INT,
            "main": _BOOL,
            "from_node": _INT,
            "to_node": _INT,
            "length_m": _FLOAT,
        },
    ),
    "nodes": Layer("Point", {"node_id": _INT, "kind": _TEXT}),
    "reaches": Layer(
        "LineString",
        {
            "reach_id": _INT,
            "river_id": _INT,
            "length_m": _FLOAT,
            "sinuosity": _FLOAT,
            "width_mean_m": _FLOAT,
            "braiding_index": _FLOAT,
        },
    ),
    "transects": Layer(
        "LineString",
        {
            "transect_id": _INT,
            "reach_id": _INT,
            "distance_m": _FLOAT,
            "width_m": _FLOAT,
            "span_m": _FLOAT,
            "n_channels": _INT,
            "width_low_m": _FLOAT,
            "width_high_m": _FLOAT,
            "flag": _TEXT,
        },
    ),
    "banks": Layer("LineString", {"river_id": _INT, "reach_id": _INT, "side": _TEXT}),
    "erosion": Layer(
        "Polygon",
        {"from_date": _TEXT, "to_date": _TEXT, "area_m2": _FLOAT, "beyond_uncertainty": _BOOL},
    ),
    "accretion": Layer(
        "Polygon",
        {"from_date": _TEXT, "to_date": _TEXT, "area_m2": _FLOAT, "beyond_uncertainty": _BOOL},
    ),
    "migration": Layer(
        "LineString",
        {"from_date": _TEXT, "to_date": _TEXT, "distance_m": _FLOAT, "rate_m_per_year": _FLOAT},
    ),
    "cutoffs": Layer("Polygon", {"from_date": _TEXT, "to_date": _TEXT, "length_lost_m": _FLOAT}),
    "series": Layer(
        None,
        {
            "date": _TEXT,
            "water_m2": _FLOAT,
            "main_m": _FLOAT,
            "width_mean_m": _FLOAT,
            "erosion_m2": _FLOAT,
            "accretion_m2": _FLOAT,
            "migration_mean_m": _FLOAT,
            "rate_m_per_year": _FLOAT,
            "n_cutoffs": _INT,
            "length_lost_m": _FLOAT,
        },
    ),
    "segments": Layer(
        "Polygon",
        {
            "segment_id": _INT,
            "area_m2": _FLOAT,
            "predicted_iou": _FLOAT,
            "stability": _FLOAT,
            "point": _TEXT,
            "tile": _TEXT,
        },
    ),
}
"""Every layer geosam writes."""


def empty_layer(name: str, crs: Any = None) -> pd.DataFrame | gpd.GeoDataFrame:
    """Return a layer without rows, with all its columns.

    Parameters
    ----------
    name : str
        A key of `LAYERS`.
    crs : anything pyproj understands, optional
        CRS of a layer with geometry.

    Returns
    -------
    geopandas.GeoDataFrame, or pandas.DataFrame for a plain table

    Raises
    ------
    OptionError
        There is no such layer.

    Examples
    --------
    >>> list(empty_layer("islands", "EPSG:32633"))
    ['island_id', 'outline_id', 'river_id', 'area_m2', 'geometry']
    """
    if name not in LAYERS:
        raise OptionError(f"There is no layer {name!r}. Use one of {', '.join(LAYERS)}.")
    layer = LAYERS[name]
    table = pd.DataFrame({key: pd.Series(dtype=dtype) for key, dtype in layer.columns.items()})
    return table if layer.geometry is None else gpd.GeoDataFrame(table, geometry=[], crs=crs)
