"""The legend that QGIS shows for change between several dates."""

import sqlite3
from importlib.resources import files
from xml.etree import ElementTree

import geopandas as gpd
import pandas as pd
import shapely

from geosam.export.geopackage import write_geopackage
from geosam.export.steps_apart import steps_apart

DATES = ["1985", "1990", "d'été"]
STEPS = [("1985", "1990"), ("1990", "d'été")]


def renderer_of(qml):
    return ElementTree.fromstring(qml).find("renderer-v2")


def test_each_step_has_its_entry_with_the_same_symbol_and_the_last_alone_is_ticked():
    plain = (files("geosam.export") / "styles" / "erosion.qml").read_text()
    renderer = renderer_of(steps_apart(plain, STEPS, sure=True))
    rules = list(renderer.iter("rule"))
    assert renderer.get("type") == "RuleRenderer"
    assert [rule.get("label") for rule in rules] == [
        "1985 to 1990",
        "1990 to d'été",
        "within the uncertainty",
    ]
    assert [rule.get("checkstate") for rule in rules] == ["0", "1", "0"]
    symbol = ElementTree.fromstring(plain).find("renderer-v2/symbols/symbol/layer")
    for rule in rules:
        own = renderer.find(f"symbols/symbol[@name='{rule.get('symbol')}']/layer")
        assert [p.attrib for p in own] == [p.attrib for p in symbol]


def test_the_filters_of_the_entries_choose_the_rows_of_their_step(tmp_path):
    rows = [(a, b, 1.0, sure) for a, b in STEPS for sure in (True, False)]
    columns = ["from_date", "to_date", "area_m2", "beyond_uncertainty"]
    boxes = [shapely.box(n, 0, n + 1, 1) for n in range(len(rows))]
    erosion = gpd.GeoDataFrame(rows, columns=columns, geometry=boxes, crs="EPSG:32633")
    path = write_geopackage(
        tmp_path / "change.gpkg", erosion=erosion, series=pd.DataFrame({"date": DATES})
    )
    with sqlite3.connect(path) as database:
        ((qml,),) = database.execute("select styleQML from layer_styles").fetchall()
        chosen = [
            [n - 1 for (n,) in database.execute(f"select fid from erosion where {rule}")]
            for rule in (r.get("filter") for r in renderer_of(qml).iter("rule"))
        ]
    assert chosen == [[0], [2], [1, 3]]
