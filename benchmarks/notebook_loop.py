"""The main job against the loop that a notebook has: `SamModel` in float32, one tile at a time.

    python benchmarks/notebook_loop.py [--tiles 2] [--model FOLDER]

Both segment the same synthetic RGB scene with the same weights (a ViT-B with random ones where none are
named) and the same number of tiles. The loop reads a window, gives it to transformers with one click in its
middle, and pastes the mask; it neither finds water nor blends. The job does all it does. Wanted: the
job takes a quarter of the loop's time on two cores with matrix instructions (AMX); tiles that are skipped
are told apart. Then `river-tiny` in bfloat16 against float32 on a scene: IoU of the masks, at least 0.99 wanted.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from bare_encoder import timed
from random_weights import write_vit_b


def loop(scene: Path, network: Any, tiles: int, size: int) -> np.ndarray:
    """Segment a scene as a notebook does, and return the mask."""
    import rasterio
    import torch
    from rasterio.windows import Window

    mean, std = (np.reshape(v, (3, 1, 1)) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with rasterio.open(scene) as source:
        low, high = np.percentile(source.read([1, 2, 3]), (0.2, 99.8))
        mask = np.zeros(source.shape, bool)
        step = size - size // 4
        for k in range(tiles):
            row, col = (step * i for i in divmod(k, -(-source.width // step)))
            window = Window(col, row, size, size)
            pixels = source.read([1, 2, 3], window=window, boundless=True).astype(np.float32)
            seen = (np.clip((pixels - low) / (high - low), 0, 1) - mean) / std
            with torch.no_grad():
                answer = network(
                    pixel_values=torch.tensor(seen[None], dtype=torch.float32),
                    input_points=torch.tensor([[[[size / 2, size / 2]]]]),
                    multimask_output=False,
                ).pred_masks[:, 0]
            full = torch.nn.functional.interpolate(answer, size=(size, size), mode="bilinear")
            place = mask[row : row + size, col : col + size]
            place |= full[0, 0].numpy()[: place.shape[0], : place.shape[1]] > 0
    return mask


def agreement(folder: Path) -> tuple[float, float]:
    """Return the IoU of river-tiny's masks in bfloat16 and float32, and their share of water."""
    import rasterio

    import geosam
    from geosam.testing import write_scene

    masks = {}
    scene = write_scene(folder, shape=(1024, 1024), seed=2, nir=False)[0]
    for precision in ("fp32", "bf16"):
        path = folder / f"{precision}.tif"
        geosam.run(scene, folder / f"{precision}.gpkg", precision=precision, mask=path)
        with rasterio.open(path) as source:
            masks[precision] = source.read(1) == 1
    both, either = masks["fp32"] & masks["bf16"], masks["fp32"] | masks["bf16"]
    return both.sum() / either.sum(), masks["fp32"].mean()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tiles", type=int, default=2, help="tiles a side")
    parser.add_argument("--model", help="a checkpoint of SAM")
    arguments = parser.parse_args()
    import torch
    from transformers import SamModel

    import geosam
    from geosam.testing import write_scene

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        weights = arguments.model or str(write_vit_b(folder / "vit-b"))
        model = geosam.load_model(weights)
        side = arguments.tiles * (model.size - model.size // 4)
        scene = Path(write_scene(folder, shape=(side, side), seed=1, nir=False)[0])
        wall, cpu, report = timed(lambda: geosam.run(scene, folder / "out.gpkg", model=model))
        done = report.tiles.get("done", 0)
        network = SamModel.from_pretrained(weights, dtype=torch.float32).eval()
        loop_wall, loop_cpu, _ = timed(lambda: loop(scene, network, done, model.size))
        print(f"{'':22} {'clock, s':>9} {'processor, s':>13} {'tiles':>6}")
        print(f"{'geosam':22} {wall:9.1f} {cpu:13.1f} {done:6}")
        print(f"{'loop':22} {loop_wall:9.1f} {loop_cpu:13.1f} {done:6}")
        print(f"{'loop / geosam':22} {loop_wall / wall:9.2f} {loop_cpu / cpu:13.2f}")
        print(f"tiles {report.tiles}, format {model.placement.dtype}")
        iou, share = agreement(folder)
        print(f"river-tiny, bfloat16 to float32: IoU {iou:.4f} ({100 * share:.1f} % water)")


if __name__ == "__main__":
    main()
