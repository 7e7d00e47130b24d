"""A scene and a user's prompts -> one mask and one polygon for each object: values in, values out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import dask.array as da
import geopandas as gpd
import numpy as np
import shapely
import xarray as xr
from odc.geo.geobox import GeoBox

from geosam.decision import decide
from geosam.durable import Step
from geosam.embeddings import Embeddings, Memory
from geosam.errors import OptionError, PromptError
from geosam.generation_rules import GenerationRules
from geosam.grids import geobox_if_any, geobox_of
from geosam.ground import area_m2
from geosam.job import scene_store
from geosam.kept import Blocks, cut_blocks, on_grid
from geosam.loading import load
from geosam.models.mask_generation import recorded_rules
from geosam.objects import (
    ObjectMask,
    answer_ambiguous,
    answer_object,
    blend_object,
    is_ambiguous,
    object_numbers,
)
from geosam.opening import CHUNK_PX, as_paths, inspect_source, view_scene
from geosam.options import Options
from geosam.pipeline import Prepared, prepare_own, see, tile_grid
from geosam.probability import water_probability
from geosam.prompting import Prompting
from geosam.prompts.from_mask import mask_prompts
from geosam.prompts.scene_prompts import ScenePrompts, merge_prompts
from geosam.prompts.vector import read_prompts, table_prompts
from geosam.tasks import compute
from geosam.types import Model, Window
from geosam.vectors import outlines
from geosam.views import Looks, covering, view_array

Prompts: TypeAlias = gpd.GeoDataFrame | gpd.GeoSeries | str | Path
"""Points, boxes and polygons in any CRS, in a table or a vector file."""
Scene = xr.DataArray | str | Path | Sequence[str | Path]
"""An array that is open already, or files."""
Key = tuple[int, int]
"""An object, and which of its masks, from 1."""
MARGIN_PX = 2
"""Pixels of the scene around an object, so that nothing but the scene's edge cuts it."""
COLUMNS = ("object", "mask", "area_m2", "predicted_iou", "probability", "stability", "truncated")


@dataclass(frozen=True)
class Answers:
    """What a model says of objects in a scene. Given back to :func:`ask`, it is refined."""

    prepared: Prepared
    """The scene, the model and the tiles that were encoded."""
    asked: ScenePrompts
    """Every prompt so far, on the model's grid."""
    masks: Mapping[Key, ObjectMask]
    """Logits tile by tile."""
    outlines: gpd.GeoDataFrame
    """One row a mask, in the scene's CRS: ``object``, ``mask`` (1 is the best rated), ``area_m2``,
    ``predicted_iou``, ``probability``, ``stability``, ``truncated``; the geometry is a polygon, or a
    multipolygon where the object has several parts, and empty where nothing was found."""

    def probability(self, number: int = 1, mask: int = 1) -> xr.DataArray:
        """Return the probability of an object, (y, x) float32 on the scene's grid, lazily; NaN where
        the scene has no data.

        Raises
        ------
        PromptError
            If there is no such object or mask.
        """
        return self._water(*self._blend(self._key(number, mask)))(self.prepared.views)

    def choose(self, masks: Mapping[int, int]) -> Answers:
        """Return the same with one mask of some objects chosen: object -> mask, from 1.

        Raises
        ------
        PromptError
            If there is no such object or mask.
        """
        chosen = {number: self._key(number, mask) for number, mask in masks.items()}
        kept = {
            (key[0], 1) if key[0] in chosen else key: answer
            for key, answer in self.masks.items()
            if chosen.get(key[0], key) == key
        }
        wanted = [chosen.get(o, (o, m)) == (o, m) for o, m in zip(*self._keys(), strict=True)]
        table = self.outlines[wanted].reset_index(drop=True)
        table.loc[table["object"].isin(chosen), "mask"] = 1
        return replace(self, masks=kept, outlines=table)

    def _blend(self, key: Key) -> tuple[np.ndarray, Window]:
        """Return the logits of a mask, and their window of the model's grid."""
        given = self.prepared.prompts.given
        assert given is not None
        return blend_object(self.masks[key], given, key[0], self.prepared.grid)

    def _water(self, logits: np.ndarray, window: Window) -> Step:
        """Return the step that gives the probability of logits on the scene's grid."""
        grid = self.prepared.grid.geobox
        lay = partial(_laid_out, logits=logits, window=window, grid=grid)
        return water_probability(lay)

    def _keys(self) -> tuple[list[int], list[int]]:
        return self.outlines["object"].tolist(), self.outlines["mask"].tolist()

    def _key(self, number: int, mask: int) -> Key:
        if (number, mask) not in self.masks:
            there = ", ".join(f"{o} (mask {m})" for o, m in self.masks)
            raise PromptError(f"There is no mask {mask} of object {number}. There are {there}.")
        return number, mask


