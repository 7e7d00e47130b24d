"""The one radiometric stretch of a scene: from a decimated read, for every tile the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from geosam.errors import OptionError

PERCENTILES = (0.2, 99.8)
"""Values below and above become 0 and 1."""
FILL = 0.5
"""What nodata becomes: the middle, which models normalise to about 0."""


@dataclass(frozen=True)
class StretchRule:
    """How the ends of a stretch are chosen."""

    percentiles: tuple[float, float] | None = PERCENTILES
    """Of the valid values of each band; None where the ends are given."""
    ends: tuple[float, float] | None = None
    """Given ends for all bands."""


@dataclass(frozen=True)
class Stretch:
    """The ends that become 0 and 1, band by band."""

    bands: tuple[str, ...]
    """The bands, in the order of the pixels."""
    low: tuple[float, ...]
    """Value of each band that becomes 0."""
    high: tuple[float, ...]
    """Value of each band that becomes 1."""

    def apply(self, pixels: np.ndarray) -> np.ndarray:
        """Turn (band, y, x) values into float32 in [0, 1], NaN into 0.5."""
        low = np.asarray(self.low, np.float32)[:, None, None]
        span = np.asarray(self.high, np.float32)[:, None, None] - low
        stretched = np.clip((pixels.astype(np.float32) - low) / span, 0, 1)
        return np.where(np.isnan(stretched), np.float32(FILL), stretched)

    def to_dict(self) -> dict[str, Any]:
        """Return the stretch as JSON-ready values."""
        return {"bands": list(self.bands), "low": list(self.low), "high": list(self.high)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Stretch:
        """Make a stretch from what :meth:`to_dict` gave."""
        return cls(tuple(values["bands"]), tuple(values["low"]), tuple(values["high"]))


def parse_stretch(text: str) -> StretchRule:
    """Read ``percentile``, ``percentile:LOW,HIGH``, ``none`` (8-bit) or ``MIN,MAX``.

    Raises
    ------
    OptionError
        If the text is none of these.
    """
    if text == "percentile":
        return StretchRule()
    if text == "none":
        return StretchRule(None, (0.0, 255.0))
    name, _, numbers = text.rpartition(":")
    try:
        low, high = (float(number) for number in numbers.split(","))
    except ValueError:
        low = high = 0.0
    if not low < high or name not in ("", "percentile") or (name and not 0 <= low < high <= 100):
        raise OptionError(
            f"--stretch {text!r} is not understood. Use percentile, percentile:1,99, none (8-bit) or MIN,MAX."
        )
    return StretchRule((low, high)) if name else StretchRule(None, (low, high))


def fit_stretch(
    preview: xr.DataArray, bands: Sequence[str], rule: StretchRule | None = None
) -> Stretch:
    """Choose the ends of a stretch from the valid pixels of a decimated read.

    Parameters
    ----------
    preview
        (band, y, x) in memory, NaN where nodata.
    bands
        The bands to stretch.
    rule
        How; percentiles 0.2 and 99.8 without it.
    """
    rule = rule or StretchRule()
    if rule.ends is not None:
        return Stretch(tuple(bands), *((end,) * len(bands) for end in rule.ends))
    ends = [_ends(preview.sel(band=band).values, rule.percentiles or PERCENTILES) for band in bands]
    low, high = zip(*ends, strict=True)
    return Stretch(tuple(bands), low, high)


def _ends(values: np.ndarray, percentiles: tuple[float, float]) -> tuple[float, float]:
    valid = values[np.isfinite(values)]
    if not valid.size:
        return 0.0, 1.0
    low, high = (float(end) for end in np.percentile(valid, percentiles))
    # A constant band has no contrast to stretch; any span keeps it finite.
    return (low, high) if high > low else (low, low + max(abs(low), 1.0))
