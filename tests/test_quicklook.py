import geopandas as gpd
import numpy as np
import odc.geo.xr
import pytest
import shapely
from affine import Affine
from matplotlib.image import imread
from odc.geo.geobox import GeoBox

from geosam.errors import InputError, OutputError
from geosam.export.quicklook import quicklook

SHAPE = (120, 200)
GRID = GeoBox(SHAPE, Affine(10, 0, 5e5, 0, -10, 45e5), "EPSG:32633")
SQUARE = shapely.box(5e5 + 500, 45e5 - 800, 5e5 + 1500, 45e5 - 400) - shapely.box(
    5e5 + 800, 45e5 - 700, 5e5 + 1000, 45e5 - 500
)
OUTLINES = gpd.GeoDataFrame({"outline_id": [1]}, geometry=[SQUARE], crs="EPSG:32633")


def grey(level=0.4):
    return np.full((3, *SHAPE), level, np.float32)


def place_of(picture, colour):
    """Bounding box of a colour as shares of the picture below the title."""
    near = np.abs(picture[..., :3] * 255 - colour).sum(-1) < 60
    rows, cols = np.nonzero(near)
    title = 40
    height = picture.shape[0] - title
    return (
        (rows.min() - title) / height,
        (rows.max() - title) / height,
        cols.min() / picture.shape[1],
        cols.max() / picture.shape[1],
    )


YELLOW = (255, 225, 77)


def test_outlines_lie_where_they_are_on_the_scene(tmp_path):
    path = quicklook(grey(), OUTLINES.to_crs(4326), tmp_path / "a.png", geobox=GRID, title="A")
    top, bottom, left, right = place_of(imread(path), YELLOW)
    assert (top, bottom) == pytest.approx((400 / 1200, 800 / 1200), abs=0.01)
    assert (left, right) == pytest.approx((500 / 2000, 1500 / 2000), abs=0.01)


def test_a_south_up_scene_is_drawn_with_north_above(tmp_path):
    grid = GeoBox(SHAPE, Affine(10, 0, 5e5, 0, 10, 45e5 - 1200), "EPSG:32633")
    preview = grey()
    preview[0, :60] = 1.0  # the south is red
    path = quicklook(preview, OUTLINES, tmp_path / "a.png", geobox=grid)
    picture = imread(path)
    top, bottom, _, _ = place_of(picture, YELLOW)
    assert (top, bottom) == pytest.approx((400 / 1200, 800 / 1200), abs=0.01)
    assert picture[-60, 500, 0] > 0.95 > picture[100, 500, 0]


def test_pixels_of_degrees_keep_their_shape_on_the_ground(tmp_path):
    grid = GeoBox((100, 100), Affine(1e-3, 0, 10, 0, -1e-3, 60), "EPSG:4326")
    path = quicklook(grey()[:, :100, :100], OUTLINES, tmp_path / "a.png", geobox=grid)
    height, width = imread(path).shape[:2]
    assert width / (height - 40) == pytest.approx(0.5, abs=0.01)


def test_prompts_probability_and_a_lazy_preview_are_drawn(tmp_path):
    lazy = odc.geo.xr.wrap_xr(grey(), GRID, axis=1).chunk({"y": 50})
    prompts = gpd.GeoDataFrame(
        {"label": [1, 0]},
        geometry=[shapely.Point(5e5 + 600, 45e5 - 600), shapely.Point(5e5 + 1900, 45e5 - 100)],
        crs="EPSG:32633",
    )
    veil = np.zeros(SHAPE, np.float32)
    veil[:, 100:] = 1
    veil[:5] = np.nan
    path = quicklook(
        lazy, OUTLINES, tmp_path / "a.png", prompts=prompts.to_crs(4326), probability=veil
    )
    picture = imread(path)
    top, _, left, _ = place_of(picture, (43, 209, 76))
    assert (top, left) == pytest.approx((0.5, 0.3), abs=0.02)
    blue = picture[..., 2] - picture[..., 0]
    assert blue[300, 900] > 0.2 > blue[300, 100]


def test_nodata_is_white_and_nothing_found_is_no_error(tmp_path):
    preview = grey()
    preview[:, :, :100] = np.nan
    path = quicklook(preview, OUTLINES.iloc[:0], tmp_path / "a.png", geobox=GRID)
    picture = imread(path)
    assert (picture[100, 100, :3] == 1).all()
    assert (picture[100, 700, :3] < 0.5).all()


def test_a_large_preview_is_thinned_to_the_size_asked_for(tmp_path):
    grid = GeoBox((1200, 2000), GRID.affine, GRID.crs)
    preview = np.full((1, 1200, 2000), 0.4, np.float32)
    path = quicklook(preview, OUTLINES, tmp_path / "a.png", geobox=grid, max_px=500)
    assert imread(path).shape[:2] == (340, 500)


def test_the_same_picture_has_the_same_bytes(tmp_path):
    first, second = (
        quicklook(grey(), OUTLINES, tmp_path / name, geobox=GRID) for name in ("a.png", "b.png")
    )
    assert first.read_bytes() == second.read_bytes()


def test_pictures_without_a_grid_bands_or_folder_are_refused(tmp_path):
    with pytest.raises(InputError, match="geobox="):
        quicklook(grey(), OUTLINES, tmp_path / "a.png")
    with pytest.raises(InputError, match="1 or 3 bands"):
        quicklook(grey()[:2], OUTLINES, tmp_path / "a.png", geobox=GRID)
    with pytest.raises(OutputError, match="could not be written"):
        quicklook(grey(), OUTLINES, tmp_path / "none" / "a.png", geobox=GRID)
