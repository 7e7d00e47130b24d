"""Where the labels of an example come from: a mask, or polygons. Both give shares on any grid."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import shapely
from odc.geo.geobox import GeoBox
from rasterio.features import rasterize

from geosam.errors import InputError, OptionError
from geosam.raster.files import RasterFile, look_at_picture, read_raw
from geosam.training.imagery import bands_of, regrid_array, source_part
from geosam.training.sample import IGNORE, LAND, WATER
from geosam.types import Window

LEAST_KNOWN = 0.5
"""Share of a pixel that must be labelled for it to have a label."""


class Labels(Protocol):
    """What is known of one image."""

    def shares(self, geobox: GeoBox) -> tuple[np.ndarray, np.ndarray]:
        """Return two (y, x) float32 on a grid of the image's axes: how much of what is labelled in
        a pixel is water (NaN where nothing is), and how much of the pixel is labelled.
        """


def label_from(water: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Return a label from shares, (y, x) uint8 of LAND, WATER and IGNORE: water from a half on."""
    label = np.where(np.nan_to_num(water) >= 0.5, WATER, LAND)
    return np.where(known < LEAST_KNOWN, IGNORE, label).astype(np.uint8)


@dataclass(frozen=True)
class MaskFile:
    """A mask in a file, pixel on pixel with its image."""

    file: RasterFile
    """The mask; its first band is read."""
    water_value: int
    """The value that is water."""
    geobox: GeoBox
    """The image's grid."""

    def shares(self, geobox: GeoBox) -> tuple[np.ndarray, np.ndarray]:
        """Read the part under a grid and bring it there."""
        window = source_part(self.geobox, geobox)
        if window is None:
            return _nothing(geobox)
        values = read_raw(self.file, [1], window)[0]
        label = as_label(values, self.water_value)
        return _regrid(label, self.geobox[window.slices()], geobox)


@dataclass(frozen=True)
class RowMask:
    """A mask in a row of a table, decoded when it is asked for."""

    rows: Any
    """A sequence of rows."""
    index: int
    """Which row."""
    water_value: int
    """The value that is water."""
    geobox: GeoBox
    """The image's grid."""

    def shares(self, geobox: GeoBox) -> tuple[np.ndarray, np.ndarray]:
        """Decode the mask and bring it onto a grid."""
        values = mask_values(self.rows[self.index]["label"], f"row {self.index}")
        return _regrid(as_label(values, self.water_value), self.geobox, geobox)


@dataclass(frozen=True)
class AllLand:
    """An image without any water."""

    def shares(self, geobox: GeoBox) -> tuple[np.ndarray, np.ndarray]:
        """Return no water, all known."""
        shape = tuple(geobox.shape)
        return np.zeros(shape, np.float32), np.ones(shape, np.float32)


@dataclass(frozen=True)
class PolygonLabels:
    """Polygons on a scene: land is what none of them covers."""

    shapes: tuple[Any, ...]
    """Polygons in the scene's CRS."""
    values: tuple[int, ...]
    """LAND, WATER or IGNORE for each; where two overlap the later counts."""
    geobox: GeoBox
    """The scene's own grid, on which they are burnt: a pixel is in where its centre is. A grid that
    is finer is burnt itself."""
    labelled: tuple[Any, ...] | None = None
    """Polygons outside which nothing is known; everywhere without them."""

    @cached_property
    def _tree(self) -> shapely.STRtree:
        return shapely.STRtree(list(self.shapes))

    def shares(self, geobox: GeoBox) -> tuple[np.ndarray, np.ndarray]:
        """Burn the polygons under a grid and bring them there."""
        if abs(geobox.affine.determinant) < abs(self.geobox.affine.determinant):
            return _split(self.burn(geobox))
        window = source_part(self.geobox, geobox)
        if window is None:
            return _nothing(geobox)
        native = self.geobox[window.slices()]
        return _regrid(self.burn(native), native, geobox)

    def burn(self, geobox: GeoBox) -> np.ndarray:
        """Return the label on a grid by pixel centres, (y, x) uint8."""
        here = np.sort(self._tree.query(geobox.extent.geom, predicate="intersects"))
        label = np.full(tuple(geobox.shape), LAND, np.uint8)
        if len(here):
            pairs = [(self.shapes[i], self.values[i]) for i in here]
            rasterize(pairs, out=label, transform=geobox.affine)
        if self.labelled is not None:
            areas = [(area, 1) for area in self.labelled]
            label[rasterize(areas, tuple(geobox.shape), transform=geobox.affine) == 0] = IGNORE
        return label


