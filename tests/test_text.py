"""From phrases to boxes: detectors of transformers with random weights, and boxes across tiles."""

import json
import shutil
import tracemalloc
from types import SimpleNamespace

import geopandas as gpd
import numpy as np
import pytest
import shapely
import torch
from scipy.sparse.csgraph import connected_components
from test_asking import scene_of
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from tokenizers.normalizers import Lowercase
from transformers import (
    CLIPSegConfig,
    CLIPSegForImageSegmentation,
    GroundingDinoConfig,
    GroundingDinoForObjectDetection,
    Owlv2Config,
    Owlv2ForObjectDetection,
    PreTrainedTokenizerFast,
    SwinConfig,
)

from geosam.concepts import ConceptDetector
from geosam.errors import InputError, ModelError, OptionError, PromptError
from geosam.models.detectors import load_detector
from geosam.options import Options
from geosam.prompting import named_prompts
from geosam.prompts.from_text import (
    MAX_INSIDE,
    _touching,
    _within_larger,
    find_phrases,
    parse_phrases,
)
from geosam.stretch import Stretch
from geosam.tiles import TileGrid

WORDS = ("water", "bare", "soil", "river")
BERT = {"[PAD]": 0, "[UNK]": 100, "[CLS]": 101, "[SEP]": 102, ".": 1012, "?": 1029}


def save_tokenizer(folder, ids, unknown, pad, template=None):
    """A tokenizer of a short word list, in numbers that a network has a place for."""
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token=unknown))
    tokenizer.normalizer = Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    if template:
        single, special = template
        tokenizer.post_processor = processors.TemplateProcessing(
            single=single, special_tokens=special
        )
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token=unknown, pad_token=pad)
    wrapped.save_pretrained(folder)


def save(folder, network, side):
    """A checkpoint whose weights are large enough to answer differently to different input."""
    generator = torch.Generator().manual_seed(0)
    for tensor in network.parameters():
        if tensor.ndim > 1:
            tensor.data.normal_(0, 0.15, generator=generator)
    network.save_pretrained(folder)
    settings = {"size": {"height": side, "width": side}, "image_mean": [0.5] * 3}
    (folder / "preprocessor_config.json").write_text(
        json.dumps({**settings, "image_std": [0.25] * 3})
    )


@pytest.fixture(scope="module")
def clip_words():
    ids = {word: n + 3 for n, word in enumerate(WORDS)} | {"<pad>": 0, "<unk>": 1, "<end>": 9}
    return {
        "ids": ids,
        "unknown": "<unk>",
        "pad": "<pad>",
        "template": ("$A <end>", [("<end>", 9)]),
    }


@pytest.fixture(scope="module")
def dino(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dino")
    backbone = SwinConfig(
        image_size=64, patch_size=4, embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2],
        window_size=4, out_features=["stage2", "stage3", "stage4"],
    )  # fmt: skip
    text = {
        "model_type": "bert", "vocab_size": 1030, "hidden_size": 16, "num_hidden_layers": 1,
        "num_attention_heads": 2, "intermediate_size": 16,
    }  # fmt: skip
    config = GroundingDinoConfig(
        backbone_config=backbone, text_config=text, num_queries=20, encoder_layers=1,
        decoder_layers=2, encoder_ffn_dim=32, decoder_ffn_dim=32, d_model=32,
        encoder_attention_heads=2, decoder_attention_heads=2, max_text_len=32,
    )  # fmt: skip
    torch.manual_seed(0)
    save(folder, GroundingDinoForObjectDetection(config).eval(), 128)
    ids = {word: n + 200 for n, word in enumerate(WORDS)} | BERT
    template = ("[CLS] $A [SEP]", [("[CLS]", 101), ("[SEP]", 102)])
    save_tokenizer(folder, ids, "[UNK]", "[PAD]", template)
    return folder


def clip_config(kind, **vision):
    text = {
        "vocab_size": 12, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1,
        "num_attention_heads": 2, "max_position_embeddings": 16, "eos_token_id": 9,
        "pad_token_id": 0, "bos_token_id": 1,
    }  # fmt: skip
    seen = {
        "hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2, "patch_size": 8,
        "image_size": 64, **vision,
    }  # fmt: skip
    return kind(text_config=text, vision_config=seen, projection_dim=16)


@pytest.fixture(scope="module")
def owl(tmp_path_factory, clip_words):
    folder = tmp_path_factory.mktemp("owl")
    torch.manual_seed(0)
    config = clip_config(Owlv2Config, num_hidden_layers=1)
    save(folder, Owlv2ForObjectDetection(config).eval(), 64)
    save_tokenizer(folder, **clip_words)
    return folder


