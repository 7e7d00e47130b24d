"""What a scene is, and what a run would choose for it."""

from __future__ import annotations

from typing import Any

import numpy as np
from odc.geo.geobox import GeoBox

from geosam.decision import Decision, decide
from geosam.grids import geobox_of
from geosam.ground import resolution_m
from geosam.models.registry import input_size
from geosam.opening import as_paths, inspect_source, view_scene
from geosam.options import Options
from geosam.raster import Source
from geosam.tiles import TileGrid
from geosam.views import Views, pixel_m


def info(scene: Any, **options: Any) -> dict[str, Any]:
    """Look at a scene, and at what :func:`geosam.run` would choose for it.

    Parameters
    ----------
    scene
        A raster, or several of the same bands and CRS.
    **options
        Those of :class:`geosam.options.Options`.

    Returns
    -------
    dict
        JSON-ready: ``scene`` (paths), ``shape`` (rows, columns), ``crs``, ``pixel`` (height, width
        in units of the CRS), ``ground_m`` (height, width of a pixel on the ground), ``bounds``
        (left, bottom, right, top), ``bands`` (roles), ``notes`` (how they are known),
        ``nodata_share`` (of the preview) and ``choice``: ``composite``, ``prompts``, ``index``,
        ``threshold``, ``resolution_m``, ``model``, ``tile_size``, ``overlap`` and ``tiles`` (these
        three None where the model is not at hand) and ``notes``.

    Raises
    ------
    GeosamError
        If the scene cannot be used, or an option does not fit.
    """
    chosen = Options.of(options)
    source = inspect_source(as_paths(scene), chosen)
    views, _ = view_scene(source, chosen)
    return {
        "scene": list(source.paths),
        **_grid(source),
        "bands": list(views.roles),
        "notes": [source.sentence],
        "nodata_share": _nodata_share(views),
        "choice": _choice(views, decide(views, chosen), chosen),
    }


def _grid(source: Source) -> dict[str, Any]:
    geobox = source.geobox
    box = geobox.boundingbox
    return {
        "shape": list(geobox.shape),
        "crs": _crs_name(geobox),
        "pixel": [abs(geobox.resolution.y), abs(geobox.resolution.x)],
        "ground_m": [float(side) for side in resolution_m(geobox)],
        "bounds": [box.left, box.bottom, box.right, box.top],
    }


def _crs_name(geobox: GeoBox) -> str:
    crs = geobox.crs
    assert crs is not None  # a scene without one is refused
    return f"EPSG:{crs.epsg}" if crs.epsg else crs.proj.name


def _nodata_share(views: Views) -> float:
    return float(np.isnan(views.preview.values).all(axis=0).mean())


def _choice(views: Views, decision: Decision, options: Options) -> dict[str, Any]:
    threshold = decision.threshold
    return {
        "composite": list(decision.composite),
        "prompts": decision.source,
        "index": decision.index,
        "threshold": threshold.value if threshold is not None else None,
        "resolution_m": pixel_m(geobox_of(views.working)),
        "model": options.model,
        **_tiles(views, options),
        "notes": list(decision.notes),
    }


def _tiles(views: Views, options: Options) -> dict[str, int | None]:
    size = options.tile_size or input_size(options.model)
    if size is None:
        return {"tile_size": None, "overlap": None, "tiles": None}
    overlap = size // 4 if options.overlap is None else options.overlap
    grid = TileGrid(geobox_of(views.working), size, overlap)
    return {"tile_size": size, "overlap": overlap, "tiles": len(grid)}
