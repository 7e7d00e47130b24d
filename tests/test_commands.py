"""The commands other than the main job, as functions; and where results are put."""

import errno
import json
import os

import numpy as np
import pyogrio
import pytest
import rasterio

import geosam
from geosam.batch import is_folder, run_each
from geosam.commands import vectorize, write_coarse, write_prompts
from geosam.demo import demo
from geosam.errors import BandError, InputError, ModelError, OptionError, OutputError, PromptError
from geosam.inspection import info
from geosam.models.checkpoint import EMBEDDED
from geosam.models.hub import cached_folder
from geosam.models.known import KNOWN
from geosam.models.load import BACKENDS
from geosam.models.registry import input_size, list_families, list_models
from geosam.testing import FakeModel, write_scene
from geosam.testing.networks import random_network, save_original
from geosam.workspace import Targets, check_targets, partial_folder, publish

MODEL = FakeModel()


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    return write_scene(tmp_path_factory.mktemp("scene"), shape=(256, 256), seed=1)[0]


@pytest.fixture(autouse=True)
def quick_model(monkeypatch):
    for user in ("commands", "batch"):
        monkeypatch.setattr(f"geosam.{user}.load", lambda options: MODEL)


def test_a_coarse_mask_lies_on_the_grid_of_the_model(scene, tmp_path):
    written = write_coarse(scene, tmp_path / "coarse.tif", resolution=2)
    with rasterio.open(tmp_path / "coarse.tif") as source:
        assert source.res == (2, 2)
        values = source.read(1)
    assert set(np.unique(values)) == {0, 1, 255}
    share = (values == 1).sum() / (values != 255).sum()
    assert written.counts["water_share"] == pytest.approx(share)
    assert any("NDWI" in note for note in written.notes)
    assert json.dumps(written.to_dict())


@pytest.mark.parametrize("write", [write_coarse, write_prompts])
def test_no_prompts_cannot_be_written(write, scene, tmp_path):
    suffix = ".tif" if write is write_coarse else ".gpkg"
    with pytest.raises(PromptError, match="--prompts none"):
        write(scene, tmp_path / f"out{suffix}", prompts="none")
    assert list(tmp_path.iterdir()) == []


def test_prompts_are_layers_with_the_run_that_drew_them(scene, tmp_path):
    path = tmp_path / "prompts.gpkg"
    counts = write_prompts(scene, path, points=2, negatives=1, seed=5).counts
    points = pyogrio.read_dataframe(path, layer="prompts")
    assert (points.label == 1).sum() == counts["points_on_water"] > 0
    assert (points.label == 0).sum() == counts["points_on_land"] > 0
    assert len(pyogrio.read_dataframe(path, layer="prompt_masks")) == counts["polygons"] > 0
    run = pyogrio.read_dataframe(path, layer="runs").iloc[0]
    assert run.command == "prompts"
    assert json.loads(run.parameters)["seed"] == 5


def test_vectorize_writes_what_outlines_returns(scene, tmp_path):
    geosam.run(scene, tmp_path / "a.gpkg", model=MODEL, mask=tmp_path / "mask.tif")
    written = vectorize(tmp_path / "mask.tif", tmp_path / "b.gpkg", min_area=100)
    rivers = geosam.outlines(tmp_path / "mask.tif", min_area=100)
    layer = pyogrio.read_dataframe(tmp_path / "b.gpkg", layer="outlines")
    assert len(layer) == len(rivers) == written.counts["outlines"]
    assert layer.area_m2.sum() == pytest.approx(written.counts["water_m2"])
    run = pyogrio.read_dataframe(tmp_path / "b.gpkg", layer="runs").iloc[0]
    assert run.command == "vectorize"
    assert len(run.scene_fingerprint) == 64


def test_info_says_what_a_run_then_chooses(scene, tmp_path):
    facts = info(scene, resolution=2)
    report = geosam.run(scene, tmp_path / "a.gpkg", model=MODEL, resolution=2)
    assert tuple(facts["notes"] + facts["choice"]["notes"]) == report.notes
    assert facts["choice"]["resolution_m"] == pytest.approx(report.resolution_m)


def test_info_counts_the_tiles_of_a_run(scene, tmp_path):
    report = geosam.run(scene, tmp_path / "a.gpkg", model=MODEL)
    assert info(scene, tile_size=64)["choice"]["tiles"] == sum(report.tiles.values())


def test_info_does_not_need_the_model(scene):
    choice = info(scene, model="nobody/has-this-model")["choice"]
    assert (choice["tiles"], choice["tile_size"]) == (None, None)


def test_a_run_from_one_file_a_band(scene, tmp_path):
    with rasterio.open(scene) as source:
        bands, profile = source.read(), {**source.profile, "count": 1}
        scales = source.scales
    files = {}
    for role, band, scale in zip(("red", "green", "blue", "nir"), bands, scales, strict=True):
        files[role] = str(tmp_path / f"{role}.tif")
        with rasterio.open(files[role], "w", **profile) as target:
            target.write(band, 1)
            target.scales = [scale]
    masks = [tmp_path / "a_mask.tif", tmp_path / "b_mask.tif"]
    geosam.run(scene, tmp_path / "a.gpkg", model=MODEL, mask=masks[0])
    geosam.run([], tmp_path / "b.gpkg", model=MODEL, mask=masks[1], bands=files)
    first, second = (rasterio.open(path).read(1) for path in masks)
    assert np.array_equal(first, second)
    with pytest.raises(BandError, match="mixes files and indices"):
        geosam.run([], tmp_path / "c.gpkg", model=MODEL, bands={**files, "nir": 4})


