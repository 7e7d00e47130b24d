"""A raster of rough masks -> polygons along its pixel edges, one object a number."""

from __future__ import annotations

import geopandas as gpd
import numpy as np
import shapely
import xarray as xr
from rasterio.features import shapes

from geosam.errors import PromptError
from geosam.grids import geobox_if_any


def mask_prompts(masks: xr.DataArray) -> gpd.GeoDataFrame:
    """Turn rough masks into dense mask prompts.

    Parameters
    ----------
    masks
        (y, x) whole numbers or bool with a CRS: the number of an object, 0 where there is none.

    Returns
    -------
    geopandas.GeoDataFrame
        Polygons with ``object`` and ``label`` (1), in the CRS of the raster.

    Raises
    ------
    PromptError
        If the raster has no CRS, is not of whole numbers, or is empty.
    """
    geobox = geobox_if_any(masks)
    if geobox is None or geobox.crs is None:
        raise PromptError(
            "The masks have no CRS. Assign one, for example masks.odc.assign_crs('EPSG:32633')."
        )
    if masks.ndim != 2 or masks.dtype.kind not in "bui":
        raise PromptError(
            f"The masks are {masks.dtype} of {masks.ndim} dimensions; they are (y, x) whole numbers: "
            "the number of an object, and 0 where there is none."
        )
    values = masks.values.astype(np.int32)
    found = list(shapes(values, mask=values != 0, connectivity=4, transform=geobox.affine))
    if not found:
        raise PromptError("The masks are 0 everywhere. Mark an object with its number.")
    table = gpd.GeoDataFrame(
        {"object": [int(number) for _, number in found], "label": 1},
        geometry=[shapely.geometry.shape(outline) for outline, _ in found],
        crs=str(geobox.crs),
    )
    table.attrs["masks"] = True  # a rectangle here is a mask, not a box
    return table
