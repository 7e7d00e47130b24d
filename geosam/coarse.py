"""A scene -> its coarse water mask: the crude guess that prompts are drawn from."""

from __future__ import annotations

from collections.abc import Callable

import dask.array as da
import numpy as np
import xarray as xr
from dask.delayed import Delayed

from geosam.indices import HsvRange, compute_index, hsv_mask
from geosam.mosaic import accumulate, mosaic_logits, read_tiles
from geosam.stretch import Stretch
from geosam.tasks import task
from geosam.thresholds import Threshold, coarse_mask, drop_small
from geosam.tiles import TileGrid, TileGroup, group_tiles
from geosam.types import CoarseNetwork, Window
from geosam.windows import blocks_of, read_window

NODATA = 255
"""Value of a coarse mask where the scene has no data in any band."""
MIN_COMPONENT_PX = 12
"""Smaller components of a coarse mask are noise (water-surf's `min_size`)."""
NETWORK_BATCH = 4
"""Inputs of the network at once."""


def coarse_from_index(scene: xr.DataArray, index: str, threshold: Threshold) -> xr.DataArray:
    """Return the coarse mask of a water index: (y, x) uint8, lazily; see :func:`finish`."""
    water = coarse_mask(compute_index(scene, index), threshold)
    return finish(water.data, scene)


def coarse_from_hsv(scene: xr.DataArray, stretch: Stretch, colours: HsvRange) -> xr.DataArray:
    """Return where the stretched red, green and blue lie in a range: (y, x) uint8, lazily."""
    rgb = scene.sel(band=list(stretch.bands))

    def in_range(pixels: np.ndarray) -> np.ndarray:
        return hsv_mask(stretch.apply(pixels), colours.low, colours.high)

    water = da.map_blocks(in_range, _one_band_chunk(rgb.data), drop_axis=0, dtype=bool)
    return finish(water, scene)


def coarse_from_raster(raster: xr.DataArray, scene: xr.DataArray) -> xr.DataArray:
    """Return the coarse mask that a user's raster gives: (y, x) bool on the scene's grid."""
    return finish(raster.data, scene)


def coarse_from_network(
    scene: xr.DataArray, stretch: Stretch, network: CoarseNetwork, size: int, overlap: int
) -> xr.DataArray:
    """Return where the learned network sees water: (y, x) uint8, lazily.

    Parameters
    ----------
    scene
        (band, y, x) on the model's grid, with red, green and blue.
    stretch
        Of red, green and blue.
    network
        Turns pixels into logits.
    size, overlap
        Side of its tiles, and the pixels that neighbours share.
    """
    grid = TileGrid(scene.odc.geobox, size, overlap)
    rgb = blocks_of(scene.sel(band=list(stretch.bands)))

    def predict(group: TileGroup) -> Delayed:
        predict_group = task(
            _network_planes, group=group, stretch=stretch, network=network, overlap=overlap
        )
        return predict_group(read_window(rgb, group.read))

    logits = mosaic_logits(grid, group_tiles(grid, 2), predict)
    return finish(logits > 0, scene)


def _network_planes(
    pixels: np.ndarray, group: TileGroup, stretch: Stretch, network: CoarseNetwork, overlap: int
) -> np.ndarray:
    windows = read_tiles(pixels, group.read, group.tiles)
    seen = [i for i, window in enumerate(windows) if np.isfinite(window).any()]
    logits: list[np.ndarray | None] = [None] * len(windows)
    for start in range(0, len(seen), NETWORK_BATCH):
        batch = seen[start : start + NETWORK_BATCH]
        answers = network.predict(np.stack([stretch.apply(windows[i]) for i in batch]))
        for i, answer in zip(batch, answers, strict=True):
            logits[i] = answer
    return accumulate(group, logits, [False] * len(windows), overlap)


def finish(water: da.Array, scene: xr.DataArray) -> xr.DataArray:
    """Drop small components and mark nodata.

    A component of fewer than :data:`MIN_COMPONENT_PX` pixels is no longer than that, so a margin of
    as many pixels around each block tells it from the end of a larger one: the result does not
    depend on the blocks.

    Parameters
    ----------
    water
        (y, x) bool, lazy or not.
    scene
        (band, y, x) on the same grid, NaN where nodata.

    Returns
    -------
    DataArray (y, x) uint8: 1 water, 0 land, 255 nodata.
    """
    data = _one_band_chunk(scene.data)
    void = da.map_blocks(_all_nan, data, drop_axis=0, dtype=bool)
    water = da.asarray(water).rechunk(void.chunks) & ~void
    kept = water.map_overlap(
        _drop_small_inside, depth=MIN_COMPONENT_PX, boundary=False, dtype=bool, allow_rechunk=True
    )
    mask = da.where(void, np.uint8(NODATA), kept.astype(np.uint8))
    y, x = scene.dims[1:]
    coords = {
        name: coord
        for name, coord in scene.coords.items()
        if "band" not in coord.dims and name != "band"
    }
    return xr.DataArray(mask, dims=(y, x), coords=coords, name="coarse")


def _drop_small_inside(water: np.ndarray) -> np.ndarray:
    """Drop small components, but none that touches the block's border, where it may go on."""
    border = np.ones_like(water)
    border[1:-1, 1:-1] = False
    # Joining the border to everything that touches it makes one large component of those.
    return drop_small(water | border, MIN_COMPONENT_PX) & water if water.any() else water


def _all_nan(pixels: np.ndarray) -> np.ndarray:
    return np.isnan(pixels).all(axis=0)


def _one_band_chunk(data: da.Array | np.ndarray) -> da.Array:
    """All bands of a pixel in one chunk, so that a block sees the whole spectrum."""
    return da.asarray(data).rechunk({0: -1})


CoarseReader = Callable[[Window], np.ndarray]
"""A window of the model's grid, overhanging or not -> (height, width) uint8."""
