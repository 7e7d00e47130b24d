"""From an index to a coarse water mask: one threshold for the whole scene, and the honest answer
that there is none.

Otsu's method always returns a number. Two things are therefore asked of it: not to fall below the
index's physical threshold (where water is 3 % of a scene it cuts the land in two), and that what
it parts are two populations. A dry river bed has one broad hump of NDWI around 0, of which 62 %
lie above 0, and no water.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from geosam.indices import SpectralIndex

if TYPE_CHECKING:
    pass

MIN_VALUES = 100
"""Fewer values make no histogram; the physical threshold is taken as it is."""
SEPARABLE_SHARE = 0.78
"""Between-class share of the variance from which two classes need no further proof. A normal
distribution cut in half has 2/pi = 0.64, an exponential one 0.65, a uniform one 0.75."""
VALLEY_DEPTH = 0.6
"""A valley is at most this share of the lower of the two modes beside it. The muddiest of eight
scenes of the Ucayali has 0.52, a dry bed in Haiti 1.0."""
VALLEY_REACH = 0.15
"""How far below the threshold the valley may lie, as a share of the range of the values: turbid
rivers lie on both sides of an NDWI of 0."""
MIN_SIDE_SHARE = 0.001
"""Share of the values that must lie on either side of a valley: less is a few outliers."""
MIN_SIDE_VALUES = 50
"""As `MIN_SIDE_SHARE`, in values."""
BINS = 256
SMOOTHING_BINS = 5
"""Standard deviation of the histogram's smoothing: 2 % of the range, wider than the gaps between
the values of 8 bit data."""


FLOOR_SHARE = 0.8
"""Where between the physical threshold (0) and the floor of the valley (1) the threshold is set: pixels
of riffles and banks are partly water and lie on the land's side of the floor. On five synthetic scenes
the final IoU is 0.925 on average at four fifths, 0.903 at the floor and 0.898 at half the way."""


@dataclass(frozen=True)
class Threshold:
    """Where an index parts water from land in one scene."""

    value: float
    """The threshold, in the index's units. Itself not water."""
    method: str
    """``otsu``, ``valley``, ``physical`` or ``fixed``: where the value comes from."""
    separable: bool
    """Whether there are two populations. If not, nothing in the scene is water by this index."""
    water_above: bool
    """Whether water lies above the value."""
    sentence: str
    """The decision and its reason, for the summary of a run."""


@dataclass(frozen=True)
class _Histogram:
    """Values counted from the physical threshold, water above 0, and their smoothed density."""

    centres: np.ndarray
    """(BINS,) value at the centre of each bin."""
    density: np.ndarray
    """(BINS,) smoothed counts."""
    counts: np.ndarray
    """(BINS,) counts."""

    @property
    def reach(self) -> float:
        """How far below a threshold its valley may lie."""
        return VALLEY_REACH * float(self.centres[-1] - self.centres[0])

    def depth(self) -> np.ndarray:
        """Density over the lower of the highest densities left and right of it, (BINS,).

        1 on a slope or a mode, 0 in an empty gap; infinite where too few values lie on one side.
        """
        left, right = _running_maxima(self.density)
        below = np.cumsum(self.counts)
        depth = self.density / np.maximum(np.minimum(left, right), np.finfo(float).tiny)
        total = below[-1]
        fewest = np.minimum(below, total - below)
        depth[fewest < max(MIN_SIDE_VALUES, MIN_SIDE_SHARE * total)] = np.inf
        return depth


def otsu(values: np.ndarray) -> float:
    """Compute Otsu's threshold of the finite values, which may have any shape.

    Raises
    ------
    ValueError
        If no value is finite.

    References
    ----------
    Otsu (1979), https://doi.org/10.1109/TSMC.1979.4310076
    """
    from skimage.filters import threshold_otsu

    finite = _finite(values)
    if finite.size == 0:
        raise ValueError(
            "Otsu's threshold needs at least one finite value. Check the nodata value."
        )
    return float(finite[0]) if np.ptp(finite) == 0 else float(threshold_otsu(finite, nbins=BINS))


def between_class_share(values: np.ndarray, threshold: float) -> float:
    """Compute the share of the variance that lies between the values above and up to a threshold.

    0 (one class is empty, or the means agree) to 1 (each class is a single value).
    """
    finite = _finite(values)
    above = finite > threshold
    share = above.mean() if finite.size else 0.0
    if share in (0.0, 1.0):
        return 0.0
    distance = finite[above].mean() - finite[~above].mean()
    return float(share * (1 - share) * distance**2 / finite.var())


def choose_threshold(values: np.ndarray, index: SpectralIndex) -> Threshold:
    """Choose a scene's threshold of an index, and decide whether there is water by it at all.

    Otsu's threshold; where that lies below the physical one, the floor of the valley above that, or
    the physical one itself. It stands if it parts two
    populations: by Otsu's own measure, or because the histogram has a valley there. If instead
    a valley further into the water parts them (a small lake beside bare soil), that is taken.

    Parameters
    ----------
    values
        Index values of the whole scene or of a decimated read of it, any shape; NaN is left out.
    index
        What the values are.

    Returns
    -------
    Threshold
        Not `separable` where there is no water by this index.

    Examples
    --------
    >>> from geosam.indices import INDICES
    >>> rng = np.random.default_rng(0)
    >>> land, water = rng.normal(-0.6, 0.1, 97_000), rng.normal(0.4, 0.1, 3_000)
    >>> choose_threshold(np.r_[land, water], INDICES["ndwi"]).separable
    True
    >>> choose_threshold(rng.normal(0.05, 0.2, 100_000), INDICES["ndwi"]).separable
    False
    """
    sign = 1.0 if index.water_above else -1.0
    wetness = sign * (_finite(values).astype("float64") - index.threshold)
    split = _split(wetness, index.margin)
    value = index.threshold + sign * split.value
    return Threshold(
        value=value,
        method=split.method,
        separable=split.separable,
        water_above=index.water_above,
        sentence=_sentence(index, value, split, wetness),
    )


