"""Blended logits -> the probability of water on the scene's own grid, and the mask that is cut from it."""

from __future__ import annotations

from functools import partial

import dask.array as da
import numpy as np
import xarray as xr

from geosam.durable import Step
from geosam.regrid import onto_scene
from geosam.views import Looks

TEMPERATURE = 3.0
"""What logits are divided by before they become probabilities: model and evidence together are too
sure of scenes that nobody drew. Chosen on validation images among 1, 1.5, 2, 3, 4 and 6: calibration error within
8 px of a bank, without and with it, 0.20 and 0.06 (five-band chips in colours), 0.22 and 0.16 (with near
infrared), 0.21 and 0.07 (Dubai), 0.18 and 0.17 (Sentinel-2 chips); synthetic scenes, which are easy, 0.01
and 0.07. A threshold of 0.5 gives the same water at any temperature."""
PROBABILITY_STEPS = 254
"""A probability is stored as a whole number of these."""


def water_probability(logits: Step) -> Step:
    """Return the step that gives the probability of water on the scene's own grid."""
    return partial(_probability, logits=logits)


def _probability(looks: Looks, logits: Step) -> xr.DataArray:
    found = logits(looks)
    working = found.copy(data=da.map_blocks(_sigmoid, da.asarray(found.data), dtype=np.float32))
    return _rounded(onto_scene(working, looks.void)).rename("probability")


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    """Turn blended logits into probabilities; NaN where nothing was decided."""
    return (0.5 * (1.0 + np.tanh(0.5 / TEMPERATURE * logits))).astype(np.float32)


def _rounded(water: xr.DataArray) -> xr.DataArray:
    """Round to the steps of a probability file, so that a mask is the same from it and from here."""
    return (water * PROBABILITY_STEPS).round() / PROBABILITY_STEPS


def water_mask(water: xr.DataArray, threshold: float) -> xr.DataArray:
    """Return (y, x) uint8: 1 where the probability is above the threshold, 255 where it is NaN."""
    mask = xr.where(water.isnull(), 255, water > threshold).astype("uint8")
    return mask.rename("mask").assign_coords(water.coords)


def mask_of_stored(stored: xr.DataArray, threshold: float) -> xr.DataArray:
    """Return the mask of a probability as it is stored, value / 254 and 255 where nodata, lazily."""
    levels = np.arange(256, dtype=np.float32) * np.float32(1 / PROBABILITY_STEPS)
    table = (levels > threshold).astype(np.uint8)
    table[255] = 255
    return stored.copy(data=da.map_blocks(table.__getitem__, stored.data, dtype=np.uint8))
