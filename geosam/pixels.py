"""The pixels of a scene on the model's grid, read from its files once.

Several steps look at the model's grid. Where that is coarser than the scene's own, each of them would read many
pixels for one: of an orthomosaic of centimetres that takes longer than the networks.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import dask.array as da
import numpy as np
import xarray as xr
from odc.geo.geobox import GeoBox
from odc.geo.xr import xr_coords

from geosam.kept import Blocks
from geosam.ledger import Index, Ledger
from geosam.raster import coarsen
from geosam.tasks import compute, task
from geosam.types import Window
from geosam.views import Around, Looks, Views, covering


@dataclass(frozen=True)
class KeptPixels:
    """Pixels on disk, and how any part of the scene is looked at with them: an :data:`geosam.views.Around`."""

    ledger: Ledger
    """Blocks, (band, y, x); a single NaN where there are no data."""
    blocks: Blocks
    """Where they lie on the model's grid."""
    around: Around
    """Looks at parts of the files."""
    dtype: str
    """In which values are kept; see :func:`kept_dtype`."""

    def __call__(self, part: GeoBox) -> Looks | None:
        """Look at a part; the scene's own grid is read from its files."""
        looks = self.around(part)
        return None if looks is None else Looks(partial(_lay, looks=looks, kept=self), looks.grids)

    def keep(self, index: Index) -> None:
        """Read a block from the files, and keep it."""
        part = self.blocks.geobox[self.blocks.window(index).slices()]
        looks = self.around(part)
        values = np.full((1, 1, 1), np.nan, self.dtype)
        if looks is not None:
            inside = covering(part, looks.grid())
            found = np.asarray(compute(looks.working.data[:, *inside.slices()]))
            if np.isfinite(found).any():
                values = found.astype(self.dtype)
        self.ledger.save(index, {"values": values})

    def read(self, window: Window, bands: int) -> np.ndarray:
        """Return the pixels of a window of the model's grid: (band, y, x) float32, NaN where nodata."""
        out = np.empty((bands, window.height, window.width), np.float32)
        for index in self.blocks.touched(window):
            block = self.blocks.window(index)
            common = block.intersection(window)
            assert common is not None
            values = self.ledger.load(index)["values"]
            whole = np.broadcast_to(values, (bands, block.height, block.width))
            out[:, *common.slices(window)] = whole[:, *common.slices(block)]
        return out


def is_read_often(views: Views) -> bool:
    """Return whether the model's grid is coarser than the scene's own, so that its pixels are worth keeping."""
    own, model = (abs(views.grid(on).affine.determinant) for on in ("scene", "working"))
    return bool(model > own * 1.001)


def kept_dtype(views: Views) -> str:
    """Return how pixels are kept: in half precision what is stored in 8 bits, a thirtieth of whose steps that
    can tell.
    """
    return "float16" if views.is_8bit else "float32"


def kept_bytes(views: Views) -> int:
    """Return how much disk the pixels of a scene take at most."""
    bands, pixels = len(views.roles), int(np.prod(views.grid().shape))
    return pixels * bands * np.dtype(kept_dtype(views)).itemsize if is_read_often(views) else 0


def _lay(name: str, looks: Looks, kept: KeptPixels) -> xr.DataArray:
    like = looks.lay(name)
    if name in ("scene", "void"):
        return like
    window = covering(looks.grid(name), kept.blocks.geobox)
    bands = len(like.band)
    read = task(kept.read)(window, bands)
    data = da.from_delayed(read, (bands, window.height, window.width), np.float32)
    if name == "working":
        return like.copy(data=data)
    coords = {"band": like.band, **xr_coords(kept.blocks.geobox[window.slices()], always_yx=True)}
    fine = xr.DataArray(data, coords=coords, dims=like.dims)
    return like.copy(data=coarsen(fine, 2).data)