def fixed_threshold(value: float, index: SpectralIndex) -> Threshold:
    """Wrap a threshold the user chose: it is taken as it is."""
    side = "above" if index.water_above else "below"
    sentence = f"Water is where {index.name.upper()} lies {side} {value:g}, as asked."
    return Threshold(float(value), "fixed", True, index.water_above, sentence)


def drop_small(mask: np.ndarray, min_px: int = 12) -> np.ndarray:
    """Drop the components of a mask with fewer than `min_px` pixels, corners connecting.

    Parameters
    ----------
    mask
        (h, w) bool.
    min_px
        Smallest number of pixels that stays.

    Returns
    -------
    (h, w) bool, a new array.
    """
    from scipy.ndimage import label

    labels, _ = label(mask, structure=np.ones((3, 3), dtype=bool))
    keep = np.bincount(labels.ravel()) >= min_px
    keep[0] = False
    return keep[labels]


@dataclass(frozen=True)
class _Split:
    """A threshold of values counted from the physical threshold, water above 0."""

    value: float
    method: str
    separable: bool
    reason: str


def _split(wetness: np.ndarray, margin: float) -> _Split:
    """Decide on a threshold and on whether it parts two populations."""
    if wetness.size < MIN_VALUES:
        reason = f"the physical threshold, as {wetness.size} values make no histogram"
        return _Split(0.0, "physical", wetness.size > 0, reason)
    if np.percentile(wetness, 5) > margin:
        return _Split(0.0, "physical", True, "the physical threshold, as all of it is water")
    value, method, reason = otsu(wetness), "otsu", "Otsu"
    if value <= 0:
        value, method, reason = _above_physical(_histogram(wetness))
    share = between_class_share(wetness, value)
    if share >= SEPARABLE_SHARE:
        return _Split(value, method, True, reason)
    valley = _valley(_histogram(wetness), value)
    if valley is None:
        return _Split(value, method, False, f"{share:.0%} of the variance between the classes")
    if valley > value:
        return _Split(valley, "valley", True, "a valley of the histogram")
    return _Split(value, method, True, reason)


def _above_physical(histogram: _Histogram) -> tuple[float, str, str]:
    """Return value, method and reason where Otsu's threshold lies below the physical one, as it
    does where little of the scene is water: the floor of the valley above it, if there is one.
    """
    depth = np.where(histogram.centres >= 0, histogram.depth(), np.inf)
    if depth.min() <= VALLEY_DEPTH:
        floor = FLOOR_SHARE * float(histogram.centres[depth.argmin()])
        return (
            floor,
            "valley",
            "just below the valley's floor, as Otsu's lies under the physical one",
        )
    return 0.0, "physical", "the physical threshold, as Otsu's lies below it"


def _valley(histogram: _Histogram, threshold: float) -> float | None:
    """Return where a valley parts the values; the threshold itself if it lies in the valley.

    A valley just below the threshold supports it too; one above it is a better threshold.
    """
    centres, density, depth = histogram.centres, histogram.density, histogram.depth()
    if depth[np.abs(centres - threshold).argmin()] <= VALLEY_DEPTH:
        return threshold
    above = np.where(centres > threshold, depth, np.inf)
    if above.min() <= VALLEY_DEPTH:
        return float(centres[above.argmin()])
    below = np.where(centres >= threshold - histogram.reach, depth, np.inf)
    valley = below.argmin()
    # Two kinds of land, bare and green, have a valley too: the wetter one must be water.
    mode = centres[valley + density[valley:].argmax()]
    return float(centres[valley]) if below[valley] <= VALLEY_DEPTH and mode >= threshold else None


def _histogram(values: np.ndarray) -> _Histogram:
    """Count the values between the outer hundredths of a per cent, and smooth the counts."""
    from scipy.ndimage import gaussian_filter1d

    low, high = np.percentile(values, (0.01, 99.99))
    if low == high:
        high = low + 1.0
    counts, edges = np.histogram(values, BINS, (low, high))
    density = gaussian_filter1d(counts.astype("float64"), SMOOTHING_BINS, mode="constant")
    return _Histogram((edges[:-1] + edges[1:]) / 2, density, counts)


def _running_maxima(density: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the highest density up to each bin, and from each bin on."""
    left = np.maximum.accumulate(density)
    right = np.maximum.accumulate(density[::-1])[::-1]
    return left, right


def _sentence(index: SpectralIndex, value: float, split: _Split, wetness: np.ndarray) -> str:
    """Say what was decided and why."""
    name = index.name.upper()
    if wetness.size == 0:
        return f"No water by {name}: the scene has no valid pixel."
    side = "above" if index.water_above else "below"
    share = f"{(wetness > split.value).mean():.1%} of the scene"
    if split.separable:
        return f"Water is where {name} lies {side} {value:.3f} ({split.reason}): {share}."
    return (
        f"No water by {name}: {share} lies {side} {value:.3f}, and the values are one population, "
        f"not two ({split.reason}, no valley in the histogram), as over a dry bed. If you see "
        "water there, use --prompts learned or a fixed --index-threshold."
    )


def _finite(values: np.ndarray) -> np.ndarray:
    values = np.asarray(values)
    return values[np.isfinite(values)]
