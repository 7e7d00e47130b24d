import os
import shutil
import sqlite3
import xml.etree.ElementTree as ElementTree
from importlib.resources import files

import geopandas as gpd
import pandas as pd
import pyogrio
import pytest
import shapely

from geosam.errors import InputError, OptionError, OutputError
from geosam.export import geopackage
from geosam.export.geopackage import layer_names, read_layer, write_geopackage
from geosam.layers import LAYERS, empty_layer
from geosam.workspace import Targets, check_targets, publish

pytestmark = pytest.mark.filterwarnings("error::UserWarning")
CRS = "EPSG:32633"


def layer(name, count=3):
    """A layer with some rows of its own type."""
    shape = {
        "Point": shapely.Point(5e5, 45e5),
        "LineString": shapely.LineString([(5e5, 45e5), (5e5, 45e5 + 9)]),
        "Polygon": shapely.box(5e5, 45e5, 5e5 + 9, 45e5 + 9),
    }
    columns = {"int64": 1, "float64": 0.5, "str": "a", "bool": True}
    values = {key: [columns[dtype]] * count for key, dtype in LAYERS[name].columns.items()}
    geometry = LAYERS[name].geometry
    if geometry is None:
        return pd.DataFrame(values)
    return gpd.GeoDataFrame(values, geometry=[shape[geometry]] * count, crs=CRS)


def styles_of(path):
    with sqlite3.connect(path) as database:
        return pd.read_sql("select * from layer_styles", database)


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_comes_back_as_it_was_written(tmp_path, name):
    path = write_geopackage(tmp_path / "a.gpkg", **{name: layer(name)})
    back = read_layer(path, name)
    assert list(back) == list(layer(name))
    expected = layer(name)
    for column in LAYERS[name].columns:
        assert back[column].tolist() == expected[column].tolist()
    if LAYERS[name].geometry:
        assert back.crs == CRS
        assert back.geometry.geom_equals(expected.geometry).all()


def test_empty_layers_keep_columns_types_and_geometry(tmp_path):
    path = tmp_path / "a.gpkg"
    write_geopackage(path, **{name: empty_layer(name, CRS) for name in LAYERS})
    assert set(layer_names(path)) == set(LAYERS)
    kinds = dict(pyogrio.list_layers(path))
    for name, what in LAYERS.items():
        assert kinds[name] == what.geometry
        assert set(read_layer(path, name)) - {"geometry"} == set(what.columns)
    dtypes = pyogrio.read_info(path, layer="outlines")["dtypes"]
    assert dict(zip(LAYERS["outlines"].columns, dtypes, strict=True))["truncated"] == "bool"


def test_every_layer_opens_in_qgis_with_its_style(tmp_path):
    names = [name for name in LAYERS if LAYERS[name].geometry]
    path = write_geopackage(tmp_path / "a.gpkg", **{name: layer(name) for name in names})
    styles = styles_of(path)
    assert set(styles.f_table_name) == set(names)
    assert (styles.f_geometry_column == "geom").all()
    assert (styles.useAsDefault == 1).all()
    with sqlite3.connect(path) as database:
        kind = database.execute(
            "select data_type from gpkg_contents where table_name = 'layer_styles'"
        ).fetchone()
        geometry = database.execute("select distinct column_name from gpkg_geometry_columns")
        assert kind == ("attributes",)
        assert geometry.fetchall() == [("geom",)]


def test_styles_are_well_formed_and_name_columns_and_symbols_that_exist():
    folder = files("geosam.export") / "styles"
    for name in (name for name in LAYERS if LAYERS[name].geometry):
        root = ElementTree.fromstring((folder / f"{name}.qml").read_text())
        renderer = root.find("renderer-v2")
        symbols = {symbol.get("name") for symbol in renderer.iter("symbol")}
        kind = {"Polygon": "fill", "LineString": "line", "Point": "marker"}[LAYERS[name].geometry]
        assert {symbol.get("type") for symbol in renderer.iter("symbol")} == {kind}
        assert {category.get("symbol") for category in renderer.iter("category")} <= symbols
        if renderer.get("type") == "categorizedSymbol":
            assert renderer.get("attr") in LAYERS[name].columns


def test_styles_can_be_left_out(tmp_path):
    path = write_geopackage(tmp_path / "a.gpkg", styles=False, outlines=layer("outlines"))
    assert "layer_styles" not in {name for name, _ in pyogrio.list_layers(path)}


