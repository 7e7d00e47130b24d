"""Files -> one scene: its grid, its bands with roles, and the lazy array of its pixels."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from dask.array.core import normalize_chunks
from odc.geo.geobox import GeoBox
from odc.geo.xr import xr_coords

from geosam.bands import BandNames, infer_roles, names_file, parse_bands
from geosam.errors import BandError, InputError
from geosam.raster.files import RasterFile, look_at
from geosam.raster.mosaic import union_geobox
from geosam.raster.parts import Part
from geosam.raster.reading import read_block
from geosam.raster.validity import ValidMask, find_frame, parse_valid
from geosam.types import Window

OPTICAL = frozenset(
    {
        "coastal",
        "blue",
        "green",
        "red",
        "rededge1",
        "rededge2",
        "rededge3",
        "nir",
        "nir2",
        "swir1",
        "swir2",
        "pan",
    }
)
"""Roles whose values are reflectances or brightness: below zero they are noise."""


class GeosamWarning(UserWarning):
    """Something was assumed that the user should know of."""


@dataclass(frozen=True)
class Source:
    """A scene that has been looked at and not read."""

    paths: tuple[str, ...]
    """The files, as they were given."""
    parts: tuple[Part, ...]
    """Each file's share; where they overlap the first that is valid counts."""
    names: BandNames
    """The role of each band, and how it is known."""
    places: tuple[str, ...]
    """What holds each band: its index, or its file."""
    geobox: GeoBox
    """The scene's own grid: that of its finest band."""
    valid: ValidMask | None
    """Which pixels count."""

    @property
    def sentence(self) -> str:
        """The bands and how their roles are known, in one line."""
        return self.names.sentence(self.places)


def inspect_scene(
    paths: str | Path | Sequence[str | Path],
    *,
    bands: str | Mapping[str, Any] | None = None,
    scale: float | None = None,
    offset: float | None = None,
    nodata: float | None = None,
    crs: str | None = None,
    valid: str | None = None,
    frame: str = "nodata",
    mosaic: str | None = None,
) -> Source:
    """Look at the files of a scene without reading their pixels.

    Parameters
    ----------
    paths
        A raster that GDAL opens, or several of the same bands, CRS and resolution: one mosaic.
    bands
        ``"red=3,nir=B8"`` or a mapping: role to 1-based index, description, or file. One file a
        band may have any resolution; the finest is the scene's.
    scale, offset, nodata, crs
        Instead of what the files say.
    valid
        ``"MASK.tif"`` or ``"qa.tif:1,2"``: only its non-zero pixels, or those values, count.
    frame
        What a constant frame without a nodata tag is: ``"nodata"``, ``"keep"`` its values, or
        ``"refuse"`` the scene.
    mosaic
        ``"first"`` or ``"last"``: which of overlapping files wins.

    Raises
    ------
    InputError, BandError
        If the files cannot be used as one scene.

    Warns
    -----
    GeosamWarning
        Where a frame is taken for nodata.
    """
    given = parse_bands(bands) if isinstance(bands, str) else dict(bands or {})
    as_files = {role: str(value) for role, value in given.items() if names_file(value)}
    if as_files and len(as_files) < len(given):
        raise BandError(
            "--bands mixes files and indices. Give one file for each band, or one index for each."
        )
    listed = tuple(os.fspath(p) for p in ([paths] if isinstance(paths, (str, Path)) else paths))
    _check_named(listed, as_files)
    build = _band_files(as_files, crs) if as_files else _mosaic_files(listed, given, crs, mosaic)
    parts = tuple(_with_values(part, build.names, scale, offset, nodata) for part in build.parts)
    shown = tuple(as_files.values()) or listed
    if len(build.names.names) < 2 and not given:
        raise BandError(
            f"{shown[0]} has one band; rivers need at least two. Give the others with --bands "
            "green=B03.tif,nir=B08.tif, or several bands in one file."
        )
    parts = _without_frames(parts, bool(as_files), frame)
    return Source(
        shown, parts, build.names, build.places, build.geobox, parse_valid(valid) if valid else None
    )


