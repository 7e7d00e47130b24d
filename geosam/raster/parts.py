"""One file's share of a scene: which of its bands stand where, and what its values mean.

Here is the rule of validity. A pixel is nodata only where every band is: one band that holds the
nodata value is a dark value if that value is 0, and a gap in that band alone if it is another.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from odc.geo.geobox import GeoBox

from geosam.raster.files import RasterFile, is_sparse, read_mask, read_raw
from geosam.raster.resample import overview_geobox
from geosam.raster.validity import Frame, ValidMask
from geosam.types import Window

_REFLECTANCE_FLOOR = -2000
"""Smallest stored value of signed reflectances (Landsat Collection 1 surface reflectance, valid
range -2000 to 16000): what lies below is not a dark pixel but something else, and is kept."""


@dataclass(frozen=True)
class Part:
    """One file's share of a scene. Tuples have one entry for each of its scene bands."""

    file: RasterFile
    """The file."""
    geobox: GeoBox
    """Where it lies: its own grid, moved onto the scene's if off by a fraction of a pixel."""
    indexes: tuple[int, ...]
    """1-based bands in the file."""
    positions: tuple[int, ...]
    """Their places among the scene's bands, from 0."""
    nodata: tuple[float | None, ...]
    """Nodata values."""
    scales: tuple[float, ...]
    """Scales."""
    offsets: tuple[float, ...]
    """Offsets."""
    clipped: tuple[bool, ...]
    """Whether negative values are noise around a reflectance of zero, and become 0."""
    alpha: int | None
    """1-based alpha band, not a scene band."""
    frame: Frame | None = None
    """The frame that counts as nodata."""

    @property
    def tagged(self) -> bool:
        """Whether anything marks nodata in this file."""
        return (
            self.alpha is not None
            or self.file.mask != "none"
            or any(value is not None for value in self.nodata)
        )

    def with_frame(self, frame: Frame) -> Part:
        """Return the same part with a frame that counts as nodata."""
        return replace(self, frame=frame)

    def level_geobox(self, level: int | None) -> GeoBox:
        """Return the grid of an overview (0 the finest), the native one for None."""
        if level is None:
            return self.geobox
        return overview_geobox(self.geobox, self.file.levels[level])


@dataclass(frozen=True)
class Pixels:
    """Values read from one part, on one grid."""

    values: np.ndarray
    """(band, y, x) float32, NaN where there is no value."""
    coverage: np.ndarray
    """(band, y, x): the share of each pixel that valid pixels of the file cover, float32, or bool where it is
    all or nothing."""
    dark: np.ndarray
    """(band, y, x) bool: nodata here, but a dark value if another band of the pixel is valid."""


def read_window(part: Part, window: Window, level: int | None, valid: ValidMask | None) -> Pixels:
    """Read pixels of the part's own grid (or an overview's) and say which are valid."""
    raw = read_raw(part.file, part.indexes, window, level)
    there = _present(part, window, level, valid)
    missing = _missing(part, raw, window, level)
    values = _scaled(part, raw)
    if there.all() and not missing.any():
        # So are most windows of most scenes, and masks of every pixel cost more than its values.
        shape = values.shape
        return Pixels(values, np.broadcast_to(True, shape), np.broadcast_to(False, shape))
    dark = missing & _keeps(part, raw) & there
    hidden = (missing & ~dark) | ~there
    hidden |= (missing | ~there).all(axis=0)
    values[hidden] = np.nan
    return Pixels(values, ~hidden, dark & hidden)


def read_void(part: Part, window: Window, valid: ValidMask | None) -> np.ndarray:
    """Return (y, x) bool: where no band of the part has data, on its own grid.

    What :func:`read_window` leaves empty, for a part of its memory; where masks alone tell it no pixel is read.
    """
    absent = ~_present(part, window, None, valid)
    if not _masks_tell(part):
        absent = _missing(part, read_raw(part.file, part.indexes, window), window, None) | absent
    return np.asarray(absent.all(axis=0))


def _masks_tell(part: Part) -> bool:
    """Return whether no value of the part stands for nodata."""
    numbers = np.dtype(part.file.dtype).kind in "iu"
    return numbers and part.frame is None and all(value is None for value in part.nodata)


def is_blank(part: Part, window: Window) -> bool:
    """Tell whether the file says, without being read, that all of a window is nodata."""
    as_stored = tuple(part.file.nodata[index - 1] for index in part.indexes)
    return None not in part.nodata and part.nodata == as_stored and is_sparse(part.file, window)


def dark_values(part: Part) -> np.ndarray:
    """Return (band,) float32: the value of a dark pixel of each band after scale and offset."""
    stored = 0.0 if part.frame is None else part.frame.value
    return _scaled(part, np.full((len(part.indexes), 1, 1), stored))[:, 0, 0]


def _present(part: Part, window: Window, level: int | None, valid: ValidMask | None) -> np.ndarray:
    """Return (1 or band, y, x) bool: what the masks leave."""
    there = np.ones((1, window.height, window.width), bool)
    if part.file.mask != "none":
        there = there & read_mask(part.file, part.indexes, window, level)
    if part.alpha is not None:
        there = there & (read_raw(part.file, [part.alpha], window, level) != 0)
    if valid is not None:
        there = there & valid.on(part.level_geobox(level)[window.slices()])
    return there


def _missing(part: Part, raw: np.ndarray, window: Window, level: int | None) -> np.ndarray:
    """Return (band, y, x) bool: the band holds its nodata value, the frame's, or no number."""
    missing = ~np.isfinite(raw) if raw.dtype.kind == "f" else np.zeros(raw.shape, bool)
    for band, nodata in enumerate(part.nodata):
        if nodata is not None:
            missing[band] |= _equal(raw[band], nodata)
    if part.frame is not None:
        height, width = part.level_geobox(level).shape
        inside = part.frame.within(window, (height, width))
        missing |= _equal(raw, part.frame.value) & inside
        if part.frame.slack:
            missing |= part.frame.holds(raw) & inside
    return missing


def _equal(raw: np.ndarray, value: float) -> np.ndarray:
    """Compare in the file's own type, where a value such as -3.4e38 may be rounded."""
    if raw.dtype.kind == "f":
        return raw == np.asarray(value).astype(raw.dtype)
    return raw == value


def _keeps(part: Part, raw: np.ndarray) -> np.ndarray:
    """Return bool: a nodata value that is a dark value where the pixel's other bands are valid."""
    keeps = raw == 0
    return keeps if part.frame is None else keeps | _equal(raw, part.frame.value)


def _scaled(part: Part, raw: np.ndarray) -> np.ndarray:
    """Apply scale and offset, in double precision where there are any; return float32."""
    values = np.empty(raw.shape, np.float32)
    rows = zip(part.scales, part.offsets, part.clipped, strict=True)
    for band, (scale, offset, clipped) in enumerate(rows):
        plain = (scale, offset) == (1, 0)
        values[band] = raw[band] if plain else raw[band] * np.float64(scale) + offset
        if clipped:
            floor = _REFLECTANCE_FLOOR if plain else -np.inf
            values[band][(values[band] < 0) & (values[band] >= floor)] = 0
    return values
