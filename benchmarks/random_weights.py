"""A ViT-B of SAM with random weights, for benchmarks: time does not depend on what a network knows."""

from __future__ import annotations

from pathlib import Path


def write_vit_b(folder: Path) -> Path:
    """Write a checkpoint with transformers' default configuration, seeded, and return its folder."""
    import torch
    from transformers import SamConfig, SamModel

    torch.manual_seed(0)
    network = SamModel(SamConfig())
    for name, parameter in network.named_parameters():
        if "rel_pos" in name:  # zeros as they come
            torch.nn.init.normal_(parameter, std=0.02)
    network.save_pretrained(folder)
    return folder
