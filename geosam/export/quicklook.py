"""A picture of the outlines over the scene, for a first look and for reports."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import geopandas as gpd
import numpy as np
import shapely
import xarray as xr
from odc.geo.geobox import GeoBox

from geosam.errors import InputError
from geosam.export.pictures import save
from geosam.grids import geobox_if_any
from geosam.ground import crs_of, moved, resolution_m

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_OUTLINE, _ISLAND = "#ffe14d", "#ff9b3d"
"""Yellow and orange stand out from water, fields and sand alike."""
_OBJECT, _BACKGROUND = "#2bd14c", "#ff3b30"
_LEGIBLE: dict[str, Any] = {
    "color": "white",
    "fontsize": 10,
    "bbox": {"boxstyle": "round,pad=0.2", "facecolor": "black", "edgecolor": "none", "alpha": 0.5},
}
"""Labels that can be read over anything."""
_DPI = 100
_MARGIN_PX = 40
"""Room for the title, in pixels of the picture."""


def quicklook(
    preview: xr.DataArray | np.ndarray,
    outlines: gpd.GeoDataFrame,
    path: str | os.PathLike,
    *,
    geobox: GeoBox | None = None,
    prompts: gpd.GeoDataFrame | None = None,
    probability: xr.DataArray | np.ndarray | None = None,
    title: str | None = None,
    max_px: int = 1600,
) -> Path:
    """Draw outlines over the scene as a PNG, with a scale bar in metres on the ground.

    Parameters
    ----------
    preview : xarray.DataArray or numpy.ndarray of shape (band, y, x)
        One or three bands, stretched to 0..1; NaN, where nodata is, stays white.
    outlines : geopandas.GeoDataFrame
        Polygons in any CRS.
    path : path
        Where to write the PNG; the folder must exist.
    geobox : GeoBox, optional
        Grid of `preview`; needed where that is a numpy array.
    prompts : geopandas.GeoDataFrame, optional
        Points with a column `label` (1 object, 0 background), in any CRS.
    probability : array of shape (y, x), optional
        Probability of water on the same extent as `preview`, drawn as a blue veil.
    title : str, optional
        Line above the picture.
    max_px : int
        Longest side of the picture in pixels; a larger preview is thinned out.

    Returns
    -------
    pathlib.Path
        `path`.

    Raises
    ------
    InputError
        The preview has no grid or not one or three bands.
    OutputError
        The picture cannot be written.

    Examples
    --------
    >>> quicklook(preview, outlines, "rivers.png", title="Ucayali")  # doctest: +SKIP
    """
    geobox = _grid(preview, geobox)
    picture = _colours(preview, max_px)
    figure, axes = _canvas(picture, geobox, max_px)
    shape = tuple(geobox.shape)
    extent = (0, shape[1], shape[0], 0)
    axes.imshow(picture, extent=extent, interpolation="nearest", aspect="auto")
    if probability is not None:
        axes.imshow(_veil(probability, max_px), extent=extent, aspect="auto")
    _draw_outlines(axes, outlines, geobox)
    if prompts is not None:
        _draw_prompts(axes, prompts, geobox)
    _draw_scale_bar(axes, geobox)
    _draw_north(axes, geobox)
    axes.set_title(title or f"{len(outlines)} outlines", fontsize=11)
    return save(figure, path)


def _grid(preview: Any, geobox: GeoBox | None) -> GeoBox:
    if preview.ndim != 3 or preview.shape[0] not in (1, 3):
        raise InputError(
            f"The preview has the shape {preview.shape} and needs (1 or 3 bands, rows, cols)."
        )
    if geobox is None and isinstance(preview, xr.DataArray):
        geobox = geobox_if_any(preview)
    if geobox is None or geobox.crs is None:
        raise InputError("The preview has no grid with a CRS: give it with geobox=.")
    return geobox


def _colours(preview: Any, max_px: int) -> np.ndarray:
    """Return (rows, cols, 3) in 0..1 of at most `max_px` a side, white where nodata."""
    bands = _thinned(preview, max_px)
    if len(bands) == 1:
        bands = np.repeat(bands, 3, axis=0)
    missing = ~np.isfinite(bands).all(axis=0)
    picture = np.moveaxis(np.clip(bands, 0, 1), 0, -1)
    picture[missing] = 1.0
    return picture


def _thinned(raster: Any, max_px: int) -> np.ndarray:
    """Take every n-th pixel, and read a lazy array only then."""
    step = -(-max(raster.shape[-2:]) // max_px)
    return np.array(raster[..., step // 2 :: step, step // 2 :: step], dtype=np.float32)


def _veil(probability: Any, max_px: int) -> np.ndarray:
    """Return (rows, cols, 4): blue, as opaque as water is likely."""
    values = np.nan_to_num(_thinned(probability, max_px))
    veil = np.zeros((*values.shape, 4), np.float32)
    veil[..., :3] = (0.1, 0.35, 0.9)
    veil[..., 3] = 0.5 * values
    return veil


def _canvas(picture: np.ndarray, geobox: GeoBox, max_px: int) -> tuple[Figure, Axes]:
    """Make a figure in which pixels of the scene have their shape on the ground."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    down, along = resolution_m(geobox)
    height, width = geobox.shape[0] * down, geobox.shape[1] * along
    # Small scenes are drawn larger, so that the title fits.
    longest = min(max_px, max(1000, *picture.shape[:2]))
    scale = longest / max(height, width)
    size = max(round(width * scale), 200), max(round(height * scale), 100)
    figure = Figure((size[0] / _DPI, (size[1] + _MARGIN_PX) / _DPI), dpi=_DPI)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, size[1] / (size[1] + _MARGIN_PX)))
    axes.set_axis_off()
    return figure, axes


