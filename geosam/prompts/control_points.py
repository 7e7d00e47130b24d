"""Control points: a few points deep inside the water of a coarse mask, and some well away from it.

The coarse mask of one tile goes in, pixels of that tile come out; x runs right and y down from the
outer corner of the first pixel, so that points lie on pixel centres (``.5``). Everything is a
function of the tile's own window and of a generator seeded from its index.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from geosam.errors import OptionError
from geosam.types import Window

METHODS = ("distance", "erosion")

EIGHT = np.ones((3, 3), dtype=bool)
"""Corners connect: a stream one pixel wide often runs diagonally."""
REFERENCE_SIZE = 256
"""Side in pixels of the tiles for which the formulas of erosion and spread below were tuned."""


WATER_EROSION, LAND_EROSION = 35.0, 50.0
"""Divisors of N**0.6: how often water-surf erodes water and land before it picks points."""
WATER_SPREAD, LAND_SPREAD = 2.75, 2.0
"""Factors of sqrt(N) / n: how far apart water-surf keeps n points on water and on land."""


def control_points(
    mask: NDArray[np.bool_],
    valid: NDArray[np.bool_],
    *,
    per_component: int = 3,
    max_points: int = 8,
    min_px: int = 12,
    method: str = "distance",
    core: Window | None = None,
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """Pick points deep inside the components of a coarse water mask.

    Parameters
    ----------
    mask
        (size, size) bool: coarse water.
    valid
        (size, size) bool: False where nodata. Water there does not count.
    per_component
        Most points in one component; every component that is kept gets at least one, as far as
        `max_points` goes.
    max_points
        Most points altogether. Larger components come first, and each gets its first point before
        any gets its second.
    min_px
        Components (corners connect) with fewer pixels get no point.
    method
        ``"distance"``: the pixel farthest from the bank, then the farthest of those that are not
        too near to it, and so on; no chance in it. ``"erosion"``: random pixels of the eroded
        component, not too near to one another, as the training prompts of water-surf.
    core
        Pick points only there; components are judged on the whole tile all the same. None for the
        whole tile.
    rng
        From :func:`seed_for`. Drawn from by ``"erosion"`` only.

    Returns
    -------
    (k, 2) float
        x, y of pixel centres, in the order in which they were picked; k is 0 to `max_points`.

    Raises
    ------
    OptionError
        If `method` is unknown or a count is below 1.

    Examples
    --------
    >>> mask = np.zeros((8, 8), dtype=bool)
    >>> mask[2:5, 1:6] = True
    >>> control_points(mask, np.ones_like(mask), per_component=1, rng=seed_for(0, (0, 0)))
    array([[3.5, 3.5]])
    """
    _check_options(method, per_component=per_component, max_points=max_points, min_px=min_px)
    pick = _farthest_points if method == "distance" else _eroded_points
    water = mask & valid
    wanted = _inside(core, mask.shape)
    picked = [
        pick(component, wanted[window], per_component, _scale(mask.shape), rng) + _origin(window)
        for window, component in _components(water, wanted, min_px, max_points)
    ]
    return _centres(_interleaved(picked)[:max_points])


def background_points(
    mask: NDArray[np.bool_],
    valid: NDArray[np.bool_],
    n: int,
    *,
    margin_px: float,
    confident: NDArray[np.bool_] | None = None,
    core: Window | None = None,
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """Pick points on land, well away from a coarse water mask and apart from one another.

    Parameters
    ----------
    mask
        (size, size) bool: coarse water.
    valid
        (size, size) bool: False where nodata.
    n
        Number of points wanted.
    margin_px
        Least distance to the mask, in pixels.
    confident
        (size, size) bool: where it is surely land, for instance where the index lies far below
        its threshold. None: everywhere off the mask.
    core
        Pick points only there. None for the whole tile.
    rng
        From :func:`seed_for`.

    Returns
    -------
    (k, 2) float
        x, y of pixel centres; fewer than `n` where the land is too small for more.

    Raises
    ------
    OptionError
        If `n` or `margin_px` is negative.
    """
    if n < 0 or margin_px < 0:
        raise OptionError(
            f"Background points ({n}) and margin ({margin_px:g} px) must be 0 or more."
        )
    land = valid & ~mask & _inside(core, mask.shape)
    if confident is not None:
        land &= confident
    if mask.any() and margin_px > 0:
        # Counted as the king moves in chess: never more than the true distance, and four times
        # as fast.
        land &= ndimage.distance_transform_cdt(~mask, "chessboard") >= margin_px
    # Farther apart than the formula for control points: land is everywhere and two will do.
    apart = distance_apart(land, max(n, 1), LAND_SPREAD)
    return _centres(random_points(land, n, apart, rng))


def bounding_box(mask: NDArray[np.bool_]) -> NDArray[np.float64] | None:
    """Return the smallest box around a mask, or None where the mask is empty.

    Returns
    -------
    (4,) float
        x_min, y_min, x_max, y_max: the outer edges of the outermost pixels, not their centres.

    Examples
    --------
    >>> mask = np.zeros((8, 8), dtype=bool)
    >>> mask[2:5, 1:6] = True
    >>> bounding_box(mask)
    array([1., 2., 6., 5.])
    """
    rows, cols = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if rows.size == 0:
        return None
    return np.array([cols[0], rows[0], cols[-1] + 1, rows[-1] + 1], dtype="float64")


def seed_for(seed: int, index: tuple[int, int]) -> np.random.Generator:
    """Return the generator of one tile: the same on every machine, another for every tile.

    Parameters
    ----------
    seed
        The seed of the run, 0 or more.
    index
        The tile's (row, column), which may be negative.

    Raises
    ------
    OptionError
        If the seed is negative.
    """
    if seed < 0:
        raise OptionError(f"Seed {seed} must be 0 or more. Use --seed 0.")
    # Seed sequences take no negative numbers: 0, -1, 1, -2, ... become 0, 1, 2, 3, ...
    folded = [2 * i if i >= 0 else -2 * i - 1 for i in index]
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, *folded])))


def _components(
    water: NDArray[np.bool_], wanted: NDArray[np.bool_], min_px: int, n: int
) -> list[tuple[tuple[slice, slice], NDArray[np.bool_]]]:
    """Return (window, mask inside it) of the n largest components with a wanted pixel."""
    labels, _ = ndimage.label(water, structure=EIGHT)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    sizes[np.bincount(labels[wanted], minlength=len(sizes)) == 0] = 0
    # Stable: equal sizes stay in the order in which a reader meets them.
    order = np.argsort(-sizes, kind="stable")[:n]
    windows = ndimage.find_objects(labels)
    kept = [number for number in order if sizes[number] >= min_px]
    return [(windows[number - 1], labels[windows[number - 1]] == number) for number in kept]


def _farthest_points(
    component: NDArray[np.bool_],
    wanted: NDArray[np.bool_],
    n: int,
    scale: float,
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """Return up to n (row, col) that lie deepest in a component, spread along it."""
    depth = _squared_depth(component) * wanted
    apart = distance_apart(component, n)
    picked: list[tuple[int, int]] = []
    while len(picked) < n and depth.any():
        point = _middle(np.argwhere(depth == depth.max()))
        picked.append(point)
        _blank_disc(depth, point, apart)
    return _rows_cols(picked)


def _squared_depth(component: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the squared distance to the nearest pixel outside the component, which lies beyond
    the window where the window is all water.

    SciPy's own distances take twice as long, and whole numbers are equal where they should be.
    """
    nearest = ndimage.distance_transform_edt(
        np.pad(component, 1), return_distances=False, return_indices=True
    )
    rows, cols = nearest[:, 1:-1, 1:-1]
    height, width = component.shape
    return (rows - np.arange(1, height + 1)[:, None]) ** 2 + (cols - np.arange(1, width + 1)) ** 2


