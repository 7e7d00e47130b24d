"""Paths, and the options that concern them -> a scene that has been looked at."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import geopandas as gpd

from geosam.aoi import part_around, read_aoi
from geosam.grids import geobox_of
from geosam.options import Options
from geosam.raster import Source, Tell, inspect_scene
from geosam.views import Views, pixel_m, view_source

CHUNK_PX = 1024
"""Side of the blocks that scenes are read and written in."""


def as_paths(scene: str | Path | Sequence[str | Path]) -> tuple[str, ...]:
    """Return one path or several as a tuple of strings."""
    return tuple(str(path) for path in ([scene] if isinstance(scene, (str, Path)) else scene))


def inspect_source(paths: Sequence[str], options: Options) -> Source:
    """Look at a scene with the options that concern it."""
    return inspect_scene(
        list(paths),
        bands=options.bands,
        scale=options.scale,
        offset=options.offset,
        nodata=options.nodata,
        crs=options.crs,
        valid=options.valid,
        frame=options.frame,
        mosaic=options.mosaic,
    )


def view_scene(
    source: Source, options: Options, tell: Tell | None = None
) -> tuple[Views, gpd.GeoSeries | None]:
    """Look at the scene, or the part of it around the area of interest."""
    whole = view_source(source, options.resolution, chunks=CHUNK_PX, tell=tell)
    if options.aoi is None:
        return whole, None
    aoi = read_aoi(options.aoi, source.geobox)
    coarser = pixel_m(geobox_of(whole.working)) / pixel_m(source.geobox)
    part = part_around(aoi, source.geobox, coarser, options.tile_size)
    return view_source(source, options.resolution, part, CHUNK_PX, tell), aoi