def test_an_existing_file_is_neither_replaced_nor_touched_without_being_asked(tmp_path):
    path = write_geopackage(tmp_path / "a.gpkg", outlines=layer("outlines"))
    before = path.read_bytes()
    with pytest.raises(OutputError, match="--overwrite"):
        write_geopackage(path, islands=layer("islands"))
    assert path.read_bytes() == before
    write_geopackage(path, overwrite=True, islands=layer("islands"))
    assert layer_names(path) == ["islands"]


def test_appending_keeps_other_layers_and_a_user_s_own_style(tmp_path):
    path = write_geopackage(
        tmp_path / "a.gpkg", outlines=layer("outlines"), islands=layer("islands")
    )
    with sqlite3.connect(path) as database:
        database.execute(
            "update layer_styles set styleQML = 'mine' where f_table_name = 'outlines'"
        )
    write_geopackage(path, append=True, outlines=layer("outlines", 5), nodes=layer("nodes"))
    assert set(layer_names(path)) == {"outlines", "islands", "nodes"}
    assert len(read_layer(path, "outlines")) == 5
    assert len(read_layer(path, "islands")) == 3
    styles = styles_of(path).set_index("f_table_name").styleQML
    assert set(styles.index) == {"outlines", "islands", "nodes"}
    assert styles["outlines"] == "mine"


def test_appending_to_nothing_makes_the_file(tmp_path):
    assert layer_names(write_geopackage(tmp_path / "a.gpkg", append=True, nodes=layer("nodes")))


def test_appending_to_something_else_is_refused(tmp_path):
    path = tmp_path / "a.gpkg"
    path.write_text("not a database")
    with pytest.raises(OutputError, match="not a GeoPackage"):
        write_geopackage(path, append=True, nodes=layer("nodes"))
    assert path.read_text() == "not a database"


@pytest.mark.parametrize("error", [OSError("disk full"), pyogrio.errors.DataSourceError("full")])
def test_a_failure_while_writing_leaves_what_was_there(tmp_path, monkeypatch, error):
    path = write_geopackage(tmp_path / "a.gpkg", outlines=layer("outlines"))
    before = path.read_bytes()

    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(geopackage, "_write_styles", fail)
    with pytest.raises(OutputError, match="could not be written"):
        write_geopackage(path, append=True, nodes=layer("nodes"))
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["a.gpkg"]


def test_the_disk_is_waited_for_once_and_other_writers_are_left_as_they_were(tmp_path, monkeypatch):
    waited, before = [], pyogrio.get_gdal_config_option("OGR_SQLITE_SYNCHRONOUS")
    monkeypatch.setattr(geopackage.os, "fsync", lambda number: waited.append(os.fstat(number)))
    path = write_geopackage(tmp_path / "a.gpkg", **{name: layer(name) for name in LAYERS})
    assert [status.st_ino for status in waited] == [path.stat().st_ino]
    monkeypatch.setattr(geopackage, "_write_layer", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_geopackage(tmp_path / "b.gpkg", outlines=layer("outlines"))
    assert len(waited) == 1
    assert pyogrio.get_gdal_config_option("OGR_SQLITE_SYNCHRONOUS") == before


def test_a_folder_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(OutputError, match="does not exist"):
        write_geopackage(tmp_path / "none" / "a.gpkg", nodes=layer("nodes"))


def test_a_folder_that_is_not_writable_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *args: False)
    with pytest.raises(OutputError, match="not writable"):
        write_geopackage(tmp_path / "a.gpkg", nodes=layer("nodes"))


def test_a_layer_without_a_crs_is_refused(tmp_path):
    with pytest.raises(OutputError, match="nodes has no CRS"):
        write_geopackage(
            tmp_path / "a.gpkg", nodes=layer("nodes").set_crs(None, allow_override=True)
        )
    assert not os.listdir(tmp_path)


def test_layers_of_one_s_own_are_written_too(tmp_path):
    mixed = gpd.GeoDataFrame(
        {"a": [1, 2]},
        geometry=[shapely.box(0, 0, 1, 1), shapely.MultiPolygon([shapely.box(2, 2, 3, 3)])],
        crs=CRS,
    )
    path = write_geopackage(tmp_path / "a.gpkg", mine=mixed, none=mixed.iloc[:0])
    assert len(read_layer(path, "mine")) == 2
    assert read_layer(path, "none").empty


def test_reading_says_which_layers_there_are(tmp_path):
    path = write_geopackage(tmp_path / "a.gpkg", nodes=layer("nodes"))
    with pytest.raises(InputError, match="It has nodes"):
        read_layer(path, "outlines")
    with pytest.raises(InputError, match="cannot be read"):
        read_layer(tmp_path / "none.gpkg", "outlines")
    with pytest.raises(OptionError, match="no layer 'rivers'"):
        empty_layer("rivers")


