"""One raster file: its grid, its bands and what marks its nodata, found out once and passed around.

A :class:`RasterFile` is a plain value. The file itself is opened again inside the task that reads
it, once per thread, because GDAL handles must not be shared.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.enums import MaskFlags
from rasterio.errors import RasterioError
from rasterio.windows import Window as RasterioWindow

from geosam.errors import InputError
from geosam.reader import open_reader
from geosam.types import Window
from geosam.whereabouts import anywhere

CACHE_BYTES = 64 << 20
"""GDAL's block cache for the whole process. Its default, 5 % of the memory, grows with the machine,
and every block is read about once here. rasterio takes bytes, where the environment variable takes
MB: 64 here would be a cache of 64 bytes."""
_LEAST_CACHE_BYTES = 16 << 20
_ACROSS_PX = 1100
"""What a piece of work reads of a scene side by side, about."""

_HANDLES_PER_THREAD = 16
_handles = threading.local()


@dataclass(frozen=True)
class RasterFile:
    """What is known of one file after looking at its header."""

    path: str
    """Absolute path or GDAL URI: it is opened by processes that work in other folders, too."""
    geobox: GeoBox
    """Its native grid."""
    dtype: str
    """Data type of its bands, as numpy names it."""
    descriptions: tuple[str | None, ...]
    """One a band, alpha included."""
    colours: tuple[str, ...]
    """Colour interpretation of each band, alpha included."""
    nodata: tuple[float | None, ...]
    """Nodata value of each band; NaN is nodata anyway."""
    scales: tuple[float, ...]
    """Scale of each band: value = stored * scale + offset."""
    offsets: tuple[float, ...]
    """Offset of each band."""
    mask: str
    """``"dataset"``: one mask for all bands (internal, ``.msk``); ``"band"``: one for each;
    ``"none"``."""
    levels: tuple[tuple[int, int], ...]
    """(height, width) of each overview that can be trusted with the mask, finest first."""
    block: tuple[int, int]
    """(height, width) of the blocks in which it is stored."""
    n_bytes: int | None
    """Size of the file, None where it is not a local file."""

    @property
    def count(self) -> int:
        """Number of bands, alpha included."""
        return len(self.descriptions)


@contextmanager
def readable(path: str, cache_bytes: int = CACHE_BYTES) -> Iterator[None]:
    """Turn what rasterio raises inside into an :class:`InputError` that names the file."""
    try:
        with rasterio.Env(GDAL_CACHEMAX=cache_bytes):
            yield
    except RasterioError as error:
        reason = str(error.__cause__ or error).strip().rstrip(".")
        raise InputError(
            f"{path} cannot be read ({reason}): it may be truncated or damaged, get it again."
        ) from error


def cache_for(file: RasterFile) -> int:
    """Return how many bytes of a file are worth keeping: what a row of its blocks under a piece of work takes,
    for every thread. More is hardly ever read again, but a large scene would fill all there is.
    """
    height, width = file.block
    across = min(-(-_ACROSS_PX // width) + 1, -(-file.geobox.shape.x // width))
    row = across * width * height * file.count * np.dtype(file.dtype).itemsize
    return min(CACHE_BYTES, max(_LEAST_CACHE_BYTES, row * (os.cpu_count() or 1)))


def read_raw(
    file: RasterFile,
    indexes: Sequence[int],
    window: Window,
    level: int | None = None,
    shape: tuple[int, int] | None = None,
) -> np.ndarray:
    """Read stored values.

    Parameters
    ----------
    file : RasterFile
        The file.
    indexes : sequence of int
        1-based bands.
    window : Window
        Pixels of the grid `level`, inside it.
    level : int or None
        Overview, 0 the finest; None for the native grid.
    shape : (int, int) or None
        Rows and columns to thin the window out to, by nearest neighbour. Default: all.

    Returns
    -------
    numpy.ndarray
        (len(indexes), height, width) in the type of the file.

    Raises
    ------
    InputError
        The file cannot be read there.
    """
    out_shape = (len(indexes), *(shape or (window.height, window.width)))
    with readable(file.path, cache_for(file)):
        return _handle(file.path, level).read(
            list(indexes), window=_rasterio_window(window), out_shape=out_shape
        )


def read_mask(
    file: RasterFile, indexes: Sequence[int], window: Window, level: int | None = None
) -> np.ndarray:
    """Read the mask of `indexes` as bool (n, height, width), True where valid.

    n is 1 where one mask serves all bands.
    """
    wanted = list(indexes[:1] if file.mask == "dataset" else indexes)
    with readable(file.path, cache_for(file)):
        masks = _handle(file.path, level).read_masks(wanted, window=_rasterio_window(window))
    return masks > 0


def is_sparse(file: RasterFile, window: Window) -> bool:
    """Tell whether no block of a GeoTIFF under a window was ever written: it reads as nodata."""
    height, width = file.block
    rows = range(window.row // height, (window.row_end - 1) // height + 1)
    cols = range(window.col // width, (window.col_end - 1) // width + 1)
    with readable(file.path, cache_for(file)):
        source = _handle(file.path, None)
        if source.driver != "GTiff":
            return False
        # GDAL knows a block that is stored by its offset, and gives none for one that is not.
        return not any(
            source.get_tag_item(f"BLOCK_OFFSET_{col}_{row}", "TIFF", bidx=band)
            for row in rows
            for col in cols
            for band in range(1, source.count + 1)
        )


def look_at(path: str | os.PathLike[str], crs: str | None = None) -> RasterFile:
    """Open a file and return what its header says.

    Parameters
    ----------
    path : str or path
        Path or GDAL URI.
    crs : str or None
        CRS to use whatever the file says, in any form that PROJ reads.

    Raises
    ------
    InputError
        No such file, not a raster, no CRS, not georeferenced, complex values, or too small.
    """
    path = os.fspath(path)
    _check_exists(path)
    with _opened_first(path) as src:
        _check_usable(src, path)
        file = _described(src, path, GeoBox(src.shape, src.transform, _crs_of(src, path, crs)))
    _check_last_pixel(file)
    return file


def look_at_picture(path: str | os.PathLike[str]) -> RasterFile:
    """Open a file that has no place on Earth, such as a training chip, and return what its header
    says. Its grid counts pixels from the upper left corner and has no CRS.

    Raises
    ------
    InputError
        No such file, not a raster, complex values, or too small.
    """
    path = os.fspath(path)
    _check_exists(path)
    with _opened_first(path) as src:
        _check_usable(src, path)
        file = _described(src, path, GeoBox(src.shape, Affine.identity(), None))
    _check_last_pixel(file)
    return file


def _described(src: rasterio.DatasetReader, path: str, geobox: GeoBox) -> RasterFile:
    return RasterFile(
        path=anywhere(path),
        geobox=geobox,
        dtype=src.dtypes[0],
        descriptions=src.descriptions,
        colours=tuple(colour.name.lower() for colour in src.colorinterp),
        nodata=src.nodatavals,
        scales=tuple(scale or 1.0 for scale in src.scales),  # 0 is no scale
        offsets=src.offsets,
        mask=_mask_kind(src),
        levels=_levels(src, path),
        block=src.block_shapes[0],
        n_bytes=os.path.getsize(path) if os.path.isfile(path) else None,
    )


def is_local(path: str) -> bool:
    """Tell whether `path` is meant as a path on this machine rather than a GDAL URI."""
    return not path.startswith("/vsi") and ":" not in Path(path).as_posix()[2:]


def _check_exists(path: str) -> None:
    if is_local(path) and not os.path.exists(path):
        raise InputError(f"{path} does not exist: check the path.")


@contextmanager
def _opened_first(path: str) -> Iterator[rasterio.DatasetReader]:
    try:
        src = open_reader(path)
    except RasterioError as error:
        raise InputError(
            f"{path} is not a raster that GDAL can open ({str(error).strip().rstrip('.')}): "
            "give a GeoTIFF, a VRT or another raster format."
        ) from error
    with src, readable(path):
        yield src


def _check_usable(src: rasterio.DatasetReader, path: str) -> None:
    if src.count == 0:
        example = f", such as {src.subdatasets[0]}" if src.subdatasets else ""
        raise InputError(f"{path} has no bands of its own: name one of its datasets{example}.")
    if min(src.shape) < 2:
        raise InputError(
            f"{path} has {src.width} x {src.height} pixels, and a scene needs at least 2 x 2: "
            "give a larger raster."
        )
    if any("complex" in dtype for dtype in src.dtypes):
        raise InputError(
            f"{path} holds complex numbers ({src.dtypes[0]}): convert them to amplitude first."
        )


def _crs_of(src: rasterio.DatasetReader, path: str, crs: str | None) -> str:
    """Return the CRS of a georeferenced raster, as ``EPSG:32618`` or, if it has no code, WKT."""
    if src.transform.is_identity:
        kind = "only ground control points" if src.gcps[0] else "no geotransform"
        raise InputError(
            f"{path} is not georeferenced (it has {kind}): "
            "bring it onto a map grid first, for example with gdalwarp."
        )
    if crs is not None:
        return _named(_parsed_crs(crs))
    if src.crs is None or not src.crs.to_wkt():
        raise InputError(f"{path} has no CRS: give it with --crs, for example --crs EPSG:32618.")
    if not _is_map(src.crs):
        raise InputError(
            f"{path} has a local CRS that does not tell where on Earth it lies: "
            "give a map CRS with --crs, for example --crs EPSG:32618."
        )
    return _named(src.crs)


def _named(crs: rasterio.crs.CRS) -> str:
    authority = crs.to_authority(confidence_threshold=100)
    return ":".join(authority) if authority else crs.to_wkt()


def _parsed_crs(crs: str) -> rasterio.crs.CRS:
    try:
        parsed = rasterio.crs.CRS.from_user_input(crs)
    except rasterio.errors.CRSError as error:
        raise InputError(
            f"CRS {crs!r} is not known: give an EPSG code such as EPSG:32618, or WKT."
        ) from error
    if not _is_map(parsed):
        raise InputError(
            f"CRS {crs!r} is no CRS of a map, with x and y on the ground: "
            "give one such as EPSG:32618."
        )
    return parsed


def _is_map(crs: rasterio.crs.CRS) -> bool:
    return bool(crs.is_geographic or crs.is_projected)


def _mask_kind(src: rasterio.DatasetReader) -> str:
    """Tell which masks the file has beside nodata values and alpha, which are read as they are."""
    flags = src.mask_flag_enums
    if any(MaskFlags.per_dataset in band and MaskFlags.alpha not in band for band in flags):
        return "dataset"
    return "band" if any(not band for band in flags) else "none"


def _levels(src: rasterio.DatasetReader, path: str) -> tuple[tuple[int, int], ...]:
    """Return the shapes of the overviews whose masks are those of the full raster."""
    shapes = []
    for level in range(len(src.overviews(1))):
        with open_reader(path, overview_level=level) as overview:
            if overview.mask_flag_enums != src.mask_flag_enums:
                break
            shapes.append(overview.shape)
    return tuple(shapes)


def _check_last_pixel(file: RasterFile) -> None:
    """Read the last pixel: a truncated file is found here rather than after an hour."""
    height, width = file.geobox.shape
    read_raw(file, [1], Window(height - 1, width - 1, 1, 1), None)


def _rasterio_window(window: Window) -> RasterioWindow:
    return RasterioWindow(window.col, window.row, window.width, window.height)


def _handle(path: str, level: int | None) -> rasterio.DatasetReader:
    """Return this thread's open handle, the oldest of which are closed."""
    cache: OrderedDict = _handles.__dict__.setdefault("cache", OrderedDict())
    key = (path, level, _stamp(path))
    if key not in cache:
        options = {} if level is None else {"overview_level": level}
        cache[key] = open_reader(path, **options)
        while len(cache) > _HANDLES_PER_THREAD:
            cache.popitem(last=False)[1].close()
    cache.move_to_end(key)
    return cache[key]


def _stamp(path: str) -> tuple[int, int] | None:
    """What changes when a file is replaced, so that an old handle is not used for a new file."""
    try:
        stat = os.stat(path)
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size
