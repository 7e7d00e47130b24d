"""Several files -> one grid, or a sentence that says why not."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox

from geosam.errors import InputError
from geosam.raster.files import RasterFile

MOST_OVERLAP = 0.2
"""Files that share more of the smaller one show the same place at other dates."""
_MOST_DRIFT_PX = 0.5
"""Pixels of one size do not drift apart by more across a file."""


def union_geobox(files: Sequence[RasterFile], mosaic: str | None) -> tuple[GeoBox, list[GeoBox]]:
    """Return the grid that holds all files, and each file's grid moved onto whole pixels of it.

    Parameters
    ----------
    files : sequence of RasterFile
        The files; the grid is that of the first, extended.
    mosaic : {"first", "last"} or None
        Which file wins where they overlap; None refuses much overlap.

    Raises
    ------
    InputError
        If CRS or resolution differ, or two files overlap by more than 20 % of the smaller one and
        `mosaic` does not say which wins.
    """
    first = files[0]
    corners = [_corner(first, file) for file in files]
    if mosaic is None:
        _check_overlaps(files, corners)
    low = np.min(corners, axis=0)
    high = np.max([np.add(c, f.geobox.shape) for c, f in zip(corners, files, strict=True)], axis=0)
    affine = first.geobox.affine
    height, width = (int(size) for size in high - low)
    union = GeoBox((height, width), _moved(affine, low), first.geobox.crs)
    return union, [
        GeoBox(file.geobox.shape, _moved(affine, corner), first.geobox.crs)
        for file, corner in zip(files, corners, strict=True)
    ]


def _corner(first: RasterFile, file: RasterFile) -> tuple[int, int]:
    """Return (row, col) of a file's first pixel on the pixels of the first file."""
    a, b = first.geobox, file.geobox
    if a.crs != b.crs:
        raise InputError(
            f"{file.path} is in {b.crs}, {first.path} in {a.crs}: scenes of one mosaic need one "
            "CRS, so warp them, or run them apart with -o DIR."
        )
    drift = np.subtract(_pixel_axes(a), _pixel_axes(b)) * max(b.shape)
    if np.abs(drift).max() > _MOST_DRIFT_PX * np.abs(_pixel_axes(a)).max():
        raise InputError(
            f"{file.path} has pixels of {_size(b)}, {first.path} of {_size(a)}: scenes of one "
            "mosaic need one resolution and direction, so run them apart with -o DIR."
        )
    col, row = ~a.affine @ (b.affine.c, b.affine.f)
    return round(row), round(col)


def _pixel_axes(geobox: GeoBox) -> tuple[float, float, float, float]:
    affine = geobox.affine
    return affine.a, affine.b, affine.d, affine.e


def _size(geobox: GeoBox) -> str:
    return f"{geobox.affine.a:.9g} x {geobox.affine.e:.9g}"


def _moved(affine: Affine, corner: Sequence[int]) -> Affine:
    return affine @ Affine.translation(int(corner[1]), int(corner[0]))


def _check_overlaps(files: Sequence[RasterFile], corners: Sequence[tuple[int, int]]) -> None:
    low = np.array(corners)
    size = np.array([file.geobox.shape for file in files])
    for i in range(1, len(files)):
        ends = np.minimum(low[:i] + size[:i], low[i] + size[i])
        common = np.clip(ends - np.maximum(low[:i], low[i]), 0, None)
        shares = common.prod(axis=1) / np.minimum(size[:i].prod(axis=1), size[i].prod())
        most = int(shares.argmax())
        if shares[most] > MOST_OVERLAP:
            raise InputError(
                f"{files[most].path} and {files[i].path} share {100 * shares[most]:.0f} % of the "
                "smaller one, so they look like several dates of one place: run them one by one "
                "with -o DIR, or say with --mosaic first or --mosaic last which one wins."
            )
