"""Pieces of objects from overlapping tiles -> segments, each once and whole.

Two tiles see the ground that they share both. Where a mask of one agrees there with a mask of the
other, the two are the same object, and what it takes is decided by who saw it whole; where nobody
did, each patch that they dispute by the tile that owns most of it. A mask whose other half already
belongs to another object, such as a field with its hedge beside the field alone, borrows it.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import shapely

from geosam.segments.pieces import Pieces

AGREE_IOU = 0.7
"""IoU on shared ground from which on two masks are of one object."""
SHARED_PX = 16
"""Pixels that they must cover there at least, together."""
OVERLAP = 0.1
"""Share of the smaller by which two masks of one tile overlap at most that are of one object: a river that
comes into a tile twice."""
BEYOND = 0.25
"""Share by which what others saw of an object may exceed who saw it whole."""
VARIANT = 2.0
"""A group that agrees with a piece of one that is this much larger elsewhere is a variant of that: with what
it lacks, the two would be alike."""
OWN_SHARE = 0.5
"""A cut piece that no neighbour knows goes if its tile owns less of it than this."""
BORDER_SHARE = 0.1
"""And any segment goes if more of its outline than this is the border of what its tiles see."""
PAIRS = 1000
"""Pairs that are compared at once: what they have in common takes memory."""
COVERED = 0.8
"""And if more of it than this is covered by a segment that is larger, but not by more than ..."""
LARGER = 4.0
"""... this factor: what a tile saw of the edge of an object that another saw."""


@dataclass(frozen=True)
class Segments:
    """Objects, in columns."""

    polygon: np.ndarray
    """(n,) object: shapely polygons in pixels of the model's grid."""
    predicted_iou: np.ndarray
    """(n,) float: the model's own estimate, of several tiles weighed by what each adds."""
    stability: np.ndarray
    """(n,) float: the same of the IoU of masks at a higher and at a lower threshold."""
    point: np.ndarray
    """(n, 2) float: x, y of what was asked, in the tile that adds most."""
    tile: np.ndarray
    """(n, 2) int: index of that tile."""

    def __len__(self) -> int:
        return len(self.polygon)

    def take(self, which: np.ndarray) -> Segments:
        """Return some segments, by index or by mask."""
        return Segments(*(getattr(self, column.name)[which] for column in fields(self)))


def join(pieces: Pieces, most: float = 0.7, largest: float = np.inf) -> Segments:
    """Join the pieces of all tiles.

    Parameters
    ----------
    pieces
        Of all tiles.
    most
        IoU above which of two segments only the better rated stays.
    largest
        Pixels from which on an object is what the others lie on. One of many tiles is then not put
        together: it may be as large as the scene, with a hole for everything in it.

    Returns
    -------
    Segments
        They may overlap, as a roof and its chimney do, but no two are alike.
    """
    pairs = _agreeing(pieces)
    groups = [group for group in _groups(pieces, pairs) if pieces.sure[group].any()]
    groups = _with_borrowed(groups, pairs, pieces)
    taken = (pieces.take(group) for group in groups)
    members = [_merge(group) for group in taken if not _is_ground(group, largest)]
    known = [member for member in members if member is not None]
    if not known:
        return _no_segments()
    rows, alone = zip(*known, strict=True)
    segments = Segments(*(_column(values) for values in zip(*rows, strict=True)))
    return _without_doubles(segments, np.array(alone), most)


def _groups(pieces: Pieces, pairs: np.ndarray) -> list[np.ndarray]:
    """Part the pieces into those of one object each; those of one tile do not overlap."""
    owner = np.arange(len(pieces))
    members = [{tuple(tile): [i]} for i, tile in enumerate(pieces.tile)]
    for i, j in pairs:
        a, b = owner[i], owner[j]
        if a == b or _clash(members[a], members[b], pieces):
            continue
        a, b = (a, b) if len(members[a]) >= len(members[b]) else (b, a)
        for tile, those in members[b].items():
            owner[those] = a
            members[a].setdefault(tile, []).extend(those)
    return [np.sort(np.concatenate(list(members[a].values()))) for a in np.unique(owner)]


