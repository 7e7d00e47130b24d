"""Tiles through a model: nothing is padded, nothing empty is encoded, one bad tile is one bad tile."""

import numpy as np
import pytest
import torch

from geosam.errors import ModelError
from geosam.masks import PROMPTS_AT_ONCE, segment_tiles, take
from geosam.models.memory import MOST_BATCH, batch_size_for, power_of_two
from geosam.types import PixelPrompts


class Recorder:
    """A model that writes down what it is asked."""

    name, signature, size = "recorder", "0", 4

    def __init__(self, fail_on=None):
        self.encoded, self.kinds, self.fail_on = 0, [], fail_on

    def encode(self, pixels):
        if self.fail_on is not None and (pixels == self.fail_on).any():
            raise RuntimeError("bad pixels")
        self.encoded += len(pixels)
        return {"mean": pixels.mean(axis=(1, 2, 3))}

    def decode(self, features, prompts):
        assert len({p.kind for p in prompts}) == 1
        self.kinds.append((prompts[0].kind, len(prompts)))
        logits = np.array(
            [f + p.points[0, :, 0].sum() for f, p in zip(features["mean"], prompts, strict=True)]
        )
        return np.broadcast_to(logits[:, None, None], (len(logits), 4, 4)).astype(
            np.float32
        ), np.ones(len(logits))


def prompt(*xs):
    points = np.array([[[x, 0.0] for x in xs]]).reshape(1, len(xs), 2)
    return PixelPrompts(points, np.ones((1, len(xs)), int))


def tile(value):
    return np.full((3, 4, 4), value, np.float32)


def segment(model, tiles, prompts, **how):
    empty = [pixels is None for pixels in tiles]
    return segment_tiles(
        model, lambda which: np.stack([tiles[i] for i in which]), empty, prompts, **how
    )


def test_tiles_without_data_or_prompts_are_not_encoded():
    model = Recorder()
    masks = segment(model, [tile(1), None, tile(2)], [[prompt(1)], [prompt(1)], []])
    assert [m.status for m in masks] == ["done", "skipped_nodata", "skipped_no_prompt"]
    assert model.encoded == 1


def test_prompts_are_bucketed_by_count_and_never_padded():
    model = Recorder()
    prompts = [[prompt(1)], [prompt(1, 2)], [prompt(3)], [prompt(1, 2, 3)]]
    masks = segment(model, [tile(0)] * 4, prompts)
    assert sorted(model.kinds) == [
        ((1, False, False), 2),
        ((2, False, False), 1),
        ((3, False, False), 1),
    ]
    assert [m.logits[0, 0] for m in masks] == [1, 3, 3, 6]


def test_objects_of_a_tile_are_united_and_encoded_once():
    model = Recorder()
    (mask,) = segment(model, [tile(0)], [[prompt(1), prompt(5), prompt(2, 1)]])
    assert mask.logits[0, 0] == 5
    assert model.encoded == 1


def test_one_bad_tile_is_one_bad_tile():
    model = Recorder(fail_on=7)
    masks = segment(model, [tile(1), tile(7), tile(2)], [[prompt(1)]] * 3)
    assert [m.status for m in masks] == ["done", "failed", "done"]
    assert masks[1].error == "RuntimeError: bad pixels"


def test_a_wrong_request_is_not_a_bad_tile():
    class Wrong(Recorder):
        def encode(self, pixels):
            raise ModelError("The model takes 64 px.")

    with pytest.raises(ModelError):
        segment(Wrong(), [tile(1)], [[prompt(1)]])


@pytest.mark.parametrize("tiles", [[0], [3], [1, 2, 3], [0, 1, 2, 3], [2, 2], [3, 1], [0, 2]])
def test_features_of_tiles_are_those_named_copied_or_not(tiles):
    maps = {"a": np.arange(24.0).reshape(4, 2, 3), "b": torch.arange(4.0)}
    found = take(maps, tiles)
    for name, values in maps.items():
        np.testing.assert_array_equal(found[name], np.asarray(values)[tiles])


@pytest.mark.parametrize("batch_size", [1, 2, 16])
def test_the_batch_size_changes_nothing(batch_size):
    prompts = [[prompt(float(i))] for i in range(5)]
    masks = segment(Recorder(), [tile(i) for i in range(5)], prompts, batch_size=batch_size)
    assert [m.logits[0, 0] for m in masks] == [0, 2, 4, 6, 8]


