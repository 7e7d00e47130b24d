"""Polygons on the ground <-> COCO JSON in pixels, so that annotation tools and evaluators can read results.

https://cocodataset.org/#format-data. The grid of the scene stands beside the image, under ``crs`` and
``transform``, which other tools pass over.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import rasterio.features
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox

from geosam import __version__
from geosam.cutouts import Cutout, cut_out
from geosam.errors import InputError
from geosam.ground import crs_of, moved
from geosam.longitudes import brought_to_grid
from geosam.rle import compress, decode_cutout, encode_cutout
from geosam.types import Window
from geosam.workspace import check_writable

_IDS = ("segment_id", "outline_id", "annotation_id")
_EXTRAS = ("predicted_iou", "stability", "probability", "tile")
"""Columns that go along, under their own names."""


@dataclass(frozen=True)
class Annotation:
    """One object of a COCO file."""

    number: int
    """Its id."""
    category: str
    """Name of its category."""
    score: float
    """How sure its maker was; NaN where nothing is said."""
    image: int
    """Id of its image."""
    shape: tuple[int, int]
    """Rows and columns of the image."""
    segmentation: Any
    """Run lengths, or lists of x, y, x, y, ... in pixels."""

    def cutout(self) -> Cutout | None:
        """Return its mask in its box; None where it is empty.

        Raises
        ------
        InputError
            If the run lengths do not hold together, or are of another size than the image.
        """
        if isinstance(self.segmentation, Mapping):
            self._check_size()
            return decode_cutout(self.segmentation)
        polygon = self.polygon()
        return None if polygon is None else rasterise(polygon, self.shape)

    def polygon(self) -> shapely.Geometry | None:
        """Return its outline in pixels, x = column and y = row; None where it is empty."""
        if not isinstance(self.segmentation, Mapping):
            return _ring_polygon(self.segmentation, self.number)
        cutout = self.cutout()
        return None if cutout is None else _pixel_polygon(cutout)

    def _check_size(self) -> None:
        size = tuple(self.segmentation.get("size", ()))
        if size != self.shape:
            raise InputError(
                f"Annotation {self.number} has run lengths of the size {list(size)}, and its image is "
                f"{list(self.shape)}. Export the annotations anew."
            )


def write_coco(
    path: str | Path,
    objects: gpd.GeoDataFrame,
    geobox: GeoBox,
    *,
    file_name: str = "scene.tif",
    category: str = "object",
    compressed: bool = True,
    overwrite: bool = False,
) -> None:
    """Write polygons as the annotations of one image, with run lengths as their masks.

    Parameters
    ----------
    path
        The JSON file. It appears when it is complete.
    objects
        Polygons in any CRS: the layer ``segments`` or ``outlines``, or others. Those that cover no
        pixel centre are left out, as are rows without a geometry.
    geobox
        The pixels that the image has.
    file_name
        Of the image.
    category
        Name of the only category; a column ``kind`` or ``category`` gives one a row.
    compressed
        Whether run lengths are COCO's strings, or lists of numbers.
    overwrite
        Replace the file if it is there.

    Raises
    ------
    InputError
        If the objects have no CRS, or are no polygons.
    OutputError
        If the file is there already, or its folder is missing or not writable.
    """
    path, objects = Path(path), exportable(objects, "The table of objects")
    check_writable(path, overwrite)
    names = _names(objects, category)
    kinds = sorted(set(names)) or [category]
    pixels = moved(brought_to_grid(objects.geometry, geobox).to_numpy(), ~geobox.affine)
    rows = _annotations(objects, pixels, (geobox.shape[0], geobox.shape[1]), compressed)
    annotations = [row | {"category_id": kinds.index(names[k]) + 1} for k, row in rows]
    image = {
        "id": 1, "file_name": file_name, "height": geobox.shape[0], "width": geobox.shape[1],
        "crs": str(geobox.crs), "transform": list(geobox.affine)[:6],
    }  # fmt: skip
    whole = {
        "info": {"description": f"geosam {__version__}"},
        "images": [image],
        "categories": [{"id": k + 1, "name": name} for k, name in enumerate(kinds)],
        "annotations": annotations,
    }
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        unfinished.write_text(json.dumps(whole))
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def exportable(objects: Any, name: str) -> gpd.GeoDataFrame:
    """Return the rows of a table that have a geometry, or say why they cannot be annotations.

    Raises
    ------
    InputError
        If it has no geometry or no CRS, or other geometries than polygons; `name` is what it is
        called then.
    """
    if not isinstance(objects, gpd.GeoDataFrame):
        raise InputError(f"{name} has no geometry: name a layer of polygons with --layer.")
    if objects.crs is None:
        raise InputError(f"{name} has no CRS: save it again with the CRS of its coordinates.")
    there = objects[~(objects.geometry.isna() | objects.geometry.is_empty)]
    odd = there.geom_type[~there.geom_type.isin(["Polygon", "MultiPolygon"])]
    if len(odd):
        raise InputError(
            f"{name} holds a {odd.iloc[0]}, and objects are polygons: name a layer of polygons with "
            "--layer, or remove what is none."
        )
    return there


def read_annotations(path: str | Path, image: str | int | None = None) -> list[Annotation]:
    """Read the objects of one image of a COCO file.

    Parameters
    ----------
    path
        The JSON file.
    image
        File name or id of the image; not needed where there is only one.

    Raises
    ------
    InputError
        If it is no COCO file, or has no such image, or several and none is named.
    """
    whole = _load(path)
    chosen = _choose_image(whole, path, image)
    try:
        shape = int(chosen["height"]), int(chosen["width"])
        names = {kind["id"]: str(kind["name"]) for kind in whole.get("categories", [])}
        return [
            Annotation(
                int(row["id"]),
                names.get(row.get("category_id"), "object"),
                _score(row),
                chosen["id"],
                shape,
                row["segmentation"],
            )
            for row in whole["annotations"]
            if row["image_id"] == chosen["id"]
        ]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{path} is not COCO JSON as it should be ({type(error).__name__}: {error}). Export it anew."
        ) from error


def read_coco(
    path: str | Path, geobox: GeoBox | None = None, *, image: str | int | None = None
) -> gpd.GeoDataFrame:
    """Read the objects of one image as polygons on the ground.

    Parameters
    ----------
    path
        The JSON file.
    geobox
        The pixels of the image; not needed where geosam wrote the file.
    image
        File name or id of the image; not needed where there is only one.

    Returns
    -------
    geopandas.GeoDataFrame
        Polygons, and multipolygons of objects in parts, with `annotation_id`, `category`, `score`.

    Raises
    ------
    InputError
        If the file is corrupt, or nothing says where its pixels lie.
    """
    grid = _grid(path, geobox, image)
    rows = read_annotations(path, image)
    if rows and rows[0].shape != tuple(grid.shape):
        raise InputError(
            f"The image of {path} has {rows[0].shape[0]} x {rows[0].shape[1]} pixels, and the grid "
            f"{grid.shape[0]} x {grid.shape[1]}. Give the scene that was annotated."
        )
    drawn = [(row, polygon) for row in rows if (polygon := row.polygon()) is not None]
    polygons = np.empty(len(drawn), object)
    polygons[:] = [polygon for _, polygon in drawn]
    return gpd.GeoDataFrame(
        {
            "annotation_id": np.array([row.number for row, _ in drawn], np.int64),
            "category": np.array([row.category for row, _ in drawn], dtype=str),
            "score": np.array([row.score for row, _ in drawn], float),
        },
        geometry=shapely.orient_polygons(moved(polygons, grid.affine)),
        crs=crs_of(grid),
    )


def read_coco_masks(
    path: str | Path, *, image: str | int | None = None
) -> Iterator[tuple[Annotation, Cutout]]:
    """Read the objects of one image as masks in their boxes, one after the other; empty ones are left out."""
    for row in read_annotations(path, image):
        cutout = row.cutout()
        if cutout is not None:
            yield row, cutout


def rasterise(polygon: shapely.Geometry, shape: tuple[int, int]) -> Cutout | None:
    """Mark the pixels whose centres a polygon in pixels holds; None where there is none."""
    x_min, y_min, x_max, y_max = shapely.bounds(polygon)
    col, row = max(0, int(np.floor(x_min))), max(0, int(np.floor(y_min)))
    width = min(shape[1], int(np.ceil(x_max))) - col
    height = min(shape[0], int(np.ceil(y_max))) - row
    if width <= 0 or height <= 0:
        return None
    there = rasterio.features.rasterize(
        [polygon], (height, width), transform=Affine.translation(col, row), dtype=np.uint8
    )
    inner = cut_out(there.astype(bool))
    if inner is None:
        return None
    moved_to = Window(
        inner.window.row + row, inner.window.col + col, inner.window.height, inner.window.width
    )
    return Cutout(moved_to, inner.mask)


def _annotations(
    objects: gpd.GeoDataFrame, pixels: np.ndarray, shape: tuple[int, int], compressed: bool
) -> Iterator[tuple[int, dict[str, Any]]]:
    ids = next((name for name in _IDS if name in objects), None)
    numbers = np.arange(1, len(objects) + 1) if ids is None else objects[ids].to_numpy()
    extras = [name for name in _EXTRAS if name in objects]
    for k, polygon in enumerate(pixels):
        cutout = rasterise(polygon, shape)
        if cutout is None:
            continue
        rle = encode_cutout(cutout, shape)
        if compressed:
            rle["counts"] = compress(rle["counts"])
        window = cutout.window
        row = {
            "id": int(numbers[k]), "image_id": 1, "iscrowd": 0, "area": cutout.area,
            "bbox": [window.col, window.row, window.width, window.height], "segmentation": rle,
        }  # fmt: skip
        yield k, row | {name: _plain(objects[name].iloc[k]) for name in extras}


def _score(row: Mapping[str, Any]) -> float:
    told = (row.get(name) for name in ("score", "predicted_iou"))
    return next((float(value) for value in told if value is not None), float("nan"))


def _plain(value: Any) -> Any:
    if isinstance(value, (float, np.floating)):
        return float(value) if np.isfinite(value) else None
    return str(value)


def _names(objects: gpd.GeoDataFrame, category: str) -> list[str]:
    column = next((name for name in ("category", "kind") if name in objects), None)
    return [category] * len(objects) if column is None else [str(name) for name in objects[column]]


def _load(path: str | Path) -> dict[str, Any]:
    try:
        whole = json.loads(Path(path).read_text())
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(
            f"{path} cannot be read as JSON ({error}). Give a COCO file of annotations."
        ) from error
    lists = ("images", "annotations")
    if not isinstance(whole, dict) or not all(isinstance(whole.get(n), list) for n in lists):
        raise InputError(
            f"{path} is not COCO JSON: it has no lists of images and annotations. Export it anew."
        )
    return whole


def _choose_image(
    whole: Mapping[str, Any], path: Any, image: str | int | None
) -> Mapping[str, Any]:
    images: Sequence[Mapping[str, Any]] = [i for i in whole["images"] if isinstance(i, dict)]
    named = [
        i for i in images if image is None or str(image) in (str(i.get("id")), i.get("file_name"))
    ]
    if len(named) == 1 and "id" in named[0]:
        return named[0]
    there = ", ".join(str(i.get("file_name", i.get("id"))) for i in images[:10]) or "none"
    wanted = "several images and one is needed" if image is None else f"no image {image!r}"
    raise InputError(f"{path} has {wanted}. Images: {there}.")


def _grid(path: str | Path, geobox: GeoBox | None, image: str | int | None) -> GeoBox:
    if geobox is not None:
        return geobox
    chosen = _choose_image(_load(path), path, image)
    try:
        shape = int(chosen["height"]), int(chosen["width"])
        return GeoBox(shape, Affine(*(float(v) for v in chosen["transform"])), str(chosen["crs"]))
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path} does not say where its pixels lie. Give the scene that was annotated (--grid)."
        ) from error


def _ring_polygon(rings: Any, number: int) -> shapely.Geometry | None:
    """Join the rings of an annotation, each a part of its object."""
    try:
        parts = [shapely.Polygon(np.asarray(ring, float).reshape(-1, 2)) for ring in rings]
    except (TypeError, ValueError) as error:
        raise InputError(
            f"Annotation {number} is neither run lengths nor lists of x, y, x, y, ... of three points "
            "or more. Export the annotations anew."
        ) from error
    whole = shapely.union_all(shapely.make_valid(np.array(parts, dtype=object)))
    return _flat(whole)


def _pixel_polygon(cutout: Cutout) -> shapely.Geometry:
    shift = Affine.translation(cutout.window.col, cutout.window.row)
    mask = cutout.mask.view(np.uint8)
    parts = rasterio.features.shapes(mask, mask=cutout.mask, connectivity=4, transform=shift)
    whole = [shapely.geometry.shape(part) for part, _ in parts]
    return whole[0] if len(whole) == 1 else shapely.MultiPolygon(whole)


def _flat(geometry: shapely.Geometry) -> shapely.Geometry | None:
    """Keep the polygons of a geometry."""
    parts = shapely.get_parts(geometry)
    flat = [part for part in parts if part.geom_type == "Polygon" and part.area > 0]
    if not flat:
        return None
    return flat[0] if len(flat) == 1 else shapely.MultiPolygon(flat)
