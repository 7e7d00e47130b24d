"""``geosam rivers`` and ``geosam segment --rivers``: files to files, and mistakes on the way."""

import json

import geopandas as gpd
import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from affine import Affine
from click.testing import CliRunner
from PIL import Image

import geosam
from geosam.cli.app import app
from geosam.layers import LAYERS
from geosam.measuring import RIVER_LAYERS, write_rivers
from geosam.testing import FakeModel, sinuous_river_mask, write_scene

UTM = "EPSG:32633"


def write_mask(path, mask, crs=UTM, **profile):
    settings = {"dtype": "uint8", "nodata": 255, **profile}
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        count=1,
        height=mask.shape[0],
        width=mask.shape[1],
        crs=crs,
        transform=Affine(10, 0, 5e5, 0, -10, 5e6),
        **settings,
    ) as file:
        file.write(mask.astype(settings["dtype"]), 1)
    return path


@pytest.fixture
def mask(tmp_path):
    return write_mask(tmp_path / "mask.tif", sinuous_river_mask((100, 200), 2))


def run(*words):
    return CliRunner(catch_exceptions=False).invoke(app, [str(word) for word in words])


def layers_of(path):
    return {str(name) for name, _ in pyogrio.list_layers(path)} - {"layer_styles"}


def test_a_mask_becomes_all_layers_with_their_columns(mask, tmp_path):
    done = run("rivers", mask, "-o", tmp_path / "out.gpkg")
    assert done.exit_code == 0, done.output
    assert "1 river" in done.output
    assert layers_of(tmp_path / "out.gpkg") == {*RIVER_LAYERS, "outlines", "islands", "runs"}
    for name in (*RIVER_LAYERS, "outlines"):
        info = pyogrio.read_info(tmp_path / "out.gpkg", layer=name)
        assert info["geometry_type"] == LAYERS[name].geometry
        assert set(LAYERS[name].columns) <= set(info["fields"])
    kinds = pyogrio.read_dataframe(tmp_path / "out.gpkg", layer="nodes").kind
    assert kinds.value_counts().to_dict() == {"junction": 4, "edge": 2}


def test_layers_are_added_to_the_same_geopackage(mask, tmp_path):
    path = tmp_path / "rivers.gpkg"
    assert run("vectorize", mask, "-o", path).exit_code == 0
    before = pyogrio.read_dataframe(path, layer="outlines")
    assert run("rivers", path, "-o", path, "--json").exit_code == 0
    after = pyogrio.read_dataframe(path, layer="outlines")
    assert after.kind.tolist() == ["river"]
    assert after.geometry.equals(before.geometry)
    commands = pyogrio.read_dataframe(path, layer="runs").command
    assert commands.tolist() == ["vectorize", "rivers"]
    again = run("rivers", path, "-o", path)
    assert again.exit_code == 2
    assert "--overwrite" in again.stderr
    assert run("rivers", path, "-o", path, "--overwrite").exit_code == 0


def test_the_summary_is_the_same_as_json(mask, tmp_path):
    done = run("rivers", mask, "-o", tmp_path / "out.gpkg", "--json")
    counts = json.loads(done.output)["counts"]
    lines = pyogrio.read_dataframe(tmp_path / "out.gpkg", layer="centerlines")
    assert counts["channels_m"] == pytest.approx(lines.length_m.sum())
    assert counts["kinds"] == {"river": 1}


def test_a_probability_gives_low_and_high_widths(tmp_path):
    rows = np.arange(100)[:, None] + 0.5 - 50
    # 0.75 at 5 px from the middle, 0.5 at 8, 0.25 at 11.
    slope = np.clip(0.5 + (8 - abs(rows)) / 12, 0, 1)
    probability = write_mask(
        tmp_path / "p.tif", np.repeat(slope, 300, axis=1), dtype="float32", nodata=None
    )
    write_rivers(probability, tmp_path / "out.gpkg")
    transects = pyogrio.read_dataframe(tmp_path / "out.gpkg", layer="transects")
    ground = transects.span_m / transects.length
    for column, width in (("width_low_m", 100), ("width_m", 160), ("width_high_m", 220)):
        assert (transects[column] / ground).to_numpy() == pytest.approx(width, rel=0.01)


def test_widths_are_drawn_along_the_river(mask, tmp_path):
    plot = tmp_path / "widths.png"
    assert run("rivers", mask, "-o", tmp_path / "out.gpkg", "--plot", plot).exit_code == 0
    with Image.open(plot) as picture:
        # Something is drawn in the upper, larger part.
        assert np.asarray(picture.convert("L"))[50:300].std() > 10
    again = run("rivers", mask, "-o", tmp_path / "other.gpkg", "--plot", plot)
    assert again.exit_code == 2
    assert not (tmp_path / "other.gpkg").exists()


def test_polygons_of_ones_own_need_no_columns(tmp_path):
    river = shapely.LineString([(5e5, 5e6), (502e3, 5e6 + 500)]).buffer(40, cap_style="flat")
    gpd.GeoDataFrame(geometry=[river], crs=UTM).to_file(tmp_path / "own.geojson")
    write_rivers(tmp_path / "own.geojson", tmp_path / "out.gpkg")
    outlines = pyogrio.read_dataframe(tmp_path / "out.gpkg", layer="outlines")
    assert outlines.kind.tolist() == ["river"]
    assert outlines.area_m2.item() == pytest.approx(river.area, rel=0.01)