def test_many_objects_of_a_tile_are_decoded_some_at_a_time_and_united_as_all_at_once():
    model, rng = Recorder(), np.random.default_rng(0)
    places = rng.uniform(0, 9, (3, 50))
    prompts = [[prompt(x) for x in row] + [prompt(x, -x / 2) for x in row] for row in places]
    masks = segment(model, [tile(v) for v in (1, 2, 3)], prompts)
    assert max(n for _, n in model.kinds) == PROMPTS_AT_ONCE
    assert sum(n for _, n in model.kinds) == 300
    for value, row, mask in zip((1, 2, 3), places, masks, strict=True):
        np.testing.assert_array_equal(mask.logits, np.full((4, 4), value + row.max(), np.float32))
        assert mask.predicted_iou == 1


def test_one_prompt_a_tile_is_one_batch_whatever_its_size():
    n = 2 * PROMPTS_AT_ONCE
    model = Recorder()
    segment(model, [tile(i) for i in range(n)], [[prompt(1)]] * n, batch_size=n)
    assert [count for _, count in model.kinds] == [n]


class Narrow(Recorder):
    """A model whose decoder has room for some prompts at once."""

    def __init__(self, room):
        super().__init__()
        self.room = room

    def decode(self, features, prompts):
        if len(prompts) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return super().decode(features, prompts)


@pytest.mark.parametrize("room", [1, 5])
def test_out_of_memory_halves_what_is_decoded_at_once_of_a_tile(room):
    model = Narrow(room)
    (mask,) = segment(model, [tile(1)], [[prompt(float(x)) for x in range(40)]])
    assert (mask.status, mask.logits[0, 0]) == ("done", 40)
    assert sum(n for _, n in model.kinds) == 40
    assert model.encoded == 1
    (mask,) = segment(Narrow(0), [tile(1)], [[prompt(1)] * 40])
    assert mask.error.startswith("OutOfMemoryError: CUDA out of memory")


class Small(Recorder):
    """A model on a GPU that has room for some tiles at once."""

    def __init__(self, room):
        super().__init__()
        self.room, self.asked = room, []

    def encode(self, pixels):
        self.asked.append(len(pixels))
        if len(pixels) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return super().encode(pixels)


@pytest.mark.parametrize("room", [1, 3])
def test_out_of_memory_halves_the_batch_and_those_after_it(room):
    values = np.arange(24, dtype=np.float32)
    tiles, prompts = [tile(v) for v in values], [[prompt(0)]] * len(values)
    model = Small(room)
    masks = segment(model, tiles, prompts, batch_size=8)
    assert [mask.status for mask in masks] == ["done"] * len(values)
    np.testing.assert_allclose([mask.logits[0, 0] for mask in masks], values)
    # After the first eight nothing larger than what went through is tried.
    through = np.cumsum([n if n <= room else 0 for n in model.asked])
    assert model.asked[0] == 8
    assert (
        max(n for n, before in zip(model.asked[1:], through, strict=False) if before >= 8) <= room
    )


def test_a_tile_that_does_not_fit_alone_is_a_failed_one_that_says_why():
    masks = segment(Small(0), [tile(1)], [[prompt(1)]], batch_size=4)
    assert masks[0].status == "failed"
    assert masks[0].error.startswith("OutOfMemoryError: CUDA out of memory")


def test_the_batch_is_what_the_memory_allows(monkeypatch):
    assert [power_of_two(n) for n in (0.2, 1, 3.9, 4, 9)] == [1, 1, 2, 4, 8]
    assert power_of_two(1e9) == MOST_BATCH
    model = Recorder()
    assert batch_size_for(model) == 2  # no device, or a processor
    large = Recorder()
    large.size = 1024
    assert batch_size_for(large) == 1
    model.placement = type("Placement", (), {"device": torch.device("cuda", 0)})
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (8_000, 10_000))
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: None)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 500)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 500 + 900)
    assert batch_size_for(model) == 2  # a quarter of 8000, by 900 a tile
    assert model.encoded == 1


def test_what_speaks_beside_the_model_is_added_to_its_answer():
    beside = np.arange(16, dtype=np.float32).reshape(1, 4, 4)
    one = PixelPrompts(np.zeros((1, 1, 2)), np.ones((1, 1), int), beside=beside)
    shown = np.zeros((2, 3, 4, 4), np.float32)
    masks = segment_tiles(
        Recorder(), lambda which: shown[list(which)], [False] * 2, [[one], [prompt(0)]]
    )
    np.testing.assert_array_equal(masks[0].logits, beside[0])
    np.testing.assert_array_equal(masks[1].logits, np.zeros((4, 4)))