def ask(
    scene: Scene,
    prompts: Prompts | None = None,
    *,
    masks: xr.DataArray | None = None,
    earlier: Answers | None = None,
    several: bool = False,
    model: str | Model = "river-tiny",
    **options: Any,
) -> Answers:
    """Ask for objects of a scene by points, boxes, polygons and masks.

    Every tile is encoded once, however many prompts fall into it. An object that clicks alone say, and
    that is larger than a tile, is followed: its tile is decoded, then neighbours are prompted from
    where its mask meets the border, until it stops growing. Clicks on water mean the water that the
    index or the learned network finds there; with ``dense=False`` the model answers alone.

    Parameters
    ----------
    scene
        (band, y, x) with role names as ``band`` and a CRS (see :func:`geosam.open_scene`); or the path
        of a raster, or several of one mosaic.
    prompts
        Points, boxes and polygons in any CRS. Columns ``label`` (1 object, 0 background; 1 without
        it) and ``object`` (rows of one object; 1 without it).
    masks
        (y, x) whole numbers with a CRS, on any grid: a rough mask of each object, its number where
        it is and 0 elsewhere.
    earlier
        Answers to go on from: their prompts count again, the logits of the tiles that see a new one
        are fed back, and what was encoded is not encoded again.
    several
        Keep all masks of a single click, in its own tile, the best rated first. A model that recorded
        that it is asked about shapes (``river-tiny``) is asked about those under the click too.
    model
        A name, a folder, a hub id, or a loaded model. That of the earlier answers counts before it.
    **options
        Those of :class:`geosam.options.Options` that concern scene, model and threshold. With
        ``store`` embeddings are kept in a folder, and reused from there.

    Returns
    -------
    Answers

    Raises
    ------
    PromptError
        If there are no prompts, or they contradict one another, lie outside the scene or on nodata.
    GeosamError
        If an option, the bands or the model do not fit.

    Examples
    --------
    >>> clicks = gpd.GeoSeries([shapely.Point(-74.55, -8.41)], crs="EPSG:4326")  # doctest: +SKIP
    >>> geosam.ask(scene, clicks).outlines  # doctest: +SKIP
    """
    named = model if isinstance(model, str) else model.name
    chosen = Options.of({**options, "model": named})
    if earlier is None:
        desk = _set_up(scene, chosen, None if isinstance(model, str) else model)
    else:
        desk = _same(scene, earlier)
    new = _on_grid(prompts, masks, desk.grid.geobox)
    asked = new if earlier is None else merge_prompts([earlier.asked, new])
    desk = prepare_own(
        desk.views, desk.decision, desk.model, desk.grid, asked, chosen, desk.store
    )  # fmt: skip
    said = _answer(desk, asked, new, earlier, several)
    answers = Answers(desk, asked, said, gpd.GeoDataFrame())
    rows = [_row(answers, key, chosen) for key in said]
    table = gpd.GeoDataFrame(rows, columns=[*COLUMNS, "geometry"], crs=str(desk.grid.geobox.crs))
    return replace(answers, outlines=table)


