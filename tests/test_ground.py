import numpy as np
import pytest
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj import Geod, Transformer

from geosam.errors import InputError
from geosam.ground import (
    area_m2,
    length_m,
    metres_to_crs,
    perimeter_m,
    pixel_area_m2,
    resolution_m,
)

WGS84 = Geod(ellps="WGS84")


def grid(crs, pixel, origin, shape=(100, 100)):
    return GeoBox(shape, Affine(pixel, 0, origin[0], 0, -pixel, origin[1]), crs)


def to_crs(geometry, crs):
    return shapely.transform(
        geometry,
        lambda xy: np.stack(
            Transformer.from_crs(4326, crs, always_xy=True).transform(*xy.T), axis=1
        ),
    )


def test_area_is_pyproj_s_with_holes_left_out():
    polygon = shapely.box(10, 40, 10.01, 40.02) - shapely.box(10.002, 40.005, 10.004, 40.01)
    expected = abs(WGS84.geometry_area_perimeter(polygon)[0])
    assert area_m2([polygon], 4326)[0] == pytest.approx(expected, rel=1e-12)


def test_one_degree_of_meridian_has_its_known_length():
    assert length_m([shapely.LineString([(0, 0), (0, 1)])], 4326)[0] == pytest.approx(110574.3886)


@pytest.mark.parametrize("crs", [3857, 32632, 3035, 4326, 2056])
def test_the_same_field_has_the_same_area_and_perimeter_in_any_crs(crs):
    field = shapely.segmentize(shapely.box(6, 47, 6.01, 47.01), 0.001)
    there = to_crs(field, crs)
    # Bessel's ellipsoid, of the Swiss grid, is smaller by a hundred-thousandth.
    assert area_m2([there], crs)[0] == pytest.approx(area_m2([field], 4326)[0], rel=1e-4)
    assert perimeter_m([there], crs)[0] == pytest.approx(length_m([field], 4326)[0], rel=1e-4)


def test_gradians_are_not_taken_for_degrees():
    # EPSG:4807 counts in gradians from Paris: one is 0.9 degrees.
    expected = area_m2([shapely.box(2, 45, 2.9, 45.9)], 4326)[0]
    assert area_m2([shapely.box(0, 50, 1, 51)], 4807)[0] == pytest.approx(expected, rel=1e-3)


def test_multipolygons_points_none_and_empty_have_the_area_of_their_parts():
    parts = [shapely.box(0, 0, 0.01, 0.01), shapely.box(1, 0, 1.01, 0.01)]
    one = area_m2(parts[:1], 4326)[0]
    many = [shapely.MultiPolygon(parts), shapely.Point(0, 0), None, shapely.Polygon()]
    assert area_m2(many, 4326) == pytest.approx([2 * one, 0, 0, 0])
    assert area_m2([], 4326).shape == (0,)
    assert length_m([], 4326).shape == (0,)


def test_islands_count_in_the_perimeter():
    hole = shapely.box(0.002, 0.002, 0.004, 0.004)
    polygon = shapely.box(0, 0, 0.01, 0.01) - hole
    outer, inner = length_m([shapely.box(0, 0, 0.01, 0.01), hole], 4326)
    assert perimeter_m([polygon], 4326)[0] == pytest.approx(outer + inner)


def test_a_web_mercator_pixel_is_smaller_on_the_ground():
    assert resolution_m(grid(3857, 0.0746, (-8.5e6, 4865942)))[1] == pytest.approx(0.0572, abs=2e-4)


def test_pixels_of_degrees_are_narrower_than_high():
    y, x = resolution_m(grid(4326, 1e-4, (10, 60)))
    assert x / y == pytest.approx(0.5, abs=0.005)
    assert pixel_area_m2(grid(4326, 1e-4, (10, 60))) == pytest.approx(x * y, rel=1e-6)


def test_a_rotated_grid_keeps_its_pixel_size():
    turned = Affine.translation(5e5, 45e5) @ Affine.rotation(30) @ Affine.scale(2, -1)
    geobox = GeoBox((10, 10), turned, 32633)
    assert resolution_m(geobox) == pytest.approx((1, 2), rel=1e-3)
    assert pixel_area_m2(geobox) == pytest.approx(2, rel=1e-3)


def test_the_pixel_area_follows_the_latitude():
    geobox = grid(4326, 0.1, (0, 80), shape=(700, 10))
    areas = pixel_area_m2(geobox, np.array([50, 650]), np.array([5, 5]))
    expected = np.cos(np.radians(75)) / np.cos(np.radians(15))
    assert areas[0] / areas[1] == pytest.approx(expected, rel=0.02)


def test_metres_become_crs_units_separately_in_y_and_x():
    y, x = metres_to_crs(100, "EPSG:4326", at=(10, 60))
    _, _, along = WGS84.inv(10 - x / 2, 60, 10 + x / 2, 60)
    _, _, up = WGS84.inv(10, 60 - y / 2, 10, 60 + y / 2)
    assert (along, up) == pytest.approx((100, 100), rel=1e-6)
    assert metres_to_crs(100, grid(32633, 10, (5e5, 45e5))) == pytest.approx((100, 100), rel=1e-3)


@pytest.mark.parametrize("crs", [None, 'LOCAL_CS["site",UNIT["metre",1]]'])
def test_a_grid_without_a_place_on_earth_is_refused_in_a_sentence(crs):
    with pytest.raises(InputError, match=r"such as EPSG:32633|--crs EPSG"):
        area_m2([shapely.box(0, 0, 1, 1)], crs)


def test_coordinates_outside_the_crs_are_refused():
    with pytest.raises(InputError, match="outside the domain"):
        area_m2([shapely.box(1e30, 1e30, 2e30, 2e30)], 32633)


@pytest.mark.parametrize(
    "box", [(500000, 4600000, 500010, 4600010), (10, 89, 11, 91), (541, 0, 542, 1)]
)
def test_metres_that_are_called_degrees_are_outside_of_the_crs(box):
    with pytest.raises(InputError, match="outside the domain"):
        area_m2([shapely.box(*box)], "EPSG:4326")


def test_degrees_to_a_pole_and_beyond_180_are_inside_of_the_crs():
    pole, beside = (area_m2([shapely.box(*b, 90)], 4326) for b in ((0, 89, 1), (360, 89, 361)))
    assert pole == pytest.approx(beside)
    assert area_m2([shapely.box(0, 89, 1, 90 + 1e-9)], 4326) == pytest.approx(pole)


def test_a_distance_without_a_place_is_refused():
    with pytest.raises(InputError, match="depends on the place"):
        metres_to_crs(10, "EPSG:4326")
