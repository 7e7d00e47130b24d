"""Any raster that GDAL opens -> a lazy scene with band roles and validity."""

from geosam.raster.scene import (
    GeosamWarning,
    Source,
    coarsen,
    describe,
    fingerprint,
    inspect_scene,
    open_coarse,
    open_scene,
    preview,
    read,
)

__all__ = [
    "GeosamWarning",
    "Source",
    "coarsen",
    "describe",
    "fingerprint",
    "inspect_scene",
    "open_coarse",
    "open_scene",
    "preview",
    "read",
]
