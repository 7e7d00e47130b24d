"""How far the logits of every architecture are from those of transformers called directly.

    python benchmarks/parity.py

On small random networks (:mod:`geosam.testing.networks`), for clicks, boxes, masks and several
masks at once; the tests hold each to 1e-5.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np

from geosam.models.load import load_model
from geosam.testing.networks import ARCHITECTURES, random_network, save_original

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from test_models import IMAGENET, PROMPTS, called_directly, fit, tiles


def checkpoint(architecture: str, folder: Path) -> tuple:
    """Return a checkpoint on disk, its network, and what its preprocessor does to pixels."""
    if architecture == "original":
        network = random_network("sam")
        save_original(network, folder / "sam.pth")
        return folder / "sam.pth", network, IMAGENET
    network = random_network(architecture)
    network.save_pretrained(folder)
    return folder, network, IMAGENET


def differences(found: tuple, prompt_name: str) -> tuple[float, float]:
    """Return the largest difference of logits and of scores, over one mask and over three."""
    model = load_model(str(found[0]), device="cpu", precision="fp32")
    pixels, prompt = tiles(1, model.size), fit(PROMPTS[prompt_name], model.size)
    features = model.encode(pixels)
    every, scores = model.decode_all(features, [prompt])
    expected, theirs = called_directly(found, pixels, prompt, several=True)
    best, score = model.decode(features, [prompt])
    one, one_score = called_directly(found, pixels, prompt, prompt.kind == (1, False, False))
    k = one_score.argmax()
    logits = max(np.abs(every[0] - expected).max(), np.abs(best[0] - one[k]).max())
    return float(logits), float(max(np.abs(scores[0] - theirs).max(), abs(score[0] - one_score[k])))


def main() -> None:
    print(f"{'architecture':14}  {'prompt':20}  {'logits':>8}  {'scores':>8}")
    for architecture in (*ARCHITECTURES, "original"):
        with tempfile.TemporaryDirectory() as folder:
            found = checkpoint(architecture, Path(folder))
            for name in PROMPTS:
                logits, scores = differences(found, name)
                print(f"{architecture:14}  {name:20}  {logits:8.1e}  {scores:8.1e}")


if __name__ == "__main__":
    main()
