"""Rivers that move by a known distance, and what is said of them."""

import geopandas as gpd
import numpy as np
import pyogrio
import pytest
import shapely
from click.testing import CliRunner
from PIL import Image
from test_measuring import write_mask

from geosam.change import Moment, measure_change
from geosam.change.dates import decimal_year
from geosam.cli.app import app
from geosam.errors import InputError, OptionError
from geosam.export.change_maps import plot_change
from geosam.layers import LAYERS

UTM = "EPSG:32633"
SCALE = 0.9996
"""Length in the grid over length on the ground, on the central meridian of the zone."""


def river(*lines, width=100.0, crs=UTM, name="1"):
    polygons = [shapely.LineString(line).buffer(width / 2, cap_style="flat") for line in lines]
    frame = gpd.GeoDataFrame(geometry=polygons, crs=UTM)
    return Moment(name, frame.to_crs(crs), pixel_m=10.0)


def straight(shift=0.0, length=4000.0):
    return [(5e5, 5e6 + shift), (5e5 + length, 5e6 + shift)]


def test_a_shifted_river_erodes_one_side_and_leaves_the_other():
    true = 30 * 4000 / SCALE**2
    seen = gpd.GeoSeries([shapely.box(5e5, 5e6 - 500, 504e3, 5e6 + 500)], crs=UTM)
    moments = [
        Moment(name, river(straight(shift)).outlines, seen, 10.0)
        for name, shift in (("2000", 0), ("2010", 30))
    ]
    found = measure_change(moments, dated=True, flow="e")
    assert found["erosion"].area_m2.sum() == pytest.approx(true, rel=1e-3)
    assert found["accretion"].area_m2.sum() == pytest.approx(true, rel=1e-3)
    assert found["erosion"].beyond_uncertainty.all()
    migration = found["migration"]
    assert migration.distance_m.to_numpy() == pytest.approx(30 / SCALE, abs=0.5)
    assert migration.rate_m_per_year.to_numpy() == pytest.approx(3 / SCALE, abs=0.05)
    assert migration.left_m.median() == pytest.approx(30, abs=0.5)
    assert migration.right_m.median() == pytest.approx(-30, abs=0.5)
    assert len(found["cutoffs"]) == 0


def test_a_river_that_leaves_the_scene_elsewhere_has_cut_off_no_bend():
    seen = gpd.GeoSeries([shapely.box(5e5, 5e6 - 500, 504e3, 5e6 + 1500)], crs=UTM)
    up, west = (5e5 + 3000, 5e6 - 500), (5e5 + 3000, 5e6 + 900)
    old = Moment("old", river([up, west, (5e5, 5e6 + 1400)]).outlines, seen, 10.0)
    new = Moment("new", river([up, (5e5 + 3000, 5e6 + 1500)]).outlines, seen, 10.0)
    assert len(measure_change([old, new], flow="n")["cutoffs"]) == 0


def test_less_than_the_uncertainty_is_no_change():
    seen = gpd.GeoSeries([shapely.box(5e5, 5e6 - 500, 504e3, 5e6 + 500)], crs=UTM)
    moments = [Moment(str(shift), river(straight(shift)).outlines, seen, 10.0) for shift in (0, 6)]
    found = measure_change(moments, uncertainty=5.0)
    assert not found["erosion"].beyond_uncertainty.any()
    assert not found["migration"].beyond_uncertainty.any()
    assert found["series"].erosion_m2.tolist() == [0, 0]
    sure = measure_change(moments, uncertainty=1.0)
    assert sure["erosion"].beyond_uncertainty.all()


def test_a_widened_river_has_two_banks_that_retreat():
    seen = gpd.GeoSeries([shapely.box(5e5, 5e6 - 500, 504e3, 5e6 + 500)], crs=UTM)
    moments = [
        Moment(str(width), river(straight(), width=width).outlines, seen, 10.0)
        for width in (100, 160)
    ]
    migration = measure_change(moments, flow="e")["migration"]
    for side in ("left_m", "right_m"):
        assert migration[side].median() == pytest.approx(30, abs=0.5)
    assert migration.distance_m.max() < 1


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:3857"])
def test_dates_may_come_in_other_crs(crs):
    seen = gpd.GeoSeries([shapely.box(5e5, 5e6 - 500, 504e3, 5e6 + 500)], crs=UTM)
    before = Moment("a", river(straight()).outlines, seen, 10.0)
    after = Moment("b", river(straight(30)).outlines.to_crs(crs), seen.to_crs(crs), 10.0)
    found = measure_change([before, after])
    assert found["erosion"].crs == UTM
    assert found["erosion"].area_m2.sum() == pytest.approx(30 * 4000 / SCALE**2, rel=0.01)