def _set_up(scene: Scene, options: Options, model: Model | None) -> Prepared:
    """Choose for the whole scene, load the model and lay out the tiles."""
    if isinstance(scene, xr.DataArray):
        if options.store is not None:
            raise OptionError(
                "A store belongs to a scene in a file. Give its path in place of the array."
            )
        views, source = view_array(scene, options.resolution), None
    else:
        source = inspect_source(as_paths(scene), options)
        views, _ = view_scene(source, options)
    decision = decide(views, options, own=True)
    model = model or load(options)
    store: Embeddings = Memory()
    if source is not None:
        store = scene_store(source, views, decision, model, options) or store
    grid = tile_grid(geobox_of(views.working), model, options)
    return Prepared(views, decision, model, grid, Prompting(), store=store)


def _same(scene: Scene, earlier: Answers) -> Prepared:
    """Return what the earlier answers were made with, with a memory of its own."""
    before = earlier.prepared
    if isinstance(scene, xr.DataArray) and geobox_if_any(scene) != geobox_of(before.views.scene):
        raise OptionError(
            "The earlier answers are of a scene on another grid. Ask without `earlier`, or give their scene."
        )
    store = before.store
    return replace(before, store=Memory(dict(store.maps)) if isinstance(store, Memory) else store)


def _on_grid(prompts: Prompts | None, masks: xr.DataArray | None, geobox: GeoBox) -> ScenePrompts:
    parts = []
    if isinstance(prompts, (str, Path)):
        parts.append(read_prompts(prompts, geobox))
    elif prompts is not None:
        parts.append(table_prompts(prompts, geobox))
    if masks is not None:
        parts.append(table_prompts(mask_prompts(masks), geobox))
    if not parts:
        raise PromptError("There are no prompts. Give points, boxes or polygons, or masks.")
    return merge_prompts(parts)


def _answer(
    desk: Prepared,
    asked: ScenePrompts,
    new: ScenePrompts,
    earlier: Answers | None,
    several: bool,
) -> dict[Key, ObjectMask]:
    """Answer for each object; those that nothing new was said of stay as they were."""
    sight, given = see(desk), desk.prompts.given
    assert given is not None
    named = {int(n) for part in (new.objects, new.box_objects, new.polygon_objects) for n in part}
    before = {} if earlier is None else earlier.masks
    said: dict[Key, ObjectMask] = {}
    for number in object_numbers(asked):
        if number not in named:
            said |= {key: answer for key, answer in before.items() if key[0] == number}
        elif several and is_ambiguous(asked, number):
            rules = GenerationRules.of({}, recorded_rules(desk.model.name))
            for n, answer in enumerate(answer_ambiguous(sight, asked, number, rules), 1):
                said[number, n] = answer
        else:
            said[number, 1] = answer_object(sight, given, number, before.get((number, 1)))
    return said


def _row(answers: Answers, key: Key, options: Options) -> dict[str, Any]:
    """Describe one mask: its polygon, and how sure it is."""
    number, mask = key
    part = _cut_around(answers, key)
    found = outlines(
        part,
        threshold=options.threshold,
        min_area=0.0 if options.min_area is None else options.min_area,
        min_island=options.min_island,
        simplify=options.simplify,
    )
    weights = found.area_m2.to_numpy()
    geometry = shapely.union_all(found.geometry.to_numpy())
    return {
        "object": number,
        "mask": mask,
        "area_m2": float(area_m2(np.array([geometry]), found.crs)[0]) if len(found) else 0.0,
        "predicted_iou": answers.masks[key].predicted_iou,
        "probability": float(np.average(found.probability, weights=weights)) if len(found) else 0.0,
        "stability": float(np.average(found.stability, weights=weights)) if len(found) else 0.0,
        "truncated": bool(found.truncated.any()),
        "geometry": geometry,
    }


