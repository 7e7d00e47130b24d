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


def union_geobox(files: Sequence[RasterFile], mosaic: str | None) -> tuple[GeoBox, list[GeoBox]]:
    """Return the grid that holds all files, and each file's grid moved onto whole pixels of it.

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
    union = GeoBox(tuple(int(s) for s in high - low), _moved(affine, low), first.geobox.crs)
    return union, [
        GeoBox(file.geobox.shape, _moved(affine, corner), first.geobox.crs)
        for file, corner in zip(files, corners, strict=True)
    ]


def _corner(first: RasterFile, file: RasterFile) -> tuple[int, int]:
    """Return (row, col) of a file's first pixel on the pixels of the first file."""
    a, b = first.geobox, file.geobox
    if a.crs != b.crs:
        raise InputError(
            f"{file.path} is in {b.crs}, {first.path} in {a.crs}. Scenes of one mosaic need one CRS: warp them, or run them apart with -o DIR."
        )
    sizes = np.array([[g.affine.a, g.affine.b, g.affine.d, g.affine.e] for g in (a, b)])
    if not np.allclose(sizes[0], sizes[1], rtol=1e-3, atol=1e-12):
        raise InputError(
            f"{file.path} has pixels of {abs(b.affine.a):g}, {first.path} of {abs(a.affine.a):g}. Scenes of one mosaic need one resolution: run them apart with -o DIR."
        )
    col, row = ~a.affine @ (b.affine.c, b.affine.f)
    return round(row), round(col)


def _moved(affine: Affine, corner: Sequence[int]) -> Affine:
    return affine @ Affine.translation(int(corner[1]), int(corner[0]))


def _check_overlaps(files: Sequence[RasterFile], corners: Sequence[tuple[int, int]]) -> None:
    for i, file in enumerate(files):
        for j in range(i):
            share = _shared(files[j], corners[j], file, corners[i])
            if share > MOST_OVERLAP:
                raise InputError(
                    f"{files[j].path} and {file.path} share {100 * share:.0f} % of the smaller one: they look "
                    "like several dates of one place. Run them one by one with -o DIR, or say with "
                    "--mosaic first or --mosaic last which one wins."
                )


def _shared(a: RasterFile, at: tuple[int, int], b: RasterFile, bt: tuple[int, int]) -> float:
    ends = [np.add(at, a.geobox.shape), np.add(bt, b.geobox.shape)]
    common = np.clip(np.minimum(*ends) - np.maximum(at, bt), 0, None)
    return float(np.prod(common) / min(np.prod(a.geobox.shape), np.prod(b.geobox.shape)))