def _check_named(listed: Sequence[str], as_files: Mapping[str, str]) -> None:
    """Check that a scene is named once: by its files, or by its bands' files."""
    if not listed and not as_files:
        raise InputError("No scene is named. Give a raster, or one file a band with --bands.")
    extra = [path for path in listed if as_files and path not in as_files.values()]
    if extra:
        raise InputError(
            f"--bands names one file a band, and {extra[0]} is none of them. Leave it out, or name "
            "bands by their index in it."
        )


@dataclass(frozen=True)
class _Build:
    parts: tuple[Part, ...]
    names: BandNames
    places: tuple[str, ...]
    geobox: GeoBox


def _band_files(files: Mapping[str, str], crs: str | None) -> _Build:
    looked = {role: look_at(path, crs) for role, path in files.items()}
    first = next(iter(looked.values()))
    for role, file in looked.items():
        if file.geobox.crs != first.geobox.crs:
            raise InputError(
                f"{file.path} ({role}) is in {file.geobox.crs}, {first.path} in {first.geobox.crs}. Bring all bands into one CRS."
            )
    finest = min(looked.values(), key=lambda file: abs(file.geobox.affine.determinant))
    parts = tuple(_part(file, file.geobox, (1,), (k,)) for k, file in enumerate(looked.values()))
    names = BandNames(tuple(looked), ("one file a band",) * len(looked))
    places = tuple(Path(path).name for path in files.values())
    return _Build(parts, names, places, finest.geobox)


def _mosaic_files(
    paths: Sequence[str], given: Mapping[str, Any], crs: str | None, mosaic: str | None
) -> _Build:
    files = [look_at(path, crs) for path in paths]
    geobox, boxes = union_geobox(files, mosaic)
    indexes = _scene_indexes(files[0])
    for file in files[1:]:
        if _scene_indexes(file) != indexes:
            raise InputError(
                f"{file.path} has {len(_scene_indexes(file))} bands, {files[0].path} has {len(indexes)}. Scenes of one mosaic need the same bands."
            )
    names = _names_of(files[0], given, indexes)
    positions = tuple(range(len(indexes)))
    parts = [_part(file, box, indexes, positions) for file, box in zip(files, boxes, strict=True)]
    ordered = parts[::-1] if mosaic == "last" else parts
    return _Build(tuple(ordered), names, tuple(str(i) for i in indexes), geobox)


def _scene_indexes(file: RasterFile) -> tuple[int, ...]:
    return tuple(i for i, colour in enumerate(file.colours, 1) if colour != "alpha")


def _names_of(file: RasterFile, given: Mapping[str, Any], indexes: tuple[int, ...]) -> BandNames:
    if len(indexes) == 1 and not given:
        return BandNames(("band1",), ("",))
    names = infer_roles(
        file.count,
        given=given,
        descriptions=file.descriptions,
        colours=file.colours,
        hint=Path(file.path).name,
    )
    return BandNames(
        tuple(names.names[i - 1] for i in indexes), tuple(names.reasons[i - 1] for i in indexes)
    )


def _part(
    file: RasterFile, geobox: GeoBox, indexes: tuple[int, ...], positions: tuple[int, ...]
) -> Part:
    alpha = next((i for i, colour in enumerate(file.colours, 1) if colour == "alpha"), None)
    return Part(
        file=file,
        geobox=geobox,
        indexes=indexes,
        positions=positions,
        nodata=tuple(file.nodata[i - 1] for i in indexes),
        scales=tuple(file.scales[i - 1] for i in indexes),
        offsets=tuple(file.offsets[i - 1] for i in indexes),
        clipped=(False,) * len(indexes),
        alpha=alpha,
    )


