"""A scene -> its coarse water mask: the crude guess that prompts are drawn from."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import dask.array as da
import numpy as np
import xarray as xr

from geosam.hysteresis import near_sure
from geosam.indices import INDICES, HsvRange, compute_index, hsv_mask
from geosam.mosaic import Answer, Mosaic, Work, accumulate, read_tiles
from geosam.stretch import Stretch
from geosam.thresholds import Threshold, drop_small
from geosam.tiles import TileGrid, TileGroup, group_tiles
from geosam.types import CoarseNetwork
from geosam.windows import blocks_of, map_around, read_window, void_of

NODATA = 255
"""Value of a coarse mask where the scene has no data in any band."""
MIN_COMPONENT_PX = 12
"""Smaller components of a coarse mask are noise (water-surf's `min_size`)."""
RELATED_SHARE = 0.2
"""Share of a hint that must be water by the index for the two to be about the same thing: a mask
widened by its own half width on both sides still has a third."""
EDGE_PX = 8
"""How far from nodata, in pixels of the model's grid, the learned network is not trusted with thin
things."""
NETWORK_BATCH = 1
"""Inputs of the network at once: two take twice the memory (96 MB against 47) and as long."""
INDEX_LOGIT = 2.0
"""Evidence, in logits, of an index at its margin: beyond that margin it leaves little doubt."""
NETWORK_WEIGHT = 0.5
"""Weight of the coarse network's logits beside the model's: it sees less of the edges."""
FINE_WEIGHT = 0.75
"""Weight of the learned network's look at the model's grid, beside that at half its resolution."""
DETAIL_WEIGHT = 5.0
"""Weight of what is fine in the network's logits beside the model's, where the model sees the scene enlarged: it
draws banks smoother than they are. Validation images without and with it, median and mean boundary F1 at 2 px:
39 Sentinel-2 chips 0.558, 0.517 and 0.622, 0.546 (their coarse masks 0.589, 0.528), five-band chips in colours
(15) 0.274, 0.311 and 0.269, 0.314; IoU stays within 0.005 in the mean. Larger weights go on to gain, and to part
banks into more pieces."""
DETAIL_PX = 2.0
"""What is fine: less than this, the standard deviation of a Gaussian in pixels of the model's grid."""
BANK_PX = 6
"""How far from a bank of the coarse mask what is fine counts: further off it is specks, eight new ones in a scene of
256 px."""
COMPANION_WEIGHT = 0.125
"""Weight of the network's logits beside an index. Without, with an eighth and a quarter of it the IoU of a
synthetic scene of the validation seeds is 0.933, 0.944 and 0.954, and 0.896 with a half; but of the
Ucayali, whose pixels of 90 m the network has never seen, a quarter leaves NDWI > 0 by 0.17."""
CORE_LOGIT = 1.0
"""Logit of the learned network from which on it adds water to an index's, where it has it all around. With
it, and without, the coarse masks of validation chips with near infrared have a mean IoU of 0.657 and 0.549 (medians
0.675 and 0.573), those of four synthetic scenes 0.954 and 0.937."""
CORE_PX = 2
"""How far around, in pixels of the model's grid: the network draws banks a pixel of the scene too wide."""
DENIAL_WEIGHT = 0.5
"""Weight of an index that cannot part water from land, where it speaks against water. Of the seven
validation chips of which that is so the one with a lake of size comes out at an IoU of 0.85 without it, at
0.70 with a half and at 0.65 in full; false water on the others falls from 0.3 % on average to nothing."""
MOST_EVIDENCE = 4.0
"""Bound of all evidence, in logits, so that a model that is sure can overrule it."""
PROMPT_WEIGHT = 2.0
"""Weight of the learned network's logits in the mask prompt: the model knows masks that are sure."""
PROMPT_LOGIT = 6.0
"""Bound of the logits of a mask prompt: that of a mask which is sure of itself."""
STORED_LOGIT = 8.0
"""Bound of the learned network's logits where they are kept: what doubles or halves them is bounded within it."""
_STEPS = 127
"""A logit is kept as a whole number of these from zero to its bound."""
_LARGE = 50.0
_GAUSSIAN_REACH = 4.0


def index_evidence(scene: xr.DataArray, index: str, threshold: Threshold) -> xr.DataArray:
    """Return how much an index speaks for water: (y, x) float32 logits, lazily.

    Zero at the threshold, :data:`INDEX_LOGIT` at the index's margin above it. Where the index cannot
    part water from land, it speaks against water everywhere.
    """
    if not threshold.separable:
        return (compute_index(scene, index) * 0 - _LARGE).astype("float32")
    return index_logits(scene, index, threshold)


def index_logits(scene: xr.DataArray, index: str, threshold: Threshold) -> xr.DataArray:
    """Return how far an index lies on the water's side of a threshold: (y, x) float32 logits, lazily."""
    values = compute_index(scene, index)
    side = 1 if threshold.water_above else -1
    slope = side * INDEX_LOGIT / INDICES[index].margin
    return ((values - threshold.value) * slope).astype("float32")


def hsv_evidence(scene: xr.DataArray, stretch: Stretch, colours: HsvRange) -> xr.DataArray:
    """Return logits for where the stretched red, green and blue lie in a range: (y, x), lazily."""
    rgb = scene.sel(band=list(stretch.bands))

    def in_range(pixels: np.ndarray) -> np.ndarray:
        water = hsv_mask(stretch.apply(pixels), colours.low, colours.high)
        return np.where(water, INDEX_LOGIT, -INDEX_LOGIT).astype(np.float32)

    whole = da.asarray(rgb.data).rechunk({0: -1})
    logits = da.map_blocks(in_range, whole, drop_axis=0, dtype=np.float32)
    return rgb.isel(band=0, drop=True).copy(data=logits)


def coarse_from_evidence(evidence: xr.DataArray, scene: xr.DataArray) -> xr.DataArray:
    """Return where evidence speaks for water: (y, x) uint8, lazily; see :func:`finish`."""
    return finish(evidence.data > 0, scene)


def coarse_from_network(evidence: xr.DataArray) -> xr.DataArray:
    """Return where the learned network finds water that hangs together with water it is sure of: (y, x)
    uint8, lazily; see :func:`finish` and :mod:`geosam.hysteresis`. NaN is nodata.
    """
    return _finished(near_sure(evidence), da.isnan(evidence.data), evidence, MIN_COMPONENT_PX)


def store_evidence(evidence: xr.DataArray, scene: xr.DataArray) -> xr.DataArray:
    """Return evidence in whole steps: (y, x) uint8, lazily; see :func:`stored_evidence`.

    Logits are bounded by :data:`STORED_LOGIT`, beyond which nobody asks; nodata of the scene is 255.
    """
    void = void_of(scene)
    logits = da.asarray(evidence.data).rechunk(void.chunks)
    steps = _to_steps(da.clip(logits, -STORED_LOGIT, STORED_LOGIT), STORED_LOGIT)
    return evidence.copy(data=da.where(void | da.isnan(steps), NODATA, steps).astype(np.uint8))


def stored_evidence(stored: xr.DataArray) -> xr.DataArray:
    """Return the logits that :func:`store_evidence` stored: (y, x) float32, lazily; NaN where nodata."""
    table = _from_steps(np.arange(256), STORED_LOGIT)
    table[NODATA] = np.nan
    data = da.asarray(stored.data)
    return stored.copy(data=da.map_blocks(table.__getitem__, data, dtype=np.float32))


def without_slivers(evidence: xr.DataArray, scene: xr.DataArray) -> xr.DataArray:
    """Turn thin strips of water along nodata into land: (y, x) float32 logits, lazily.

    Where a picture was compressed together with its black collar, its outermost pixels are dark, and
    the learned network takes them for water. Within :data:`EDGE_PX` of nodata only what a disc of half
    that radius fits into stays.
    """
    void = void_of(scene)
    seen = {"logits": da.asarray(evidence.data).rechunk(void.chunks), "void": void}
    fills = {"logits": -MOST_EVIDENCE, "void": False}
    kept = map_around(_blank_slivers, seen, fills, 2 * EDGE_PX, np.float32)
    return evidence.copy(data=kept)


def _blank_slivers(logits: np.ndarray, void: np.ndarray) -> np.ndarray:
    from scipy.ndimage import binary_dilation, binary_opening
    from skimage.morphology import disk

    if not void.any() or void.all():
        return logits
    near = binary_dilation(void, disk(EDGE_PX))
    wide = binary_opening((logits > 0) & ~void, disk(EDGE_PX // 2))
    sliver = near & (logits > 0) & ~wide
    return np.where(sliver, np.float32(-MOST_EVIDENCE), logits)


def coarse_from_raster(raster: xr.DataArray, scene: xr.DataArray) -> xr.DataArray:
    """Return the coarse mask that a user's raster gives: (y, x) uint8 on the scene's grid. None of
    it is dropped: a single pixel can be meant.
    """
    return finish(raster.data, scene, min_px=1)


def bounded(
    evidence: xr.DataArray,
    coarse: xr.DataArray,
    weight: float = 1.0,
    fine: xr.DataArray | None = None,
) -> xr.DataArray:
    """Return evidence as it is added to the model's logits: (y, x) float32, lazily.

    What speaks for water where the coarse mask has none, because it was dropped or is not meant,
    speaks against it. `fine` is added where it is meant; see :func:`detail`.
    """
    meant = ~(evidence.data > 0) | (coarse.data == 1)
    logits = da.clip(evidence.data * np.float32(weight), -MOST_EVIDENCE, MOST_EVIDENCE)
    logits = logits if fine is None else logits + fine.data
    logits = da.where(meant, logits, np.float32(-MOST_EVIDENCE))
    return evidence.copy(data=da.nan_to_num(logits))


def detail(evidence: xr.DataArray, coarse: xr.DataArray) -> xr.DataArray:
    """Return what is fine in evidence near the banks of the coarse mask, times :data:`DETAIL_WEIGHT`: (y, x)
    float32 logits, lazily, 0 elsewhere.

    Unsharp masking: what a Gaussian takes out. It moves banks to where evidence changes, and says nothing
    of larger areas.
    """
    logits = da.clip(da.asarray(evidence.data), -MOST_EVIDENCE, MOST_EVIDENCE)
    mask = da.asarray(coarse.data).rechunk(logits.chunks)
    seen = {"logits": da.nan_to_num(logits), "mask": mask}
    margin = max(int(np.ceil(_GAUSSIAN_REACH * DETAIL_PX)), BANK_PX)
    fills = {"logits": 0.0, "mask": NODATA}
    return evidence.copy(data=map_around(_fine, seen, fills, margin, np.float32))


def _fine(logits: np.ndarray, mask: np.ndarray) -> np.ndarray:
    from scipy.ndimage import gaussian_filter, maximum_filter

    if not (mask == 1).any():
        return np.zeros_like(logits)
    smooth = gaussian_filter(logits, DETAIL_PX, truncate=_GAUSSIAN_REACH)
    near = maximum_filter(mask == 1, 2 * BANK_PX + 1) & maximum_filter(mask == 0, 2 * BANK_PX + 1)
    return np.where(near, np.float32(DETAIL_WEIGHT) * (logits - smooth), np.float32(0))


def mask_prompt(evidence: xr.DataArray, coarse: xr.DataArray) -> xr.DataArray:
    """Return evidence as the model is prompted with it: (y, x) uint8, lazily; see
    :func:`prompt_logits`.

    A mask says of a doubtful pixel as much as of a sure one; logits leave the model more to decide.
    Where the two contradict one another, because water was dropped or drawn by hand, the mask is sure.
    """
    logits = PROMPT_WEIGHT * da.asarray(evidence.data)
    logits = da.where(da.isnan(logits), np.float32(-PROMPT_LOGIT), logits)
    water = da.asarray(coarse.data).rechunk(logits.chunks) == 1
    sure = da.where(water, np.float32(PROMPT_LOGIT), np.float32(-PROMPT_LOGIT))
    logits = da.where((logits > 0) == water, da.clip(logits, -PROMPT_LOGIT, PROMPT_LOGIT), sure)
    return evidence.copy(data=_to_steps(logits, PROMPT_LOGIT).astype(np.uint8))


def prompt_logits(stored: np.ndarray) -> np.ndarray:
    """Return the logits of a mask prompt as :func:`mask_prompt` gives it, float32: against water where
    there is none.
    """
    return _from_steps(np.where(stored == NODATA, 0, stored), PROMPT_LOGIT)


def _to_steps(logits: da.Array, bound: float) -> da.Array:
    """Return logits within a bound as whole numbers from 0 to twice the steps."""
    return da.rint((logits / np.float32(bound) + 1) * _STEPS)


def _from_steps(steps: np.ndarray, bound: float) -> np.ndarray:
    """Return the logits, float32."""
    return (steps.astype(np.float32) / np.float32(_STEPS) - 1) * np.float32(bound)


def with_companion(evidence: xr.DataArray, learned: xr.DataArray, adds: bool) -> xr.DataArray:
    """Return evidence of an index with what the learned network says of the same pixels: (y, x) float32
    logits, lazily.

    An index looks at one pixel at a time: it denies riffles and dark lakes, and believes shade. The
    network sees what lies around, but not as sharply: where the index finds water, banks are its own.

    Parameters
    ----------
    evidence
        (y, x) logits of the index.
    learned
        (y, x) logits of the network on the same grid; NaN where there are none.
    adds
        Whether the middle of what the network takes for water is water, whatever the index says.
    """
    logits = da.clip(da.asarray(learned.data), -MOST_EVIDENCE, MOST_EVIDENCE)
    index = da.asarray(evidence.data)
    both = index + COMPANION_WEIGHT * da.nan_to_num(logits).rechunk(index.chunks)
    if adds:
        both = da.maximum(both, _core(learned).rechunk(index.chunks) - np.float32(CORE_LOGIT))
    return evidence.copy(data=both.astype(np.float32))


def _core(learned: xr.DataArray) -> da.Array:
    """Return the least that the network says around each pixel."""
    seen = {"logits": da.asarray(learned.data)}
    return map_around(_least_around, seen, {"logits": -_LARGE}, CORE_PX, np.float32)


def _least_around(logits: np.ndarray) -> np.ndarray:
    from scipy.ndimage import minimum_filter

    return minimum_filter(np.nan_to_num(logits, nan=-_LARGE), 2 * CORE_PX + 1)


def denied(learned: xr.DataArray, index: xr.DataArray) -> xr.DataArray:
    """Return the learned network's logits less what an index that parts nothing has against water.

    Beyond its margin such an index still knows land: of a field that is bright in the near infrared
    no network need be asked. Within the margin its word counts at :data:`DENIAL_WEIGHT`.
    """
    said = da.asarray(index.data).rechunk(learned.data.chunks)
    against = da.where(said <= -INDEX_LOGIT, -_LARGE, DENIAL_WEIGHT * da.minimum(said, 0))
    return learned.copy(data=(learned.data + against).astype(np.float32))


def is_related(hint: xr.DataArray, water: xr.DataArray) -> bool:
    """Return whether a hint is about the water of an index: at least :data:`RELATED_SHARE` of it
    is. Both are (y, x) uint8 on one grid, in memory.
    """
    pointed = hint.values == 1
    return bool(pointed.any()) and float((water.values[pointed] == 1).mean()) >= RELATED_SHARE


def follow_hint(hint: xr.DataArray, water: xr.DataArray) -> xr.DataArray:
    """Return the water of an index that a hint points at.

    A raster that a user gives may be years old, coarser than the scene, or drawn with a broad brush.
    It says which water is meant; where the bands allow an index, that says where its edges are. As
    in thresholding with hysteresis (Canny 1986), a component of the index's water stays if the hint
    touches it.

    Parameters
    ----------
    hint, water
        (y, x) uint8 on one grid, in memory: 1 water, 0 land, 255 nodata.

    Returns
    -------
    DataArray (y, x) uint8
    """
    from scipy.ndimage import label

    is_water = water.values == 1
    labels, n = label(is_water, np.ones((3, 3), bool))
    chosen = np.zeros(n + 1, bool)
    chosen[labels[hint.values == 1]] = True
    chosen[0] = False
    kept = np.where(is_water, chosen[labels], water.values).astype(np.uint8)
    return water.copy(data=da.asarray(kept, chunks=1024))


def network_mosaic(
    scene: xr.DataArray,
    renditions: Sequence[Stretch],
    network: CoarseNetwork,
    grid: TileGrid,
    per_side: int,
) -> Mosaic:
    """Lay out the answers of the learned network, without computing any.

    Parameters
    ----------
    scene
        (band, y, x) on the grid, with red, green and blue.
    renditions
        Stretches of red, green and blue; the network's answers to all are averaged.
    network
        Turns pixels into logits.
    grid
        Its tiles.
    per_side
        How many a side are a group.
    """
    rgb = blocks_of(scene.sel(band=list(renditions[0].bands)))

    def work(group: TileGroup) -> Work:
        function = partial(
            _network_planes,
            group=group,
            renditions=renditions,
            network=network,
            overlap=grid.overlap,
        )
        return Work(function, (read_window(rgb, group.read),))

    return Mosaic(grid, group_tiles(grid, per_side), work)


def _network_planes(
    pixels: np.ndarray,
    group: TileGroup,
    renditions: Sequence[Stretch],
    network: CoarseNetwork,
    overlap: int,
) -> Answer:
    windows = read_tiles(pixels, group.read, group.tiles)
    seen = [i for i, window in enumerate(windows) if np.isfinite(window).any()]
    logits: list[np.ndarray | None] = [None] * len(windows)
    for start in range(0, len(seen), NETWORK_BATCH):
        batch = seen[start : start + NETWORK_BATCH]
        answers = [
            network.predict(np.stack([stretch.apply(windows[i]) for i in batch]))
            for stretch in renditions
        ]
        for i, answer in zip(batch, np.mean(answers, axis=0), strict=True):
            logits[i] = answer
    return Answer(accumulate(group, logits, [False] * len(windows), overlap))


def mean_evidence(fine: xr.DataArray, wide: xr.DataArray) -> xr.DataArray:
    """Return the network's logits at two resolutions, weighed; `fine` alone where `wide` has none.

    The wide look sees more of what lies around, the fine one more of the water. On validation images
    with the bare network, three quarters of the fine one against a half: median IoU of the
    Sentinel-2 chips 0.77 against 0.76, Dubai 0.45 and 0.45, Monterey 0.81 and 0.78; false water on
    dry aerial images 1.9 against 1.7 %, and 2.3 % with the fine one alone.
    """
    both = FINE_WEIGHT * fine.data
    both = both + (1 - FINE_WEIGHT) * da.asarray(wide.data).rechunk(fine.data.chunks)
    return fine.copy(data=da.where(da.isnan(both), fine.data, both))


def finish(water: da.Array, scene: xr.DataArray, min_px: int = MIN_COMPONENT_PX) -> xr.DataArray:
    """Drop small components and mark nodata.

    A component of fewer than `min_px` pixels is no longer than that, so a margin of
    as many pixels around each block tells it from the end of a larger one: the result does not
    depend on the blocks.

    Parameters
    ----------
    water
        (y, x) bool, lazy or not.
    scene
        (band, y, x) on the same grid, NaN where nodata.
    min_px
        Smallest component that stays.

    Returns
    -------
    DataArray (y, x) uint8: 1 water, 0 land, 255 nodata.
    """
    return _finished(water, void_of(scene), scene[0], min_px)


def _finished(water: da.Array, void: da.Array, like: xr.DataArray, min_px: int) -> xr.DataArray:
    water = da.asarray(water).rechunk(void.chunks) & ~void
    drop = partial(_drop_small_inside, min_px=min_px)
    kept = map_around(drop, {"water": water}, {"water": False}, min_px, bool)
    mask = da.where(void, np.uint8(NODATA), kept.astype(np.uint8))
    coords = {name: coord for name, coord in like.coords.items() if name != "band"}
    return xr.DataArray(mask, dims=like.dims, coords=coords, name="coarse")


def _drop_small_inside(water: np.ndarray, min_px: int) -> np.ndarray:
    """Drop small components, but none that touches the block's border, where it may go on."""
    border = np.ones_like(water)
    border[1:-1, 1:-1] = False
    # Joining the border to everything that touches it makes one large component of those.
    return drop_small(water | border, min_px) & water if water.any() else water