@pytest.fixture(scope="module")
def clipseg(tmp_path_factory, clip_words):
    folder = tmp_path_factory.mktemp("clipseg")
    torch.manual_seed(0)
    config = clip_config(CLIPSegConfig, num_hidden_layers=3)
    config.extract_layers, config.reduce_dim, config.decoder_num_attention_heads = [0, 1], 8, 2
    config.decoder_intermediate_size = 16
    save(folder, CLIPSegForImageSegmentation(config).eval(), 64)
    save_tokenizer(folder, **clip_words)
    return folder


@pytest.fixture
def picture():
    return np.random.default_rng(0).random((3, 96, 96)).astype("float32")


def normalised(picture, side=64):
    """What the preprocessors of these checkpoints make of a picture, by torch alone."""
    pixels = torch.as_tensor(picture)[None]
    small = torch.nn.functional.interpolate(
        pixels, size=(side, side), mode="bilinear", antialias=True
    )
    return (small - 0.5) / 0.25


def corners(relative, side):
    x, y, w, h = np.asarray(relative).T
    return np.clip(np.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], axis=1) * side, 0, side)


def test_grounding_dino_gives_the_boxes_of_transformers_and_the_phrase_of_the_surest_token(
    dino, picture
):
    detector = load_detector(str(dino), device="cpu", precision="fp32")
    boxes, scores, labels = detector.detect(picture, ["Water", "bare soil"])
    direct = GroundingDinoForObjectDetection.from_pretrained(dino).eval()
    ids = torch.tensor([[101, 200, 1012, 201, 202, 1012, 102]])
    with torch.inference_mode():
        found = direct(pixel_values=normalised(picture, 128), input_ids=ids)
    tokens = found.logits[0].sigmoid().numpy()
    by_phrase = np.stack([tokens[:, 1], tokens[:, 3:5].max(axis=1)], axis=1)
    np.testing.assert_allclose(boxes, corners(found.pred_boxes[0], 96), atol=1e-3)
    np.testing.assert_allclose(scores, by_phrase.max(axis=1), atol=1e-5)
    assert labels == [["Water", "bare soil"][k] for k in by_phrase.argmax(axis=1)]


def test_owlv2_gives_the_boxes_of_transformers(owl, picture):
    detector = load_detector(str(owl), device="cpu", precision="fp32")
    boxes, scores, labels = detector.detect(picture, ["water", "bare soil"])
    direct = Owlv2ForObjectDetection.from_pretrained(owl).eval()
    ids = torch.tensor([[3, 9, 0], [4, 5, 9]])
    with torch.inference_mode():
        found = direct(
            input_ids=ids, attention_mask=(ids > 0).long(), pixel_values=normalised(picture)
        )
    by_phrase = found.logits[0].sigmoid().numpy()
    np.testing.assert_allclose(boxes, corners(found.pred_boxes[0], 96), atol=1e-3)
    np.testing.assert_allclose(scores, by_phrase.max(axis=1), atol=1e-5)
    assert labels == [["water", "bare soil"][k] for k in by_phrase.argmax(axis=1)]


def test_clipseg_gives_the_heat_of_transformers_and_boxes_around_what_is_hot(clipseg, picture):
    detector = load_detector(str(clipseg), device="cpu", precision="fp32")
    heat = detector.heat(picture, ["water", "river"])
    direct = CLIPSegForImageSegmentation.from_pretrained(clipseg).eval()
    ids = torch.tensor([[3, 9], [6, 9]])
    with torch.inference_mode():
        found = direct(input_ids=ids, pixel_values=normalised(picture).repeat(2, 1, 1, 1))
    whole = torch.nn.functional.interpolate(found.logits[:, None], size=(96, 96), mode="bilinear")
    np.testing.assert_allclose(heat, whole[:, 0].sigmoid().numpy(), atol=1e-4)
    boxes, scores, labels = detector.detect(picture, ["water", "river"])
    assert len(boxes) == len(scores) == len(labels)
    for box, score, label in zip(boxes.astype(int), scores, labels, strict=True):
        hot = heat[["water", "river"].index(label)]
        inside = hot[box[1] : box[3], box[0] : box[2]]
        assert inside.max() > 0.5
        assert score <= inside.max()


def test_a_detector_sees_square_tiles_and_needs_its_tokenizer(owl, tmp_path):
    detector = load_detector(str(owl), device="cpu")
    with pytest.raises(InputError, match="square"):
        detector.detect(np.zeros((3, 20, 30), "float32"), ["water"])
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((owl / name).read_bytes())
    with pytest.raises(ModelError, match="tokenizer"):
        load_detector(str(tmp_path))


