"""A group of tiles -> the pieces of objects that each of them shows."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from time import perf_counter
from typing import Any

import geopandas as gpd
import numpy as np
from odc.geo.geobox import GeoBox
from rasterio.features import geometry_mask
from scipy import ndimage

from geosam.embeddings import Embeddings
from geosam.generation import generate_masks
from geosam.generation_rules import GenerationRules
from geosam.masks import DONE, FAILED, SKIPPED_NODATA, Failure, TileMask, attempt
from geosam.segmentation import Seen
from geosam.segments.pieces import Pieces, no_pieces, pack, pieces_of, unpack
from geosam.tiles import TileGroup
from geosam.types import Model, Tile, Window

BESIDE_PX = 4
"""Pixels beside those that a tile owns where it is still asked: a neighbour may see the edge of an
object, that both do not leave to each other, a little further away."""


def find_pieces(
    read: Callable[[], np.ndarray],
    *inputs: Any,
    look: Callable[..., Seen],
    group: TileGroup,
    model: Model,
    store: Embeddings | None,
    whole: TileGroup,
    rules: GenerationRules,
    geobox: GeoBox,
    aoi: gpd.GeoSeries | None,
    margin_px: int,
) -> dict[str, np.ndarray]:
    """Generate the masks of the tiles of a group; what :func:`geosam.segmentation.group_work` calls.

    Parameters
    ----------
    read
        Gives (3, y, x) pixels of the group's read window, NaN where nodata.
    *inputs
        What prompts, unread.
    look
        Turns both into what the model sees of each tile.
    group, model, store
        The tiles, what sees them, and where features are kept.
    whole
        The same group on the model's grid of the whole scene, whatever part of it is looked at.
    rules
        Of the mask generator.
    geobox
        The model's grid of the whole scene.
    aoi
        Area of interest in its CRS: outside of it nothing is found.
    margin_px
        Pixels beside nodata that count as nodata too: those of a coarser grid may hold some.

    Returns
    -------
    dict
        Pieces as :func:`geosam.segments.pieces.pack` writes them, what became of the tiles, and the
        number of pixels that the tiles own and that have data.
    """
    seen = look(read, *inputs, group=group)
    known = _known(seen.pixels, whole.read, geobox, aoi, margin_px)
    embed = None if store is None else store.embedder(model, whole.tiles)
    scene = Window(0, 0, *geobox.shape)
    found, rows, n_valid = [], [], 0
    for k, tile in enumerate(whole.tiles):
        valid = known[tile.read.slices(whole.read)]
        owned = int(valid[tile.core.slices(tile.read)].sum())
        n_valid += owned
        if seen.empty[k] or not owned:
            rows.append(TileMask(SKIPPED_NODATA))
            continue

        def generate(k: int = k, tile: Tile = tile, valid: Any = valid) -> Pieces:
            shown = seen.show([k])
            features = None if embed is None else embed([k], lambda which: shown)
            part = _asked_of(tile)
            masks = generate_masks(model, shown[0], rules, valid, features, part, goes_on=True)
            return pieces_of(masks, tile, scene)

        started = perf_counter()
        pieces = attempt(generate)
        seconds = perf_counter() - started
        if isinstance(pieces, Failure):
            rows.append(TileMask(FAILED, error=pieces.reason))
            continue
        rows.append(TileMask(DONE, seconds=seconds))
        found.append(pieces)
    return pack(Pieces.concatenate(found)) | {
        "tiles": _as_bytes(rows),
        "n_valid": np.array(n_valid),
    }


def pieces_kept(
    arrays: Mapping[str, np.ndarray], n_tiles: int
) -> tuple[Pieces, list[TileMask], int]:
    """Return pieces, what became of the tiles, and their pixels with data.

    Parameters
    ----------
    arrays
        What :func:`find_pieces` gave; nothing of a group where the scene has no data.
    n_tiles
        Number of tiles of the group.
    """
    if not arrays:
        return no_pieces(), [TileMask(SKIPPED_NODATA)] * n_tiles, 0
    rows = [TileMask(**row) for row in json.loads(arrays["tiles"].tobytes())]
    return unpack(arrays), rows, int(arrays["n_valid"])


def _asked_of(tile: Tile) -> Window:
    """Return what masks of a tile must reach: the pixels it owns and some beside, in its own."""
    row, col = tile.core.row - tile.read.row - BESIDE_PX, tile.core.col - tile.read.col - BESIDE_PX
    grown = Window(row, col, tile.core.height + 2 * BESIDE_PX, tile.core.width + 2 * BESIDE_PX)
    whole = grown.intersection(Window(0, 0, tile.read.height, tile.read.width))
    assert whole is not None
    return whole


def _as_bytes(rows: list[TileMask]) -> np.ndarray:
    told = [asdict(replace(row, logits=None)) for row in rows]
    return np.frombuffer(json.dumps(told).encode(), np.uint8)


def _known(
    pixels: np.ndarray, window: Window, geobox: GeoBox, aoi: gpd.GeoSeries | None, margin_px: int
) -> np.ndarray:
    """Mark the pixels of a window where an object may be."""
    known = np.isfinite(pixels).any(axis=0)
    if margin_px:
        known = ndimage.binary_erosion(known, np.ones((3, 3), bool), margin_px, border_value=1)
    if aoi is not None:
        part = geobox.translate_pix(window.col, window.row).affine
        known &= geometry_mask(list(aoi), known.shape, part, invert=True)
    return known
