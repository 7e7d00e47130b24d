"""A synthetic river landscape with its truth, as an aerial camera or a satellite would see it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from geosam.testing.land import ASPHALT, cast_shadows, paint_land
from geosam.testing.noise import smooth_noise
from geosam.testing.rivers import Waters, bridge_deck, island_middles, lay_out_waters

if TYPE_CHECKING:
    import xarray as xr
    from odc.geo.geobox import GeoBox

ROLES = ("red", "green", "blue", "nir")
ORIGIN = (432_000.0, 5_412_000.0)
"""x, y of the upper left corner in metres of the CRS."""
REFLECTANCE_SCALE = {"uint8": 400.0, "uint16": 10_000.0, "float32": 1.0}
"""Stored number for a reflectance of 1. At 8 bit, 0.64 is full: brighter things saturate."""
NODATA = {"uint8": 0, "uint16": 0, "float32": -9999.0}
TRUTH_NODATA = 255

GRAVEL = (0.290, 0.270, 0.225, 0.350)
WET_GRAVEL = (0.115, 0.108, 0.085, 0.112)
CLEAR = (0.024, 0.042, 0.040, 0.010)
MUDDY = (0.125, 0.112, 0.070, 0.050)
ABSORPTION = (2.2, 1.3, 1.2, 6.0)
"""How fast each band loses sight of the bed, per unit of depth."""
GLINT = (1.0, 1.0, 0.98, 1.4)
"""What foam and glint add in each band. With the stones that stand out of a riffle it is most in
near infrared, which is why an index takes riffles for land."""
HAZE = (0.006, 0.010, 0.018, 0.003)
"""Light that the air adds."""


@dataclass(frozen=True)
class SyntheticScene:
    """A scene whose water is known."""

    scene: xr.DataArray
    """(band, y, x): red, green, blue and, if asked for, nir; reflectances times a scale, see the
    attributes ``scale_factor`` and ``nodata``."""
    truth: xr.DataArray
    """(y, x) uint8: 1 water, 0 land, 255 nodata. Water in the shade and under riffles is water;
    gravel bars and islands are land."""
    centerline: np.ndarray
    """(n, 2) x, y in the scene's CRS: the middle line of the main river, downstream. It reaches
    beyond the scene."""
    islands: np.ndarray
    """(k, 2) x, y in the scene's CRS of the middle of each island, all well inside the scene."""


def synthetic_scene(
    shape: tuple[int, int] = (1024, 1024),
    *,
    seed: int = 0,
    resolution_m: float = 1.0,
    crs: str = "EPSG:32633",
    nir: bool = True,
    nodata_corner: float = 0.1,
    bridge: bool = False,
    dtype: str = "uint16",
) -> SyntheticScene:
    """Draw a meandering river with all that makes it hard to find.

    Islands, gravel bars inside the bends, a tributary, a pond; water from clear to muddy, shallow
    over the bars, with riffles, sun glint and the shadows of trees on it; around it fields, woods,
    roads and houses, some with dark roofs; a slight blur and noise. No fixed range of RGB finds
    the water. NDWI finds it at an IoU of about 0.85, with shadows and roofs, and without riffles.

    Parameters
    ----------
    shape
        (height, width) in pixels, at least (256, 256).
    seed
        The same seed gives the same scene.
    resolution_m
        Pixel size in units of `crs`. It moves the grid only: the river is about 1/24 of the
        scene's larger side wide at any resolution.
    crs
        Any projected CRS.
    nir
        Whether near infrared is the fourth band.
    nodata_corner
        Legs of the empty triangle in the upper right corner, as a share of the scene's smaller
        side; 0 for none.
    bridge
        Whether a road bridge, 8 pixels wide, cuts the main river in two. It is land in the truth.
    dtype
        ``"uint8"``, ``"uint16"`` or ``"float32"``.

    Returns
    -------
    SyntheticScene

    Raises
    ------
    ValueError
        If the scene is too small, or `dtype` is another.
    """
    _check(shape, dtype)
    rng = np.random.default_rng(seed)
    waters = lay_out_waters(shape, rng)
    deck = bridge_deck(waters) if bridge else np.zeros(shape, dtype=bool)
    reflectance = _expose(_landscape(waters, deck, rng), rng)
    empty = _corner(shape, nodata_corner)
    truth = np.where(empty, TRUTH_NODATA, (waters.water < 0) & ~deck).astype("uint8")
    geobox = _geobox(shape, resolution_m, crs)
    n_bands = 4 if nir else 3
    return SyntheticScene(
        scene=_scene(_digitised(reflectance[:n_bands], empty, dtype), geobox),
        truth=_wrap(truth, geobox, TRUTH_NODATA).rename("truth"),
        centerline=_world(waters.river.points, geobox),
        islands=_world(island_middles(waters), geobox),
    )


