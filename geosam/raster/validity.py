"""Which pixels count: a quality mask, and the constant frame of a scene that has no nodata tag."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from odc.geo import Shape2d
from odc.geo.geobox import GeoBox
from rasterio.enums import Resampling
from rasterio.warp import reproject
from scipy import ndimage

from geosam.errors import OptionError
from geosam.raster.files import RasterFile, look_at, read_raw
from geosam.raster.resample import axis_maps
from geosam.types import Window

FRAME_SHARE = 0.01
"""A constant region smaller than this share of the scene is not taken for a frame."""

SLACK = 15
"""How far from black or white a pixel of a frame may be in an 8-bit file that was compressed with losses, as in
GDAL's `nearblack`."""
NEAR = 8
"""How far most of such a frame is at most: dark water is not as dark."""
MOST_NOISE = 1.5
"""How many times as large as its constant part a frame may be."""

_FULL_READ_PX = 16_000_000  # About 0.2 s; a larger file without overviews is only probed.
_SAMPLE_PX = 512
_LATTICE_PX = 32
_GATHER_PX = 16_000_000
_LEAST_ALPHA = 0.5  # An image band rarely holds so much of its darkest and brightest value.
_EIGHT = np.ones((3, 3), bool)


@dataclass(frozen=True)
class ValidMask:
    """A raster that says which pixels count."""

    file: RasterFile
    """The mask; its first band is read."""
    values: tuple[float, ...]
    """The values that count; empty: all but zero."""

    @property
    def floor(self) -> float:
        """What a stored value must be above: 0 in a mask, that of a half in a probability."""
        scale, offset = self.file.scales[0], self.file.offsets[0]
        is_share = np.dtype(self.file.dtype).kind == "f" or scale != 1.0
        return (0.5 - offset) / scale if is_share else 0

    def on(self, geobox: GeoBox) -> np.ndarray:
        """Return (y, x) bool on a grid, by nearest neighbour; False outside the mask."""
        nodata = self.file.nodata[0]
        fill = 0 if nodata is None else nodata
        values, inside = nearest_on(self.file, 1, geobox, fill)
        keep = np.isin(values, self.values) if self.values else values > self.floor
        if nodata is not None and nodata not in self.values:
            keep &= values != nodata
        return keep & inside & ~np.isnan(values.astype(np.float32))


@dataclass(frozen=True)
class Frame:
    """The constant border of a scene that is tilted in its raster and has no nodata tag."""

    value: float
    """What all bands hold there."""
    share: float
    """Its share of the scene, 0 to 1, from a sample."""
    region: np.ndarray
    """(rows, columns) bool over the whole file: cells in which the frame may lie. Elsewhere the
    value is a value: a black pixel in the shade is not nodata."""
    slack: int = 0
    """How far from the value all bands of a pixel may be; 0 where the frame is constant."""

    def holds(self, raw: np.ndarray) -> np.ndarray:
        """Return (y, x) bool: where stored pixels, (band, y, x), are those of a frame with some slack."""
        apart = np.abs(raw.astype(np.int16) - np.int16(self.value))
        return (apart <= self.slack).all(axis=0)

    def within(self, window: Window, shape: tuple[int, int]) -> np.ndarray:
        """Return (window.height, window.width) bool: the region, for a file of `shape`."""
        cells = [
            (np.arange(first, first + size) * n_cells) // total
            for first, size, n_cells, total in zip(
                (window.row, window.col),
                (window.height, window.width),
                self.region.shape,
                shape,
                strict=True,
            )
        ]
        return self.region[np.ix_(*cells)]


def parse_valid(text: str) -> ValidMask:
    """Read ``"MASK.tif"`` or ``"qa.tif:1,2,5"`` (these values count; default: all but zero).

    Raises
    ------
    InputError
        The mask cannot be opened or is not georeferenced.
    OptionError
        One of the values is no number.
    """
    match = re.fullmatch(r"(.+?):(-?[\d.]+(?:\s*,\s*-?[\d.]+)*)", text.strip())
    if match is None:
        return ValidMask(look_at(text.strip()), ())
    values = tuple(_number(value, text) for value in match[2].split(","))
    return ValidMask(look_at(match[1]), values)


