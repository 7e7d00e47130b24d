"""The banks of one outline as a ring of sites, and the gates through which it leaves the scene."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import shapely

GATE_DEPTH = 0.25
"""A cut is a gate where the water behind its middle is deeper than this share of its length;
where it is not, the scene's edge runs along the river instead of across it."""

GATE_TURN_DEG = 90.0
"""A cut is a gate where the banks turn at least this much at its two ends together: half a turn where
a river goes straight through, however obliquely, and hardly any where a bend touches the scene's
edge."""


@dataclass(frozen=True)
class Boundary:
    """Sites along the rings of a polygon; each has a segment to the one that follows it."""

    points: np.ndarray
    """(n, 2) float: x, y in metres."""
    after: np.ndarray
    """(n,) int: the site that follows on the same ring. Water lies on the left of the way."""
    gate: np.ndarray
    """(n,) bool: whether the segment to the following site is a gate."""
    vertex: np.ndarray
    """(n,) bool: whether the site is a vertex of the polygon, and not set between two of them."""
    exits: np.ndarray
    """(n, 2) float: where a line leaves through the gate; NaN at other segments."""


def sites(polygon: shapely.Polygon, on_edge: np.ndarray, spacing: float) -> Boundary:
    """Set sites along the rings of a polygon, no further apart than a spacing, but across gates.

    Parameters
    ----------
    polygon : shapely.Polygon
        Valid, in metres, shell counter-clockwise and holes clockwise.
    on_edge : numpy.ndarray of shape (m,), bool
        For each coordinate of the polygon whether the segment to the next lies on the scene's edge.
    spacing : float
        Metres.

    Returns
    -------
    Boundary
        Where a run of the ring lies on the scene's edge and the river crosses that edge, the run
        is one segment, a gate, and its exit lies halfway along it.
    """
    rings = [_ring(r, e, polygon, spacing) for r, e in _split(polygon, on_edge)]
    sizes = np.array([len(ring.points) for ring in rings])
    starts = np.repeat(np.cumsum(sizes) - sizes, sizes)
    return Boundary(
        np.concatenate([ring.points for ring in rings]),
        np.concatenate([ring.after for ring in rings]) + starts,
        np.concatenate([ring.gate for ring in rings]),
        np.concatenate([ring.vertex for ring in rings]),
        np.concatenate([ring.exits for ring in rings]),
    )


def _split(polygon: shapely.Polygon, on_edge: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    rings = shapely.get_rings(polygon)
    counts = shapely.get_num_coordinates(rings)
    flags = np.split(on_edge, np.cumsum(counts)[:-1])
    # The last coordinate of a ring repeats the first.
    return [
        (shapely.get_coordinates(ring)[:-1], flag[:-1])
        for ring, flag in zip(rings, flags, strict=True)
    ]


def _ring(
    points: np.ndarray, on_edge: np.ndarray, polygon: shapely.Polygon, spacing: float
) -> Boundary:
    gates = _gates(points, on_edge, polygon)
    pieces, exits, gate = [], [], []
    for start, end in _runs(gates, len(points)):
        chain = points[np.arange(start, end + 1) % len(points)]
        if gates[start]:
            pieces.append((chain[:1], np.ones(1, bool)))
            exits.append(_halfway(chain)[None])
            gate.append(np.ones(1, bool))
            continue
        dense, vertex = _densified(chain, spacing)
        pieces.append((dense, vertex))
        exits.append(np.full((len(dense), 2), np.nan))
        gate.append(np.zeros(len(dense), bool))
    all_points = np.concatenate([piece for piece, _ in pieces])
    return Boundary(
        all_points,
        np.roll(np.arange(len(all_points)), -1),
        np.concatenate(gate),
        np.concatenate([vertex for _, vertex in pieces]),
        np.concatenate(exits),
    )


def _gates(points: np.ndarray, on_edge: np.ndarray, polygon: shapely.Polygon) -> np.ndarray:
    """Return which segments of a ring belong to a gate, (n,)."""
    if on_edge.all():
        return np.zeros(len(points), bool)
    gates = np.zeros(len(points), bool)
    for start, end in _runs(on_edge, len(points)):
        chain = np.arange(start, end + 1) % len(points)
        if on_edge[start] and _crosses(points, chain, polygon):
            gates[chain[:-1]] = True
    return gates


def _crosses(points: np.ndarray, run: np.ndarray, polygon: shapely.Polygon) -> bool:
    """Tell whether a river goes through a cut: it neither runs along it nor bends to touch it."""
    chain = points[run]
    across = chain[-1] - chain[0]
    length = np.hypot(*across)
    if length == 0:
        return False
    inward = np.array([-across[1], across[0]]) / length
    ray = _halfway(chain) + length * np.outer([1e-3, GATE_DEPTH], inward)
    if not shapely.contains_properly(polygon, shapely.LineString(ray)):
        return False
    before = chain[0] - _further(points, run[0], -1, length / 2)
    after = _further(points, run[-1], 1, length / 2) - chain[-1]
    return _turn_deg(before, across) + _turn_deg(across, after) >= GATE_TURN_DEG


def _further(points: np.ndarray, start: int, step: int, distance: float) -> np.ndarray:
    """Return the first point of a ring that is some distance from where one starts."""
    here = start
    for _ in range(len(points)):
        here = (here + step) % len(points)
        if np.hypot(*(points[here] - points[start])) >= distance:
            break
    return points[here]


def _turn_deg(a: np.ndarray, b: np.ndarray) -> float:
    """Return by how many degrees a way turns to the left."""
    return float(np.degrees(np.arctan2(a[0] * b[1] - a[1] * b[0], a @ b)))


def _runs(flags: np.ndarray, n: int) -> list[tuple[int, int]]:
    """Cut a ring where a flag changes; (first, last + 1) each, beyond n where it wraps."""
    changes = np.flatnonzero(flags != np.roll(flags, 1))
    if len(changes) == 0:
        return [(0, n)]
    return list(pairwise([*changes.tolist(), int(changes[0]) + n]))


def _halfway(chain: np.ndarray) -> np.ndarray:
    line = shapely.LineString(chain)
    return shapely.get_coordinates(shapely.line_interpolate_point(line, 0.5, normalized=True))[0]


def _densified(chain: np.ndarray, spacing: float) -> tuple[np.ndarray, np.ndarray]:
    """Set points between those of a chain, without its last; and which of them were there."""
    steps = np.diff(chain, axis=0)
    parts = np.maximum(np.ceil(np.hypot(*steps.T) / spacing), 1).astype(int)
    owner = np.repeat(np.arange(len(parts)), parts)
    number = np.arange(len(owner)) - np.repeat(np.cumsum(parts) - parts, parts)
    dense = chain[:-1][owner] + steps[owner] * (number / parts[owner])[:, None]
    return dense, number == 0
