"""A scene and polygons -> an example; the polygons may be outlines that a person corrected."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import geopandas as gpd
import pandas as pd

from geosam.errors import InputError
from geosam.export.geopackage import layer_names, read_layer
from geosam.longitudes import brought_to_grid
from geosam.opening import inspect_source
from geosam.options import Options
from geosam.raster import Source, fingerprint
from geosam.training.examples import Example
from geosam.training.imagery import FileImagery
from geosam.training.labels import PolygonLabels
from geosam.training.sample import IGNORE, LAND, WATER

SEEN_AS = (
    "bands", "scale", "offset", "nodata", "crs", "valid", "frame", "mosaic", "composite", "stretch",
    "resolution",
)  # fmt: skip
"""Options of a run that say how its scene is read and seen."""


def read_outlined(
    scene: str | Path,
    polygons: str | Path,
    options: Options,
    labelled: str | Path | None = None,
) -> Example:
    """Look at a scene and the polygons of its water.

    Parameters
    ----------
    scene
        A raster.
    polygons
        In any CRS; of a GeoPackage the layer ``outlines``, or else the first. A column ``label``
        may say 1 water, 0 land, 255 ignored; without it all are water.
    options
        How the scene is read and seen.
    labelled
        Polygons outside which nothing is known.

    Returns
    -------
    Example

    Raises
    ------
    InputError
        A file cannot be read, or the polygons do not lie on the scene.
    """
    source = inspect_source([str(scene)], options)
    table = _on_scene(_read_polygons(polygons), source, polygons)
    areas = None if labelled is None else _read_areas(labelled, source)
    return _example(Path(scene).stem, source, table, areas, options)


def read_corrected(
    geopackage: str | Path,
    options: Options | None = None,
    scene: str | Path | None = None,
    labelled: str | Path | None = None,
) -> Example:
    """Look at a GeoPackage that ``segment`` wrote and a person corrected, and at its scene.

    Tiles that failed are ignored, and so is what lies outside the run's area of interest.

    Parameters
    ----------
    geopackage
        With the layers ``outlines``, ``runs`` and ``tiles``.
    options
        How the scene is read and seen; what is left at its default is as in the run.
    scene
        The scene, where it is no longer where the run found it.
    labelled
        Polygons outside which nothing is known; the run's area of interest without them.

    Returns
    -------
    Example

    Raises
    ------
    InputError
        The scene is gone or is another, or a layer is missing.
    """
    run = _last_run(geopackage)
    given = _parameters(run, geopackage)
    options = _as_in_run(options or Options(), given)
    source = inspect_source(_scene_paths(run, geopackage, scene), options)
    if scene is None:
        _check_unchanged(run, source, options, given, geopackage)
    outlines = _on_scene(read_layer(geopackage, "outlines"), source, geopackage)
    ignored = _failed_tiles(geopackage, source)
    table = pd.concat([outlines, ignored]) if len(ignored) else outlines
    area = labelled or given.get("aoi")
    areas = None if area is None else _read_areas(area, source)
    return _example(Path(geopackage).stem, source, table, areas, options)


def _example(
    name: str, source: Source, table: gpd.GeoDataFrame, areas: Any, options: Options
) -> Example:
    values = table["label"].astype(int) if "label" in table else [WATER] * len(table)
    labels = PolygonLabels(tuple(table.geometry), tuple(values), source.geobox, areas)
    return Example(name, None, FileImagery(source), labels, options)


def _read_polygons(path: str | Path) -> gpd.GeoDataFrame:
    """Read the layer ``outlines``, or else the first with a geometry."""
    names = layer_names(path)
    table = read_layer(path, "outlines" if "outlines" in names else names[0])
    if not isinstance(table, gpd.GeoDataFrame):
        raise InputError(f"{path} has no polygons. Give a file with the outlines of the water.")
    return table


def _on_scene(table: gpd.GeoDataFrame, source: Source, path: str | Path) -> gpd.GeoDataFrame:
    """Bring polygons into the scene's CRS, with their labels where they have any."""
    if table.crs is None:
        raise InputError(f"{path} has no CRS. Save it again with the CRS of its coordinates.")
    table = table[~(table.geometry.is_empty | table.geometry.isna())]
    others = set(table.geom_type) - {"Polygon", "MultiPolygon"}
    if others:
        raise InputError(f"{path} has a {min(others)}; labels are polygons. Remove it.")
    table = table.set_geometry(brought_to_grid(table.geometry, source.geobox))
    if len(table) and not table.intersects(source.geobox.extent.geom).any():
        raise InputError(
            f"The polygons of {path} lie outside {source.paths[0]}. Check that both show the same "
            "place and have the right CRS."
        )
    if "label" not in table:
        return table[["geometry"]].assign(label=WATER)
    _check_labels(table["label"], path)
    return table[["geometry", "label"]]