def as_label(values: np.ndarray, water_value: int) -> np.ndarray:
    """Return mask values as LAND, WATER and IGNORE; they have been checked before."""
    if water_value == WATER:
        return values.astype(np.uint8)
    ignored = (values == IGNORE) & (values != water_value)
    return np.where(ignored, IGNORE, values == water_value).astype(np.uint8)


def open_mask(path: str, shape: tuple[int, int], image: str) -> tuple[RasterFile, np.ndarray]:
    """Look at a mask file and read it.

    Returns
    -------
    RasterFile and numpy.ndarray of shape (y, x)

    Raises
    ------
    InputError
        It cannot be read, has another size than its image, or is in colours.
    """
    file = look_at_picture(path)
    check_size(tuple(file.geobox.shape), shape, path, image)
    colours = [i for i, name in enumerate(file.colours, 1) if name != "alpha"][:3]
    values = read_raw(file, colours, Window(0, 0, *shape))
    return file, _one_band(values, path)


def mask_values(image: Any, where: str) -> np.ndarray:
    """Return a mask of a table as (y, x) values.

    Raises
    ------
    InputError
        It is missing or in colours.
    """
    if image is None:
        raise InputError(f"{where}: column label is empty. Remove the row, or give it a mask.")
    if getattr(image, "mode", "") in ("P", "1"):  # the values of a palette are the classes
        return np.asarray(image).astype(np.int64)
    if getattr(image, "has_transparency_data", False):  # what is seen through says nothing
        image = image.convert("RGB")
    return _one_band(bands_of(image)[:3], where).astype(np.int64)


def _one_band(values: np.ndarray, where: str) -> np.ndarray:
    if not (values == values[:1]).all():
        raise InputError(
            f"Mask {where} is in colours: a mask has one band of 0 land, 1 water, 255 ignored. "
            "Convert it first."
        )
    return values[0]


def check_size(mask: tuple[int, ...], image: tuple[int, ...], path: str, image_path: str) -> None:
    """Check that a mask has the size of its image.

    Raises
    ------
    InputError
        They differ.
    """
    if tuple(mask) != tuple(image):
        raise InputError(
            f"Mask {path} has {mask[1]} x {mask[0]} pixels and its image {image_path} "
            f"{image[1]} x {image[0]}: they must have the same size. Export the mask again."
        )


def check_values(found: Collection[tuple[str, frozenset[int]]], water_value: int | None) -> int:
    """Find out which value is water in masks that belong together.

    Parameters
    ----------
    found
        Name of each mask and the values in it.
    water_value
        The value that is water, where the user says so.

    Returns
    -------
    int
        1 unless the user says another.

    Raises
    ------
    InputError
        A mask holds another value than 0 land, water, 255 ignored; or all hold 0 and 255 only,
        which may be either of water and ignored.
    OptionError
        The value cannot be water.
    """
    if water_value is not None and not 1 <= water_value <= 255:
        raise OptionError(f"--water-value {water_value} must be from 1 to 255: 0 is land.")
    water = WATER if water_value is None else water_value
    for name, values in found:
        unknown = sorted(values - {LAND, water, IGNORE})
        if unknown:
            raise InputError(
                f"Mask {name} holds {_listed(unknown)}; a mask holds {LAND} land, {water} water and "
                f"{IGNORE} ignored. Change the mask, or say which value is water with --water-value."
            )
    both = next((name for name, values in found if values == {LAND, IGNORE}), None)
    if water_value is None and both and not any(WATER in values for _, values in found):
        raise InputError(
            f"Mask {both} holds 0 and 255 only, and no other mask holds 1: 255 may be water or "
            "ignored. Say --water-value 255 if it is water, --water-value 1 if it is ignored."
        )
    return water


def values_in(mask: np.ndarray) -> frozenset[int]:
    """Return the values that a mask holds; what is no whole number counts as -1."""
    values = np.unique(mask)
    return frozenset(int(v) if float(v).is_integer() else -1 for v in values.tolist())


def _listed(values: list[int]) -> str:
    shown = ", ".join(str(value) for value in values[:5])
    return f"the values {shown} and more" if len(values) > 5 else f"the value {shown}"


def _regrid(label: np.ndarray, source: GeoBox, target: GeoBox) -> tuple[np.ndarray, np.ndarray]:
    water = np.where(label == IGNORE, np.float32(np.nan), (label == WATER).astype(np.float32))
    means, known = regrid_array(water[None], source, target)
    return means[0], known[0]


def _split(label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    known = label != IGNORE
    water = np.where(known, (label == WATER).astype(np.float32), np.float32(np.nan))
    return water, known.astype(np.float32)


def _nothing(geobox: GeoBox) -> tuple[np.ndarray, np.ndarray]:
    shape = tuple(geobox.shape)
    return np.full(shape, np.nan, np.float32), np.zeros(shape, np.float32)
