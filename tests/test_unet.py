"""The coarse water network: sizes, files, and what fusing must not change."""

from __future__ import annotations

import json

import pytest

torch = pytest.importorskip("torch")

from geosam.models.packing import pack, unpack  # noqa: E402
from geosam.models.unet import (  # noqa: E402
    CoarseConfig,
    CoarseWaterNet,
    fuse_norms,
    load_coarse,
    save_coarse,
)

SMALL = CoarseConfig(widths=(8, 8, 8, 8, 8), depths=(0, 1, 0, 0, 1))


@pytest.fixture
def small() -> CoarseWaterNet:
    torch.manual_seed(0)
    net = CoarseWaterNet(SMALL).train()
    net(torch.rand(4, 3, 64, 64))
    return net.eval()


@pytest.mark.parametrize("shape", [(32, 32), (64, 96), (160, 32)])
def test_logits_come_out_at_the_size_of_the_input(small, shape):
    assert small(torch.rand(2, 3, *shape)).shape == (2, 1, *shape)


def test_a_size_that_is_no_multiple_of_32_says_what_to_do(small):
    with pytest.raises(ValueError, match="multiples of 32"):
        small(torch.rand(1, 3, 40, 64))


def test_fused_norms_leave_the_answer_as_it_was(small):
    pixels = torch.rand(2, 3, 64, 64)
    before = small(pixels)
    assert torch.allclose(fuse_norms(small)(pixels), before, atol=1e-4)
    assert torch.allclose(fuse_norms(small)(pixels), before, atol=1e-4)


def test_a_saved_network_answers_the_same_up_to_float16(small, tmp_path):
    save_coarse(small, tmp_path)
    pixels = torch.rand(2, 3, 64, 64)
    assert torch.allclose(load_coarse(tmp_path)(pixels), small(pixels), atol=0.02)


def test_eight_bits_are_off_by_half_a_step_of_each_channel():
    torch.manual_seed(0)
    spread = torch.logspace(-6, 1, 8)[:, None, None, None]
    state = {
        "kernel": torch.randn(8, 4, 3, 3) * spread,
        "bias": torch.randn(8),
        "none": torch.zeros(2, 2),
    }
    packed = pack(state, 8)
    assert packed["kernel"].dtype == torch.int8
    assert packed["bias"].dtype == torch.float16
    back = unpack(packed)
    off = (back["kernel"] - state["kernel"]).abs().amax((1, 2, 3))
    assert (off <= state["kernel"].abs().amax((1, 2, 3)) / 254 * 1.001).all()
    assert off.max() > 0
    assert torch.equal(back["none"], state["none"])


def test_a_network_saved_in_eight_bits_is_half_as_large_and_answers_alike(small, tmp_path):
    sizes = []
    pixels = torch.rand(2, 3, 64, 64)
    for bits in (16, 8):
        save_coarse(small, tmp_path / str(bits), bits)
        sizes.append((tmp_path / str(bits) / "model.safetensors").stat().st_size)
        answer = load_coarse(tmp_path / str(bits))(pixels)
        assert torch.allclose(answer, small(pixels), atol=0.1)
    assert sizes[1] < 0.8 * sizes[0]


def test_saving_leaves_the_network_ready_to_train_on(small, tmp_path):
    save_coarse(small, tmp_path)
    assert any(isinstance(module, torch.nn.BatchNorm2d) for module in small.modules())


def test_a_folder_of_another_architecture_is_refused(small, tmp_path):
    save_coarse(small, tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "architecture": "Sam2Model"}))
    with pytest.raises(ValueError, match="Sam2Model"):
        load_coarse(tmp_path)


def test_a_config_with_too_few_widths_is_refused():
    with pytest.raises(ValueError, match="5 entries"):
        CoarseConfig(widths=(8, 8))