def _clash(a: dict[tuple, list[int]], b: dict[tuple, list[int]], pieces: Pieces) -> bool:
    """Return whether two objects have masks of one tile that overlap, or that it does not cut."""
    pairs = [(i, j) for tile in a.keys() & b.keys() for i in a[tile] for j in b[tile]]
    if not pairs:
        return False
    i, j = np.array(pairs).T
    if not (pieces.cut[i].all() and pieces.cut[j].all()):
        return True
    one, other = pieces.polygon[i], pieces.polygon[j]
    least = np.minimum(shapely.area(one), shapely.area(other))
    return bool((shapely.area(shapely.intersection(one, other)) > OVERLAP * least).any())


def _with_borrowed(groups: list[np.ndarray], pairs: np.ndarray, pieces: Pieces) -> list[np.ndarray]:
    """Complete groups by pieces of other groups, and drop those that are no more than a variant."""
    owner = np.full(len(pieces), -1)
    for k, group in enumerate(groups):
        owner[group] = k
    known = (owner[pairs] >= 0).all(axis=1) & (owner[pairs[:, 0]] != owner[pairs[:, 1]])
    friends: dict[int, list[int]] = {}
    for i, j in pairs[known]:
        friends.setdefault(owner[i], []).append(owner[j])
        friends.setdefault(owner[j], []).append(owner[i])
    area = shapely.area(pieces.polygon)
    out = []
    for k, group in enumerate(groups):
        if not pieces.cut[group].any():
            out.append(group)
            continue
        whole = _completed(group, [groups[n] for n in friends.get(k, [])], pieces.tile, area)
        if whole is not None:
            out.append(whole)
    return out


def _completed(
    group: np.ndarray, friends: list[np.ndarray], tile: np.ndarray, area: np.ndarray
) -> np.ndarray | None:
    """Add to a group what others have in tiles where it has nothing; None if those say it better."""
    seen = {tuple(t) for t in tile[group]}
    parts = [group]
    for friend in friends:
        new = [i for i in friend if tuple(tile[i]) not in seen]
        if not new:
            continue
        if area[new].sum() > VARIANT * area[group].sum():
            return None
        seen |= {tuple(tile[i]) for i in new}
        parts.append(np.array(new))
    return np.sort(np.concatenate(parts))


def _agreeing(pieces: Pieces) -> np.ndarray:
    """Return (k, 2) pairs of pieces that agree on shared ground, those that agree best first."""
    i, j = _neighbours(pieces)
    parts = [slice(start, start + PAIRS) for start in range(0, len(i), PAIRS)]
    agree = [_agreement(pieces, i[part], j[part]) for part in parts]
    iou, either = np.concatenate(agree, axis=1) if agree else np.empty((2, 0))
    good = np.flatnonzero((iou >= AGREE_IOU) & (either >= SHARED_PX))
    # Of masks that agree alike the smaller say more: on ground that two cover all, all agree.
    size = shapely.area(pieces.polygon)
    order = np.lexsort((size[i[good]] + size[j[good]], -iou[good].round(2)))
    return np.stack([i, j], axis=1)[good[order]]