def _middle(ties: NDArray[np.int64]) -> tuple[int, int]:
    """Return the (row, col) nearest to the middle of all: ties neither lean to a corner nor hang
    on chance.
    """
    nearest = ((ties - ties.mean(axis=0)) ** 2).sum(axis=1).argmin()
    return int(ties[nearest, 0]), int(ties[nearest, 1])


def _eroded_points(
    component: NDArray[np.bool_],
    wanted: NDArray[np.bool_],
    n: int,
    scale: float,
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """Return up to n random (row, col) of the eroded component, not too near to one another."""
    # A pixel survives k erosions by a 3x3 square if it is farther than k from the outside, counted
    # as the king moves in chess.
    depth = ndimage.distance_transform_cdt(np.pad(component, 1), "chessboard")[1:-1, 1:-1] * wanted
    # Never so many that nothing is left: narrow streams keep their middle line.
    erosions = min(erosion_count(int(component.sum()), scale), int(depth.max()) - 1)
    eroded = depth > erosions
    return random_points(eroded, n, distance_apart(eroded, n), rng)


def random_points(
    mask: NDArray[np.bool_], n: int, apart: float, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Return up to n random (row, col) of a mask that are more than `apart` pixels apart."""
    left = mask.copy()
    picked: list[tuple[int, int]] = []
    while len(picked) < n:
        candidates = np.flatnonzero(left)
        if candidates.size == 0:
            break
        point = divmod(int(candidates[rng.integers(candidates.size)]), left.shape[1])
        picked.append(point)
        _blank_disc(left, point, apart)
    return _rows_cols(picked)


def erosion_count(n_px: int, scale: float, divisor: float = WATER_EROSION) -> int:
    """Return how often to erode a region of `n_px` by a 3x3 square, as water-surf does.

    N**0.6 / 35 at 256 px for water, N**0.6 / 50 for land; `scale` is the tile's side over 256.
    """
    return int(scale * int((n_px / scale**2) ** 0.6 / divisor))


def distance_apart(mask: NDArray[np.bool_], n: int, factor: float = WATER_SPREAD) -> float:
    """Return how far apart n points are kept: 2.75 sqrt(N) / n pixels at any tile size, 2 for land."""
    return factor * math.sqrt(np.count_nonzero(mask)) / n


def _blank_disc(plane: np.ndarray, centre: tuple[int, int], radius: float) -> None:
    """Set everything within a radius of a pixel to 0, in place."""
    reach = int(radius)
    row, col = centre
    top, left = max(row - reach, 0), max(col - reach, 0)
    part = plane[top : row + reach + 1, left : col + reach + 1]
    rows = np.arange(top, top + part.shape[0])[:, None] - row
    cols = np.arange(left, left + part.shape[1])[None, :] - col
    part[rows**2 + cols**2 <= radius**2] = 0


def _interleaved(groups: list[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Join the points of all components: every first, then every second, and so on."""
    rank = np.concatenate([np.arange(len(group)) for group in groups] or [np.arange(0)])
    joined = np.concatenate([*groups, _rows_cols([])])
    return joined[np.argsort(rank, kind="stable")]


def _rows_cols(points: list[tuple[int, int]]) -> NDArray[np.int64]:
    return np.array(points, dtype="int64").reshape(-1, 2)


def _origin(window: tuple[slice, slice]) -> NDArray[np.int64]:
    return np.array([window[0].start, window[1].start])


def _centres(rows_cols: NDArray[np.int64]) -> NDArray[np.float64]:
    """Turn (row, col) of pixels into x, y of their centres."""
    return rows_cols[:, ::-1].astype("float64") + 0.5


def _inside(core: Window | None, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return where points are wanted."""
    if core is None:
        return np.ones(shape, dtype=bool)
    inside = np.zeros(shape, dtype=bool)
    inside[core.slices()] = True
    return inside


def _scale(shape: tuple[int, ...]) -> float:
    return max(shape) / REFERENCE_SIZE


def _check_options(method: str, **counts: int) -> None:
    if method not in METHODS:
        raise OptionError(f"Method {method!r} must be one of {', '.join(METHODS)}.")
    for name, count in counts.items():
        if count < 1:
            raise OptionError(f"{name} is {count} and must be 1 or more.")