@pytest.mark.parametrize(("left", "later"), [(200.0, -160.0), (179.99, 179.99), (-160.0, 200.0)])
def test_layers_lie_with_the_outlines_on_either_side_of_the_antimeridian(tmp_path, left, later):
    def moment(name, west, south):
        corners = [(west, south), (west + 0.025, south + 0.03), (west + 0.05, south)]
        line = shapely.LineString(corners)
        water = [line.buffer(5e-4, cap_style="flat")]
        edge = shapely.box(west + 0.001, 9.95, west + 0.049, 10.1)
        frame = gpd.GeoDataFrame(geometry=water, crs="EPSG:4326")
        return Moment(name, frame, gpd.GeoSeries([edge], crs="EPSG:4326"), pixel_m=10.0)

    moments = [moment("1", left, 10.0), moment("2", later, 10.0004)]
    layers = measure_change(moments)
    around = shapely.box(left - 0.003, 9.95, left + 0.053, 10.1)
    for name in ("erosion", "accretion", "migration"):
        assert len(layers[name]) and layers[name].is_valid.all(), name
        assert layers[name].within(around).all(), name
    plot_change(layers, [each.outlines for each in moments], tmp_path / "change.png")
    with Image.open(tmp_path / "change.png") as picture:
        assert picture.height > picture.width / 3


def loop(neck):
    """A straight river with one bend, whose two legs are `neck` apart."""
    x, top = 502e3, 5e6 + 1500
    return [
        (5e5, 5e6),
        (x, 5e6),
        (x - 300, top),
        (x + neck + 300, top),
        (x + neck, 5e6),
        (504500, 5e6),
    ]


def test_a_cut_off_bend_is_found_and_a_moved_one_is_not():
    seen = gpd.GeoSeries([shapely.box(5e5, 5e6 - 500, 504500, 5e6 + 2000)], crs=UTM)
    old = Moment("old", river(loop(500)).outlines, seen, 10.0)
    cut = Moment("cut", river([(5e5, 5e6), (504500, 5e6)]).outlines, seen, 10.0)
    lines = [shapely.LineString(line) for line in (loop(500), [(5e5, 5e6), (504500, 5e6)])]
    found = measure_change([old, cut], flow="e")["cutoffs"]
    assert len(found) == 1
    lost = lines[0].length - lines[1].length
    assert found.length_lost_m.item() == pytest.approx(lost, rel=0.05)
    assert found.geometry.item().contains(shapely.Point(502250, 5e6 + 700))
    moved = [(x + 250, y) if 5e5 < x < 504500 else (x, y) for x, y in loop(500)]
    after = Moment("moved", river(moved).outlines, seen, 10.0)
    assert len(measure_change([old, after], flow="e")["cutoffs"]) == 0


def test_dates_are_years_and_must_be_in_order():
    assert decimal_year("2000") == 2000
    assert decimal_year("2001-07-02") == pytest.approx(2001.5, abs=0.01)
    for dates in (["2010", "2000"], ["2000", "now"]):
        with pytest.raises(OptionError):
            measure_change([river(straight(), name=d) for d in dates], dated=True)
    with pytest.raises(OptionError, match="two"):
        measure_change([river(straight())])


def test_scenes_that_do_not_overlap_are_refused():
    with pytest.raises(InputError, match="do not overlap"):
        measure_change([river(straight(), name="a"), river(straight(9000), name="b")])


def run(*words):
    return CliRunner(catch_exceptions=False).invoke(app, [str(word) for word in words])


def test_the_command_writes_every_layer_and_a_picture(tmp_path):
    files = []
    for year, shift in ((1990, 0), (2000, 4), (2010, 8)):
        mask = np.zeros((80, 200), bool)
        mask[30 + shift : 42 + shift] = True
        files.append(write_mask(tmp_path / f"{year}.tif", mask))
    out, plot = tmp_path / "change.gpkg", tmp_path / "change.png"
    done = run("change", *files, "-o", out, "--dates", "1990,2000,2010", "--plot", plot)
    assert done.exit_code == 0, done.output
    for name in ("erosion", "accretion", "migration", "cutoffs", "series", "runs"):
        info = pyogrio.read_info(out, layer=name)
        assert set(LAYERS[name].columns) <= set(info["fields"])
        assert (info["geometry_type"] or None) == LAYERS[name].geometry
    series = pyogrio.read_dataframe(out, layer="series")
    assert series.migration_mean_m.tolist()[1:] == pytest.approx([40, 40], abs=1)
    assert series.rate_m_per_year.tolist()[1:] == pytest.approx([4, 4], abs=0.1)
    assert series.erosion_m2.tolist()[1:] == pytest.approx([80_000, 80_000], rel=0.01)
    with Image.open(plot) as picture:
        assert picture.size[0] > 500


def test_mistakes_at_geosam_change_are_said(tmp_path):
    mask = np.zeros((60, 200), bool)
    mask[20:30] = True
    a, b = (write_mask(tmp_path / f"{name}.tif", mask) for name in "ab")
    dry = write_mask(tmp_path / "dry.tif", np.zeros((60, 200), bool))
    wet = write_mask(tmp_path / "wet.tif", np.ones((60, 200), bool))
    out = tmp_path / "out.gpkg"
    before = sorted(tmp_path.iterdir())
    for words, text in (
        ((a,), "at least two"),
        ((a, b, "--dates", "2000"), "1 dates for 2 scenes"),
        ((a, b, "--dates", "2010,2000"), "not after"),
        ((a, b, "--dates", "x,y"), "no date"),
        ((a, dry), "no water"),
        ((a, wet), "wet: All of the scene is water"),
        ((a, tmp_path / "missing.tif"), "missing.tif"),
        ((a, b, "--uncertainty", "-1"), "uncertainty"),
    ):
        done = run("change", *words, "-o", out)
        assert done.exit_code == 2, done.output
        assert text in done.stderr
        assert "Traceback" not in done.stderr
    assert sorted(tmp_path.iterdir()) == before
