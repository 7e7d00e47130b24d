"""The worst answers of river-tiny on a labelled set, as pictures to look at.

    python benchmarks/worst_cases.py --set chips_s2_rgb --worst 20 -o worst/ [--plain]
    python benchmarks/worst_cases.py --set aerial_dubai --name tile7_part005 -o docs/worst_cases/

Writes `SET.png`: for each case the image, and beside it what was found (blue), missed (red) and called
water wrongly (yellow); unknown pixels are grey. Wet images come by their IoU, dry ones by their false
water. With --plain the images are left out, so that no imagery of others is passed on; with --name
only what is right and wrong of that image is drawn, as `SET_NAME.png` of its own.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import matplotlib as mpl
import numpy as np
from labelled_sets import RGB, SETS, as_label, names_of, read_image, segment_image

import geosam
from geosam.summaries import ImageScores, score_label

mpl.use("Agg")

FOUND, MISSED, FALSE, LAND, UNKNOWN = (
    (0.2, 0.5, 0.9),
    (0.85, 0.2, 0.2),
    (0.95, 0.8, 0.2),
    (0.15, 0.15, 0.15),
    (0.55, 0.55, 0.55),
)
COLUMNS = 4
LONGEST_PX = 400
"""Longest side of the picture of one case."""


def badness(scores: ImageScores) -> float:
    """Return 1 - IoU of a wet image, and the false water of a dry one."""
    return scores.pixels.false_water_share if scores.is_dry else 1 - scores.pixels.iou


def picture(image: np.ndarray) -> np.ndarray:
    """Return (band, y, x) as (y, x, 3), 0 to 1, stretched from the 2nd to the 98th percentile."""
    low, high = np.nanpercentile(image, [2, 98])
    return np.clip(np.nan_to_num((image - low) / max(high - low, 1e-6)), 0, 1).transpose(1, 2, 0)


def verdict(found: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Return what is right and wrong as colours, (y, x, 3)."""
    out = np.empty((*label.shape, 3))
    out[:] = LAND
    out[(found == 1) & (label == 1)] = FOUND
    out[(found != 1) & (label == 1)] = MISSED
    out[(found == 1) & (label == 0)] = FALSE
    out[label == 255] = UNKNOWN
    return out


def draw(cases: list[tuple[ImageScores, np.ndarray, np.ndarray]], path: Path, plain: bool) -> None:
    """Write one contact sheet of (scores, image, verdict)."""
    import matplotlib.pyplot as plt

    wide = 1 if plain else 2
    rows = -(-len(cases) // COLUMNS)
    figure, axes = plt.subplots(rows, COLUMNS * wide, figsize=(3 * COLUMNS * wide, 3.2 * rows))
    for ax in axes.ravel():
        ax.axis("off")
    for (scores, image, colours), row in zip(cases, axes.reshape(-1, wide), strict=False):
        worth = f"false {scores.pixels.false_water_share:.3f}" * scores.is_dry
        row[-1].imshow(colours)
        row[-1].set_title(f"{scores.name}: {worth or f'IoU {scores.pixels.iou:.2f}'}", size=9)
        if not plain:
            row[0].imshow(image)
    figure.tight_layout()
    figure.savefig(path, dpi=60)


def draw_case(colours: np.ndarray, path: Path) -> None:
    """Write one verdict, (y, x, 3), thinned out to :data:`LONGEST_PX` at most."""
    from PIL import Image

    step = -(-max(colours.shape[:2]) // LONGEST_PX)
    pixels = np.round(255 * colours[::step, ::step]).astype(np.uint8)
    Image.fromarray(pixels).quantize(8).save(path, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--set", default="chips_s2_rgb")
    parser.add_argument("--colours", action="store_true", help="five-band chips in RGB alone")
    parser.add_argument("--name", action="append", help="an image to draw by itself")
    parser.add_argument("--worst", type=int, default=20)
    parser.add_argument("--most", type=int, default=1000, help="images looked at, evenly picked")
    parser.add_argument("--split", choices=("val", "test"), default="test")
    parser.add_argument("--model", default="river-tiny")
    parser.add_argument("--plain", action="store_true")
    parser.add_argument("-o", "--out", type=Path, required=True)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    model = geosam.load_model(arguments.model)
    kinds = [k for k in SETS if k.folder == arguments.set and k.prompts == "auto"]
    kind = kinds[0] if arguments.colours else kinds[-1]
    names = arguments.name or names_of(arguments.data, kind.folder, arguments.split)
    cases = []
    for name in names[:: max(1, -(-len(names) // arguments.most))]:
        scene, label = read_image(arguments.data, kind, name)
        found = as_label(segment_image(scene, model)[0])
        image = picture(scene.sel(band=list(RGB)).values)
        cases.append((score_label(found, label, name=name), image, verdict(found, label)))
    cases.sort(key=lambda case: -badness(case[0]))
    arguments.out.mkdir(parents=True, exist_ok=True)
    if arguments.name:
        for scores, _, colours in cases:
            draw_case(colours, arguments.out / f"{kind.folder}_{scores.name}.png")
    else:
        draw(cases[: arguments.worst], arguments.out / f"{kind.folder}.png", arguments.plain)
    for scores, *_ in cases[: arguments.worst]:
        print(f"{scores.name}: {'dry' if scores.is_dry else 'wet'}, {badness(scores):.3f}")


if __name__ == "__main__":
    main()
