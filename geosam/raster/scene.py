"""A scene's pixels, lazily and labelled, on its own grid or on another."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Unpack
from uuid import uuid4

import dask.array as da
import numpy as np
import xarray as xr
from dask.array.core import normalize_chunks
from odc.geo.geobox import GeoBox
from odc.geo.xr import xr_coords

from geosam.errors import InputError
from geosam.grids import geobox_of
from geosam.raster.faults import Tell, read_what_can_be
from geosam.raster.parts import is_blank
from geosam.raster.parts import read_void as read_part_void
from geosam.raster.reading import read_block
from geosam.raster.resample import axis_maps
from geosam.raster.sources import Reading, Source, inspect_scene
from geosam.raster.validity import ValidMask, parse_valid, source_window
from geosam.types import Window

_COARSEN_PX = 2048
"""Side of the blocks that are made coarser at once: 64 MB for four bands."""
_SAMPLES = 3
_SAMPLE_PX = 64


def open_scene(
    paths: str | Path | Sequence[str | Path],
    *,
    geobox: GeoBox | None = None,
    chunks: int = 1024,
    **reading: Unpack[Reading],
) -> xr.DataArray:
    """Open a scene lazily; see :func:`inspect_scene` for what its files may be.

    Parameters
    ----------
    paths
        As in :func:`inspect_scene`.
    geobox, chunks
        As in :func:`read`.
    **reading
        `bands`, `scale`, `offset`, `nodata`, `crs`, `valid`, `frame` and `mosaic`, as in
        :func:`inspect_scene`.

    Returns
    -------
    xarray.DataArray
        (band, y, x) float32 in Dask chunks with all bands in each; ``band`` holds the roles. Scale
        and offset are applied. NaN where nodata: a pixel is nodata where all bands are. In any
        other pixel, a band that holds a nodata value of 0 is a dark value, and one that holds
        another nodata value is NaN alone.

    Raises
    ------
    InputError, BandError
        The files cannot be used as one scene.

    Examples
    --------
    >>> scene = open_scene("ortho.tif", bands="red=1,green=2,blue=3,nir=4")  # doctest: +SKIP
    >>> scene.sel(band="nir").isel(y=slice(0, 512))  # doctest: +SKIP
    """
    return read(inspect_scene(paths, **reading), geobox=geobox, chunks=chunks)


def read(
    source: Source,
    *,
    geobox: GeoBox | None = None,
    chunks: int = 1024,
    tell: Tell | None = None,
) -> xr.DataArray:
    """Return the pixels of a scene, lazily, on its own grid or another.

    Parameters
    ----------
    source : Source
        From :func:`inspect_scene`.
    geobox : odc.geo.geobox.GeoBox or None
        The grid; default the scene's own, on which pixels are those of the file. A coarser grid of
        the same axes holds means of valid pixels, read from overviews where there are any, a finer
        one is interpolated, and any other is warped.
    chunks : int
        Rows and columns of a Dask chunk, which holds all bands.
    tell
        Is called with every part that cannot be read when a chunk is computed; that is nodata then.

    Returns
    -------
    xarray.DataArray
        (band, y, x) float32, NaN where nodata, as :func:`open_scene` says. The attribute ``stored``
        is the data type of the file, or ``scaled``.

    Raises
    ------
    InputError
        When a chunk is computed and its file cannot be read, unless that is told.
    """
    grid = geobox or source.geobox
    n_bands = len(source.names.names)
    blocks = normalize_chunks((chunks, chunks), shape=tuple(grid.shape), dtype=np.float32)
    side = tuple(sizes[0] for sizes in blocks)
    load = partial(_load, source=source, grid=grid, side=side, tell=tell)
    data = da.map_blocks(
        load, chunks=((n_bands,), *blocks), dtype=np.float32, meta=np.empty((0, 0, 0), np.float32),
        # A name from what is read would take as long to find as a small part to read.
        name=f"read-{uuid4().hex}",
    )  # fmt: skip
    coords = {"band": list(source.names.names), **xr_coords(grid, always_yx=True)}
    first = source.parts[0]
    plain = set(first.scales) == {1.0} and set(first.offsets) == {0.0}
    attrs = {"stored": first.file.dtype if plain else "scaled"}
    return xr.DataArray(data, coords=coords, dims=("band", "y", "x"), name="scene", attrs=attrs)


def _load(
    source: Source,
    grid: GeoBox,
    side: tuple[int, int],
    tell: Tell | None,
    block_id: tuple[int, int, int] | None = None,
) -> np.ndarray:
    assert block_id is not None
    return load_pixels(source, grid[_place(block_id[1:], side, grid)], tell)


def _place(block: tuple[int, int], side: tuple[int, int], grid: GeoBox) -> tuple[slice, slice]:
    """Return the pixels of a chunk."""
    rows, cols = (
        slice(i * n, min((i + 1) * n, length))
        for i, n, length in zip(block, side, grid.shape, strict=True)
    )
    return rows, cols


def read_void(
    source: Source, *, geobox: GeoBox, chunks: int = 1024, tell: Tell | None = None
) -> xr.DataArray:
    """Return where a scene has no data in any band, lazily.

    Parameters
    ----------
    source
        From :func:`inspect_scene`.
    geobox
        The scene's own grid, or a part of it.
    chunks, tell
        As in :func:`read`.

    Returns
    -------
    xarray.DataArray
        (y, x) bool. Where masks alone tell it no pixel is read, and one that cannot be read counts as data.
    """
    blocks = normalize_chunks((chunks, chunks), shape=tuple(geobox.shape), dtype=bool)
    side = tuple(sizes[0] for sizes in blocks)
    load = partial(_load_void, source=source, grid=geobox, side=side, tell=tell)
    data = da.map_blocks(
        load, chunks=blocks, dtype=bool, meta=np.empty((0, 0), bool), name=f"void-{uuid4().hex}"
    )
    return xr.DataArray(
        data, coords=xr_coords(geobox, always_yx=True), dims=("y", "x"), name="void"
    )


def _load_void(
    source: Source,
    grid: GeoBox,
    side: tuple[int, int],
    tell: Tell | None,
    block_id: tuple[int, int] | None = None,
) -> np.ndarray:
    assert block_id is not None
    block = grid[_place(block_id, side, grid)]
    window = _only_window(source, block)
    if window is not None:
        try:
            return read_part_void(source.parts[0], window, source.valid)
        except InputError:
            pass  # what reads pixels tries again, and tells what it cannot read
    return np.isnan(load_pixels(source, block, tell)).all(axis=0)


def _only_window(source: Source, grid: GeoBox) -> Window | None:
    """Return the pixels of the scene's only file under a part of the scene's own grid."""
    part = source.parts[0]
    whole = len(source.parts) == 1 and len(part.positions) == len(source.names.names)
    maps = axis_maps(part.geobox, grid) if whole else None
    if maps is None or any(axis.offset is None or axis.step < 0 for axis in maps):
        return None
    window = Window(*(int(axis.offset or 0) for axis in maps), *grid.shape)
    file = Window(0, 0, *part.geobox.shape)
    return window if window.intersection(file) == window else None


def is_void(source: Source, geobox: GeoBox) -> bool:
    """Tell whether files say that they hold nothing under a part of the scene's own grid, without
    reading it. They may hold nothing all the same where they do not say so.
    """
    windows = [(part, _pixels_under(part.geobox, geobox)) for part in source.parts]
    return all(window is None or is_blank(part, window) for part, window in windows)


def _pixels_under(file: GeoBox, grid: GeoBox) -> Window | None:
    """Return the pixels of a file under a grid: just those, where the two are not turned against each other."""
    maps = axis_maps(file, grid)
    if maps is None:
        return source_window(file, grid)
    (top, bottom), (left, right) = (axis.reach() for axis in maps)
    return Window(top, left, bottom - top, right - left) if bottom > top and right > left else None


def load_pixels(source: Source, grid: GeoBox, tell: Tell | None = None) -> np.ndarray:
    """Read the pixels of a scene on a grid at once; see :func:`read`."""
    n_bands = len(source.names.names)

    def read_grid(part: GeoBox) -> np.ndarray:
        return read_block(source.parts, n_bands, part, source.valid)

    if tell is None:
        return read_grid(grid)
    col, row = ~grid.affine @ source.geobox.affine @ (0, 0)
    return read_what_can_be(read_grid, grid, n_bands, tell, (-round(row), -round(col)))


def coarsen(scene: xr.DataArray, factor: int) -> xr.DataArray:
    """Return a coarser view of a scene that no file backs: means of the valid pixels of blocks.

    Parameters
    ----------
    scene : xarray.DataArray
        (band, y, x) with a CRS, NaN where nodata.
    factor : int
        Rows and columns of a block.

    Returns
    -------
    xarray.DataArray
        (band, y, x) float32, lazy, NaN where a block has no valid pixel. Blocks are counted from
        the origin of the CRS, as :func:`geosam.tiles.zoom` does.
    """
    from geosam.tiles import anchor, zoom

    geobox = geobox_of(scene)
    target = zoom(geobox, factor)
    lead = [start % factor for start in anchor(geobox)]
    sides = zip(lead, geobox.shape, target.shape, strict=True)
    pads = [(before, size * factor - before - side) for before, side, size in sides]
    padded = da.pad(da.asarray(scene.data), [(0, 0), *pads], constant_values=np.nan)
    side = factor * max(1, _COARSEN_PX // factor)
    blocks = padded.rechunk({0: -1, 1: side, 2: side})
    data = da.coarsen(_nanmean, blocks, {1: factor, 2: factor})
    coords = {"band": scene.band, **xr_coords(target, always_yx=True)}
    return xr.DataArray(data, coords=coords, dims=("band", "y", "x"), attrs=scene.attrs)


def _nanmean(values: np.ndarray, axis: Any = None, **_: Any) -> np.ndarray:
    known = np.isfinite(values)
    count = known.sum(axis=axis)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (np.where(known, values, 0).sum(axis=axis) / count).astype(np.float32)


def check_coarse(path: str | Path, geobox: GeoBox) -> None:
    """Check that a raster can be a coarse mask of a scene.

    Raises
    ------
    InputError
        If it cannot be read or does not touch the scene's grid.
    """
    water = parse_valid(str(path))
    if geobox.crs is None or not water.file.geobox.footprint(geobox.crs).intersects(geobox.extent):
        raise InputError(
            f"{water.file.path} lies outside the scene. Give a coarse mask of the same place."
        )


def read_coarse(path: str | Path, geobox: GeoBox, chunks: int = 1024) -> xr.DataArray:
    """Read a raster as a coarse mask on any grid, by nearest neighbour, lazily.

    Parameters
    ----------
    path
        ``"MASK.tif"``, where all but zero is water, or ``"classes.tif:VALUES"``; of a probability
        (float, or with a GDAL scale) what is above a half.
    geobox
        The grid.

    Returns
    -------
    DataArray (y, x) bool
        False where the raster has no data or does not reach.

    Raises
    ------
    InputError
        If the raster cannot be read.
    """
    water = parse_valid(str(path))
    blocks = normalize_chunks((chunks, chunks), shape=tuple(geobox.shape), dtype=bool)
    load = partial(_load_coarse, water=water, grid=geobox, side=chunks)
    data = da.map_blocks(load, chunks=blocks, dtype=bool, meta=np.empty((0, 0), bool))
    return xr.DataArray(data, coords=xr_coords(geobox, always_yx=True), dims=("y", "x"))


def _load_coarse(
    water: ValidMask, grid: GeoBox, side: int, block_id: tuple[int, int] | None = None
) -> np.ndarray:
    assert block_id is not None
    rows, cols = (
        slice(i * side, min((i + 1) * side, length))
        for i, length in zip(block_id, grid.shape, strict=True)
    )
    return water.on(grid[rows, cols])


def fingerprint(source: Source) -> str:
    """Return a SHA-256 that changes when the scene's pixels do, or how they are read.

    It covers sizes, grids, types, band roles, scale, offset and nodata of the files, a sample
    of their pixels, and all of a mask that says which of them count, but neither paths nor times: a copied
    scene is the same scene.
    """
    digest = hashlib.sha256(repr((source.names.names, _header(source.geobox))).encode())
    for part in source.parts:
        digest.update(repr((part.file.n_bytes, part.file.dtype, _header(part.geobox))).encode())
        meaning = (part.indexes, part.nodata, part.scales, part.offsets, part.alpha)
        digest.update(repr((meaning, part.frame and (part.frame.value, part.frame.slack))).encode())
    if source.valid is not None:
        digest.update(_valid_digest(source.valid).encode())
    for window in _samples(source.geobox):
        grid = source.geobox[window.slices()]
        block = load_pixels(source, grid, tell=lambda part, reason: None)
        digest.update(np.nan_to_num(block, nan=-1.0).tobytes())
    return digest.hexdigest()


def _valid_digest(valid: ValidMask) -> str:
    """Return what tells a mask from another: how it is read, and its bytes where it is a file here."""
    read = repr((valid.values, _header(valid.file.geobox), valid.file.nodata, valid.floor))
    path = Path(valid.file.path)
    if not path.is_file():
        return read
    with path.open("rb") as file:
        return read + hashlib.file_digest(file, "sha256").hexdigest()


def _header(geobox: GeoBox) -> tuple[object, ...]:
    return tuple(geobox.shape), tuple(geobox.affine), str(geobox.crs)


def _samples(geobox: GeoBox) -> list[Window]:
    """Return small windows spread over a grid."""
    (height, width), n = geobox.shape, _SAMPLES
    size = min(_SAMPLE_PX, height), min(_SAMPLE_PX, width)
    rows = np.linspace(0, height - size[0], n).astype(int).tolist()
    cols = np.linspace(0, width - size[1], n).astype(int).tolist()
    return [Window(row, col, *size) for row in rows for col in cols]


def describe(source: Source) -> dict[str, Any]:
    """Return what is known of a scene as JSON-ready values."""
    geobox, first = source.geobox, source.parts[0]
    sizes = [part.file.n_bytes for part in source.parts if part.file.n_bytes is not None]
    return {
        "paths": list(source.paths),
        "height": geobox.shape[0],
        "width": geobox.shape[1],
        "crs": str(geobox.crs),
        "transform": list(geobox.affine)[:6],
        "bands": list(source.names.names),
        "bands_known_by": list(source.names.reasons),
        "dtype": first.file.dtype,
        "nodata": first.nodata[0],
        "mask": first.file.mask,
        "alpha": first.alpha is not None,
        "frame": None if first.frame is None else first.frame.value,
        "scale": first.scales[0],
        "offset": first.offsets[0],
        "overviews": [list(level) for level in first.file.levels],
        "bytes": sum(sizes),
    }
