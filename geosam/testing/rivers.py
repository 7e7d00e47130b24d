"""The waters of a synthetic scene: a meandering river with islands and bars, a tributary, a pond.

Everything is laid out in river coordinates (distance along the middle line, distance across it,
left positive) and then drawn as signed distances in pixels, negative inside.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.interpolate import make_interp_spline
from scipy.spatial import cKDTree

from geosam.testing.noise import enlarge, grid_nodes, smooth_noise

GRID_STEP = 4
"""Pixels between the points at which distances are computed; between them they are smooth."""
POINT_STEP = 2.0
"""Pixels between the points of a middle line."""


@dataclass(frozen=True)
class Line:
    """A middle line with its widths, from upstream to downstream."""

    points: np.ndarray
    """(n, 2) row, col in pixels, `POINT_STEP` apart."""
    half_width: np.ndarray
    """(n,) pixels from the middle line to the bank."""
    bend: np.ndarray
    """(n,) curvature from -1 (sharpest to one side) to 1, 0 where it is straight."""

    @property
    def tangent(self) -> np.ndarray:
        """(n, 2) direction of flow, of length 1."""
        step = np.gradient(self.points, axis=0)
        return step / np.linalg.norm(step, axis=1, keepdims=True)

    @property
    def normal(self) -> np.ndarray:
        """(n, 2) direction across, to the side on which distances are positive and towards
        which a positive bend turns.
        """
        tangent = self.tangent
        return np.stack([tangent[:, 1], -tangent[:, 0]], axis=1)


@dataclass(frozen=True)
class Island:
    """An ellipse in river coordinates, in pixels."""

    along: float
    """Of its centre, from the first point of the line."""
    across: float
    """Of its centre, from the middle line."""
    half_length: float
    half_breadth: float


@dataclass(frozen=True)
class Waters:
    """The waters of a scene as fields over its pixels; all (height, width) float32."""

    river: Line
    """The middle line of the main river."""
    islands: tuple[Island, ...]
    """Those of the main river, all well inside the scene."""
    water: np.ndarray
    """Pixels to the water's edge, negative in water."""
    bank: np.ndarray
    """Pixels to the top of the bank, negative in the channel with its bars; islands stand above."""
    depth: np.ndarray
    """0 at the water's edge and on land, 1 where it is deepest."""
    downstream: np.ndarray
    """0 where the river enters to 1 where it leaves."""
    across: np.ndarray
    """Pixels to the middle line of the main river, with sign."""


def lay_out_waters(shape: tuple[int, int], rng: np.random.Generator) -> Waters:
    """Lay out a river across a scene, with three islands, a tributary and a pond."""
    river, islands = _with_islands(_main_river(shape, rng), shape, rng)
    along, across = _river_coordinates(river, shape)
    edge, bank = _edges(river, along, across)
    island = _islands(islands, along, across)
    stream = _tributary(river, islands, shape, rng)
    stream_along, stream_across = _river_coordinates(stream, shape)
    creek = np.abs(stream_across) - np.interp(stream_along, _arc(stream), stream.half_width)
    asymmetry = np.sign(across) * np.interp(along, _arc(river), river.bend)

    # Banks are as rough as the river is wide, up to what 1,000 pixels show.
    rough = 1.6 * min(max(shape) / 1000, 1) * smooth_noise(shape, 26, rng, octaves=3)
    edge, bank, island, creek, across = (
        enlarge(field, shape, GRID_STEP) for field in (edge, bank, island, creek, across)
    )
    pond = _pond(np.minimum(bank, creek), shape, rng)
    channel = np.maximum(edge + rough, -(island + 0.7 * rough))
    water = np.minimum(np.minimum(channel, creek + 0.5 * rough), pond + rough)
    return Waters(
        river=river,
        islands=islands,
        water=water,
        bank=np.maximum(np.minimum(np.minimum(bank, creek - 2) + rough, pond + rough), -island - 2),
        depth=_depth(water, enlarge(asymmetry, shape, GRID_STEP), river),
        downstream=np.clip(enlarge(along / _arc(river)[-1], shape, GRID_STEP), 0, 1),
        across=across,
    )


def island_middles(waters: Waters) -> np.ndarray:
    """Return (k, 2) row, col of the islands' middles."""
    river = waters.river
    nearest = [int(island.along / POINT_STEP) for island in waters.islands]
    across = np.array([island.across for island in waters.islands])
    return river.points[nearest] + across.reshape(-1, 1) * river.normal[nearest]


def bridge_deck(waters: Waters, half_width_px: float = 4.0) -> np.ndarray:
    """Return where a bridge crosses the main river at a right angle, (height, width) bool."""
    river, shape = waters.river, waters.water.shape
    free = _well_inside(river.points, shape, 0.15) & _away_from(waters.islands, river)
    place = int(np.where(free, np.abs(river.bend), np.inf).argmin())
    rows, cols = np.ogrid[: shape[0], : shape[1]]
    rows, cols = rows - river.points[place, 0], cols - river.points[place, 1]
    along, across = (
        direction[0] * rows + direction[1] * cols
        for direction in (river.tangent[place], river.normal[place])
    )
    reach = 1.5 * river.half_width[place] + 20
    return (np.abs(along) <= half_width_px) & (np.abs(across) <= reach)


