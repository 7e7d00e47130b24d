"""GeoPackages that open in QGIS with their layers styled, written whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeAlias

import geopandas as gpd
import pandas as pd
import pyogrio
from pyogrio.errors import (
    CRSError,
    DataLayerError,
    DataSourceError,
    FeatureError,
    FieldError,
    GeometryError,
)

from geosam.errors import DiskFullError, InputError, OutputError
from geosam.export.steps_apart import steps_apart
from geosam.journal import settle_journal
from geosam.layers import LAYERS
from geosam.workspace import disk_is_full

BATCH_ROWS = 50_000
"""Rows that are turned into bytes at once."""
LayerRows: TypeAlias = pd.DataFrame | Iterable[pd.DataFrame]
"""A layer as one table, or as tables that follow one another, so that it is never in memory as a whole."""
_STYLES = "layer_styles"
"""Table in which QGIS keeps the styles of a GeoPackage."""
_SYNCHRONOUS = "OGR_SQLITE_SYNCHRONOUS"
"""The setting of GDAL that says whether SQLite waits for the disk at every step."""
_WRITE_ERRORS = (
    OSError,
    CRSError,
    DataLayerError,
    DataSourceError,
    FeatureError,
    FieldError,
    GeometryError,
)


def write_geopackage(
    path: str | os.PathLike,
    *,
    overwrite: bool = False,
    append: bool = False,
    styles: bool = True,
    **layers: LayerRows,
) -> Path:
    """Write tables as the layers of a GeoPackage.

    The file is written under another name beside and renamed when it is complete, so that nobody
    ever sees half of it.

    Parameters
    ----------
    path : path
        Where to write; the folder must exist.
    overwrite : bool
        Whether to replace an existing file as a whole.
    append : bool
        Whether to keep the other layers of an existing file. A layer of the same name is replaced.
    styles : bool
        Whether to add the default QGIS style of each layer known to geosam. A style that a user
        has saved in the file stays. Where ``series`` tells the dates, layers of change have an entry
        for each step, of which the last alone is shown.
    **layers : geopandas.GeoDataFrame, pandas.DataFrame, or an iterable of them
        Layer name to table. An empty one keeps its columns and, where geosam knows the layer, its
        geometry type. The tables of an iterable are written one after the other, with the columns and
        the geometry type of the first.

    Returns
    -------
    pathlib.Path
        `path`.

    Raises
    ------
    OutputError
        The file exists and neither `overwrite` nor `append` is given, or another program has it open; the
        folder does not exist or cannot be written; a layer with geometry has no CRS; writing fails, on a full disk say.

    Examples
    --------
    >>> write_geopackage("rivers.gpkg", outlines=outlines, islands=islands)  # doctest: +SKIP
    """
    target = Path(path)
    _check_target(target, overwrite, append)
    for name, layer in layers.items():
        if isinstance(layer, pd.DataFrame):
            _check_layer(name, layer)
    with _complete_or_nothing(target) as unfinished:
        if append and target.exists():
            shutil.copyfile(target, unfinished)
        for name, layer in layers.items():
            _write_layer(unfinished, name, layer)
        if styles:
            _write_styles(unfinished, layers)
    return target


def read_layer(path: str | os.PathLike, layer: str) -> Any:
    """Read one layer of a vector file.

    Parameters
    ----------
    path : path
        A GeoPackage, or another file GDAL reads.
    layer : str
        Name of the layer.

    Returns
    -------
    geopandas.GeoDataFrame, or pandas.DataFrame for a table without geometry

    Raises
    ------
    InputError
        The file cannot be read or has no such layer.
    """
    names = layer_names(path)
    if layer not in names:
        raise InputError(f"{path} has no layer {layer!r}. It has {', '.join(names) or 'none'}.")
    return pyogrio.read_dataframe(path, layer=layer)


def layer_names(path: str | os.PathLike) -> list[str]:
    """List the layers of a vector file, without the table of styles."""
    try:
        names = [str(name) for name, _ in pyogrio.list_layers(path)]
    except DataSourceError as error:
        # What follows the semicolon is advice to programmers.
        reason = str(error).split(";")[0].rstrip(".")
        raise InputError(f"{path} cannot be read as a vector file: {reason}.") from error
    return [name for name in names if name != _STYLES]


def _check_target(target: Path, overwrite: bool, append: bool) -> None:
    folder = target.parent
    if not folder.is_dir():
        raise OutputError(f"The folder {folder} does not exist: make it, or name another output.")
    if not os.access(folder, os.W_OK):
        raise OutputError(f"The folder {folder} is not writable: name another output.")
    if target.is_dir():
        raise OutputError(f"{target} is a folder, and a GeoPackage is a file: name a file in it.")
    if target.exists() and append:
        _check_is_geopackage(target)
    elif target.exists() and not overwrite:
        raise OutputError(
            f"{target} exists. Use --overwrite to replace it, or name another output."
        )
    settle_journal(target)


def _check_is_geopackage(target: Path) -> None:
    with target.open("rb") as file:
        head = file.read(72)
    # The application id of the SQLite file, at byte 68.
    if head[68:72] != b"GPKG":
        raise OutputError(f"{target} is not a GeoPackage, so no layer can be added: name another.")


def _check_layer(name: str, frame: pd.DataFrame) -> None:
    if isinstance(frame, gpd.GeoDataFrame) and frame.crs is None:
        raise OutputError(f"The layer {name} has no CRS: set it with set_crs before writing.")


@contextmanager
def _complete_or_nothing(target: Path) -> Iterator[Path]:
    """Give a name in a folder of its own beside the target, and move it there at the end."""
    there = target.resolve()  # where a link leads
    try:
        with tempfile.TemporaryDirectory(prefix=f".{target.stem}-", dir=there.parent) as folder:
            unfinished = Path(folder) / f"{target.stem}.gpkg"
            with _full_disk_named(target), _disk_waited_for_once(unfinished):
                yield unfinished
            settle_journal(there)
            os.replace(unfinished, there)
    except _WRITE_ERRORS as error:
        raise OutputError(
            f"{target} could not be written: {error}. Nothing was left behind; check the free "
            "space and the rights of the folder."
        ) from error


@contextmanager
def _disk_waited_for_once(unfinished: Path) -> Iterator[None]:
    """Wait for the disk when a file is complete, not several times a layer: nobody sees it before."""
    before = pyogrio.get_gdal_config_option(_SYNCHRONOUS)
    pyogrio.set_gdal_config_options({_SYNCHRONOUS: "OFF"})
    try:
        yield
    finally:
        pyogrio.set_gdal_config_options({_SYNCHRONOUS: before})
    # For writing, since Windows waits for no other file.
    with unfinished.open("r+b") as file:
        os.fsync(file.fileno())


@contextmanager
def _full_disk_named(target: Path) -> Iterator[None]:
    """Tell a full disk from other errors, before the unfinished file is removed and makes room."""
    try:
        yield
    except _WRITE_ERRORS as error:
        if disk_is_full(error, target.parent):
            raise DiskFullError(
                f"The disk is full while writing {target}. Free some space, or write elsewhere."
            ) from error
        raise


def _write_layer(path: Path, name: str, layer: LayerRows) -> None:
    parts = iter(_cut(layer) if isinstance(layer, pd.DataFrame) else layer)
    first = next(parts)
    _check_layer(name, first)
    options: dict[str, Any] = {"layer": name, "driver": "GPKG"}
    if isinstance(first, gpd.GeoDataFrame):
        whole = layer if isinstance(layer, gpd.GeoDataFrame) else first
        options["geometry_type"] = _geometry_type(name, whole)
        # The index helps nobody to find a river, but QGIS draws a large layer far faster with it.
        options["layer_options"] = {"SPATIAL_INDEX": "YES", "GEOMETRY_NAME": "geom"}
    pyogrio.write_dataframe(first, path, **options)
    for part in parts:
        pyogrio.write_dataframe(part, path, append=True, **options)


def _cut(frame: pd.DataFrame) -> Iterator[pd.DataFrame]:
    starts = range(0, max(1, len(frame)), BATCH_ROWS)
    return (frame.iloc[start : start + BATCH_ROWS] for start in starts)


def _geometry_type(name: str, frame: gpd.GeoDataFrame) -> str | None:
    """Return the type a layer is declared with; None leaves it to what the rows have."""
    known = LAYERS[name].geometry if name in LAYERS else None
    found = set(frame.geom_type.dropna())
    if known is not None and found <= {known}:
        return known
    if not found:
        return "Unknown"
    return found.pop() if len(found) == 1 else None


def _write_styles(path: Path, layers: Mapping[str, LayerRows]) -> None:
    """Add a default style for each layer that has none yet."""
    tables = {name: layer for name, layer in layers.items() if isinstance(layer, pd.DataFrame)}
    present = {str(name) for name, _ in pyogrio.list_layers(path)}
    kept = pyogrio.read_dataframe(path, layer=_STYLES) if _STYLES in present else None
    styled = set() if kept is None else set(kept["f_table_name"])
    styles = {name: _style_of(name, tables) for name in layers if name not in styled}
    fresh = [_style_row(name, qml) for name, qml in styles.items() if qml is not None]
    if not fresh:
        return
    rows = pd.DataFrame(fresh)
    table = rows if kept is None else pd.concat([kept[rows.columns], rows], ignore_index=True)
    # QGIS looks for the key under this name.
    pyogrio.write_dataframe(table, path, layer=_STYLES, driver="GPKG", layer_options={"FID": "id"})


def _style_row(name: str, qml: str) -> dict[str, Any]:
    """Return the row QGIS reads to style a layer by itself."""
    return {
        "f_table_catalog": "",
        "f_table_schema": "",
        "f_table_name": name,
        "f_geometry_column": "geom",
        "styleName": name,
        "styleQML": qml,
        "styleSLD": "",
        "useAsDefault": True,
        "description": f"Default style of geosam for {name}",
        "owner": "",
        "ui": "",
        "update_time": pd.Timestamp("2026-01-01T00:00:00Z"),
    }


def _style_of(name: str, tables: Mapping[str, pd.DataFrame]) -> str | None:
    """Return the QML of a layer, or None where there is none."""
    file = files("geosam.export") / "styles" / f"{name}.qml"
    if not file.is_file():
        return None
    qml = file.read_text(encoding="utf-8")
    if "series" not in tables or "from_date" not in tables.get(name, ()):
        return qml
    steps = list(pairwise(tables["series"]["date"]))
    return steps_apart(qml, steps, sure="beyond_uncertainty" in tables[name])