def test_a_folder_is_one_that_is_there_or_ends_with_a_slash(tmp_path):
    assert is_folder(tmp_path)
    assert is_folder("rivers/")
    assert not is_folder(tmp_path / "rivers.gpkg")


def test_a_failed_batch_leaves_no_folder(scene, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise PromptError("No.")

    monkeypatch.setattr("geosam.batch.run", fail)
    with pytest.raises(PromptError):
        run_each([scene], tmp_path / "rivers")
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_no_folder_for_a_demo(tmp_path):
    (tmp_path / "demo").write_text("precious")
    with pytest.raises(OutputError, match="is a file"):
        demo(tmp_path / "demo")
    with pytest.raises(OptionError, match="too small"):
        demo(tmp_path / "other", size=10)


def test_results_go_to_another_disk_under_another_name_first(tmp_path, monkeypatch):
    rename, moved = os.replace, []

    def replace(source, target):
        moved.append(source.parent == target.parent)
        if not moved[-1]:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        rename(source, target)

    monkeypatch.setattr("geosam.workspace.os.replace", replace)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "mask.tif").write_text("water")
    files = publish(tmp_path, Targets(mask=tmp_path / "elsewhere" / "final.tiff"))
    assert moved == [False, True]
    assert files == (str(tmp_path / "elsewhere" / "final.tiff"),)
    assert [path.name for path in (tmp_path / "elsewhere").iterdir()] == ["final.tiff"]


def test_two_outputs_of_one_name_are_refused(tmp_path):
    targets = Targets(mask=tmp_path / "a.tif", probability=tmp_path / "a.tif")
    with pytest.raises(OutputError, match="another output"):
        check_targets(targets, [], overwrite=True)


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt(), PromptError("x")])
def test_unfinished_work_goes_when_a_run_fails(tmp_path, error):
    with pytest.raises(type(error)), partial_folder(tmp_path / "a.gpkg", overwrite=False) as folder:  # noqa: PT012
        (folder / "mask.tif").write_text("half")
        raise error
    assert list(tmp_path.iterdir()) == []


def test_no_room_is_a_full_disk_whatever_the_error_says(tmp_path, monkeypatch):
    free = type("Usage", (), {"free": 1000})
    monkeypatch.setattr("geosam.workspace.shutil.disk_usage", lambda path: free)
    with (
        pytest.raises(OutputError, match="disk is full"),
        partial_folder(tmp_path / "a.gpkg", overwrite=False),
    ):
        raise SystemError("Unknown GDAL Error")
    assert (tmp_path / "a.gpkg.partial").is_dir()


def test_known_models_have_a_licence_and_a_source():
    assert len({model.name for model in KNOWN}) == len(KNOWN)
    assert all(model.licence and model.source for model in KNOWN)
    assert set(EMBEDDED) <= {model.name for model in KNOWN}


def test_the_hub_cache_is_looked_into(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.file_download.HF_HUB_CACHE", str(tmp_path), raising=False)
    name = "facebook/sam2.1-hiera-tiny"
    assert cached_folder(name) is None
    commit = "0" * 40
    home = tmp_path / "models--facebook--sam2.1-hiera-tiny"
    folder = home / "snapshots" / commit
    folder.mkdir(parents=True)
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text(commit)
    (folder / "config.json").write_text(
        json.dumps({"model_type": "sam2", "prompt_encoder_config": {"image_size": 512}})
    )
    assert cached_folder(name) is None
    (folder / "model.safetensors").write_bytes(b"")
    assert cached_folder(name) == folder
    assert input_size(name) == 512
    row = next(row for row in list_models() if row["name"] == name)
    assert (row["at_hand"], row["folder"]) == (True, str(folder))


def test_checkpoints_of_a_folder_are_listed_and_what_is_none_is_not(tmp_path):
    random_network("sam_hq").save_pretrained(tmp_path / "hq")
    save_original(random_network("sam"), tmp_path / "vit.pth")
    (tmp_path / "notes.pth").write_text("no checkpoint")
    for name, config in {"bert": '{"model_type": "bert"}', "half": '{"model_type": "sam"}'}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(config)
        (tmp_path / name / "model.safetensors").write_bytes(b"half of it")
    (tmp_path / "geometry").mkdir()
    rows = list_models([tmp_path])[len(KNOWN) :]
    assert [(row["folder_name"], row["family"], row["at_hand"]) for row in rows] == [
        ("hq", "SAM-HQ", True),
        ("vit.pth", "SAM, original files", True),
    ]
    assert rows[0]["parameters_m"] > 0
    assert input_size(rows[1]["name"]) == 64
    assert [row["folder_name"] for row in list_models([tmp_path / "hq"])[len(KNOWN) :]] == ["hq"]
    with pytest.raises(InputError, match="is no folder"):
        list_models([tmp_path / "vit.pth"])


def test_every_architecture_that_loads_has_a_family_and_every_family_says_what_it_needs():
    families = list_families()
    loaded = {kind for family in families if family["loads"] for kind in family["model_types"]}
    assert loaded == set(BACKENDS)
    assert all(family["licence"] and family["source"] for family in families)
    edge = next(family for family in families if family["name"] == "EdgeTAM")
    assert (edge["loads"], "timm" in edge["needs"]) == (False, True)
    assert {model.family for model in KNOWN} <= {family["name"] for family in families}


def test_the_input_size_of_what_is_no_model(tmp_path):
    assert input_size("nobody/has-this-model") is None
    with pytest.raises(ModelError, match=r"config\.json"):
        input_size(str(tmp_path))