def _main_river(shape: tuple[int, int], rng: np.random.Generator) -> Line:
    """Draw a Kinoshita curve that crosses the scene, from beyond one edge to beyond another.

    References
    ----------
    Langbein and Leopold (1966) for the sine-generated curve; Kinoshita (1961) for its skewed and
    fattened form, with the coefficients of Abad and Garcia (2009).
    """
    size = max(shape)
    n = int(4.5 * size / POINT_STEP)
    s = np.arange(n) * POINT_STEP
    phase = 2 * np.pi * (s / (size * rng.uniform(0.75, 0.95)) + rng.uniform())
    swing = rng.uniform(1.0, 1.25) * (1 + 0.15 * _wander(n, 0.5 * size, rng))
    angle = swing * np.sin(phase) + swing**3 * (np.cos(3 * phase) / 32 - np.sin(3 * phase) / 192)
    angle += 0.15 * _wander(n, 0.12 * size, rng) + rng.uniform(-0.3, 0.3)
    points = POINT_STEP * np.cumsum(np.stack([np.sin(angle), np.cos(angle)], axis=1), axis=0)
    points += np.array(shape) / 2 - points[n // 2 - n // 8 : n // 2 + n // 8].mean(axis=0)
    # Along the longer side; of a square, along either.
    if shape[0] - shape[1] > rng.uniform(-0.5, 0.5):
        points = points[:, ::-1] - np.array(shape)[::-1] / 2 + np.array(shape) / 2
    points = points[_span(points, shape)]
    bend = _bend(points)
    width = 0.021 * size * (1 + 0.13 * _wander(len(points), 0.1 * size, rng) + 0.25 * np.abs(bend))
    return Line(points, width, bend)


def _span(points: np.ndarray, shape: tuple[int, int]) -> slice:
    """Return the stretch of a line around its middle that is inside or just outside the scene."""
    margin = 0.12 * max(shape)
    near = ((points > -margin) & (points < np.array(shape) + margin)).all(axis=1)
    middle = len(points) // 2
    outside = np.flatnonzero(~near)
    before, after = outside[outside < middle], outside[outside > middle]
    first = before[-1] + 1 if before.size else 0
    return slice(first, after[0] if after.size else len(points))


def _wander(n: int, scale_px: float, rng: np.random.Generator) -> np.ndarray:
    """Draw a smooth random series along a line, (n,), mostly within -2 to 2."""
    knots = np.arange(0, n + 4 * scale_px / POINT_STEP, scale_px / POINT_STEP)
    return make_interp_spline(knots, rng.standard_normal(len(knots)))(np.arange(n))


def _bend(points: np.ndarray) -> np.ndarray:
    """Return the curvature of a line, smoothed and scaled to its own sharpest bends, -1 to 1."""
    step = np.gradient(points, axis=0)
    turn = np.gradient(np.unwrap(np.arctan2(step[:, 0], step[:, 1])))
    kernel = np.hanning(31)
    turn = np.convolve(turn, kernel / kernel.sum(), mode="same")
    return np.clip(turn / np.percentile(np.abs(turn), 90), -1, 1)


def _with_islands(
    river: Line, shape: tuple[int, int], rng: np.random.Generator
) -> tuple[Line, tuple[Island, ...]]:
    """Put three islands into the straighter reaches, and widen the river around them."""
    arc = _arc(river)
    width = river.half_width.copy()
    islands: list[Island] = []
    for index in _island_places(river, shape):
        breadth = rng.uniform(0.45, 0.6) * river.half_width[index]
        length = rng.uniform(3.0, 4.5) * breadth
        across = rng.uniform(-0.15, 0.15) * river.half_width[index]
        islands.append(Island(float(arc[index]), across, length, breadth))
        width += 0.9 * breadth * np.exp(-(((arc - arc[index]) / (1.2 * length)) ** 2))
    return Line(river.points, width, river.bend), tuple(islands)


def _island_places(river: Line, shape: tuple[int, int], n: int = 3) -> list[int]:
    """Return the straightest points well inside the scene that are far enough apart."""
    inside = _well_inside(river.points, shape, 0.18)
    order = np.argsort(np.where(inside, np.abs(river.bend), np.inf), kind="stable")
    apart = 10 * river.half_width.mean() / POINT_STEP
    places: list[int] = []
    for index in order[: np.count_nonzero(inside)]:
        if len(places) < n and all(abs(index - other) > apart for other in places):
            places.append(int(index))
    return sorted(places)


def _tributary(
    river: Line, islands: tuple[Island, ...], shape: tuple[int, int], rng: np.random.Generator
) -> Line:
    """Draw a winding stream from beyond the scene's edge into the outside of a bend.

    From there the way out does not cross the river again.
    """
    mouth = _mouth(river, islands, shape)
    outward = -np.sign(river.bend[mouth]) * river.normal[mouth]
    n = int(1.5 * max(shape) / POINT_STEP)
    wave = 2 * np.pi * np.arange(n) * POINT_STEP / (0.22 * max(shape)) + rng.uniform(0, 6)
    angle = np.arctan2(outward[0], outward[1])
    angle = angle + np.minimum(np.arange(n) / 40, 1) * (
        0.8 * np.sin(wave) + 0.2 * _wander(n, 0.07 * max(shape), rng)
    )
    steps = POINT_STEP * np.stack([np.sin(angle), np.cos(angle)], axis=1)
    points = (river.points[mouth] + np.cumsum(steps, axis=0))[::-1]
    width = 0.3 * river.half_width.mean() * np.linspace(0.7, 1, n)
    width *= 1 + 0.12 * _wander(n, 0.05 * max(shape), rng)
    return Line(points, width, _bend(points))


def _mouth(river: Line, islands: tuple[Island, ...], shape: tuple[int, int]) -> int:
    """Return the sharpest bend well inside the scene and away from the islands."""
    free = _well_inside(river.points, shape, 0.15) & _away_from(islands, river)
    return int(np.where(free, np.abs(river.bend), -1).argmax())


def _away_from(islands: tuple[Island, ...], river: Line) -> np.ndarray:
    """Return which points of a river are not beside an island."""
    away = np.ones(len(river.points), dtype=bool)
    for island in islands:
        away &= np.abs(_arc(river) - island.along) > 2.2 * island.half_length
    return away


def _well_inside(points: np.ndarray, shape: tuple[int, int], share: float) -> np.ndarray:
    """Return which points are at least a share of the scene's size away from its edges."""
    size = np.array(shape)
    inside = (points > share * size) & (points < (1 - share) * size)
    return inside[:, 0] & inside[:, 1]


def _arc(line: Line) -> np.ndarray:
    return POINT_STEP * np.arange(len(line.points))


def _river_coordinates(line: Line, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return distance along a line and across it, at the nodes of the coarse grid."""
    rows, cols = grid_nodes(shape, GRID_STEP)
    nodes = np.stack(np.meshgrid(rows, cols, indexing="ij"), axis=-1)
    distance, nearest = cKDTree(line.points).query(nodes.reshape(-1, 2))
    offset = nodes.reshape(-1, 2) - line.points[nearest]
    along = POINT_STEP * nearest + (offset * line.tangent[nearest]).sum(axis=1)
    side = np.sign((offset * line.normal[nearest]).sum(axis=1))
    return along.reshape(nodes.shape[:2]), (side * distance).reshape(nodes.shape[:2])


def _edges(river: Line, along: np.ndarray, across: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return distances to the water's edge and to the bank: a bar lies between, inside a bend."""
    width = np.interp(along, _arc(river), river.half_width)
    bend = np.interp(along, _arc(river), river.bend)
    inside = np.clip(bend * np.sign(across), 0, 1)
    bar = 0.75 * np.clip(1.6 * (inside - 0.35), 0, 1)
    return np.abs(across) - width * (1 - bar), np.abs(across) - width * (1 + 0.35 * bar)


def _islands(islands: tuple[Island, ...], along: np.ndarray, across: np.ndarray) -> np.ndarray:
    """Return the distance to the nearest island's edge, negative on it."""
    edge = np.full(along.shape, np.inf)
    for island in islands:
        x = (along - island.along) / island.half_length
        y = (across - island.across) / island.half_breadth
        edge = np.minimum(edge, (np.hypot(x, y) - 1) * island.half_breadth)
    return np.minimum(edge, 1e4)


def _pond(bank: np.ndarray, shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Return the distance to the edge of a pond in the open land, negative in it."""
    radius = 0.028 * max(shape)
    row, col = _open_place(bank, radius, rng)
    bays = smooth_noise(shape, 1.2 * radius, rng, octaves=2)
    rows, cols = np.ogrid[: shape[0], : shape[1]]
    rows, cols = (rows - row).astype("float32"), (cols - col).astype("float32")
    turn = rng.uniform(0, np.pi)
    x = (cols * np.cos(turn) + rows * np.sin(turn)) / 1.5
    y = rows * np.cos(turn) - cols * np.sin(turn)
    return np.hypot(x, y) - radius * (1 + 0.2 * bays)


def _open_place(bank: np.ndarray, radius: float, rng: np.random.Generator) -> tuple[int, int]:
    """Return a (row, col) that is far enough from water and from the scene's edges."""
    step = 8
    room = np.minimum(bank[::step, ::step], 6 * radius)
    rows, cols = step * np.arange(room.shape[0])[:, None], step * np.arange(room.shape[1])
    for inward in (rows, bank.shape[0] - rows, cols, bank.shape[1] - cols):
        room = np.minimum(room, inward)
    places = np.argwhere(room >= min(room.max(), 3 * radius))
    row, col = step * places[rng.integers(len(places))]
    return int(row), int(col)


def _depth(water: np.ndarray, asymmetry: np.ndarray, river: Line) -> np.ndarray:
    """Return the depth: growing away from the edge, slowly over the bars inside bends."""
    steep = 0.3 * river.half_width.mean() * (1 + 1.2 * np.clip(asymmetry, -0.3, 1))
    return (1 - np.exp(np.minimum(water, 0) / steep)).astype("float32")
