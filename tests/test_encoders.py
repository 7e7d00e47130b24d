"""Encoders of our own, on the weights of transformers, against transformers' own encoders."""

import numpy as np
import pytest
import torch
from test_models import scramble, tiny_sam, tiny_sam2
from transformers import SamVisionConfig
from transformers.models.sam.modeling_sam import SamVisionAttention, SamVisionEncoder

from geosam.models import attention, cache_parts, hiera, vit
from geosam.models.token_windows import join, split


def pictures(n, side, seed=0):
    return torch.randn(n, 3, side, side, generator=torch.Generator().manual_seed(seed))


def odd_sam():
    """Windows that do not divide the tokens, global layers, and learned positions that count."""
    config = SamVisionConfig(
        hidden_size=32,
        output_channels=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        image_size=160,
        patch_size=16,
        window_size=4,
        global_attn_indexes=[1],
        mlp_ratio=2.0,
    )
    return scramble(SamVisionEncoder(config))


@pytest.fixture(params=["whole", "pictures", "heads", "queries"])
def pieces(request, monkeypatch):
    """Attention and layers all at once, and cut ever smaller."""
    # Windows of 16 tokens and two heads, in float32: a window's weights take 2 kB, a head's 1 kB.
    most = {"pictures": 5000, "heads": 1500, "queries": 1}.get(request.param)
    if most is not None:
        monkeypatch.setitem(attention.BLOCK_BYTES, "cpu", most)
        monkeypatch.setattr(attention, "BIAS_BYTES", most)
        monkeypatch.setattr(cache_parts, "PART_BYTES", most)


@pytest.mark.usefixtures("pieces")
def test_sam_embeds_as_transformers_does():
    encoder = odd_sam()
    with torch.inference_mode():
        expected = encoder(pictures(2, 160))[0]
        found = vit.embed(encoder, pictures(2, 160))
    assert expected.std() > 0.1
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("levels", [[2, 3], [0, 1, 2, 3]])
def test_sam2_embeds_as_transformers_does(levels):
    network = scramble(tiny_sam2())
    network.vision_encoder.neck.fpn_top_down_levels = levels
    for conv in network.vision_encoder.neck.convs:
        torch.nn.init.normal_(conv.bias)
    torch.nn.init.normal_(network.mask_decoder.conv_s0.bias)
    torch.nn.init.normal_(network.mask_decoder.conv_s1.bias)
    with torch.inference_mode():
        expected = network.get_image_embeddings(pictures(2, 64))
        found = hiera.embed(network, pictures(2, 64))
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs, atol=5e-5, rtol=1e-6)


@pytest.mark.parametrize("shape", [(16, 16), (24, 16), (128, 64)])
def test_positions_are_those_of_transformers(shape):
    backbone = scramble(tiny_sam2()).vision_encoder.backbone
    with torch.inference_mode():
        found, expected = hiera._positions(backbone, shape), backbone._get_pos_embed(shape)
    assert expected.std() > 0.1
    torch.testing.assert_close(found, expected, atol=5e-6, rtol=0)


def test_a_batch_is_embedded_as_its_pictures_are(monkeypatch):
    network = scramble(tiny_sam2())
    with torch.inference_mode():
        together = hiera.embed(network, pictures(3, 64))
        monkeypatch.setattr(hiera, "PART_BYTES", 1)
        monkeypatch.setattr(cache_parts, "PART_BYTES", 1)
        apart = hiera.embed(network, pictures(3, 64))
    for mine, theirs in zip(apart, together, strict=True):
        torch.testing.assert_close(mine, theirs, atol=2e-5, rtol=1e-6)


