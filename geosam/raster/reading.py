"""Read a scene's pixels on any grid: copied where the grid is its own, else resampled or warped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.enums import Resampling
from rasterio.warp import reproject

from geosam.raster.parts import Part, Pixels, dark_values, is_blank, read_window
from geosam.raster.resample import AxisMap, axis_maps, weighted_means
from geosam.raster.validity import ValidMask, source_window
from geosam.types import Window

_STRIP_PX = 500_000
"""Source pixels held at once while a grid is made coarser: 8 MB for four bands of float32, and as much for
each of what is made of them."""


def read_block(
    parts: Sequence[Part], n_bands: int, geobox: GeoBox, valid: ValidMask | None
) -> np.ndarray:
    """Read all parts on one grid, the first that is valid on top.

    Returns
    -------
    numpy.ndarray
        (n_bands, y, x) float32, NaN where nodata.
    """
    shape = (n_bands, *geobox.shape)
    if len(parts) == 1 and len(parts[0].positions) == n_bands:
        pixels = read_part(parts[0], geobox, valid)
        return np.full(shape, np.nan, np.float32) if pixels is None else pixels.values
    total, cover = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    dark = np.full(shape, np.nan, np.float32)
    for part in parts:
        pixels = read_part(part, geobox, valid)
        if pixels is not None:
            _lay_under(pixels, part, total, cover, dark)
    with np.errstate(invalid="ignore", divide="ignore"):
        values = np.where(cover > 0, total / cover, np.nan)
    return np.where(np.isnan(values) & (cover > 0).any(axis=0), dark, values)


def _lay_under(
    pixels: Pixels, part: Part, total: np.ndarray, cover: np.ndarray, dark: np.ndarray
) -> None:
    """Add pixels where nothing lies yet; a pixel that two files share in parts is their mean."""
    for band, position in enumerate(part.positions):
        share = np.minimum(pixels.coverage[band], 1 - cover[position])
        total[position] += np.where(share > 0, pixels.values[band] * share, 0)
        cover[position] += share
        dark[position][pixels.dark[band]] = dark_values(part)[band]


def read_part(part: Part, geobox: GeoBox, valid: ValidMask | None) -> Pixels | None:
    """Read one part on a grid; None where they do not touch."""
    maps = axis_maps(part.geobox, geobox)
    if maps is None:
        return _read_warped(part, geobox, valid)
    rows, cols = maps
    if min(last - first for first, last in (rows.inside(), cols.inside())) <= 0:
        return None
    if rows.offset is not None and cols.offset is not None and rows.step > 0 and cols.step > 0:
        return _read_copied(part, Window(rows.offset, cols.offset, *geobox.shape), valid)
    return _read_resampled(part, rows, cols, valid)


def _read_copied(part: Part, window: Window, valid: ValidMask | None) -> Pixels | None:
    inside = window.intersection(Window(0, 0, *part.geobox.shape))
    if inside is None:
        return None
    pixels = read_window(part, inside, None, valid)
    if inside == window:
        return pixels
    out = _nothing(len(part.indexes), (window.height, window.width))
    _paste(out, inside.slices(window), pixels)
    return out


def _read_resampled(part: Part, rows: AxisMap, cols: AxisMap, valid: ValidMask | None) -> Pixels:
    level = best_level(part, min(abs(rows.step), abs(cols.step)))
    if level is not None:
        rows, cols = (
            _on_level(axis, size)
            for axis, size in zip((rows, cols), part.file.levels[level], strict=True)
        )
    out = _nothing(len(part.indexes), (rows.target, cols.target))
    for box in _strips(rows, cols, part.file.block[0]):
        row_part, col_part = rows.part(box.row, box.row_end), cols.part(box.col, box.col_end)
        (top, bottom), (left, right) = row_part.reach(), col_part.reach()
        if bottom > top and right > left:
            window = Window(top, left, bottom - top, right - left)
            if level is None and is_blank(part, window):
                continue
            pixels = read_window(part, window, level, valid)
            _paste(out, box.slices(), _resampled(pixels, row_part, col_part))
    return out


def _resampled(pixels: Pixels, rows: AxisMap, cols: AxisMap) -> Pixels:
    values, coverage = weighted_means(pixels.values, rows, cols)
    dark = np.zeros(values.shape, bool)
    if pixels.dark.any():
        lit = np.where(pixels.dark, np.float32(1), np.float32(np.nan))
        dark = np.isfinite(weighted_means(lit, rows, cols)[0]) & ~np.isfinite(values)
    return Pixels(values, coverage, dark)


def best_level(part: Part, factor: float) -> int | None:
    """Return the coarsest overview that is still at least as fine as what is asked for."""
    height = part.geobox.shape.y
    fine = [i for i, level in enumerate(part.file.levels) if height / level[0] <= factor * 1.001]
    return fine[-1] if fine else None


def _on_level(axis: AxisMap, size: int) -> AxisMap:
    ratio = size / axis.source
    return AxisMap(axis.start * ratio, axis.step * ratio, size, axis.target)


def _strips(rows: AxisMap, cols: AxisMap, block_rows: int) -> Iterator[Window]:
    """Cut the target into boxes whose source pixels fit the memory allowed for them.

    They are as high as the blocks of the file where these are small, so that few blocks are read
    twice.
    """
    (top, bottom), (left, right) = rows.inside(), cols.inside()
    high, wide = max(abs(rows.step), 1e-9), max(abs(cols.step), 1e-9)
    least = min(int(block_rows / max(high, 1)), int(_STRIP_PX**0.5 / max(high, 1))) or 1
    width = max(1, min(right - left, int(_STRIP_PX / (least * max(high, 1)) / wide)))
    height = max(1, int(_STRIP_PX / (width * wide) / high))
    for row in range(top, bottom, height):
        for col in range(left, right, width):
            yield Window(row, col, min(height, bottom - row), min(width, right - col))


def _read_warped(part: Part, geobox: GeoBox, valid: ValidMask | None) -> Pixels | None:
    """Read on a grid of another CRS or direction: first as coarse as needed, then bilinear."""
    window = source_window(part.geobox, geobox)
    if window is None:
        return None
    factor = max(1, int(np.sqrt(window.height * window.width / (geobox.shape.y * geobox.shape.x))))
    near = _anchored(part.geobox, window, factor)
    pixels = read_part(part, near, valid)
    if pixels is None:
        return None
    values = _warp(pixels.values, near, geobox, Resampling.bilinear)
    under = _warp(pixels.values, near, geobox, Resampling.nearest)
    dark = _warp(np.where(pixels.dark, 1.0, np.nan), near, geobox, Resampling.nearest)
    values[np.isnan(under)] = np.nan
    return Pixels(values, np.isfinite(values).astype(np.float32), np.isfinite(dark))


def _anchored(geobox: GeoBox, window: Window, factor: int) -> GeoBox:
    """Return the grid `factor` times coarser over a window, with cells counted from the origin.

    Cells that depend on the window would make two chunks disagree along their border.
    """
    row, col = window.row // factor, window.col // factor
    shape = -(-window.row_end // factor) - row, -(-window.col_end // factor) - col
    affine = geobox.affine @ Affine.scale(factor) @ Affine.translation(col, row)
    return GeoBox(shape, affine, geobox.crs)


def _warp(values: np.ndarray, source: GeoBox, target: GeoBox, how: Resampling) -> np.ndarray:
    """Warp bands one by one: together, GDAL would let a gap in one band cut the others."""
    out = np.full((len(values), *target.shape), np.nan, np.float32)
    for band, pixels in enumerate(values):
        reproject(
            pixels.astype(np.float32),
            out[band],
            src_transform=source.affine,
            src_crs=str(source.crs),
            src_nodata=np.nan,
            dst_transform=target.affine,
            dst_crs=str(target.crs),
            dst_nodata=np.nan,
            resampling=how,
        )
    return out


def _nothing(n_bands: int, shape: tuple[int, int]) -> Pixels:
    size = (n_bands, *shape)
    values = np.full(size, np.nan, np.float32)
    return Pixels(values, np.zeros(size, np.float32), np.zeros(size, bool))


def _paste(out: Pixels, where: tuple[slice, slice], pixels: Pixels) -> None:
    for name in ("values", "coverage", "dark"):
        getattr(out, name)[(slice(None), *where)] = getattr(pixels, name)
