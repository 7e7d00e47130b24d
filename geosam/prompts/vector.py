"""A user's points, boxes and polygons, in a file or a table -> prompts on a grid."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pyogrio
import shapely
from odc.geo.geobox import GeoBox

from geosam.errors import PromptError
from geosam.longitudes import brought_to_grid
from geosam.prompts.scene_prompts import ScenePrompts, merge_prompts, to_pixels

LAYERS = ("prompts", "prompt_boxes", "prompt_masks")
"""The layers that geosam writes; of another file all layers with a geometry are read."""


def read_prompts(path: str | Path, geobox: GeoBox) -> ScenePrompts:
    """Read prompts in any CRS and bring them onto a grid.

    A point is a point; a rectangle along the axes of its own CRS is a box; any other polygon is a
    dense mask prompt. Columns: ``label`` (1 object, 0 background; 1 without it), ``object`` (rows
    decoded together; 1 without it), ``tile`` (the only tile a box is for; optional).

    Parameters
    ----------
    path
        Any vector file.
    geobox
        The model's grid.

    Raises
    ------
    PromptError
        If the file cannot be read, has no CRS or no prompts, a wrong label, or lies outside the grid.
    """
    return _bring(_read_layers(path), geobox, f"Prompts file {path}")


def table_prompts(table: gpd.GeoDataFrame | gpd.GeoSeries, geobox: GeoBox) -> ScenePrompts:
    """Bring a table of prompts in any CRS onto a grid, as :func:`read_prompts` does a file.

    Parameters
    ----------
    table
        Points, boxes and polygons; columns as there.
    geobox
        The model's grid.

    Raises
    ------
    PromptError
        If the table has no CRS or no rows, a wrong label, or lies outside the grid.
    """
    frame = gpd.GeoDataFrame(geometry=table) if isinstance(table, gpd.GeoSeries) else table
    return _bring([_checked(frame, "The table of prompts")], geobox, "The table of prompts")


def _bring(tables: Sequence[gpd.GeoDataFrame], geobox: GeoBox, name: str) -> ScenePrompts:
    prompts = merge_prompts(_on_grid(table, geobox, name) for table in tables if len(table))
    if not len(prompts):
        raise PromptError(f"{name} has no rows. Draw points, boxes or polygons in it.")
    _check_inside(prompts, geobox, name)
    return prompts


def prompt_origins(path: str | Path) -> set[str]:
    """Return what the points of a prompts file say they were made from: ``index``, ``learned``,
    ``hsv``, ``raster``, ``user``.

    Raises
    ------
    PromptError
        If the file cannot be read.
    """
    tables = [table for table in _read_layers(path) if "source" in table]
    return {
        part
        for table in tables
        for name in table["source"].dropna()
        for part in str(name).split("/")
    }


def _read_layers(path: str | Path) -> list[gpd.GeoDataFrame]:
    try:
        names = pyogrio.list_layers(path)
        with_geometry = [str(name) for name, kind in names if kind is not None]
        own = [name for name in LAYERS if name in with_geometry]
        return [_read_layer(path, name) for name in own or with_geometry]
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError) as error:
        raise PromptError(
            f"Prompts file {path} cannot be read as vectors ({error}). Give a GeoPackage, GeoJSON or shapefile."
        ) from error


def _read_layer(path: str | Path, layer: str) -> gpd.GeoDataFrame:
    table = gpd.read_file(path, layer=layer, engine="pyogrio")
    table.attrs["masks"] = layer == "prompt_masks"
    return _checked(table, f"Prompts file {path} (layer {layer})")


def _checked(table: gpd.GeoDataFrame, name: str) -> gpd.GeoDataFrame:
    """Return one row a geometry, each of them somewhere and with a CRS."""
    if table.crs is None:
        raise PromptError(f"{name} has no CRS. Save it again with the CRS of its coordinates.")
    bounds = shapely.bounds(np.asarray(table.geometry.values))
    numbers = np.flatnonzero(~np.isfinite(bounds).all(axis=1)) + 1
    if len(numbers):
        raise PromptError(
            f"{name}: row {numbers[0]} has no coordinates (empty or NaN; {len(numbers)} such rows). "
            "Remove it, or place it on the scene."
        )
    return table.explode(ignore_index=True)


def _on_grid(table: gpd.GeoDataFrame, geobox: GeoBox, named: str) -> ScenePrompts:
    labels, objects = _integers(table, "label", named), _integers(table, "object", named)
    if not set(labels) <= {0, 1}:
        wrong = next(label for label in labels if label not in (0, 1))
        raise PromptError(f"{named} has label {wrong}; a label is 1 (object) or 0 (background).")
    geometry = table.geometry.values
    kinds = shapely.get_type_id(np.asarray(geometry))
    boxes = (kinds == 3) & (labels == 1) & _is_box(np.asarray(geometry))
    if table.attrs.get("masks"):
        boxes[:] = False
    if not np.isin(kinds, (0, 3)).all():
        raise PromptError(f"{named} has lines; prompts are points, boxes and polygons.")
    on_grid = _to_grid(table, geobox, named)
    flat = np.flatnonzero((kinds == 3) & (shapely.area(on_grid) == 0))
    if len(flat):
        raise PromptError(
            f"{named}: the box or polygon in row {flat[0] + 1} has no area. Draw it anew, or remove it."
        )
    parts = [
        _points(on_grid, kinds == 0, labels, objects, table),
        _boxes(on_grid, boxes, objects, table),
        _polygons(on_grid, (kinds == 3) & ~boxes, labels, objects),
    ]
    return merge_prompts(parts)


def _integers(table: gpd.GeoDataFrame, name: str, named: str) -> np.ndarray:
    if name not in table:
        return np.ones(len(table), int)
    values = pd.to_numeric(table[name], errors="coerce")
    if values.isna().any():
        raise PromptError(
            f"{named} has an empty or non-numeric {name!r}. Give every row a whole number."
        )
    return values.to_numpy(int)


def _names(table: gpd.GeoDataFrame, rows: np.ndarray, name: str, default: str) -> np.ndarray:
    if name not in table:
        return np.full(rows.sum(), default, object)
    return table.loc[rows, name].fillna(default).astype(str).to_numpy(object)


def _is_box(geometry: np.ndarray) -> np.ndarray:
    envelope = shapely.box(*shapely.bounds(geometry).T)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.isclose(shapely.area(geometry), shapely.area(envelope), rtol=1e-9)


def _to_grid(table: gpd.GeoDataFrame, geobox: GeoBox, named: str) -> np.ndarray:
    world = np.asarray(brought_to_grid(table.geometry, geobox).values)
    if not np.isfinite(shapely.get_coordinates(world)).all():
        raise PromptError(
            f"{named} has coordinates that do not exist in {geobox.crs}. Check its CRS."
        )
    return shapely.transform(world, lambda xy: to_pixels(xy, geobox))


def _points(
    geometry: np.ndarray,
    rows: np.ndarray,
    labels: np.ndarray,
    objects: np.ndarray,
    table: gpd.GeoDataFrame,
) -> ScenePrompts:
    return ScenePrompts(
        points=shapely.get_coordinates(geometry[rows]),
        labels=labels[rows],
        objects=objects[rows],
        sources=_names(table, rows, "source", "user"),
        tiles=_names(table, rows, "tile", ""),
    )


def _boxes(
    geometry: np.ndarray, rows: np.ndarray, objects: np.ndarray, table: gpd.GeoDataFrame
) -> ScenePrompts:
    return ScenePrompts(
        boxes=shapely.bounds(geometry[rows]),
        box_objects=objects[rows],
        box_tiles=_names(table, rows, "tile", ""),
    )


def _polygons(
    geometry: np.ndarray, rows: np.ndarray, labels: np.ndarray, objects: np.ndarray
) -> ScenePrompts:
    return ScenePrompts(
        polygons=geometry[rows], polygon_labels=labels[rows], polygon_objects=objects[rows]
    )


def _check_inside(prompts: ScenePrompts, geobox: GeoBox, named: str) -> None:
    height, width = geobox.shape
    frame = shapely.box(0, 0, width, height)
    shapes = [*shapely.points(prompts.points), *shapely.box(*prompts.boxes.T), *prompts.polygons]
    inside = shapely.intersects(np.array(shapes, object), frame)
    if not inside.all():
        raise PromptError(
            f"{named}: {int((~inside).sum())} of {len(inside)} prompts lie outside the scene. "
            "Check the CRS of the file, or remove them."
        )
