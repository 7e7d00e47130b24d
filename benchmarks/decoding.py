"""How long one prompt takes on an embedding of ViT-B: milliseconds, and those of the processor.

    python benchmarks/decoding.py [--threads 2] [--repeats 50]

The network is SAM's ViT-B with random weights, which take as long as trained ones. Timed is what
``decode`` does: the prompt into tensors, prompt encoder, mask decoder, and logits at 1024 px. The
processor's time, over all threads, tells what a machine with other work would need if it had none.
"""

import argparse
from time import perf_counter, process_time

import numpy as np
import torch
from transformers import SamConfig, SamModel

from geosam.models.checkpoint import Normalisation
from geosam.models.device import place
from geosam.models.sam import Sam
from geosam.models.token_layout import lay_out_tokens
from geosam.testing.networks import scramble
from geosam.types import PixelPrompts

NONE = np.empty((1, 0, 2)), np.empty((1, 0), int)
PROMPTS = {
    "one click, the best of three masks": PixelPrompts(
        np.array([[[400.5, 600.5]]]), np.array([[1]])
    ),
    "five points": PixelPrompts(
        np.random.default_rng(0).uniform(0, 1024, (1, 5, 2)), np.array([[1, 1, 1, 0, 0]])
    ),
    "a box": PixelPrompts(*NONE, boxes=np.array([[200.0, 300.0, 700.0, 800.0]])),
    "a mask": PixelPrompts(*NONE, masks=np.tri(1024, dtype=bool)[None]),
}
TARGET_MS = 60


def vit_b() -> Sam:
    """Return SAM's ViT-B as a geosam model, with random weights of a common size: products of those that
    transformers draws are too small for fast arithmetic.
    """
    network = scramble(SamModel(SamConfig())).requires_grad_(False)
    imagenet = Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    return Sam("vit-b", "", 1024, imagenet, place("cpu", "fp32"), lay_out_tokens(network))


def milliseconds(model: Sam, prompt: PixelPrompts, repeats: int) -> np.ndarray:
    """Return (repeats, 2) times of a decoding, on the wall and of the processor, after three that
    nobody counts.
    """
    features = {"embedding": torch.randn(1, 256, 64, 64)}
    times = []
    for _ in range(repeats + 3):
        wall, processor = perf_counter(), process_time()
        model.decode(features, [prompt])
        times.append((perf_counter() - wall, process_time() - processor))
    return 1000 * np.array(times[3:])


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--threads", type=int, default=2)
    words.add_argument("--repeats", type=int, default=50)
    chosen = words.parse_args()
    torch.set_num_threads(chosen.threads)
    model = vit_b()
    print(f"{chosen.threads} threads, {chosen.repeats} repeats; the target is {TARGET_MS} ms")
    for name, prompt in PROMPTS.items():
        times = milliseconds(model, prompt, chosen.repeats)
        (wall, processor), fastest = np.median(times, axis=0), times[:, 0].min()
        print(
            f"{name:36} median {wall:6.1f}   fastest {fastest:6.1f}   processor {processor:6.1f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