def write_scene(folder: str | Path, **options: Any) -> tuple[Path, Path]:
    """Write a synthetic scene as ``scene.tif`` and its truth as ``truth.tif``.

    Parameters
    ----------
    folder
        Existing folder.
    **options
        As for :func:`synthetic_scene`.

    Returns
    -------
    (scene, truth)
        The two paths. Both are tiled GeoTIFFs with nodata; the scene's bands are described by
        their roles and carry the scale of the reflectances.
    """
    made = synthetic_scene(**options)
    paths = Path(folder) / "scene.tif", Path(folder) / "truth.tif"
    _write(paths[0], made.scene)
    _write(paths[1], made.truth.expand_dims(band=["truth"]))
    return paths


def _landscape(waters: Waters, deck: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Paint land, bars and water, and let the shadows fall on all of them."""
    land = paint_land(waters, rng)
    reflectance = land.reflectance
    _paint_gravel(reflectance, waters, rng)
    _paint_water(reflectance, waters, rng)
    cast_shadows(reflectance, np.where(waters.water < 0, 0, land.height))
    _add_glint(reflectance, waters, rng)
    reflectance[:, deck] = np.array(ASPHALT, dtype="float32")[:, None]
    return reflectance


def _paint_gravel(reflectance: np.ndarray, waters: Waters, rng: np.random.Generator) -> None:
    """Paint the bars between water and bank: wet and dark at the water, dry and bright above."""
    shape = waters.water.shape
    here = (waters.bank < 1) & (waters.water > -1)
    rough = smooth_noise(shape, 22, rng, octaves=3)
    wet = np.exp(-np.maximum(waters.water - 1.5 + 1.5 * rough, 0) / 4)[here]
    stones = 1 + 0.10 * rough[here] + 0.07 * smooth_noise(shape, 2, rng)[here]
    dry, damp = (np.array(colour, dtype="float32")[:, None] for colour in (GRAVEL, WET_GRAVEL))
    grass = (rough > 1.1)[here] & (wet < 0.2)
    colour = (dry + (damp - dry) * wet) * stones
    colour[:, grass] = np.array((0.09, 0.11, 0.06, 0.27))[:, None] * stones[grass]
    reflectance[:, here] = colour


def _paint_water(reflectance: np.ndarray, waters: Waters, rng: np.random.Generator) -> None:
    """Paint the water: the bed seen through it, and what floats in it."""
    shape = waters.water.shape
    here = waters.water < 0
    mud = 0.25 + 0.55 * waters.downstream + 0.13 * smooth_noise(shape, 200, rng, octaves=3)
    # Streaks along the flow: the same distance across has the same water.
    mud += 0.08 * np.sin(waters.across / 7 + 2 * smooth_noise(shape, 120, rng))
    mud, depth = np.clip(mud, 0, 1)[here], waters.depth[here]
    bed = 1 + (0.14 * smooth_noise(shape, 9, rng, octaves=3))[here]
    clear, muddy, gravel, absorption = (
        np.array(colour, dtype="float32")[:, None]
        for colour in (CLEAR, MUDDY, WET_GRAVEL, ABSORPTION)
    )
    seen = np.exp(-absorption * depth * (0.5 + 2.5 * mud))
    reflectance[:, here] = gravel * bed * seen + (clear + (muddy - clear) * mud) * (1 - seen)


def _add_glint(reflectance: np.ndarray, waters: Waters, rng: np.random.Generator) -> None:
    """Add what the surface reflects: riffles across the river, glint where wind roughens it."""
    shape = waters.water.shape
    ripples = np.clip(smooth_noise(shape, 1.6, rng) - 0.3, 0, None)
    wind = np.clip(smooth_noise(shape, 130, rng) - 0.7, 0, 1)
    shallow = np.clip(1.0 - waters.depth, 0, 0.6)
    broken = smooth_noise(shape, 60, rng) + 0.4 * smooth_noise(shape, 10, rng)
    riffle = np.clip(1.5 * (broken - 0.9), 0, 1) * shallow
    surface = (waters.water < -1) * (0.03 * wind * ripples + riffle * (0.05 + 0.45 * ripples))
    for band, strength in zip(reflectance, GLINT, strict=True):
        band += strength * surface


def _expose(reflectance: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Look at the landscape through air and a lens, with a sensor's noise."""
    for band, haze in zip(reflectance, HAZE, strict=True):
        band[:] = ndimage.gaussian_filter(band, 0.75) + haze
        band *= 1 + 0.012 * rng.standard_normal(band.shape, dtype="float32")
        band += 0.003 * rng.standard_normal(band.shape, dtype="float32")
    return np.clip(reflectance, 0.001, 1)


def _digitised(reflectance: np.ndarray, empty: np.ndarray, dtype: str) -> np.ndarray:
    """Return the stored numbers, with nodata in the empty corner."""
    numbers = reflectance * REFLECTANCE_SCALE[dtype]
    if dtype != "float32":
        numbers = np.clip(np.rint(numbers), 1, np.iinfo(dtype).max)
    return np.where(empty, NODATA[dtype], numbers).astype(dtype)


def _corner(shape: tuple[int, int], share: float) -> np.ndarray:
    rows, cols = np.arange(shape[0])[:, None], np.arange(shape[1])[None, :]
    return rows + (shape[1] - 1 - cols) < share * min(shape)


def _geobox(shape: tuple[int, int], resolution_m: float, crs: str) -> GeoBox:
    from affine import Affine
    from odc.geo.geobox import GeoBox

    transform = Affine(resolution_m, 0, ORIGIN[0], 0, -resolution_m, ORIGIN[1])
    return GeoBox(shape, transform, crs)


def _world(rows_cols: np.ndarray, geobox: GeoBox) -> np.ndarray:
    """Turn (row, col) of pixel centres into x, y of the CRS."""
    to_world = np.array(geobox.transform).reshape(3, 3)[:2]
    return (rows_cols[:, ::-1] + 0.5) @ to_world[:, :2].T + to_world[:, 2]


def _scene(bands: np.ndarray, geobox: GeoBox) -> xr.DataArray:
    dtype = str(bands.dtype)
    scene = _wrap(bands, geobox, NODATA[dtype]).assign_coords(band=list(ROLES[: len(bands)]))
    return scene.rename("scene").assign_attrs(scale_factor=1 / REFLECTANCE_SCALE[dtype])


def _wrap(pixels: np.ndarray, geobox: GeoBox, nodata: float) -> xr.DataArray:
    """Put pixels on a grid, as an array that knows its CRS and nodata value."""
    import xarray as xr
    from odc.geo.xr import xr_coords

    dims = ("band", "y", "x")[-pixels.ndim :]
    return xr.DataArray(pixels, xr_coords(geobox), dims, attrs={"nodata": nodata})


def _write(path: Path, raster: xr.DataArray) -> None:
    import rasterio

    from geosam.grids import geobox_of

    geobox = geobox_of(raster)
    profile = {
        "driver": "GTiff",
        "dtype": str(raster.dtype),
        "count": raster.sizes["band"],
        "height": raster.sizes["y"],
        "width": raster.sizes["x"],
        "crs": str(geobox.crs),
        "transform": geobox.transform,
        "nodata": raster.attrs["nodata"],
        "tiled": True,
        "compress": "deflate",
    }
    with rasterio.open(path, "w", **profile) as target:
        target.write(raster.values)
        target.descriptions = [str(role) for role in raster["band"].values]
        target.scales = [raster.attrs.get("scale_factor", 1.0)] * target.count


def _check(shape: tuple[int, int], dtype: str) -> None:
    if min(shape) < 256:
        raise ValueError(f"A synthetic scene of {shape} pixels must have at least (256, 256).")
    if dtype not in NODATA:
        raise ValueError(f"dtype {dtype!r} must be one of {', '.join(NODATA)}.")