def _with_values(
    part: Part, names: BandNames, scale: float | None, offset: float | None, nodata: float | None
) -> Part:
    """Let the user's scale, offset and nodata win, and say which bands are clipped at zero."""
    n = len(part.indexes)
    scales = part.scales if scale is None else (scale,) * n
    offsets = part.offsets if offset is None else (offset,) * n
    scaled = [(s, o) != (1.0, 0.0) for s, o in zip(scales, offsets, strict=True)]
    signed = np.dtype(part.file.dtype).kind == "i"
    roles = [names.names[k] for k in part.positions]
    clipped = tuple(
        role in OPTICAL and (signed or s) for role, s in zip(roles, scaled, strict=True)
    )
    known = part.nodata if nodata is None else (nodata,) * n
    return replace(part, scales=scales, offsets=offsets, clipped=clipped, nodata=known)


def _without_frames(parts: tuple[Part, ...], together: bool, wanted: str) -> tuple[Part, ...]:
    """Find constant frames in files that tag no nodata; files of one band each share theirs."""
    if wanted == "keep" or any(part.tagged for part in parts):
        return parts
    sets = [parts] if together else [(part,) for part in parts]
    return tuple(part for group in sets for part in _without_frame(group, wanted))


def _without_frame(parts: tuple[Part, ...], wanted: str) -> tuple[Part, ...]:
    frame = find_frame([part.file for part in parts])
    if frame is None:
        return parts
    found = f"{parts[0].file.path} has no nodata tag and a frame of {frame.value:g} around {100 * frame.share:.0f} % of it"
    if wanted == "refuse":
        raise InputError(f"{found}. Set its nodata value, or use --frame nodata or --frame keep.")
    warnings.warn(
        f"{found}, which is taken for nodata. Use --frame keep if it is data.",
        GeosamWarning,
        stacklevel=2,
    )
    return tuple(part.with_frame(frame) for part in parts)


def open_scene(
    paths: str | Path | Sequence[str | Path],
    *,
    bands: str | Mapping[str, Any] | None = None,
    scale: float | None = None,
    offset: float | None = None,
    nodata: float | None = None,
    crs: str | None = None,
    valid: str | None = None,
    frame: str = "nodata",
    mosaic: str | None = None,
    geobox: GeoBox | None = None,
    chunks: int = 1024,
) -> xr.DataArray:
    """Open a scene lazily; see :func:`inspect_scene` for what its files may be.

    Returns
    -------
    DataArray (band, y, x) float32
        In Dask chunks with all bands in each, ``band`` the roles, NaN where nodata: where all bands
        are. One band that holds a nodata value of 0 is a dark value, another nodata value is NaN in
        that band alone. Scale and offset are applied.

    Raises
    ------
    InputError, BandError
        If the files cannot be used as one scene.
    """
    source = inspect_scene(
        paths, bands=bands, scale=scale, offset=offset, nodata=nodata, crs=crs, valid=valid,
        frame=frame, mosaic=mosaic,
    )  # fmt: skip
    return read(source, geobox=geobox, chunks=chunks)


def read(source: Source, *, geobox: GeoBox | None = None, chunks: int = 1024) -> xr.DataArray:
    """Return the pixels of a scene, lazily, on its own grid or another; see :func:`open_scene`."""
    grid = geobox or source.geobox
    n_bands = len(source.names.names)
    blocks = normalize_chunks((chunks, chunks), shape=tuple(grid.shape), dtype=np.float32)
    load = partial(_load, source=source, grid=grid)
    data = da.map_blocks(
        load, chunks=((n_bands,), *blocks), dtype=np.float32, meta=np.empty((0, 0, 0), np.float32)
    )
    coords = {"band": list(source.names.names), **xr_coords(grid)}
    return xr.DataArray(data, coords=coords, dims=("band", *grid.dimensions), name="scene")


def _load(source: Source, grid: GeoBox, block_info: dict | None = None) -> np.ndarray:
    assert block_info is not None
    _, (row, row_end), (col, col_end) = block_info[None]["array-location"]
    part = grid[row:row_end, col:col_end]
    return read_block(source.parts, len(source.names.names), part, source.valid)


