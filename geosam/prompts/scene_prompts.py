"""All prompts of a scene on one pixel grid, and their way to the tiles, to tables and back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.features import rasterize

from geosam.types import PixelPrompts, Tile, Window

WATER = 1
"""The object that automatic prompts ask for."""
GRAIN_PX = 1 / 1024
"""Positions are rounded to this, so that a saved layer read back gives the same pixels."""


def _empty(*shape: int) -> np.ndarray:
    return np.empty(shape)


def _no_names() -> np.ndarray:
    return np.empty(0, object)


@dataclass(frozen=True, eq=False)
class Patch:
    """Logits of what speaks for an object beside the model, in a rectangle of the grid."""

    window: Window
    """The rectangle."""
    logits: np.ndarray
    """(height, width) float32."""

    def on(self, window: Window) -> np.ndarray:
        """Return the logits in another window, (height, width) float32: 0 outside the patch."""
        out = np.zeros((window.height, window.width), np.float32)
        both = self.window.intersection(window)
        if both is not None:
            out[both.slices(window)] = self.logits[both.slices(self.window)]
        return out


@dataclass(frozen=True)
class ScenePrompts:
    """Points, boxes and polygons on the pixels of a grid: x right, y down, from the outer corner
    of its first pixel.
    """

    points: np.ndarray = field(default_factory=lambda: _empty(0, 2))
    """(n, 2) float: x, y."""
    labels: np.ndarray = field(default_factory=lambda: np.empty(0, int))
    """(n,) int: 1 object, 0 background."""
    objects: np.ndarray = field(default_factory=lambda: np.empty(0, int))
    """(n,) int: points of one object are decoded together."""
    sources: np.ndarray = field(default_factory=_no_names)
    """(n,) str: ``index``, ``hsv``, ``learned``, ``raster``, ``user``."""
    tiles: np.ndarray = field(default_factory=_no_names)
    """(n,) str: the tile whose core holds the point, or empty."""
    boxes: np.ndarray = field(default_factory=lambda: _empty(0, 4))
    """(m, 4) float: x_min, y_min, x_max, y_max."""
    box_objects: np.ndarray = field(default_factory=lambda: np.empty(0, int))
    """(m,) int."""
    box_tiles: np.ndarray = field(default_factory=_no_names)
    """(m,) str: the only tile that uses the box; any tile it reaches where empty."""
    polygons: np.ndarray = field(default_factory=_no_names)
    """(p,) shapely polygons: the dense mask prompt."""
    polygon_labels: np.ndarray = field(default_factory=lambda: np.empty(0, int))
    """(p,) int: 0 cuts the polygon out of the dense mask."""
    polygon_objects: np.ndarray = field(default_factory=lambda: np.empty(0, int))
    """(p,) int."""
    patches: np.ndarray = field(default_factory=_no_names)
    """(q,) :class:`Patch`: what is added to the model's answers."""
    patch_objects: np.ndarray = field(default_factory=lambda: np.empty(0, int))
    """(q,) int."""

    def within(self, window: Window) -> ScenePrompts:
        """Return those that a window holds (points) or touches (boxes, polygons)."""
        inside = _points_inside(self.points, window)
        touching = _boxes_touching(self.boxes, window)
        frame = shapely.box(window.col, window.row, window.col_end, window.row_end)
        near = shapely.intersects(self.polygons, frame) if len(self.polygons) else np.empty(0, bool)
        seen = [patch.window.intersection(window) is not None for patch in self.patches]
        spoken = np.array(seen, bool)
        return replace(
            self,
            points=self.points[inside],
            labels=self.labels[inside],
            objects=self.objects[inside],
            sources=self.sources[inside],
            tiles=self.tiles[inside],
            boxes=self.boxes[touching],
            box_objects=self.box_objects[touching],
            box_tiles=self.box_tiles[touching],
            polygons=self.polygons[near],
            polygon_labels=self.polygon_labels[near],
            polygon_objects=self.polygon_objects[near],
            patches=self.patches[spoken],
            patch_objects=self.patch_objects[spoken],
        )

    def moved(self, x: float, y: float) -> ScenePrompts:
        """Return the same on the pixels of another part of the grid: all positions moved."""
        by = np.array([x, y])
        polygons = (
            shapely.transform(self.polygons, lambda xy: xy + by)
            if len(self.polygons)
            else self.polygons
        )
        return replace(
            self,
            points=self.points + by,
            boxes=self.boxes + np.tile(by, 2),
            polygons=polygons,
            patches=as_objects([_moved(patch, round(x), round(y)) for patch in self.patches]),
        )

    def __len__(self) -> int:
        return len(self.points) + len(self.boxes) + len(self.polygons)