def test_a_layer_in_batches_is_the_layer_in_one(tmp_path, monkeypatch):
    rows = layer("outlines", 7).assign(outline_id=range(7))
    whole = write_geopackage(tmp_path / "whole.gpkg", outlines=rows)
    monkeypatch.setattr(geopackage, "BATCH_ROWS", 3)
    parts = write_geopackage(tmp_path / "parts.gpkg", outlines=rows, nodes=layer("nodes", 0))
    given = (rows.iloc[start : start + 2] for start in (0, 2, 4, 6))
    streamed = write_geopackage(tmp_path / "streamed.gpkg", outlines=given)
    one, *others = (read_layer(path, "outlines") for path in (whole, parts, streamed))
    for other in others:
        pd.testing.assert_frame_equal(one, other)
    assert styles_of(streamed).f_table_name.tolist() == ["outlines"]
    assert pyogrio.read_info(parts, layer="outlines")["features"] == 7
    with sqlite3.connect(parts) as database:
        indexed = database.execute("select count(*) from rtree_outlines_geom").fetchone()
    assert indexed == (7,)
    assert len(read_layer(parts, "nodes")) == 0


@pytest.fixture
def edited(tmp_path):
    """A GeoPackage that another program has open, whose edit lies beside it."""
    path = write_geopackage(tmp_path / "a.gpkg", outlines=layer("outlines"))
    program = sqlite3.connect(path, isolation_level=None)
    program.execute("PRAGMA journal_mode=WAL")
    program.execute("CREATE TABLE notes (text)")
    program.execute("INSERT INTO notes VALUES ('mine')")
    yield path, program
    program.close()


@pytest.mark.parametrize("how", ["overwrite", "append"])
def test_a_file_that_is_open_elsewhere_stays_as_it_is(edited, how):
    path, program = edited
    with pytest.raises(OutputError, match="open in another program"):
        write_geopackage(path, **{how: True}, islands=layer("islands"))
    assert program.execute("SELECT text FROM notes").fetchone() == ("mine",)
    program.close()
    assert "outlines" in layer_names(path)


def test_a_run_says_so_before_it_starts_and_before_it_moves_anything(edited, tmp_path):
    path, _ = edited
    with pytest.raises(OutputError, match="open in another program"):
        check_targets(Targets(outlines=path), [], overwrite=True)
    work = tmp_path / "work"
    work.mkdir()
    for name in ("outlines.gpkg", "mask.tif"):
        (work / name).write_text("new")
    with pytest.raises(OutputError, match="open in another program"):
        publish(work, Targets(outlines=path, mask=tmp_path / "mask.tif"))
    assert not (tmp_path / "mask.tif").exists()


def test_edits_that_a_crash_left_beside_a_file_are_kept(edited, tmp_path):
    path, _ = edited
    crashed = tmp_path / "crashed.gpkg"
    for end in ("", "-wal", "-shm"):
        shutil.copyfile(f"{path}{end}", f"{crashed}{end}")
    write_geopackage(crashed, append=True, islands=layer("islands"))
    with sqlite3.connect(crashed) as database:
        assert database.execute("SELECT text FROM notes").fetchone() == ("mine",)
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert {"outlines", "islands"} <= set(layer_names(crashed))
    path.unlink()
    with pytest.raises(OutputError, match="of a GeoPackage that is gone"):
        write_geopackage(path, outlines=layer("outlines"))


def test_a_file_that_is_opened_while_layers_are_written_stays_as_it_is(tmp_path):
    path = write_geopackage(tmp_path / "a.gpkg", outlines=layer("outlines"))
    opened = []

    def late():
        opened.append(sqlite3.connect(path, isolation_level=None))
        opened[0].execute("PRAGMA journal_mode=WAL")
        opened[0].execute("CREATE TABLE notes (text)")
        yield layer("islands")

    with pytest.raises(OutputError, match="open in another program"):
        write_geopackage(path, overwrite=True, islands=late())
    opened[0].close()
    assert "outlines" in layer_names(path)


def test_where_a_link_leads_is_written(tmp_path):
    path = write_geopackage(tmp_path / "a.gpkg", outlines=layer("outlines"))
    link = tmp_path / "link.gpkg"
    link.symlink_to(path)
    write_geopackage(link, append=True, islands=layer("islands"))
    assert link.is_symlink()
    assert {"outlines", "islands"} <= set(layer_names(path))