def test_a_checkpoint_that_is_no_detector(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "sam"}')
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(ModelError, match="grounding-dino, owlv2, clipseg"):
        load_detector(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("model.safetensors", b"", "cannot be loaded"),
        ("model.safetensors", 0.5, "cannot be loaded"),
        ("tokenizer_config.json", b"[]", "cannot be loaded"),
        ("preprocessor_config.json", b"{", "cannot be read as JSON"),
        ("preprocessor_config.json", b"[]", "is not a model configuration"),
        ("preprocessor_config.json", b'{"size": [64, 64]}', "a side is a number of pixels"),
        ("preprocessor_config.json", b'{"size": -3}', "a side is a number of pixels"),
        ("preprocessor_config.json", b'{"size": {"height": "64"}}', "a side is a number of pixels"),
    ],
)
def test_a_corrupt_detector_is_said_in_a_sentence(owl, tmp_path, name, content, words):
    folder = shutil.copytree(owl, tmp_path / "owl")
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(
        content if isinstance(content, bytes) else whole[: int(content * len(whole))]
    )
    with pytest.raises(ModelError, match=words) as caught:
        load_detector(str(folder), device="cpu")
    assert str(folder) in str(caught.value)
    assert "anew" in str(caught.value)
    assert "\n" not in str(caught.value)


class Sees:
    """A detector that gives the box around the dark pixels of a tile."""

    def detect(self, image, phrases):
        rows, cols = np.nonzero(image.mean(axis=0) < 0.3)
        if not len(rows):
            return np.empty((0, 4)), np.empty(0), []
        box = [cols.min(), rows.min(), cols.max() + 1, rows.max() + 1]
        return np.array([box], float), np.array([0.8]), [phrases[0]]


@pytest.mark.parametrize("place", [(10, 10), (60, 75), (30, 52)])
def test_a_thing_that_several_tiles_see_is_found_once_and_where_it_is(place):
    dark = np.zeros((100, 130), bool)
    row, col = place
    dark[row : row + 14, col : col + 9] = True
    scene = scene_of(dark)
    grid = TileGrid(scene.odc.geobox, 64, 32)
    stretch = Stretch(("red", "green", "blue"), (0.0,) * 3, (1.0,) * 3)
    found = find_phrases(scene, grid, stretch, Sees(), ["pond"])
    assert found.boxes.tolist() == [[col, row, col + 9, row + 14]]
    assert found.as_prompts().box_objects.tolist() == [1]


class Says:
    """A detector that says the same of every tile."""

    def __init__(self, *found):
        self.found = found

    def detect(self, image, phrases):
        boxes, scores, labels = zip(*self.found, strict=True)
        return np.array(boxes, float), np.array(scores), list(labels)


def test_of_boxes_that_overlap_the_surest_of_a_phrase_stays():
    scene = scene_of(np.zeros((60, 60), bool))
    affine = scene.odc.geobox.affine
    grid = TileGrid(scene.odc.geobox, 256, 0)
    tile = next(iter(grid))
    x, y = -tile.read.col, -tile.read.row  # of the scene's first pixel in the tile
    boxes = [
        (x + a, y + b, x + c, y + d)
        for a, b, c, d in [
            (0, 0, 10, 10),
            (0, 0, 10, 10),
            (1, 1, 11, 11),
            (2, 2, 6, 6),
            (3, 3, 3, 9),
        ]
    ]
    said = Says(*zip(boxes, (0.5, 0.9, 0.7, 0.95, 0.99), "abaaa", strict=True))
    stretch = Stretch(("red", "green", "blue"), (0.0,) * 3, (1.0,) * 3)
    found = find_phrases(scene, grid, stretch, said, ["a", "b"])
    assert affine.a == 10
    assert sorted(zip(found.phrases, found.boxes[:, 0].tolist(), strict=True)) == [
        ("a", 1),
        ("b", 0),
    ]


def some_boxes(n, side, seed):
    """Boxes of whole numbers, so that some touch, some are equal and some lie in others."""
    rng = np.random.default_rng(seed)
    low = rng.integers(0, side, (n, 2))
    return np.concatenate([low, low + rng.integers(1, 12, (n, 2))], axis=1).astype(float)


