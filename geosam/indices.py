"""Spectral indices and colour ranges in which open water stands out.

An index is a pure function of reflectances (0 to 1, or any scale common to its bands). It works
alike on NumPy arrays and on lazy DataArrays, gives NaN where an input is NaN, and 0 where there is
no signal at all: 0 lies on no side of the physical threshold, so such a pixel is not water.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from geosam.errors import BandError, OptionError

if TYPE_CHECKING:
    import xarray as xr

Hsv = tuple[float, float, float]
"""Hue in degrees (0 to 360: red 0, green 120, blue 240), saturation (0 grey to 1), value (0 black
to 1)."""
Raster = TypeVar("Raster", np.ndarray, "xr.DataArray")


@dataclass(frozen=True)
class SpectralIndex:
    """An index that tells water from land, and what is known of it."""

    name: str
    """The name it is asked for by, as in ``--index ndwi``."""
    roles: tuple[str, ...]
    """Roles of the bands it needs, in the order of the arguments of `function`."""
    function: Callable[..., Any]
    """Bands in, index out; element by element."""
    threshold: float
    """The physical threshold: the value that parts water from land where nothing else is known."""
    margin: float
    """How far from the threshold the index leaves no doubt."""
    water_above: bool
    """Whether water lies above the threshold. Below it for vegetation indices."""
    reference: str
    """Where the index was published."""


@dataclass(frozen=True)
class HsvRange:
    """The colours between two ends, which both belong to it."""

    low: Hsv
    """Lowest hue, saturation and value."""
    high: Hsv
    """Highest hue, saturation and value. A high hue below the low one wraps around through red:
    330 to 30 are the reds."""

    def __post_init__(self) -> None:
        for name, low, high, top in zip(_HSV_NAMES, self.low, self.high, _HSV_TOPS, strict=True):
            if not (0 <= low <= top and 0 <= high <= top):
                raise OptionError(f"{name} range {low:g}-{high:g} must lie in 0 to {top}.")
            if low > high and name != "Hue":
                raise OptionError(
                    f"{name} range {low:g}-{high:g} must run upwards; only hue wraps around. "
                    f"Use {high:g}-{low:g}."
                )


_HSV_NAMES = ("Hue", "Saturation", "Value")
_HSV_TOPS = (360, 1, 1)

DEFAULT_HSV = HsvRange(low=(150, 0.08, 0.04), high=(280, 1, 0.9))
"""Cyan to violet-blue, with some colour, neither black nor glaring: the ``75,10,20`` to
``140,200,230`` of the water-surf notebooks (OpenCV's scale: half degrees and 255ths), except that
pure blue stays in. Turbid, green and shaded rivers lie outside any such range: a last resort."""


def ndwi(green: Raster, nir: Raster) -> Raster:
    """Compute the normalised difference water index, (green - nir) / (green + nir).

    Parameters
    ----------
    green, nir
        Arrays of one shape, in reflectance or any common scale without offset.

    Returns
    -------
    Array of the same shape, -1 to 1; 0 where both bands are 0.

    References
    ----------
    McFeeters (1996), https://doi.org/10.1080/01431169608948714

    Examples
    --------
    >>> ndwi(np.array([0.06, 0.08, 0.0]), np.array([0.02, 0.40, 0.0])).round(2)
    array([ 0.5 , -0.67,  0.  ])
    """
    return _normalised_difference(green, nir)


def mndwi(green: Raster, swir1: Raster) -> Raster:
    """Compute the modified NDWI, (green - swir1) / (green + swir1).

    Parameters and result as for :func:`ndwi`. Water absorbs at 1.6 µm whatever it carries, so
    turbid water and built-up land are told apart better than by near infrared.

    References
    ----------
    Xu (2006), https://doi.org/10.1080/01431160600589179
    """
    return _normalised_difference(green, swir1)


def ndvi(red: Raster, nir: Raster) -> Raster:
    """Compute the normalised difference vegetation index, (nir - red) / (nir + red).

    Parameters and result as for :func:`ndwi`. Water lies below 0, but so do roofs and wet soil.

    References
    ----------
    Rouse et al. (1974), NASA SP-351, 309-317
    """
    return _normalised_difference(nir, red)


def awei(blue: Raster, green: Raster, nir: Raster, swir1: Raster, swir2: Raster) -> Raster:
    """Compute the automated water extraction index for scenes with shadows (AWEI_sh).

    blue + 2.5 green - 1.5 (nir + swir1) - 0.25 swir2, of reflectances 0 to 1. It is linear: other
    units scale the result, and only the threshold 0 keeps its meaning. Snow and ice pass for water.

    References
    ----------
    Feyisa et al. (2014), https://doi.org/10.1016/j.rse.2013.08.029
    """
    blue, green, nir, swir1, swir2 = map(_floating, (blue, green, nir, swir1, swir2))
    return blue + 2.5 * green - 1.5 * (nir + swir1) - 0.25 * swir2


def awei_nsh(green: Raster, nir: Raster, swir1: Raster, swir2: Raster) -> Raster:
    """Compute the automated water extraction index for scenes without shadows (AWEI_nsh).

    4 (green - swir1) - (0.25 nir + 2.75 swir2), of reflectances 0 to 1. Linear, as :func:`awei`.

    References
    ----------
    Feyisa et al. (2014), https://doi.org/10.1016/j.rse.2013.08.029
    """
    green, nir, swir1, swir2 = map(_floating, (green, nir, swir1, swir2))
    return 4 * (green - swir1) - (0.25 * nir + 2.75 * swir2)


_AWEI_ROLES = ("blue", "green", "nir", "swir1", "swir2")
_XU, _MCFEETERS = "Xu (2006)", "McFeeters (1996)"
_FEYISA, _ROUSE = "Feyisa et al. (2014)", "Rouse et al. (1974)"

INDICES: dict[str, SpectralIndex] = {
    index.name: index
    for index in (
        SpectralIndex("ndwi", ("green", "nir"), ndwi, 0.0, 0.2, True, _MCFEETERS),
        SpectralIndex("mndwi", ("green", "swir1"), mndwi, 0.0, 0.2, True, _XU),
        SpectralIndex("awei", _AWEI_ROLES, awei, 0.0, 0.1, True, _FEYISA),
        SpectralIndex("awei_nsh", _AWEI_ROLES[1:], awei_nsh, 0.0, 0.1, True, _FEYISA),
        SpectralIndex("ndvi", ("red", "nir"), ndvi, 0.0, 0.2, False, _ROUSE),
    )
}
"""The indices by name. The first whose bands are there is what ``auto`` takes, see
:func:`choose_index`."""


def choose_index(roles: Collection[str]) -> str | None:
    """Choose the index for the bands at hand, or None where they allow no index.

    NDWI where there is a near infrared: its band is as fine as the visible ones, where the 1.6 µm
    band of Sentinel-2 is half as fine, and it can be looked at in the composite that the model sees.
    Else MNDWI, which is the better one where water is very turbid. AWEI only when asked for,
    because its threshold holds for reflectances alone. NDVI only where nothing else is left: it
    finds what is not green, which is more than water.

    Examples
    --------
    >>> choose_index(["red", "green", "blue", "nir"])
    'ndwi'
    >>> choose_index(["red", "green", "blue"]) is None
    True
    """
    return next((name for name, index in INDICES.items() if set(index.roles) <= set(roles)), None)


def compute_index(scene: xr.DataArray, name: str) -> xr.DataArray:
    """Compute an index of a scene; lazily where the scene is lazy.

    Parameters
    ----------
    scene
        (band, y, x), with band roles as the coordinate ``band``; reflectances, NaN where nodata.
    name
        A key of `INDICES`.

    Returns
    -------
    DataArray (y, x) on the scene's grid, called `name`; NaN where a band it needs is NaN.

    Raises
    ------
    OptionError
        If there is no index of that name.
    BandError
        If the scene lacks a band the index needs.
    """
    index = _named_index(name)
    bands = _bands(scene, index)
    result = index.function(*bands).rename(name)
    return result.assign_attrs(long_name=name, threshold=index.threshold)


def hsv_mask(rgb: np.ndarray, low: Hsv, high: Hsv) -> np.ndarray:
    """Find the pixels whose colour lies between two colours given as hue, saturation and value.

    Parameters
    ----------
    rgb
        (3, h, w) float: **red, green, blue** in this order, 0 to 1; NaN where nodata.
    low, high
        Hue in degrees (0 to 360), saturation and value (0 to 1); both ends included. Where the
        low hue is above the high one the range wraps around through red.

    Returns
    -------
    (h, w) bool. False where a band is NaN. Greys have hue 0, so a range that is to find them
    includes hue 0 and saturation 0.

    Raises
    ------
    ValueError
        If `rgb` has another shape or leaves the range 0 to 1.
    OptionError
        If a limit is outside its scale.

    Examples
    --------
    >>> blue = np.array([0.1, 0.2, 0.8]).reshape(3, 1, 1)
    >>> hsv_mask(blue, (200, 0.1, 0.1), (260, 1, 1)).item()
    True
    """
    from skimage.color import rgb2hsv

    HsvRange(low, high)  # the limits are checked there
    valid = _check_rgb(rgb)
    hue, saturation, value = rgb2hsv(np.where(valid, rgb, 0.0), channel_axis=0)
    return (
        valid
        & _hue_between(hue * 360, low[0], high[0])
        & (saturation >= low[1])
        & (saturation <= high[1])
        & (value >= low[2])
        & (value <= high[2])
    )


def parse_hsv(text: str) -> HsvRange:
    """Read ``HUE,SATURATION,VALUE``, each as LOW-HIGH: degrees, then 0 to 1.

    Raises
    ------
    OptionError
        If the text is not three ranges, or an end is outside its scale.

    Examples
    --------
    >>> parse_hsv("150-260,0.1-1,0.05-0.8").low
    (150.0, 0.1, 0.05)
    """
    number = r"\s*(\d*\.?\d+)\s*"
    match = re.fullmatch(",".join([f"{number}-{number}"] * 3), text)
    if match is None:
        raise OptionError(
            f"HSV range {text!r} must be three ranges LOW-HIGH, for hue (0-360), saturation (0-1) "
            "and value (0-1). Use for example 150-260,0.1-1,0.05-0.8."
        )
    h0, h1, s0, s1, v0, v1 = (float(end) for end in match.groups())
    return HsvRange(low=(h0, s0, v0), high=(h1, s1, v1))


def _normalised_difference(a: Raster, b: Raster) -> Raster:
    """Return (a - b) / (a + b), clipped to -1 to 1, and 0 where the sum is not positive.

    Arithmetic instead of ``where`` keeps it one expression for NumPy and Dask, and NaN stays NaN.
    """
    a, b = _floating(a), _floating(b)
    total = a + b
    ratio = (a - b) / (total + (total == 0)) * (total > 0)
    return ratio.clip(-1, 1)


def _floating(band: Raster) -> Raster:
    """Return the band as floats: differences of unsigned integers would wrap around."""
    return band if np.issubdtype(band.dtype, np.floating) else band.astype("float32")


def _named_index(name: str) -> SpectralIndex:
    if name not in INDICES:
        raise OptionError(f"There is no index {name!r}. Use one of {', '.join(INDICES)}.")
    return INDICES[name]


def _bands(scene: xr.DataArray, index: SpectralIndex) -> list[xr.DataArray]:
    """Return the bands an index needs, in the order of its arguments."""
    roles = [str(role) for role in np.atleast_1d(scene["band"].values)]
    missing = [role for role in index.roles if role not in roles]
    if missing:
        raise BandError(
            f"Index {index.name} needs the bands {', '.join(index.roles)}, and the scene has "
            f"{', '.join(roles)}: {', '.join(missing)} missing. Name the bands, for example "
            f"--bands {missing[0]}=4, or use another --index."
        )
    return [scene.isel(band=roles.index(role), drop=True) for role in index.roles]


def _check_rgb(rgb: np.ndarray) -> np.ndarray:
    """Check shape and scale, and return where all three bands have a value, (h, w) bool."""
    if rgb.ndim != 3 or rgb.shape[0] != 3:
        raise ValueError(f"RGB must have shape (3, h, w), not {rgb.shape}.")
    valid = np.isfinite(rgb).all(axis=0)
    values = rgb[:, valid]
    if values.size and (values.min() < 0 or values.max() > 1):
        raise ValueError(
            f"RGB must lie in 0 to 1, not {values.min():g} to {values.max():g}. Stretch it first."
        )
    return valid


def _hue_between(hue: np.ndarray, low: float, high: float) -> np.ndarray:
    """Compare hues on their circle: a low end above the high one wraps around through 0."""
    if low <= high:
        return (hue >= low) & (hue <= high)
    return (hue >= low) | (hue <= high)
