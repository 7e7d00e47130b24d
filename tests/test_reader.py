"""Rasters without a place on Earth are opened without a warning, from any thread."""

import threading
import warnings

import numpy as np
import rasterio
from PIL import Image
from rasterio.errors import NotGeoreferencedWarning

from geosam.reader import open_reader


def test_pixel_coordinates_are_no_reason_to_warn_in_any_thread(tmp_path):
    path = tmp_path / "picture.png"
    Image.fromarray(np.arange(12, dtype="uint8").reshape(3, 4)).save(path)
    transforms = []

    def read():
        for _ in range(20):
            with open_reader(path) as file:
                transforms.append(file.transform)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        threads = [threading.Thread(target=read) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not caught
        # rasterio itself does warn, so that the test can fail.
        rasterio.open(path).close()
    assert {warning.category for warning in caught} == {NotGeoreferencedWarning}
    assert len(transforms) == 80
    assert all(transform.is_identity for transform in transforms)


def test_a_reader_is_what_rasterio_opens(tmp_path):
    grid = rasterio.Affine(10, 0, 5e5, 0, -10, 5e6)
    values = np.arange(256 * 256, dtype="uint16").reshape(1, 256, 256)
    profile = {"count": 1, "height": 256, "width": 256, "dtype": "uint16", "tiled": True}
    path = tmp_path / "a.tif"
    with rasterio.open(path, "w", crs="EPSG:32633", transform=grid, **profile) as file:
        file.write(values)
    with rasterio.open(path, "r+") as file:
        file.build_overviews([2])
    for options in ({}, {"overview_level": 0}):
        with open_reader(path, **options) as ours, rasterio.open(path, **options) as theirs:
            assert ours.profile == theirs.profile
            assert (ours.read() == theirs.read()).all()