@pytest.mark.parametrize(("n", "side"), [(0, 9), (1, 9), (60, 20), (200, 60), (200, 200)])
@pytest.mark.parametrize("m", [0, 80])
def test_boxes_in_larger_ones_and_those_that_overlap_are_those_of_all_pairs(n, m, side):
    boxes, others = some_boxes(n, side, 0), some_boxes(m, side, 1)

    def common(a, b):
        low = np.maximum(a[:, None, :2], b[None, :, :2])
        return np.prod(np.clip(np.minimum(a[:, None, 2:], b[None, :, 2:]) - low, 0, None), axis=-1)

    for theirs in (boxes, others):
        mine, larger = (np.prod(b[:, 2:] - b[:, :2], axis=1) for b in (boxes, theirs))
        inside = common(boxes, theirs) > MAX_INSIDE * mine[:, None]
        wanted = (inside & (larger[None] > mine[:, None])).any(axis=1)
        np.testing.assert_array_equal(_within_larger(boxes, theirs), wanted)
    together = connected_components(common(boxes, boxes) > 0, directed=False)[1] if n else []
    np.testing.assert_array_equal(_touching(boxes), together)


def test_boxes_by_the_thousand_take_memory_for_those_that_touch():
    boxes = some_boxes(3000, 3000, 0)
    tracemalloc.start()
    numbers, inside = _touching(boxes), _within_larger(boxes, boxes)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 20 * 2**20, "all pairs are 70 MB a number"
    assert len(numbers) == len(inside) == 3000


def test_a_thing_larger_than_a_tile_is_one_object_of_a_box_a_tile():
    dark = np.zeros((64, 300), bool)
    dark[20:30, 20:280] = True
    scene = scene_of(dark)
    grid = TileGrid(scene.odc.geobox, 64, 16)
    stretch = Stretch(("red", "green", "blue"), (0.0,) * 3, (1.0,) * 3)
    found = find_phrases(scene, grid, stretch, Sees(), ["river"])
    assert set(found.objects) == {1}
    assert (found.tiles != "").all()
    together = shapely.union_all(shapely.box(*found.boxes.T))
    assert together.equals(shapely.box(20, 20, 280, 30))


def test_phrases_are_parted_by_commas_and_none_is_an_error():
    assert parse_phrases("Water, bare soil.") == ["Water", "bare soil"]
    with pytest.raises(PromptError, match="nothing to look for"):
        parse_phrases(" , ")


def test_bare_soil_is_neither_water_nor_plants():
    image = np.empty((3, 30, 90), "float32")
    for k, (nir, red, green) in enumerate([(0.02, 0.05, 0.08), (0.5, 0.05, 0.1), (0.3, 0.25, 0.2)]):
        image[:, :, 30 * k : 30 * (k + 1)] = np.reshape([nir, red, green], (3, 1, 1))
    detector = ConceptDetector(roles=("nir", "red", "green"))
    for k, phrase in enumerate(("water", "vegetation", "bare soil")):
        boxes, _, _ = detector.detect(image, [phrase])
        assert boxes.tolist() == [[30 * k, 0, 30 * (k + 1), 30]], phrase


def test_words_lead_to_outlines_without_any_network(tmp_path):
    from test_pipeline import run, save
    from test_pipeline import scene_of as river_scene

    water = np.zeros((90, 130), bool)
    water[30:50, 20:60] = True
    path = save(river_scene(water), tmp_path / "scene.tif")
    _, mask = run(path, tmp_path, prompts="text", text="water")
    assert ((mask == 1) == water).mean() > 0.99
    boxes = gpd.read_file(tmp_path / "out.gpkg", layer="prompt_boxes")
    assert boxes.union_all().equals(shapely.box(600_200, 4_999_500, 600_600, 4_999_700))
    assert set(boxes.object) == {1}
    with pytest.raises(PromptError, match="Known are water, river"):
        run(path, tmp_path, "unknown", prompts="text", text="unicorn")


def test_a_detector_is_on_the_first_of_several_gpus(monkeypatch):
    asked = []

    def load_detector(name, *, roles, device, precision):
        asked.append((name, roles, device, precision))
        return Sees()

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr("geosam.models.detectors.load_detector", load_detector)
    dark = np.zeros((64, 64), bool)
    dark[10:30, 10:30] = True
    scene, rgb = scene_of(dark), ("red", "green", "blue")
    decision = SimpleNamespace(stretch=Stretch(rgb, (0.0,) * 3, (1.0,) * 3), composite=rgb)
    options = Options(prompts="text", text="water", detector="some", device="cuda:2,1")
    grid = TileGrid(scene.odc.geobox, 64, 32)
    found = named_prompts(SimpleNamespace(working=scene), decision, grid, options)
    assert len(found.boxes) == 1
    assert asked == [("some", rgb, "cuda:2", "auto")]


def test_text_and_its_source_belong_together():
    for asked in ({"prompts": "text"}, {"text": "water"}):
        with pytest.raises(OptionError, match="belong together"):
            Options.of(asked)
