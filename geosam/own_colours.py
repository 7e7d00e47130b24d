"""What water looks like in one scene: where the learned network is sure, its colours teach the rest.

The network has never seen the scene, but its lakes, mud and light are the same from end to end. Pixels it
is sure of train a small classifier of colours that holds for this scene alone, and this speaks beside the
network wherever it doubts: self-training (Scudder 1965, Probability of error of some adaptive
pattern-recognition machines, IEEE Transactions on Information Theory 11), scene by scene.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations_with_replacement

import dask.array as da
import numpy as np
import xarray as xr
from dask.delayed import Delayed
from scipy import ndimage

from geosam.grids import geobox_of
from geosam.kept import on_grid
from geosam.regression import regress
from geosam.regrid import onto_scene
from geosam.stretch import Stretch
from geosam.views import Looks
from geosam.windows import map_around, void_look

REACH_PX = 9
"""Pixels of the wider grid around it that the description of a pixel depends on."""
BOUNDS = (-1.5, 4.0)
"""What a scene's colours may add to the network's logits. They find what the network misses more often
than they deny what is not there."""
_NEAR_PX = 2.0
"""Spread of the colours around a pixel."""
_TEXTURE_PX = 3.0
"""Spread of the square that the roughness of a pixel's surroundings is taken from."""
_FEWEST = 50
"""Pixels of each kind without which nothing is learned."""
_LEAST_SHARE = 0.2
"""Share of the weight of all below which a kind counts for more than it is. With a tenth of the pixels, rare
colours of water were taken for land: the mean IoU of Dubai's validation images was 0.480, with three tenths, which weigh
about a fifth, 0.501 (without colours 0.496)."""
_TOTAL, _RIDGE = 10_000.0, 2.0
"""What all pixels weigh together, and the weight of large coefficients against them."""
_FURTHEST = 4.0
"""Standard deviations at which a description ends."""
_DIGITS = 5
"""Digits of a coefficient, so that it does not depend on the order in which pixels are added up."""


@dataclass(frozen=True)
class Colours:
    """A quadratic function of descriptions of pixels, which gives logits of water."""

    centre: np.ndarray
    """(feature,) mean."""
    spread: np.ndarray
    """(feature,) standard deviation."""
    weights: np.ndarray
    """(1 + feature + feature * (feature + 1) / 2,) of one, of each feature and of the product of each pair."""

    def __call__(self, described: np.ndarray) -> np.ndarray:
        """Return logits of water, (y, x) float32, of what :func:`describe` gave."""
        z = _centred(described, self.centre, self.spread)
        said = np.full(z.shape[1:], self.weights[0], np.float32)
        for weight, term in zip(self.weights[1:], _terms(z), strict=True):
            said += np.float32(weight) * term
        return said


def describe(pixels: np.ndarray, stretch: Stretch) -> np.ndarray:
    """Describe every pixel by its colour, the colours near it and how rough they are.

    Parameters
    ----------
    pixels
        (3, y, x) raw values, NaN where nodata.
    stretch
        Brings them to 0 to 1.

    Returns
    -------
    numpy.ndarray
        (7, y, x) float32: three bands, the same around, and the standard deviation of their mean.
    """
    known = np.isfinite(pixels).all(axis=0)
    colour = np.where(known, stretch.apply(pixels), 0).astype(np.float32)
    grey = colour.mean(axis=0)
    near = _around(np.concatenate([colour, known[None]]), _NEAR_PX)
    mean, square = _around(np.stack([grey, grey**2, known]), _TEXTURE_PX)
    rough = np.sqrt(np.maximum(square - mean**2, 0))
    return np.concatenate([colour, near, rough[None]])


def _around(planes: np.ndarray, spread: float) -> np.ndarray:
    """Return means of planes around each pixel, of what the last plane says is known."""
    planes = planes.astype(np.float32)
    sums = ndimage.gaussian_filter(planes, (0, spread, spread), truncate=3)
    return sums[:-1] / np.maximum(sums[-1], np.float32(1e-6))


def learn_colours(samples: Sequence[Mapping[str, np.ndarray]]) -> Colours | None:
    """Learn what water looks like from pixels of a scene.

    Parameters
    ----------
    samples
        As :func:`geosam.sure_pixels.draw_sample` gives them; those without arrays are left out.

    Returns
    -------
    Colours or None
        None where the network is sure of too few pixels of either kind.
    """
    samples = [sample for sample in samples if "water" in sample]
    if not samples:
        return None
    described, water, weight = (
        np.concatenate([sample[name] for sample in samples]).astype(kind)
        for name, kind in (("described", float), ("water", bool), ("weight", float))
    )
    if min(water.sum(), (~water).sum()) < _FEWEST:
        return None
    centre, spread = _rounded(described.mean(axis=0)), _rounded(described.std(axis=0) + 1e-4)
    terms = [np.ones(len(water)), *_terms(_centred(described.T, centre, spread))]
    weights = regress(np.stack(terms, axis=1), water, _balanced(water, weight), _RIDGE)
    return Colours(centre, spread, _rounded(weights))


def _balanced(water: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Let neither kind weigh less than a share of all, and all of them together as much as ever."""
    share = weight[water].sum() / weight.sum()
    meant = np.clip(share, _LEAST_SHARE, 1 - _LEAST_SHARE)
    weight = weight * np.where(water, meant / share, (1 - meant) / (1 - share))
    return weight * (_TOTAL / weight.sum())


def _centred(described: np.ndarray, centre: np.ndarray, spread: np.ndarray) -> np.ndarray:
    kind, lead = described.dtype, (-1, *[1] * (described.ndim - 1))
    z = (described - centre.reshape(lead).astype(kind)) / spread.reshape(lead).astype(kind)
    return np.clip(z, -_FURTHEST, _FURTHEST)


def _terms(z: np.ndarray) -> Iterator[np.ndarray]:
    """Give each feature and the product of each pair, one after the other: of a block they are many."""
    yield from z
    yield from (a * b for a, b in combinations_with_replacement(z, 2))


def _rounded(values: np.ndarray) -> np.ndarray:
    return np.array([float(f"{value:.{_DIGITS}g}") for value in values])


def with_own_colours(
    evidence: xr.DataArray, looks: Looks, colours: Colours | Delayed | None, stretch: Stretch
) -> xr.DataArray:
    """Return the network's logits with what the scene's own colours say, (y, x) float32, lazily.

    Parameters
    ----------
    evidence
        (y, x) logits on the working grid of `looks`.
    looks
        At a part of the scene.
    colours
        From :func:`learn_colours`, or a task that gives them.
    stretch
        Of the three bands that they are of.
    """
    if colours is None:
        return evidence
    pixels = looks.wider.sel(band=list(stretch.bands))
    speak, later = partial(_spoken, stretch=stretch), {}
    if isinstance(colours, Delayed):
        later = {"colours": colours}
    else:
        speak = partial(speak, colours=colours)
    rasters = {"pixels": da.asarray(pixels.data)}
    said = map_around(speak, rasters, {"pixels": np.nan}, REACH_PX, np.float32, **later)
    more = onto_scene(on_grid(said, geobox_of(pixels)), void_look(looks.working))
    data = da.nan_to_num(da.asarray(more.data).rechunk(evidence.data.chunks))
    return evidence.copy(data=evidence.data + data)


def _spoken(pixels: np.ndarray, stretch: Stretch, colours: Colours | None) -> np.ndarray:
    if colours is None or not np.isfinite(pixels).any():
        return np.zeros(pixels.shape[1:], np.float32)
    return np.clip(colours(describe(pixels, stretch)), BOUNDS[0], BOUNDS[1])
