"""Which windows touch or overlap one another, in the pixels of an image and on the ground."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import shapely
from pyproj import Transformer

from geosam.training.crops import TrainingWindow

TOUCH_PX = 1e-3
"""Windows closer than this, in pixels of the image, touch."""
_EDGE_POINTS = 9


def touching_pairs(
    first: Sequence[TrainingWindow], second: Sequence[TrainingWindow]
) -> list[tuple[int, int]]:
    """Return the pairs (index in first, index in second) of windows that overlap, share an edge
    or meet at a corner; only what lies inside their images counts.
    """
    return _pairs(first, second, TOUCH_PX)


def overlapping_pairs(
    first: Sequence[TrainingWindow], second: Sequence[TrainingWindow]
) -> list[tuple[int, int]]:
    """Return the pairs (index in first, index in second) of windows that have pixels or ground in common."""
    return _pairs(first, second, -TOUCH_PX)


def images_touch(windows: Sequence[TrainingWindow]) -> bool:
    """Tell whether windows of two images touch on the ground."""
    return any(True for _ in _pairs_on_ground(windows, windows, TOUCH_PX))


def _pairs(
    first: Sequence[TrainingWindow], second: Sequence[TrainingWindow], grow: float
) -> list[tuple[int, int]]:
    """Return the pairs that overlap when both are grown by some of their pixels, or shrunk."""
    return sorted({*_pairs_in_images(first, second, grow), *_pairs_on_ground(first, second, grow)})


def _pairs_in_images(
    first: Sequence[TrainingWindow], second: Sequence[TrainingWindow], grow: float
) -> Iterable[tuple[int, int]]:
    """Pairs within one image, compared in its pixels."""
    mine, theirs = _by_image(first), _by_image(second)
    for key in mine.keys() & theirs.keys():
        boxes = [
            _image_boxes([ws[i] for i in at], grow)
            for ws, at in ((first, mine[key]), (second, theirs[key]))
        ]
        for i, j in _meeting(*boxes):
            yield mine[key][i], theirs[key][j]


def _pairs_on_ground(
    first: Sequence[TrainingWindow], second: Sequence[TrainingWindow], grow: float
) -> Iterable[tuple[int, int]]:
    """Pairs of two images that both have a place on Earth, compared there."""
    mine, theirs = (
        [i for i, w in enumerate(ws) if w.example.is_georeferenced] for ws in (first, second)
    )
    if not mine or not theirs or len(_by_image([*first, *second])) == 1:
        return
    boxes = (_ground([ws[i] for i in at], grow) for ws, at in ((first, mine), (second, theirs)))
    for i, j in _meeting(*boxes):
        a, b = mine[i], theirs[j]
        if first[a].example.imagery.key != second[b].example.imagery.key:
            yield a, b


def _meeting(first: np.ndarray, second: np.ndarray) -> Iterable[tuple[int, int]]:
    pairs = shapely.STRtree(second).query(first, predicate="intersects").T
    return ((int(i), int(j)) for i, j in pairs)


def _by_image(windows: Sequence[TrainingWindow]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for i, window in enumerate(windows):
        found.setdefault(window.example.imagery.key, []).append(i)
    return found


def pixel_bounds(window: TrainingWindow) -> tuple[float, float, float, float]:
    """Return (row, col, row end, col end) of a window in pixels of its image, cut at its edges."""
    native = window.example.geobox
    between = ~native.affine @ window.geobox.affine
    (col, row), (col_end, row_end) = (
        between @ corner for corner in ((0, 0), (window.window.width, window.window.height))
    )
    height, width = native.shape
    return max(row, 0), max(col, 0), min(row_end, height), min(col_end, width)


def _image_boxes(windows: Sequence[TrainingWindow], grow: float) -> np.ndarray:
    row, col, row_end, col_end = np.array([pixel_bounds(w) for w in windows]).reshape(-1, 4).T
    return shapely.box(col - grow, row - grow, col_end + grow, row_end + grow)


def _ground(windows: Sequence[TrainingWindow], grow: float) -> np.ndarray:
    """Return the windows as polygons in longitude and latitude, grown by some of their pixels."""
    systems = {str(window.example.geobox.crs) for window in windows}
    to_degrees = {
        crs: Transformer.from_crs(crs, "EPSG:4326", always_xy=True).transform for crs in systems
    }
    outlines = [_outline(window, grow) for window in windows]
    return np.array(
        [
            shapely.Polygon(np.column_stack(to_degrees[str(window.example.geobox.crs)](*outline)))
            for window, outline in zip(windows, outlines, strict=True)
        ]
    )


def _outline(window: TrainingWindow, grow: float) -> tuple[np.ndarray, np.ndarray]:
    """Return x and y of the outline of a window in its CRS, with points along the edges, which are
    curved in another.
    """
    row, col, row_end, col_end = pixel_bounds(window)
    box = shapely.box(col - grow, row - grow, col_end + grow, row_end + grow)
    side = max(row_end - row, col_end - col, 1.0)
    cols, rows = shapely.get_coordinates(shapely.segmentize(box, side / (_EDGE_POINTS - 1))).T
    affine = window.example.geobox.affine
    x = affine.a * cols + affine.b * rows + affine.c
    return x, affine.d * cols + affine.e * rows + affine.f