def as_objects(values: Iterable[object]) -> np.ndarray:
    """Return values as an array of objects, whatever they are."""
    listed = list(values)
    out = np.empty(len(listed), object)
    out[:] = listed
    return out


def _moved(patch: Patch, x: int, y: int) -> Patch:
    window = replace(patch.window, row=patch.window.row + y, col=patch.window.col + x)
    return replace(patch, window=window)


def to_arrays(prompts: ScenePrompts) -> dict[str, np.ndarray]:
    """Return points and boxes as arrays of numbers and fixed text, those there are, without polygons and patches."""
    fields = ScenePrompts.__dataclass_fields__
    names = [name for name in fields if not name.startswith(("polygon", "patch"))]
    arrays = {name: getattr(prompts, name) for name in names if len(getattr(prompts, name))}
    return {name: a.astype(str) if a.dtype == object else a for name, a in arrays.items()}


def from_arrays(arrays: Mapping[str, np.ndarray]) -> ScenePrompts:
    """Return what :func:`to_arrays` was given."""
    return ScenePrompts(
        **{name: a.astype(object) if a.dtype.kind == "U" else a for name, a in arrays.items()}
    )


def merge_prompts(parts: Iterable[ScenePrompts]) -> ScenePrompts:
    """Put prompts of one grid together, in the order given."""
    parts = list(parts) or [ScenePrompts()]
    names = ScenePrompts.__dataclass_fields__
    return ScenePrompts(
        **{name: np.concatenate([getattr(p, name) for p in parts]) for name in names}
    )


def tile_prompts(
    prompts: ScenePrompts, tile: Tile, coarse: np.ndarray | None, *, boxes: bool = True
) -> list[PixelPrompts]:
    """Return the prompts of one tile, one entry for each object that has any there.

    Parameters
    ----------
    prompts
        Of the scene or of any window that holds the tile's read window.
    tile
        The tile.
    coarse
        (size, size): coarse mask of the object :data:`WATER` on the tile's read window, bool or
        float logits, or None. Where it is empty and nothing else prompts, there are no prompts.
    boxes
        Whether boxes are used.
    """
    here = prompts.within(tile.read)
    objects = set(here.objects[here.labels == 1]) | set(
        here.polygon_objects[here.polygon_labels == 1]
    )
    if boxes:
        objects |= set(here.box_objects[_for_tile(here.box_tiles, tile)])
    if coarse is not None and (coarse > 0).any():
        objects.add(WATER)
    candidates = (_object_prompts(here, tile, int(k), coarse, boxes) for k in sorted(objects))
    return [prompt for prompt in candidates if prompt is not None]


def _object_prompts(
    here: ScenePrompts, tile: Tile, object_id: int, coarse: np.ndarray | None, boxes: bool
) -> PixelPrompts | None:
    mine = here.objects == object_id
    origin = np.array([tile.read.col, tile.read.row])
    mask = (
        coarse
        if coarse is not None and object_id == WATER
        else polygon_mask(here, tile.read, object_id)
    )
    box = _object_box(here, tile, object_id) if boxes else None
    positive = bool((here.labels[mine] == 1).any())
    has_mask = mask is not None and bool((mask > 0).any())
    if not (positive or has_mask or box is not None):
        return None
    return PixelPrompts(
        points=(here.points[mine] - origin)[None],
        labels=here.labels[mine][None],
        boxes=None if box is None else box[None],
        masks=mask[None] if has_mask and mask is not None else None,
        beside=_beside(here, tile.read, object_id),
    )


def _beside(here: ScenePrompts, window: Window, object_id: int) -> np.ndarray | None:
    """Return what is added to the answers of an object, (1, height, width) float32, or None."""
    mine = here.patches[here.patch_objects == object_id]
    return sum(patch.on(window) for patch in mine)[None] if len(mine) else None


def polygon_mask(prompts: ScenePrompts, window: Window, object_id: int) -> np.ndarray | None:
    """Return what the polygons of an object ask for in a window, (height, width) bool; None where it has
    no polygon that asks for something.
    """
    mine = prompts.polygon_objects == object_id
    if not (mine & (prompts.polygon_labels == 1)).any():
        return None
    # Positive polygons first, so that those with label 0 cut into them.
    order = np.argsort(-prompts.polygon_labels[mine], kind="stable")
    labels = (int(label) for label in prompts.polygon_labels[mine][order])
    shapes = list(zip(prompts.polygons[mine][order], labels, strict=True))
    # A pixel of margin, because rasterio takes the identity for a missing transform and warns.
    size, corner = (window.height + 1, window.width + 1), (window.col - 1, window.row - 1)
    wider = rasterize(shapes, size, fill=0, transform=Affine.translation(*corner), dtype="uint8")
    return wider[1:, 1:].astype(bool)