def _agreement(pieces: Pieces, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """Return the IoU of pairs on ground that both tiles see, and the pixels that either has there."""
    low = np.maximum(pieces.read[i, :2], pieces.read[j, :2])
    high = np.minimum(pieces.read[i, 2:], pieces.read[j, 2:])
    a, b = (_clipped(pieces.polygon, k, low, high) for k in (i, j))
    common = shapely.area(shapely.intersection(a, b))
    # What bends and comes back into the shared ground may be one mask in one tile and two in the other.
    touched = _that_touch(a, b), _that_touch(b, a)
    all_of_one = common >= AGREE_IOU * np.minimum(shapely.area(a), shapely.area(b))
    a, b = (np.where(all_of_one, part, whole) for part, whole in zip(touched, (a, b), strict=True))
    either = shapely.area(a) + shapely.area(b) - common
    iou = np.divide(common, either, out=np.zeros_like(common), where=either > 0)
    return np.stack([iou, either])


def _clipped(polygons: np.ndarray, k: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Cut the k-th polygons by boxes, and one that several ask for in the same box only once."""
    asked, back = np.unique(np.column_stack([k, low, high]), axis=0, return_inverse=True)
    parts = shapely.intersection(polygons[asked[:, 0]], shapely.box(*asked[:, 1:].T))
    return _areal(parts)[back.ravel()]


def _that_touch(shapes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Keep the parts of shapes that overlap another shape each, where there are several parts."""
    out = shapes.copy()
    for k in np.flatnonzero(shapely.get_num_geometries(shapes) > 1):
        parts = shapely.get_parts(shapes[k])
        common = shapely.area(shapely.intersection(parts, others[k]))
        out[k] = shapely.multipolygons(parts[common > 0])
    return out


def _areal(shapes: np.ndarray) -> np.ndarray:
    """Drop the points and lines in which shapes touch a border, where they have an area beside."""
    out = shapes.copy()
    for k in np.flatnonzero(shapely.get_type_id(shapes) == shapely.GeometryType.GEOMETRYCOLLECTION):
        out[k] = shapely.union_all(_surfaces(shapes[k]))
    return out


def _neighbours(pieces: Pieces) -> tuple[np.ndarray, np.ndarray]:
    """Return pairs of pieces from different tiles whose boxes on shared ground are alike, or of two cut
    ones, that may share a part, lie one in the other.
    """
    i, j = shapely.STRtree(pieces.polygon).query(pieces.polygon)
    other = (i < j) & (pieces.tile[i] != pieces.tile[j]).any(axis=1)
    i, j = i[other], j[other]
    low = np.maximum(pieces.read[i, :2], pieces.read[j, :2])
    high = np.minimum(pieces.read[i, 2:], pieces.read[j, 2:])
    bounds = shapely.bounds(pieces.polygon)
    a, b = (
        np.concatenate([np.maximum(bounds[k, :2], low), np.minimum(bounds[k, 2:], high)], 1)
        for k in (i, j)
    )
    common = _extent(np.maximum(a[:, :2], b[:, :2]), np.minimum(a[:, 2:], b[:, 2:]))
    one, other = _extent(a[:, :2], a[:, 2:]), _extent(b[:, :2], b[:, 2:])
    both_cut = pieces.cut[i] & pieces.cut[j]
    size = np.where(both_cut, np.minimum(one, other), one + other - common)
    alike = common > AGREE_IOU / 2 * size
    return i[alike], j[alike]


def _extent(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    return np.prod(np.clip(high - low, 0, None), axis=1)


def _is_ground(pieces: Pieces, largest: float) -> bool:
    """Return whether an object is larger than it may be, and than any cut piece could be alike with."""
    if len(pieces) <= LARGER:
        return False
    width, height = (pieces.read[:, 2:] - pieces.read[:, :2]).max(axis=0)
    area = _owned(pieces).sum()
    return bool(area > largest and area > LARGER * width * height)


def _owned(pieces: Pieces) -> np.ndarray:
    """Return the pixels of each piece that its tile owns."""
    cores = shapely.box(*pieces.core.T)
    owned: np.ndarray = shapely.area(shapely.intersection(pieces.polygon, cores))
    return owned


def _merge(pieces: Pieces) -> tuple[tuple, bool] | None:
    """Return the columns of one segment and whether it is a cut piece alone, or None."""
    area = shapely.area(pieces.polygon)
    owned = _owned(pieces)
    if len(pieces) == 1 and pieces.cut[0]:
        known = (
            owned[0] >= OWN_SHARE * area[0]
            and _border_share(pieces.polygon[0], pieces) <= BORDER_SHARE
        )
        return (_row(pieces, 0), True) if known else None
    whole = np.flatnonzero(~pieces.cut)
    if len(whole):
        best = whole[np.argmax((owned / area)[whole] + pieces.predicted_iou[whole])]
        others = shapely.union_all(pieces.polygon[pieces.cut])
        beyond = shapely.area(shapely.difference(others, pieces.polygon[best]))
        if beyond <= BEYOND * area[best]:
            return _row(pieces, int(best)), False
    joined = _stitched(pieces, owned)
    return (joined, False) if _border_share(joined[0], pieces) <= BORDER_SHARE else None


def _border_share(polygon: shapely.Polygon, pieces: Pieces) -> float:
    """Return the share of an outline that lies on the border of what the tiles of its pieces see."""
    outline = shapely.boundary(polygon)
    borders = shapely.union_all(shapely.boundary(shapely.box(*pieces.read.T)))
    return shapely.length(shapely.intersection(outline, borders)) / shapely.length(outline)


def _stitched(pieces: Pieces, owned: np.ndarray) -> tuple:
    """Keep what all agree on, and of each patch that they dispute what its owner says."""
    said, read, core = _by_tile(pieces)
    whole = shapely.union_all(said)
    denied = shapely.difference(read, said)
    agreed = shapely.difference(whole, shapely.union_all(denied))
    disputed = _surfaces(shapely.difference(whole, agreed))
    kept = disputed[_said_by_owners(disputed, said, core)]
    parts = _surfaces(shapely.union_all([agreed, *kept]))
    weights = np.maximum(owned, 1e-6)
    most = int(np.argmax(owned))
    return (
        parts[np.argmax(shapely.area(parts))],
        float(np.average(pieces.predicted_iou, weights=weights)),
        float(np.average(pieces.stability, weights=weights)),
        pieces.point[most],
        pieces.tile[most],
    )


def _by_tile(pieces: Pieces) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return what each tile says of an object, what it sees, and what it owns, as polygons."""
    _, first, which = np.unique(pieces.tile, axis=0, return_index=True, return_inverse=True)
    said = pieces.polygon[first]
    for k in np.flatnonzero(np.bincount(which.ravel()) > 1):
        said[k] = shapely.union_all(pieces.polygon[which.ravel() == k])
    return said, shapely.box(*pieces.read[first].T), shapely.box(*pieces.core[first].T)


def _said_by_owners(patches: np.ndarray, polygons: np.ndarray, cores: np.ndarray) -> np.ndarray:
    """Mark patches of which the tile that owns most of them counts most to what it says."""
    patch, k = shapely.STRtree(cores).query(patches)
    owned = shapely.area(shapely.intersection(patches[patch], cores[k]))
    order = np.lexsort((-owned, patch))
    known, first = np.unique(patch[order], return_index=True)
    owner = k[order][first]
    said = shapely.area(shapely.intersection(patches[known], polygons[owner]))
    kept = np.ones(len(patches), bool)
    kept[known] = said > 0.5 * shapely.area(patches[known])
    return kept


def _surfaces(shape: shapely.Geometry) -> np.ndarray:
    """Return the polygons of a shape, without the points and lines in which others touch it."""
    parts = shapely.get_parts(shape)
    return parts[shapely.get_dimensions(parts) == 2]


def _row(pieces: Pieces, k: int) -> tuple:
    return tuple(getattr(pieces, column.name)[k] for column in fields(Segments))


def _column(values: tuple) -> np.ndarray:
    if isinstance(values[0], shapely.Geometry):
        polygons = np.empty(len(values), object)
        polygons[:] = values
        return polygons
    return np.array(values)


def _no_segments() -> Segments:
    none = np.empty(0)
    return Segments(np.empty(0, object), none, none, np.empty((0, 2)), np.empty((0, 2), int))


def _without_doubles(segments: Segments, alone: np.ndarray, most: float) -> Segments:
    """Drop the worse rated of segments that are alike, and cut pieces inside of others."""
    area = shapely.area(segments.polygon)
    i, j = shapely.STRtree(segments.polygon).query(segments.polygon)
    near = (i != j) & (area[i] <= area[j]) & (area[i] >= area[j] * min(most, 1 / LARGER))
    i, j = i[near], j[near]
    common = shapely.area(shapely.intersection(segments.polygon[i], segments.polygon[j]))
    alike = common > most * (area[i] + area[j] - common)
    swallowed = alone[i] & (common > COVERED * area[i])
    # A whole segment comes before a cut piece, then what is rated better.
    rank = np.empty(len(area), int)
    rank[np.lexsort((-segments.predicted_iou, alone))] = np.arange(len(area))
    gone = np.zeros(len(area), bool)
    gone[i[swallowed]] = True
    pairs = np.stack([i, j], axis=1)[alike]
    better = np.take_along_axis(pairs, rank[pairs].argsort(axis=1), axis=1)
    for good, bad in better[np.argsort(rank[better[:, 0]], kind="stable")]:
        if not gone[good]:
            gone[bad] = True
    return segments.take(~gone)