@pytest.mark.parametrize("name", ["sam", "sam2"])
def test_gradients_are_those_of_transformers(name):
    network = scramble({"sam": tiny_sam, "sam2": tiny_sam2}[name]()).requires_grad_(True)
    encoder = network.vision_encoder

    def grown(maps):
        network.zero_grad()
        sum((m**2).mean() for m in maps).backward()
        return {k: p.grad.clone() for k, p in encoder.named_parameters() if p.grad is not None}

    if name == "sam":
        theirs = grown([encoder(pictures(1, 64))[0]])
        mine = grown([vit.embed(encoder, pictures(1, 64))])
    else:
        maps = network.get_image_features(pictures(1, 64), return_dict=True).fpn_hidden_states
        maps[-1] = maps[-1] + network.no_memory_embedding
        theirs = grown(maps)
        mine = grown(hiera.embed(network, pictures(1, 64)))
    assert set(mine) == set(theirs)
    for key, gradient in theirs.items():
        torch.testing.assert_close(mine[key], gradient, atol=5e-5, rtol=1e-3)


def written_out(query, key, value, down, across):
    """Softmax attention in float64 with the bias of every pair of tokens."""
    side = down.shape[-1]
    q, k, v, d, a = (part.double().numpy() for part in (query, key, value, down, across))
    weights = np.einsum("nhqc,nhkc->nhqk", q, k) / np.sqrt(q.shape[-1])
    for token in range(side * side):
        weights[..., token] += d[..., token // side] + a[..., token % side]
    weights = np.exp(weights - weights.max(axis=-1, keepdims=True))
    return np.einsum("nhqk,nhkc->nhqc", weights / weights.sum(axis=-1, keepdims=True), v)


@pytest.mark.usefixtures("pieces")
@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize(("dtype", "off"), [(torch.float32, 1e-6), (torch.bfloat16, 0.01)])
def test_places_weigh_as_written_out(dtype, off, fused, monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: fused)
    generator = torch.Generator().manual_seed(0)
    shapes = [(2, 3, 36, 8)] * 3 + [(2, 3, 36, 6)] * 2
    given = [torch.randn(shape, generator=generator).to(dtype) for shape in shapes]
    found = attention.attend_by_place(*given).double().numpy()
    expected = written_out(*given)
    assert np.sqrt(((found - expected) ** 2).mean()) < off * expected.std()


def test_the_bias_is_that_of_transformers():
    layer = SamVisionAttention(SamVisionConfig(hidden_size=32, num_attention_heads=2), 6)
    scramble(layer)
    query = torch.randn(2, 2, 36, 16, generator=torch.Generator().manual_seed(1))
    down, across = vit._places(layer, query, 6, 6)
    expected = layer.get_decomposed_rel_pos(
        query.flatten(0, 1), layer.rel_pos_h, layer.rel_pos_w, (6, 6), (6, 6)
    )
    found = (down[..., None] + across[..., None, :]).reshape(expected.shape)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("height", "width", "side"), [(8, 12, 4), (7, 5, 4), (3, 9, 5)])
def test_windows_come_back_as_they_were(height, width, side):
    tokens = torch.arange(2.0 * height * width * 3).reshape(2, height, width, 3)
    windows = split(tokens, side)
    assert windows.shape[1:] == (side, side, 3)
    assert torch.equal(join(windows, (height, width)), tokens)
    assert torch.equal(windows[0, : min(height, side), : min(width, side)], tokens[0, :side, :side])


@pytest.mark.parametrize("name", ["sam", "sam2"])
def test_maps_with_channels_last_decode_to_the_same(name):
    from geosam.models.token_layout import lay_out_tokens

    network = scramble({"sam": tiny_sam, "sam2": tiny_sam2}[name]())
    clicks = {
        "input_points": torch.tensor([[[[20.0, 30.0], [5.0, 40.0]]]]),
        "input_labels": torch.tensor([[[1, 0]]], dtype=torch.int32),
    }
    seen = []
    with torch.inference_mode():
        expected = network(pixel_values=pictures(1, 64), **clicks).pred_masks
        first = lay_out_tokens(network).mask_decoder.transformer.layers[0]
        first.register_forward_pre_hook(
            lambda _, given, named: seen.append(named["keys"].is_contiguous()), with_kwargs=True
        )
        found = network(pixel_values=pictures(1, 64), **clicks).pred_masks
    assert seen == [True]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
