"""The model that ships: small, offline, and good enough for the demo."""

import json

import numpy as np
import pytest
import rasterio
from safetensors import safe_open

import geosam
from geosam.models.checkpoint import EMBEDDED
from geosam.models.load import load_model
from geosam.testing import write_scene

FOLDER = EMBEDDED["river-tiny"]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """Two synthetic scenes with their truth: with and without near infrared."""
    scenes = {}
    for nir in (True, False):
        folder = tmp_path_factory.mktemp("scene")
        scenes[nir] = write_scene(folder, shape=(640, 640), seed=5, nir=nir)
    return scenes


def mask_of(scene, folder, name, **options):
    geosam.run(scene, folder / f"{name}.gpkg", mask=folder / f"{name}.tif", **options)
    with rasterio.open(folder / f"{name}.tif") as source:
        return source.read(1)


def iou(a, b):
    return (a & b).sum() / (a | b).sum()


def test_it_is_small_and_stored_in_half_precision_or_less():
    files = [path for path in FOLDER.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 10_000_000
    for path in FOLDER.rglob("*.safetensors"):
        with safe_open(path, "np") as tensors:
            kinds = {str(tensors.get_tensor(key).dtype) for key in tensors.keys()}  # noqa: SIM118
        in_bytes = {"int8", "float32"} if path.parent.name == "coarse_infrared" else set()
        assert kinds <= {"float16", "int64"} | in_bytes


def test_transformers_loads_it_by_itself():
    from transformers import Sam2Model

    assert json.loads((FOLDER / "config.json").read_text())["model_type"] == "sam2"
    network, report = Sam2Model.from_pretrained(FOLDER, output_loading_info=True)
    assert not report["missing_keys"]
    assert sum(p.numel() for p in network.parameters()) < 5_000_000


def test_its_card_says_what_it_was_trained_on():
    card = (FOLDER / "README.md").read_text()
    for word in ("licence", "chips_s2_rgb", "aerial_ste_marguerite", "synthetic", "fails"):
        assert word in card


def test_it_finds_the_river_with_near_infrared(scenes, tmp_path):
    scene, truth = scenes[True]
    mask_of(scene, tmp_path, "out")
    assert geosam.evaluate(tmp_path / "out.tif", truth).iou >= 0.90


def test_it_finds_the_river_in_colours_alone(scenes, tmp_path):
    scene, truth = scenes[False]
    mask_of(scene, tmp_path, "out")
    assert geosam.evaluate(tmp_path / "out.tif", truth).iou >= 0.75


def test_two_tile_sizes_agree(scenes, tmp_path):
    masks = [
        mask_of(scenes[True][0], tmp_path, f"size{size}", tile_size=size) == 1
        for size in (256, 320)
    ]
    assert iou(*masks) >= 0.97


def test_two_crops_agree(scenes, tmp_path):
    with rasterio.open(scenes[True][0]) as source:
        for name, col in (("left", 0), ("right", 100)):
            window = rasterio.windows.Window(col, 0, 540, 640)
            profile = {**source.profile, "width": 540, "transform": source.window_transform(window)}
            with rasterio.open(tmp_path / f"{name}_scene.tif", "w", **profile) as target:
                target.write(source.read(window=window))
                target.descriptions = source.descriptions
                target.scales = source.scales
    left, right = (
        mask_of(tmp_path / f"{n}_scene.tif", tmp_path, n) == 1 for n in ("left", "right")
    )
    assert iou(left[:, 100:], right[:, :440]) >= 0.98


def test_bfloat16_gives_the_masks_of_float32(scenes, tmp_path):
    masks = [mask_of(scenes[True][0], tmp_path, p, precision=p) == 1 for p in ("fp32", "bf16")]
    assert iou(*masks) >= 0.99


def test_the_answer_follows_the_prompt_not_a_class():
    """A mask prompt on land gives land, one on water gives water, of the same picture."""
    from geosam.types import PixelPrompts

    rows, cols = np.mgrid[:256, :256]
    water = np.abs(rows - 128 - 30 * np.sin(cols / 40)) < 25
    rng = np.random.default_rng(0)
    colours = np.where(
        water, np.array([0.1, 0.3, 0.3])[:, None, None], np.array([0.7, 0.5, 0.4])[:, None, None]
    )
    pixels = (colours + rng.normal(0, 0.02, (3, 256, 256))).clip(0, 1).astype(np.float32)[None]
    model = load_model(device="cpu")
    features = model.encode(pixels)
    for wanted in (water, ~water):
        prompt = PixelPrompts(np.empty((1, 0, 2)), np.empty((1, 0), int), masks=wanted[None])
        logits, _ = model.decode(features, [prompt])
        assert iou(logits[0] > 0, wanted) >= 0.9