def _number(value: str, text: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise OptionError(
            f"{text!r} has {value.strip()!r} among its values, which is no number: "
            "write them as in qa.tif:1,2,5."
        ) from None


def nearest_on(
    file: RasterFile, index: int, geobox: GeoBox, fill: float
) -> tuple[np.ndarray, np.ndarray]:
    """Read one band on any grid by nearest neighbour.

    Returns
    -------
    values, inside : numpy.ndarray
        (y, x) stored values, and bool: False where the grid leaves the file.
    """
    maps = axis_maps(file.geobox, geobox)
    if maps is None:
        return _nearest_warped(file, index, geobox, fill)
    rows, cols = (axis.nearest() for axis in maps)
    inside = (rows >= 0)[:, None] & (cols >= 0)[None, :]
    values = np.full(geobox.shape, fill, file.dtype)
    _gather(file, index, rows, cols, values)
    return values, inside


def _gather(
    file: RasterFile, index: int, rows: np.ndarray, cols: np.ndarray, out: np.ndarray
) -> None:
    """Copy the pixels at `rows` x `cols` (-1: none) into `out`, in strips of bounded size."""
    at_row, at_col = np.flatnonzero(rows >= 0), np.flatnonzero(cols >= 0)
    if not (at_row.size and at_col.size):
        return
    height, width = np.ptp(rows[at_row]) + 1, np.ptp(cols[at_col]) + 1
    if height * width > _GATHER_PX and at_row.size > 1:
        half = at_row[at_row.size // 2]
        _gather(file, index, rows[:half], cols, out[:half])
        _gather(file, index, rows[half:], cols, out[half:])
        return
    window = Window(int(rows[at_row].min()), int(cols[at_col].min()), int(height), int(width))
    pixels = read_raw(file, [index], window)[0]
    picked = pixels[np.ix_(rows[at_row] - window.row, cols[at_col] - window.col)]
    out[np.ix_(at_row, at_col)] = picked


def _nearest_warped(
    file: RasterFile, index: int, geobox: GeoBox, fill: float
) -> tuple[np.ndarray, np.ndarray]:
    window = source_window(file.geobox, geobox)
    values = np.full(geobox.shape, fill, file.dtype)
    inside = np.zeros(geobox.shape, np.uint8)
    if window is None:
        return values, inside.astype(bool)
    pixels = read_raw(file, [index], window)[0]
    for source, destination in ((pixels, values), (np.ones_like(pixels, np.uint8), inside)):
        reproject(
            source,
            destination,
            src_transform=file.geobox[window.slices()].affine,
            src_crs=str(file.geobox.crs),
            dst_transform=geobox.affine,
            dst_crs=str(geobox.crs),
            resampling=Resampling.nearest,
            init_dest_nodata=False,
        )
    return values, inside.astype(bool)


def source_window(source: GeoBox, target: GeoBox, margin: int = 3) -> Window | None:
    """Return the pixels of `source` under a grid of another CRS or direction, or None."""
    if source.crs is None:
        raise ValueError("A source grid without a CRS has no place for another grid.")
    edge = np.array(target.footprint(source.crs).exterior.points)
    edge = edge[np.isfinite(edge).all(axis=1)]
    if not edge.size:
        return None
    cols, rows = ~source.affine @ (edge[:, 0], edge[:, 1])
    low = np.floor([rows.min(), cols.min()]).astype(int) - margin
    high = np.ceil([rows.max(), cols.max()]).astype(int) + margin
    box = Window(int(low[0]), int(low[1]), *(int(size) for size in high - low))
    return box.intersection(Window(0, 0, *source.shape))


def find_frame(files: Sequence[RasterFile]) -> Frame | None:
    """Find a frame that is connected to the border of the scene: constant, or in 8-bit files nearly black or
    white, as compression with losses leaves it.

    Parameters
    ----------
    files : sequence of RasterFile
        One file, or files of one band each that show the same ground.

    Returns
    -------
    Frame or None
        None where no value fills more than 1 % of the scene from its border inwards in all bands.
    """
    sample = np.concatenate([_sampled(file, files) for file in files])
    constant = _constant_frame(sample)
    if any(file.dtype != "uint8" for file in files):
        return constant
    noisy = [one for one in (_noisy_frame(sample, value) for value in (0, 255)) if one is not None]
    if constant is not None:
        # Noise is along the edge of a frame. What is much more of the same darkness is water beside it.
        most = MOST_NOISE * constant.share
        noisy = [one for one in noisy if constant.share < one.share <= most]
    return max(noisy, key=lambda one: one.share, default=constant)


def _constant_frame(sample: np.ndarray) -> Frame | None:
    equal = (sample == sample[:1]).all(axis=0)
    candidates, counts = np.unique(sample[0][_border(equal) & equal], return_counts=True)
    if not counts.size:
        return None
    value = candidates[np.argmax(counts)]
    return _frame(equal & (sample[0] == value), float(value))


def _noisy_frame(sample: np.ndarray, value: int) -> Frame | None:
    apart = np.abs(sample.astype(np.int16) - value).max(axis=0)
    frame = _frame(apart <= SLACK, value, SLACK)
    if frame is None or np.mean(apart[_reached(apart <= SLACK)] <= NEAR) < 0.5:
        return None
    return frame


def _frame(alike: np.ndarray, value: float, slack: int = 0) -> Frame | None:
    """Return the frame that alike pixels make, (rows, columns) bool, if it is large enough."""
    region = _reached(alike)
    if region.mean() <= FRAME_SHARE:
        return None
    reach = ndimage.binary_dilation(region, _EIGHT) | _border(region)
    return Frame(value, float(region.mean()), reach, slack)


def _reached(alike: np.ndarray) -> np.ndarray:
    """Return what of it is connected to the border."""
    labels, _ = ndimage.label(alike, _EIGHT)
    return np.isin(labels, np.setdiff1d(labels[_border(alike)], [0]))


def _border(sample: np.ndarray) -> np.ndarray:
    border = np.ones(sample.shape, bool)
    border[1:-1, 1:-1] = False
    return border


def holds_alpha(file: RasterFile, index: int) -> bool:
    """Tell whether a band that is tagged as alpha is one: it hides or shows most of its pixels.

    GDAL tags the fourth band of any 8-bit file as alpha unless it is told otherwise, and so the
    near infrared of many orthomosaics.
    """
    if _cheap(file):
        values = _thinned(file, [index], _thin_shape(file.geobox.shape))
    else:
        rows, cols = _lattice(file, _LATTICE_PX // 2)
        points = [read_raw(file, [index], Window(i, j, 1, 1)) for i in rows for j in cols]
        values = np.concatenate(points)
    return bool(np.isin(values, (0, values.max())).mean() >= _LEAST_ALPHA)


def _sampled(file: RasterFile, files: Sequence[RasterFile]) -> np.ndarray:
    """Return (band, rows, columns) thinned-out pixels, of one shape for all `files`."""
    shape = max((other.geobox.shape for other in files), key=lambda shape: shape.y)
    if all(_cheap(other) for other in files):
        return _thinned(file, range(1, file.count + 1), _thin_shape(shape))
    return _probed(file, min(_LATTICE_PX, *shape))


def _thin_shape(shape: Shape2d) -> tuple[int, int]:
    return min(shape.y, _SAMPLE_PX), min(shape.x, _SAMPLE_PX)


def _thinned(file: RasterFile, bands: Sequence[int], shape: tuple[int, int]) -> np.ndarray:
    level = len(file.levels) - 1 if file.levels else None
    whole = Window(0, 0, *(file.geobox.shape if level is None else file.levels[level]))
    return read_raw(file, bands, whole, level, shape)


def _cheap(file: RasterFile) -> bool:
    height, width = file.levels[-1] if file.levels else file.geobox.shape
    return height * width <= _FULL_READ_PX


def _lattice(file: RasterFile, n: int) -> tuple[list[int], list[int]]:
    """Return `n` rows and `n` columns, spread from border to border."""
    rows, cols = (np.linspace(0, size - 1, n).astype(int).tolist() for size in file.geobox.shape)
    return rows, cols


def _probed(file: RasterFile, n: int) -> np.ndarray:
    """Read n x n single pixels; the border of the lattice alone where that shows no frame."""
    sample = np.zeros((file.count, n, n), file.dtype)
    sample[0] = 1  # Bands that differ: not read, not a frame.
    edge = [(i, j) for i in range(n) for j in range(n) if {i, j} & {0, n - 1}]
    _read_points(file, edge, sample)
    corner = sample[:, [0, 0, -1, -1], [0, -1, 0, -1]].astype(np.float64)
    noise = SLACK if file.dtype == "uint8" else 0
    if (np.ptp(corner, axis=0) <= noise).any():
        inner = [(i, j) for i in range(1, n - 1) for j in range(1, n - 1)]
        _read_points(file, inner, sample)
    return sample


def _read_points(file: RasterFile, points: Sequence[tuple[int, int]], sample: np.ndarray) -> None:
    rows, cols = _lattice(file, sample.shape[1])
    bands = range(1, file.count + 1)
    for i, j in points:
        sample[:, i, j] = read_raw(file, bands, Window(rows[i], cols[j], 1, 1))[:, 0, 0]
