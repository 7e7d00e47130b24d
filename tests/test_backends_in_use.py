"""Every architecture goes through a run, a store, a training and AutoSAM, or says why it does not."""

import numpy as np
import pytest
import rasterio
from affine import Affine
from PIL import Image

import geosam
from geosam.errors import ModelError, OptionError
from geosam.models.load import load_model
from geosam.models.network import NetworkModel
from geosam.testing.networks import random_network, save_original
from geosam.training.finetune import train

pytestmark = pytest.mark.usefixtures("undrawn_curves")
NEW = ["sam_hq", "sam3_tracker", "original"]
LEARNT = {"epochs": 1, "lr": 1e-2, "precision": "fp32", "device": "cpu"}


@pytest.fixture(scope="module", params=NEW)
def checkpoint(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "original":
        save_original(random_network("sam"), folder / "sam.pth")
        return folder / "sam.pth"
    random_network(request.param).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """A dark river across bright land, in red, green, blue and near infrared."""
    path = tmp_path_factory.mktemp("scene") / "scene.tif"
    is_water = np.zeros((90, 130), bool)
    is_water[35:50] = True
    values = np.where(
        is_water, *np.reshape([[300, 400, 300, 100], [900, 900, 900, 3000]], (2, 4, 1, 1))
    )
    values = values * np.random.default_rng(0).uniform(0.9, 1.1, values.shape)
    profile = {"driver": "GTiff", "dtype": "uint16", "count": 4, "height": 90, "width": 130}
    place = {"crs": "EPSG:32633", "transform": Affine(1, 0, 432000, 0, -1, 5412000)}
    with rasterio.open(path, "w", **profile, **place) as target:
        target.write(values.astype("uint16"))
    return path


@pytest.fixture(scope="module")
def chips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("chips")
    for name in ("images", "masks"):
        (folder / name).mkdir()
    rows, cols = np.mgrid[:64, :64]
    for i in range(10):
        label = abs(rows - 32 - 8 * np.sin(cols / 9 + i)) < 7
        noise = np.random.default_rng(i).normal(0, 8, (64, 64, 3))
        picture = np.where(label[..., None], 60, 180) + noise
        Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(folder / f"images/{i}.png")
        Image.fromarray(label.astype(np.uint8)).save(folder / f"masks/{i}.png")
    return folder


def run(scene, out, checkpoint, **options):
    settings = {"model": str(checkpoint), "device": "cpu", "precision": "fp32", "resolution": 1}
    report = geosam.run(str(scene), str(out), probability=f"{out}.tif", **settings, **options)
    with rasterio.open(f"{out}.tif") as raster:
        return report, raster.read(1)


def test_a_run_from_a_store_says_the_same_and_encodes_nothing(
    scene, checkpoint, tmp_path, monkeypatch
):
    store, encoded = tmp_path / "store", []
    monkeypatch.setattr(NetworkModel, "encode", counted(NetworkModel.encode, encoded))
    first, before = run(scene, tmp_path / "a.gpkg", checkpoint, store=store)
    assert sum(encoded) > 1
    assert first.tiles["done"] > 1
    encoded.clear()
    _, after = run(scene, tmp_path / "b.gpkg", checkpoint, store=store)
    assert encoded == []
    np.testing.assert_array_equal(before, after)
    random_network("sam", seed=1).save_pretrained(tmp_path / "other")
    with pytest.raises(OptionError, match="the model's checkpoint differs"):
        run(scene, tmp_path / "c.gpkg", tmp_path / "other", store=store)


def counted(method, calls):
    def encode(self, pixels):
        calls.append(len(pixels))
        return method(self, pixels)

    return encode


@pytest.mark.parametrize(
    "part",
    [
        "decoder",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("last-blocks:1", "lora:2")),
    ],
)
def test_it_is_fine_tuned_into_a_folder_that_runs(checkpoint, chips, tmp_path, part):
    done = train(str(chips), tmp_path / "out", model=str(checkpoint), part=part, **LEARNT)
    last = tmp_path / "out" / "last"
    before, after = (load_model(str(where), device="cpu") for where in (checkpoint, last))
    assert type(before) is type(after)
    changed = {
        name
        for name, values in after.network.state_dict().items()
        if not values.equal(before.network.state_dict()[name])
    }
    assert any(name.startswith("mask_decoder.") for name in changed)
    assert any(name.startswith("vision_encoder.") for name in changed) == (part != "decoder")
    assert np.isfinite(done.after["loss"])
    assert (last / "preprocessor_config.json").is_file()
    assert before.normalisation == after.normalisation


def test_it_learns_to_prompt_itself_or_says_that_it_cannot(checkpoint, chips, scene, tmp_path):
    options = {"model": str(checkpoint), "part": "autosam", **LEARNT}
    if checkpoint.name.startswith("sam3"):
        with pytest.raises(ModelError, match="takes no dense prompts"):
            train(str(chips), tmp_path / "out", **options)
        with pytest.raises(ModelError, match="has no dense prompt network"):
            run(scene, tmp_path / "a.gpkg", checkpoint, prompts="autosam")
        return
    train(str(chips), tmp_path / "out", **options)
    best = tmp_path / "out" / "best"
    report, _ = run(scene, tmp_path / "a.gpkg", best, prompts="autosam")
    assert report.tiles["done"] > 0