def _cut_around(answers: Answers, key: Key) -> xr.DataArray:
    """Return the probability of a mask around it, lazily, so that no more of the scene is read than an
    object needs.
    """
    logits, window = answers._blend(key)
    scene = geobox_of(answers.prepared.views.scene)
    part = scene[_extent(logits, window, answers.prepared.grid.geobox, scene).slices()]
    blocks = cut_blocks(part, CHUNK_PX)
    chunk = partial(_chunk, blocks=blocks, answers=answers, logits=logits, window=window)
    data = da.map_blocks(chunk, chunks=blocks.chunks, meta=np.empty((0, 0), np.float32))
    return on_grid(data, part)


def _extent(logits: np.ndarray, window: Window, grid: GeoBox, scene: GeoBox) -> Window:
    """Return the window of the scene that holds a mask and a margin, a corner where there is none."""
    rows, cols = (np.flatnonzero((logits > 0).any(axis=axis)) for axis in (1, 0))
    if len(rows) == 0:
        rows, cols = np.array([0]), np.array([0])
    left, right = window.col + cols[0], window.col + cols[-1] + 1
    top, bottom = window.row + rows[0], window.row + rows[-1] + 1
    corners = [(left, top), (right, top), (left, bottom), (right, bottom)]
    to_scene = ~scene.affine @ grid.affine
    places = np.array([to_scene @ corner for corner in corners])
    low = np.floor(places.min(axis=0)).astype(int) - MARGIN_PX
    high = np.ceil(places.max(axis=0)).astype(int) + MARGIN_PX
    wide = Window(int(low[1]), int(low[0]), int(high[1] - low[1]), int(high[0] - low[0]))
    inside = wide.intersection(Window(0, 0, *scene.shape))
    assert inside is not None
    return inside


def _chunk(
    blocks: Blocks,
    answers: Answers,
    logits: np.ndarray,
    window: Window,
    block_id: tuple[int, int] | None = None,
) -> np.ndarray:
    """Compute the probability of a block; it is 0 where no tile was asked, whatever lies there."""
    assert block_id is not None
    place = blocks.window(block_id)
    part, grid = blocks.geobox[place.slices()], answers.prepared.grid.geobox
    asked = covering(part, grid).intersection(window)
    if asked is None or np.isneginf(logits[asked.slices(window)]).all():
        return np.zeros((place.height, place.width), np.float32)
    # What is interpolated needs a pixel of the model's grid more.
    coarser = abs(grid.affine.determinant / part.affine.determinant) ** 0.5
    margin = MARGIN_PX * max(1, round(coarser))
    looks = answers.prepared.views.around(part.pad(margin, margin))
    if looks is None:
        return np.full((place.height, place.width), np.nan, np.float32)
    water = answers._water(logits, window)(looks)
    inside = covering(part, geobox_of(water))
    return np.asarray(compute(water.data[inside.slices()]))


def _laid_out(looks: Looks, logits: np.ndarray, window: Window, grid: GeoBox) -> xr.DataArray:
    """Lay logits of a window of the whole grid out on a part of it, lazily; minus infinity beyond."""
    box = looks.grid()
    corner = covering(box, grid)
    moved = replace(window, row=window.row - corner.row, col=window.col - corner.col)
    fill = partial(_fill, logits=logits, window=moved)
    chunks = da.asarray(looks.working.data).chunks[-2:]
    return on_grid(da.map_blocks(fill, chunks=chunks, meta=np.empty((0, 0), np.float32)), box)


def _fill(logits: np.ndarray, window: Window, block_info: Any = None) -> np.ndarray:
    (row, row_end), (col, col_end) = block_info[None]["array-location"]
    block = Window(row, col, row_end - row, col_end - col)
    out = np.full((block.height, block.width), -np.inf, np.float32)
    both = window.intersection(block)
    if both is not None:
        out[both.slices(block)] = logits[both.slices(window)]
    return out