def _check_labels(labels: pd.Series, path: str | Path) -> None:
    numbers = pd.to_numeric(labels, errors="coerce")
    wrong = labels[~numbers.isin([LAND, WATER, IGNORE])]
    if len(wrong):
        raise InputError(
            f"{path} has label {wrong.iloc[0]}; a label is {WATER} water, {LAND} land or {IGNORE} "
            "ignored. Change it, or rename the column if it means something else."
        )


def _read_areas(path: str | Path, source: Source) -> tuple[Any, ...]:
    from geosam.aoi import read_aoi

    return tuple(read_aoi(path, source.geobox))


def _last_run(path: str | Path) -> pd.Series:
    if "runs" not in layer_names(path):
        raise InputError(
            f"{path} has no layer runs, which names the scene. Give a GeoPackage that segment "
            "wrote, or a scene and its polygons."
        )
    runs = read_layer(path, "runs")
    runs = runs[runs["command"] == "segment"]
    if runs.empty:
        raise InputError(
            f"The layer runs of {path} has no run of segment. Give a scene and its polygons."
        )
    return runs.iloc[-1]


def _parameters(run: pd.Series, path: str | Path) -> dict[str, Any]:
    try:
        return dict(json.loads(run["parameters"]))
    except (TypeError, ValueError) as error:
        raise InputError(
            f"The layer runs of {path} has parameters that are not JSON ({error}). Give a scene "
            "and its polygons."
        ) from error


def _as_in_run(options: Options, given: dict[str, Any]) -> Options:
    """Return options with those of the run where nothing else was asked for."""
    plain = Options()
    kept = {
        name: given[name]
        for name in SEEN_AS
        if name in given and getattr(options, name) == getattr(plain, name)
    }
    return replace(options, **kept)


def _scene_paths(run: pd.Series, path: str | Path, scene: str | Path | None) -> list[str]:
    """Return the scene's files: as given, as the run found them, or beside the GeoPackage."""
    if scene is not None:
        return [str(scene)]
    named = str(run["scene"])
    listed = [named] if Path(named).exists() else named.split(", ")
    found = [_found(Path(name), Path(path).parent) for name in listed]
    missing = next((n for n, there in zip(listed, found, strict=True) if there is None), None)
    if missing is not None:
        raise InputError(
            f"The scene {missing} of {path} is gone. Put it back, or say where it is with --scene."
        )
    return [str(there) for there in found]


def _found(path: Path, folder: Path) -> Path | None:
    return next((p for p in (path, folder / path, folder / path.name) if p.exists()), None)


def _check_unchanged(
    run: pd.Series, source: Source, options: Options, given: dict[str, Any], path: str | Path
) -> None:
    """Check that the scene is the one that was segmented, where it is read in the same way."""
    same_way = all(getattr(options, name) == given.get(name) for name in SEEN_AS[:8])
    if same_way and fingerprint(source) != run["scene_fingerprint"]:
        raise InputError(
            f"{source.paths[0]} is not the scene that {path} was made from: its pixels have "
            "changed. If it still shows the same, say so with --scene."
        )


def _failed_tiles(path: str | Path, source: Source) -> gpd.GeoDataFrame:
    """Return the ground of tiles that failed, as ignored."""
    if "tiles" not in layer_names(path):
        return gpd.GeoDataFrame({"label": []}, geometry=[], crs=str(source.geobox.crs))
    tiles = read_layer(path, "tiles")
    failed = tiles[tiles["status"] == "failed"]
    return failed[["geometry"]].to_crs(str(source.geobox.crs)).assign(label=IGNORE)
