"""Parts of a scene that cannot be read: data of a run, not its end."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from time import sleep

import numpy as np
import shapely
from odc.geo.geobox import GeoBox

from geosam.errors import InputError

RETRY_S = 0.5
"""How long after a failure a block is read once more: on a network, a second look may succeed."""
SMALLEST_PX = 64
"""A block that cannot be read is cut into quarters down to this side, so that little is lost."""

Read = Callable[[GeoBox], np.ndarray]
"""A grid -> its pixels (band, y, x)."""
Tell = Callable[[GeoBox, str], None]
"""Takes a grid that could not be read, and why."""


@dataclass(frozen=True)
class Faults:
    """What could not be read, kept in a folder that any number of processes write to."""

    folder: Path
    """Where. It is made when it is needed."""

    def tell(self, geobox: GeoBox, reason: str) -> None:
        """Write down that a grid could not be read."""
        text = json.dumps({"area": shapely.to_wkt(geobox.extent.geom, -1), "reason": reason})
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / f"{hashlib.sha256(text.encode()).hexdigest()}.json").write_text(text)

    def areas(self) -> tuple[np.ndarray, list[str]]:
        """Return (n,) polygons in the CRS of the scene, and why each could not be read."""
        told = [json.loads(path.read_text()) for path in sorted(self.folder.glob("*.json"))]
        return shapely.from_wkt([fault["area"] for fault in told]), [f["reason"] for f in told]


def read_what_can_be(
    read: Read, geobox: GeoBox, n_bands: int, tell: Tell, corner: tuple[int, int] = (0, 0)
) -> np.ndarray:
    """Read a grid, and NaN where it cannot be read.

    Parameters
    ----------
    read
        Reads a grid, or raises :class:`geosam.errors.InputError`.
    geobox
        The grid.
    n_bands
        Bands of the result.
    tell
        Is called with every part that could not be read.
    corner
        (row, column) of the grid's first pixel, counted from where the file begins: cuts are at whole
        multiples of :data:`SMALLEST_PX` from there, as the blocks of files are.

    Returns
    -------
    numpy.ndarray
        (n_bands, y, x) float32.
    """
    try:
        return read(geobox)
    except InputError:
        sleep(RETRY_S)
    return _read_parts(read, geobox, n_bands, tell, corner)


def _read_parts(
    read: Read, geobox: GeoBox, n_bands: int, tell: Tell, corner: tuple[int, int]
) -> np.ndarray:
    parts = [_halves(*side) for side in zip(geobox.shape, corner, strict=True)]
    try:
        return read(geobox)
    except InputError as error:
        if all(len(cut) == 1 for cut in parts):
            tell(geobox, str(error))
            return np.full((n_bands, *geobox.shape), np.nan, np.float32)
    out = np.empty((n_bands, *geobox.shape), np.float32)
    for rows, cols in product(*parts):
        begin = corner[0] + rows.start, corner[1] + cols.start
        out[:, rows, cols] = _read_parts(read, geobox[rows, cols], n_bands, tell, begin)
    return out


def _halves(length: int, start: int) -> list[slice]:
    """Cut a length that begins at `start` near its middle, at a multiple of :data:`SMALLEST_PX`."""
    middle = round((start + length / 2) / SMALLEST_PX) * SMALLEST_PX - start
    return [slice(0, middle), slice(middle, length)] if 0 < middle < length else [slice(0, length)]