def _object_box(here: ScenePrompts, tile: Tile, object_id: int) -> np.ndarray | None:
    mine = (here.box_objects == object_id) & _for_tile(here.box_tiles, tile)
    if not mine.any():
        return None
    own = here.boxes[mine]
    box = np.concatenate([own[:, :2].min(axis=0), own[:, 2:].max(axis=0)])
    read = tile.read
    low, high = np.array([read.col, read.row] * 2), np.array([read.col_end, read.row_end] * 2)
    return np.clip(box, low, high) - np.array([read.col, read.row] * 2)


def _for_tile(names: np.ndarray, tile: Tile) -> np.ndarray:
    return (names == "") | (names == tile.name)


def _points_inside(points: np.ndarray, window: Window) -> np.ndarray:
    x, y = points[:, 0], points[:, 1]
    return (x >= window.col) & (x < window.col_end) & (y >= window.row) & (y < window.row_end)


def _boxes_touching(boxes: np.ndarray, window: Window) -> np.ndarray:
    return (
        (boxes[:, 0] < window.col_end)
        & (boxes[:, 2] > window.col)
        & (boxes[:, 1] < window.row_end)
        & (boxes[:, 3] > window.row)
    )


def dense_mask(prompts: ScenePrompts, geobox: GeoBox) -> np.ndarray:
    """Burn the polygons that ask for water into (y, x) uint8 on the grid: 1 inside, else 0."""
    burned = polygon_mask(prompts, Window(0, 0, *geobox.shape), WATER)
    return np.zeros(geobox.shape, np.uint8) if burned is None else burned.astype(np.uint8)


def to_frames(
    prompts: ScenePrompts, geobox: GeoBox, own: bool = False
) -> dict[str, gpd.GeoDataFrame]:
    """Return the layers ``prompts``, ``prompt_boxes`` and ``prompt_masks`` in the grid's CRS.

    Boxes and masks say that they are a user's own where they are: asked again they are asked in the same way.
    """
    source = "user" if own else "auto"
    crs = str(geobox.crs)
    points = gpd.GeoDataFrame(
        {
            "object": prompts.objects.astype("int32"),
            "label": prompts.labels.astype("int32"),
            "source": prompts.sources.astype(str),
            "tile": prompts.tiles.astype(str),
        },
        geometry=shapely.points(_to_world(prompts.points, geobox)),
        crs=crs,
    )
    boxes = gpd.GeoDataFrame(
        _columns(prompts.box_objects, np.ones(len(prompts.boxes), int), prompts.box_tiles, source),
        geometry=_project(shapely.box(*prompts.boxes.T), geobox),
        crs=crs,
    )
    masks = gpd.GeoDataFrame(
        _columns(
            prompts.polygon_objects,
            prompts.polygon_labels,
            np.full(len(prompts.polygons), ""),
            source,
        ),
        geometry=_project(prompts.polygons, geobox),
        crs=crs,
    )
    return {"prompts": points, "prompt_boxes": boxes, "prompt_masks": masks}


def _columns(
    objects: np.ndarray, labels: np.ndarray, tiles: np.ndarray, source: str
) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "object": objects.astype("int32"),
            "label": labels.astype("int32"),
            "source": np.full(len(objects), source),
            "tile": tiles.astype(str),
        }
    )


def _project(geometries: np.ndarray, geobox: GeoBox) -> np.ndarray:
    return shapely.transform(np.asarray(geometries, object), lambda xy: _to_world(xy, geobox))


def _to_world(xy: np.ndarray, geobox: GeoBox) -> np.ndarray:
    a = geobox.affine
    return xy @ np.array([[a.a, a.d], [a.b, a.e]]) + np.array([a.c, a.f])


def to_pixels(xy: np.ndarray, geobox: GeoBox) -> np.ndarray:
    """Turn (n, 2) world coordinates in the grid's CRS into x, y pixels: the one place where the
    world becomes pixels.
    """
    a = ~geobox.affine
    # About the grid's first corner, because world coordinates are large and pixels are small.
    corner = np.array([geobox.affine.c, geobox.affine.f])
    pixels = (xy - corner) @ np.array([[a.a, a.d], [a.b, a.e]])
    return np.round(pixels / GRAIN_PX) * GRAIN_PX
