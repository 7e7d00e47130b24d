"""Any raster that GDAL opens -> a lazy scene with band roles and validity."""

from geosam.raster.faults import Faults, Tell
from geosam.raster.scene import (
    coarsen,
    describe,
    fingerprint,
    open_coarse,
    open_scene,
    preview,
    read,
)
from geosam.raster.sources import Source, inspect_picture, inspect_scene

__all__ = [
    "Faults",
    "Source",
    "Tell",
    "coarsen",
    "describe",
    "fingerprint",
    "inspect_picture",
    "inspect_scene",
    "open_coarse",
    "open_scene",
    "preview",
    "read",
]