def preview(source: Source, max_px: int = 1024) -> xr.DataArray:
    """Return the whole scene, decimated and in memory.

    Raises
    ------
    InputError
        If no pixel of it is valid.
    """
    height, width = source.geobox.shape
    step = max(1, -(-max(height, width) // max_px))
    grid = source.geobox if step == 1 else source.geobox.zoom_out(step)
    small = read(source, geobox=grid, chunks=max(256, max_px // 2)).compute()
    if not np.isfinite(small.values).any():
        raise InputError(
            f"{source.paths[0]} has no valid pixel: all of it is nodata. Check --nodata, --valid and its mask."
        )
    return small


def coarsen(scene: xr.DataArray, factor: int) -> xr.DataArray:
    """Return the mean of the valid pixels of each `factor` x `factor` block, snapped to whole blocks
    from the origin of the CRS, lazily; see :func:`geosam.tiles.zoom`.
    """
    from geosam.tiles import anchor, zoom

    geobox = scene.odc.geobox
    target = zoom(geobox, factor)
    lead = [start % factor for start in anchor(geobox)]
    sides = zip(lead, geobox.shape, target.shape, strict=True)
    pads = [(before, size * factor - before - side) for before, side, size in sides]
    padded = da.pad(da.asarray(scene.data), [(0, 0), *pads], constant_values=np.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        data = da.coarsen(
            _nanmean,
            padded.rechunk({0: -1, 1: 256 * factor, 2: 256 * factor}),
            {1: factor, 2: factor},
        )
    coords = {"band": scene.band, **xr_coords(target)}
    return xr.DataArray(data, coords=coords, dims=("band", *target.dimensions), attrs=scene.attrs)


def _nanmean(values: np.ndarray, axis: Any = None, **_: Any) -> np.ndarray:
    known = np.isfinite(values)
    count = known.sum(axis=axis)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (np.where(known, values, 0).sum(axis=axis) / count).astype(np.float32)


def open_coarse(path: str | Path, geobox: GeoBox, chunks: int = 1024) -> xr.DataArray:
    """Open a raster as a coarse mask on any grid, by nearest neighbour, lazily.

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
        If the raster cannot be read or does not touch the grid.
    """
    water = parse_valid(str(path))
    if not water.file.geobox.extent.to_crs(geobox.crs).intersects(geobox.extent):
        raise InputError(
            f"{water.file.path} lies outside the scene. Give a coarse mask of the same place."
        )
    blocks = normalize_chunks((chunks, chunks), shape=tuple(geobox.shape), dtype=bool)
    load = partial(_load_coarse, water=water, grid=geobox)
    data = da.map_blocks(load, chunks=blocks, dtype=bool, meta=np.empty((0, 0), bool))
    return xr.DataArray(data, coords=xr_coords(geobox), dims=geobox.dimensions)


def _load_coarse(water: ValidMask, grid: GeoBox, block_info: dict | None = None) -> np.ndarray:
    assert block_info is not None
    (row, row_end), (col, col_end) = block_info[None]["array-location"]
    return water.on(grid[row:row_end, col:col_end])


def fingerprint(source: Source) -> str:
    """Return a SHA-256 that changes when the scene's files do: their sizes, grids and types, and a
    sample of their pixels.
    """
    digest = hashlib.sha256()
    for part in source.parts:
        file = part.file
        digest.update(repr((file.n_bytes, tuple(file.geobox.shape), file.dtype)).encode())
        digest.update(repr(tuple(file.geobox.affine)).encode())
    height, width = source.geobox.shape
    for row, col in ((0, 0), (height // 2, width // 2), (height - 64, width - 64)):
        corner = Window(max(0, row), max(0, col), min(64, height), min(64, width))
        window = corner.intersection(Window(0, 0, height, width))
        assert window is not None
        block = read_block(
            source.parts, len(source.names.names), source.geobox[window.slices()], None
        )
        digest.update(np.nan_to_num(block, nan=-1.0).tobytes())
    return digest.hexdigest()


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
