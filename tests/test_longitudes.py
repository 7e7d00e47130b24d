"""Scenes across the antimeridian, and of longitudes from 0 to 360."""

import geopandas as gpd
import numpy as np
import pytest
import shapely
from odc.geo.geobox import GeoBox

from geosam.aoi import read_aoi
from geosam.errors import InputError, PromptError
from geosam.longitudes import brought_to
from geosam.prompts.vector import table_prompts

SCENES = {
    "across": (179.99, -17.03, 180.04, -17.0),
    "west of it": (-180.04, -17.03, -179.99, -17.0),
    "to 360": (200.0, -17.03, 200.05, -17.0),
}
UTM = {"across": "EPSG:32701", "west of it": "EPSG:32760", "to 360": "EPSG:32704"}
scenes = pytest.mark.parametrize("name", SCENES)


def grid(name):
    return GeoBox.from_bbox(SCENES[name], "EPSG:4326", resolution=0.0001)


def inner(name, margin=0.005):
    return shapely.box(*SCENES[name]).buffer(-margin, join_style="mitre")


def projected(shape, name):
    """Return a shape in UTM, drawn there, whose corners lie on both sides of the antimeridian."""
    return gpd.GeoSeries([shape], crs="EPSG:4326").to_crs(UTM[name])


def cut(shape, name):
    """Return a shape in longitudes from -180 to 180, cut at the antimeridian."""
    parts = [
        shapely.intersection(shape, shapely.box(180 * k, -90, 180 * k + 180, 90))
        for k in range(-2, 2)
    ]
    east = [shapely.transform(p, lambda xy: xy + np.array([360, 0])) for p in parts[:1]]
    west = [shapely.transform(p, lambda xy: xy - np.array([360, 0])) for p in parts[3:]]
    kept = [p for p in (*east, *parts[1:3], *west) if p.area > 0]
    return gpd.GeoSeries([shapely.MultiPolygon(kept)], crs="EPSG:4326")


@scenes
@pytest.mark.parametrize("drawn", [projected, cut])
def test_an_area_of_interest_is_the_ground_that_was_drawn(tmp_path, name, drawn):
    shape = inner(name)
    drawn(shape, name).to_file(tmp_path / "aoi.gpkg")
    found = shapely.union_all(read_aoi(tmp_path / "aoi.gpkg", grid(name)).to_numpy())
    assert found.symmetric_difference(shape).area < 1e-6 * shape.area


@scenes
def test_a_ring_that_was_torn_by_the_antimeridian_is_joined(tmp_path, name):
    shape = inner(name)
    torn = projected(shape, name).to_crs("EPSG:4326")
    assert torn.bounds.maxx.max() <= 180
    torn.to_file(tmp_path / "aoi.gpkg")
    found = shapely.union_all(read_aoi(tmp_path / "aoi.gpkg", grid(name)).to_numpy())
    assert found.symmetric_difference(shape).area < 1e-6 * shape.area


def test_an_area_across_the_antimeridian_is_not_taken_for_the_other_side_of_the_earth(tmp_path):
    across = gpd.GeoSeries(
        [shapely.MultiPolygon([shapely.box(170, -20, 180, 20), shapely.box(-180, -20, -165, 20)])],
        crs="EPSG:4326",
    )
    across.to_file(tmp_path / "aoi.gpkg")
    here = GeoBox.from_bbox((10, 0, 10.05, 0.05), "EPSG:4326", resolution=0.001)
    with pytest.raises(InputError, match="outside the scene"):
        read_aoi(tmp_path / "aoi.gpkg", here)


def test_the_whole_world_holds_a_scene_of_longitudes_to_360(tmp_path):
    gpd.GeoSeries([shapely.box(-180, -90, 180, 90)], crs="EPSG:4326").to_file(tmp_path / "a.gpkg")
    assert read_aoi(tmp_path / "a.gpkg", grid("to 360")).contains(inner("to 360")).any()


@scenes
def test_prompts_in_metres_lie_where_they_were_drawn(name):
    shape, geobox = inner(name), grid(name)
    corners = shapely.points(shapely.get_coordinates(shape)[:4])
    drawn = gpd.GeoSeries([*corners, shape], crs="EPSG:4326").to_crs(UTM[name])
    found = table_prompts(drawn, geobox)
    to_pixels = ~geobox.affine
    wanted = np.array([to_pixels * (p.x, p.y) for p in corners])
    assert found.points == pytest.approx(wanted, abs=0.01)
    outline = found.polygons[0] if len(found.polygons) else shapely.box(*found.boxes[0])
    assert shapely.bounds(outline) == pytest.approx(
        [*wanted.min(axis=0), *wanted.max(axis=0)], abs=0.01
    )


@scenes
def test_prompts_on_another_island_are_outside(name):
    far = gpd.GeoSeries([shapely.Point(20.0, -17.01)], crs="EPSG:4326")
    with pytest.raises(PromptError, match="outside the scene"):
        table_prompts(far, grid(name))


def test_only_longitudes_turn_and_in_the_units_of_their_crs():
    ours = gpd.GeoSeries([shapely.Point(0.5, 50.0), None, shapely.Point()], crs="EPSG:4807")
    moved = brought_to(ours, "EPSG:4807", 400.0)
    assert moved.iloc[0].x == pytest.approx(400.5) and moved.iloc[1] is None
    metres = gpd.GeoSeries([shapely.Point(5e5, 5e6)], crs="EPSG:32633")
    assert brought_to(metres, "EPSG:32633", 1e9).iloc[0].x == 5e5
