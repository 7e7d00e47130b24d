"""Any raster that GDAL opens -> a lazy scene with band roles and validity."""

from geosam.raster.decimated import preview
from geosam.raster.faults import Faults, Tell
from geosam.raster.scene import (
    check_coarse,
    coarsen,
    describe,
    fingerprint,
    is_void,
    open_scene,
    read,
    read_coarse,
    read_void,
)
from geosam.raster.sources import Source, inspect_picture, inspect_scene

__all__ = [
    "Faults",
    "Source",
    "Tell",
    "check_coarse",
    "coarsen",
    "describe",
    "fingerprint",
    "inspect_picture",
    "inspect_scene",
    "is_void",
    "open_scene",
    "preview",
    "read",
    "read_coarse",
    "read_void",
]
