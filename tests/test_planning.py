"""A plan says before a run what the run then does."""

import json

import numpy as np
import pytest
from click.testing import CliRunner
from test_pipeline import Darkness, save, scene_of

import geosam
from geosam.cli.app import app
from geosam.testing import sinuous_river_mask

MB = 1_000_000


@pytest.fixture
def scene(tmp_path):
    """A river in the left half, nodata in the right."""
    water = sinuous_river_mask((256, 512))
    empty = np.zeros_like(water)
    empty[:, 256:] = True
    return save(scene_of(water, nodata=empty), tmp_path / "scene.tif")


def test_a_plan_that_looks_everywhere_counts_what_a_run_does(scene, tmp_path):
    found = geosam.plan(scene, model=Darkness(), resolution=10)
    report = geosam.run(scene, tmp_path / "a.gpkg", model=Darkness(), resolution=10)
    assert found.tiles == sum(report.tiles.values())
    assert found.without_data == report.tiles["skipped_nodata"]
    assert found.to_encode == report.tiles["done"]
    assert found.without_prompts == report.tiles.get("skipped_no_prompt", 0)
    assert found.sampled >= found.to_encode
    assert found.advice == ()


def test_a_plan_from_a_few_places_comes_close(tmp_path, monkeypatch):
    monkeypatch.setattr("geosam.segmentation.GROUP_PX", 96)
    path = save(scene_of(sinuous_river_mask((512, 1024))), tmp_path / "scene.tif")
    found = geosam.plan(path, model=Darkness(), resolution=10)
    report = geosam.run(path, tmp_path / "a.gpkg", model=Darkness(), resolution=10)
    assert found.sampled < 0.5 * found.tiles == 0.5 * sum(report.tiles.values())
    assert found.to_encode == pytest.approx(report.tiles["done"], rel=0.5)


def test_the_size_of_a_store_is_that_of_its_compressed_features(scene, tmp_path):
    found = geosam.plan(scene, model=Darkness(), resolution=10)
    geosam.run(scene, tmp_path / "a.gpkg", model=Darkness(), resolution=10, store=tmp_path / "s")
    chunks = [path for path in (tmp_path / "s").rglob("c/*/*/*/*/*") if path.is_file()]
    real = sum(path.stat().st_size for path in chunks)
    assert len(chunks) >= found.to_encode > 0
    assert found.store_bytes == pytest.approx(real, rel=0.2)
    assert real < 0.9 * found.to_encode * 3 * 64 * 64 * 2


def test_what_does_not_fit_is_said(scene, monkeypatch):
    usage = type("Usage", (), {"free": 1})
    monkeypatch.setattr("geosam.planning.shutil.disk_usage", lambda path: usage)
    monkeypatch.setattr("geosam.planning.LONG_MINUTES", 0)
    monkeypatch.setattr("geosam.planning.os.sysconf", lambda name: 1)
    advice = geosam.plan(scene, model=Darkness(), resolution=10).advice
    for word in ("--aoi", "--workers 1", "another disk", "--store"):
        assert any(word in sentence for sentence in advice)


def test_the_command_tells_the_same(scene, monkeypatch):
    monkeypatch.setattr("geosam.planning.load", lambda options: Darkness())
    words = ["plan", str(scene), "--resolution", "10"]
    told = CliRunner().invoke(app, words)
    assert told.exit_code == 0, told.output
    found = json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)
    assert f"{found['tiles']:,}: {found['without_data']:,} without data" in told.stdout
    assert {"minutes", "memory_bytes", "store_bytes", "disk_bytes"} <= set(found)
    assert found["memory_bytes"] > 10 * MB


def test_a_river_in_one_corner_is_neither_missed_nor_taken_for_everywhere(tmp_path, monkeypatch):
    monkeypatch.setattr("geosam.segmentation.GROUP_PX", 96)
    water = np.zeros((512, 1024), bool)
    water[:192, :192] = sinuous_river_mask((192, 192))
    path = save(scene_of(water), tmp_path / "scene.tif")
    found = geosam.plan(path, model=Darkness(), resolution=10)
    report = geosam.run(path, tmp_path / "a.gpkg", model=Darkness(), resolution=10)
    assert 0 < report.tiles["done"] < 0.2 * found.tiles
    assert found.sampled < 0.5 * found.tiles
    assert found.to_encode == pytest.approx(report.tiles["done"], rel=0.5)