@pytest.mark.parametrize(
    ("water", "words"),
    [
        (np.zeros((40, 40)), "no water"),
        (np.ones((40, 40)), "All of the scene is water"),
        (np.pad(np.ones((1, 1)), 20), "no water of the smallest size"),
    ],
)
def test_a_mask_without_a_river_is_said(water, words, tmp_path):
    write_mask(tmp_path / "mask.tif", water)
    assert_refused(tmp_path / "mask.tif", tmp_path / "out.gpkg", words)


def assert_refused(source, output, words, *options):
    before = sorted(source.parent.iterdir())
    done = run("rivers", source, "-o", output, *options)
    assert done.exit_code == 2, done.output
    assert words in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert "Traceback" not in done.stderr
    assert sorted(source.parent.iterdir()) == before


def test_other_mistakes_are_said(mask, tmp_path):
    out = tmp_path / "out.gpkg"
    bow = shapely.Polygon([(0, 0), (100, 100), (100, 0), (0, 100)])
    gpd.GeoDataFrame(geometry=[bow], crs=UTM).to_file(tmp_path / "bow.gpkg")
    gpd.GeoDataFrame(geometry=[shapely.Point(0, 0)], crs=UTM).to_file(tmp_path / "points.gpkg")
    local = 'LOCAL_CS["site grid",UNIT["metre",1]]'
    write_mask(tmp_path / "local.tif", sinuous_river_mask((64, 64), 0), crs=local)
    (tmp_path / "text.gpkg").write_text("no GeoPackage")
    assert_refused(tmp_path / "bow.gpkg", out, "Self-intersection")
    assert_refused(tmp_path / "points.gpkg", out, "Point")
    assert_refused(tmp_path / "local.tif", out, "no place on Earth")
    assert_refused(tmp_path / "text.gpkg", out, "cannot be read")
    assert_refused(tmp_path / "missing.tif", out, "missing.tif")
    assert_refused(mask, tmp_path / "out.txt", "must end in .gpkg")
    assert_refused(mask, out, "flow", "--flow", "up")
    assert_refused(mask, out, "spacing", "--spacing", "0")
    assert_refused(mask, out, "is a mask", "--probability", mask)


def test_segment_measures_the_rivers_it_finds(tmp_path):
    scene, _ = write_scene(tmp_path, shape=(256, 256), seed=1)
    report = geosam.run(scene, tmp_path / "out.gpkg", model=FakeModel(), rivers=True)
    assert layers_of(report.output) >= {*RIVER_LAYERS, "outlines", "islands", "tiles"}
    outlines = pyogrio.read_dataframe(report.output, layer="outlines")
    assert set(outlines.kind) <= {"river", "lake", "pond", "oxbow", "pool"}
    transects = pyogrio.read_dataframe(report.output, layer="transects")
    main = transects[transects.n_channels > 0]
    assert len(main) > 0
    assert (main.width_m <= main.span_m * 1.0001).all()


def test_segment_measures_at_a_spacing_and_downstream(tmp_path):
    scene, _ = write_scene(tmp_path, shape=(256, 256), seed=1)
    found = {
        flow: geosam.run(
            scene, tmp_path / f"{flow}.gpkg", model=FakeModel(), rivers=True, flow=flow, spacing=200
        )
        for flow in ("e", "w")
    }
    lines, transects = (
        {k: pyogrio.read_dataframe(r.output, layer=layer) for k, r in found.items()}
        for layer in ("centerlines", "transects")
    )
    way = {k: eastward(longest_main(f)) for k, f in lines.items()}
    assert way["e"] > 0
    assert way["w"] == pytest.approx(-way["e"], rel=0.01)
    main = transects["e"][transects["e"].reach_id == longest_main(lines["e"]).reach_id.iloc[0]]
    # Metres on the ground beside metres of the grid.
    assert np.diff(main.distance_m) == pytest.approx(200, rel=0.01)


def longest_main(lines):
    main = lines[lines.main]
    return main[main.river_id == main.groupby("river_id").length_m.sum().idxmax()]


def eastward(main):
    return main.geometry.iloc[-1].coords[-1][0] - main.geometry.iloc[0].coords[0][0]


def test_options_of_measuring_without_measuring_are_refused(tmp_path):
    scene, _ = write_scene(tmp_path, shape=(256, 256), seed=1)
    for flag, value, words in (
        ("--flow", "e", "add --rivers"),
        ("--spacing", "20", "add --rivers"),
        ("--flow", "up", "--flow 'up' is unknown"),
        ("--spacing", "0", "--spacing 0.0 must be greater than 0"),
    ):
        done = run("segment", scene, "-o", tmp_path / "out.gpkg", flag, value)
        assert done.exit_code == 2
        assert words in done.output
        assert len(done.output.strip().splitlines()) == 1
    assert not list(tmp_path.glob("out*"))


def test_a_scene_without_water_has_empty_river_layers(tmp_path):
    values = np.full((64, 64), 200)
    scene = write_mask(tmp_path / "dry.tif", values, nodata=0)
    report = geosam.run(
        scene,
        tmp_path / "out.gpkg",
        model=FakeModel(),
        rivers=True,
        bands="red=1",
        prompts="none",
        composite="red,red,red",
    )
    for name in RIVER_LAYERS:
        assert len(pyogrio.read_dataframe(report.output, layer=name)) == 0
        info = pyogrio.read_info(report.output, layer=name)
        assert info["geometry_type"] == LAYERS[name].geometry