def _draw_outlines(axes: Axes, outlines: gpd.GeoDataFrame, geobox: GeoBox) -> None:
    from matplotlib.collections import LineCollection

    polygons = _in_pixels(outlines, geobox)
    rings, owner = shapely.get_rings(polygons, return_index=True)
    shell = np.diff(owner, prepend=-1) > 0
    lines = [shapely.get_coordinates(ring) for ring in rings]
    colours = np.where(shell, _OUTLINE, _ISLAND)
    # A dark line below keeps the bright one visible over bright ground.
    axes.add_collection(LineCollection(lines, colors="black", linewidths=2.0, alpha=0.6))
    axes.add_collection(LineCollection(lines, colors=list(colours), linewidths=1.0))
    _full_view(axes, geobox)


def _draw_prompts(axes: Axes, prompts: gpd.GeoDataFrame, geobox: GeoBox) -> None:
    points = prompts[prompts.geom_type == "Point"]
    x, y = shapely.get_coordinates(_in_pixels(points, geobox)).reshape(-1, 2).T
    wanted = points["label"].to_numpy() == 1
    for chosen, colour, marker in ((wanted, _OBJECT, "o"), (~wanted, _BACKGROUND, "x")):
        edge: dict[str, Any] = {"edgecolors": "black"} if marker == "o" else {}
        axes.scatter(x[chosen], y[chosen], s=32, c=colour, marker=marker, linewidths=1.2, **edge)
    _full_view(axes, geobox)


def _draw_scale_bar(axes: Axes, geobox: GeoBox) -> None:
    metres_px = resolution_m(geobox)[1]
    width = geobox.shape[1]
    length = _round_length(width * metres_px / 4)
    left, base = 0.03, 0.03
    right = left + length / metres_px / width
    for colour, thick in (("black", 5), ("white", 3)):
        axes.plot([left, right], [base] * 2, transform=axes.transAxes, color=colour, lw=thick)
    label = f"{length / 1000:g} km" if length >= 1000 else f"{length:g} m"
    _text(axes, (left + right) / 2, base + 0.012, label)


def _draw_north(axes: Axes, geobox: GeoBox) -> None:
    """Draw an arrow to grid north in the upper right corner."""
    to_pixels = ~geobox.affine
    north = np.array([to_pixels.b, to_pixels.e]) * resolution_m(geobox)[::-1]
    if geobox.affine.e < 0:
        north = north * (1, -1)
    window = axes.get_window_extent()
    reach = 16.0 * north / np.hypot(*north) / (window.width, window.height)
    centre = np.array([1 - 30 / window.width, 1 - 30 / window.height])
    axes.annotate(
        "N",
        xy=tuple(centre + reach),
        xytext=tuple(centre - 1.5 * reach),
        xycoords="axes fraction",
        textcoords="axes fraction",
        ha="center",
        va="center",
        arrowprops={"arrowstyle": "-|>", "color": "white", "lw": 2, "mutation_scale": 14},
        **_LEGIBLE,
    )


def _text(axes: Axes, x: float, y: float, text: str) -> None:
    axes.text(x, y, text, transform=axes.transAxes, ha="center", va="bottom", **_LEGIBLE)


def _full_view(axes: Axes, geobox: GeoBox) -> None:
    """Show the whole scene, with north above also where its rows run the other way."""
    height, width = geobox.shape
    south_up = geobox.affine.e > 0
    axes.set_xlim(0, width)
    axes.set_ylim((0, height) if south_up else (height, 0))


def _in_pixels(frame: gpd.GeoDataFrame, geobox: GeoBox) -> np.ndarray:
    return moved(frame.to_crs(crs_of(geobox)).geometry.to_numpy(), ~geobox.affine)


def _round_length(metres: float) -> float:
    """Return the largest of 1, 2, 5 times a power of ten below a length."""
    power = 10.0 ** np.floor(np.log10(metres))
    return float(max(m * power for m in (1, 2, 5) if m * power <= metres))
