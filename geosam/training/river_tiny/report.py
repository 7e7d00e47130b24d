"""Measure bare networks on the test split, data set by data set: several trainings side by side.

The toolkit with its prompts, its blending and its defaults is measured by `benchmarks/`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional
from transformers import Sam2Model

from geosam.models.pyramid import NoPositions
from geosam.models.unet import CoarseWaterNet, load_coarse
from geosam.summaries import DRY_SHARE, ImageScores, score_label, summarise
from geosam.training.river_tiny.batch_prompts import Prompts
from geosam.training.river_tiny.network import TILE, normalise
from geosam.training.river_tiny.rating import answer, move_outline
from geosam.training.river_tiny.sources import Scene, load_scenes
from geosam.training.river_tiny.tiles import NODATA_FILL, RGB_BANDS, stretch
from geosam.training.sample import IGNORE, WATER
from geosam.training.simulation import DENSE_LOGIT, drop_parts

ZOOMS = {
    "chips_s2_rgb": 2.0,
    "chips_multispectral": 2.0,
    "aerial_ste_marguerite": 0.25,
    "aerial_dubai": 1.0,
    "aerial_monterey": 0.4,
    "aerial_deepglobe": 1.0,
    "aerial_dry": 0.5,
    "naip": 1.0,
}
"""Shown pixels for each native pixel: aerial images at about 0.5 m, satellite at twice theirs."""

STRETCH = ("joint", 1.0, 99.0)
"""One pair of percentiles for a whole image."""

LARGEST = 1024
"""Shown pixels a side to which images are cut for the promptable network, to save time."""

Row = dict[str, float]
"""Figures of a data set by name."""

Memory = dict[tuple[int, int], list[torch.Tensor]]
"""Embeddings of an image's tiles by upper left corner."""

CORRUPTIONS = {"eroded 3": -3.0, "dilated 3": 3.0, "clean": 0.0}
"""Native pixels by which a prompting mask is moved."""


@dataclass(frozen=True)
class Shown:
    """A test image as the networks see it."""

    pixels: np.ndarray
    """(3, y, x) float32, 0 to 1."""

    water: np.ndarray
    """(y, x) bool."""

    known: np.ndarray
    """(y, x) bool."""

    zoom: float
    """Shown pixels for each native one."""

    @property
    def is_wet(self) -> bool:
        """Whether at least 1 % of the known pixels are water."""
        return bool((self.water & self.known).sum() >= DRY_SHARE * max(1, self.known.sum()))


def show_scene(scene: Scene, bands: tuple[int, ...] | None = None) -> Shown:
    """A whole test image, stretched and brought to its working resolution."""
    zoom = ZOOMS.get(scene.group, ZOOMS.get(scene.source, 1.0))
    level = min(len(scene.levels) - 1, max(0, int(np.floor(-np.log2(zoom)))))
    raw, label = scene.levels[level].astype(np.float32), scene.labels[level]
    bands = bands or ((0, 1, 2) if scene.is_rgb else RGB_BANDS)
    pixels = stretch(raw[list(bands)], scene, bands, STRETCH)
    pixels[:, (raw == 0).all(0)] = NODATA_FILL
    factor = zoom * 2**level
    return Shown(_resize(pixels, factor), *_resize_label(label, factor), zoom)


def cut(shown: Shown, side: int = LARGEST) -> Shown:
    """The middle of an image that is larger than that."""
    rows, cols = (
        slice(max(0, (length - side) // 2), max(0, (length - side) // 2) + side)
        for length in shown.water.shape
    )
    return Shown(
        np.ascontiguousarray(shown.pixels[:, rows, cols]),
        shown.water[rows, cols],
        shown.known[rows, cols],
        shown.zoom,
    )


def _resize(pixels: np.ndarray, factor: float) -> np.ndarray:
    shape = [max(32, round(length * factor)) for length in pixels.shape[1:]]
    out = functional.interpolate(
        torch.from_numpy(pixels)[None], shape, mode="bilinear", antialias=factor < 1
    )
    return out[0].numpy()


def _resize_label(label: np.ndarray, factor: float) -> tuple[np.ndarray, np.ndarray]:
    water = _resize((label == WATER).astype(np.float32)[None], factor)[0] >= 0.5
    known = _resize((label != IGNORE).astype(np.float32)[None], factor)[0] > 0.99
    return water, known


@torch.inference_mode()
def find_water(net: CoarseWaterNet, pixels: np.ndarray, size: int = 512) -> np.ndarray:
    """Logits of the coarse network over an image of any size, (y, x) float32.

    Tiles overlap by a quarter and are blended with weights that fall towards
    their edges.
    """

    def predict(tile: np.ndarray, _: tuple[int, int]) -> np.ndarray:
        return net(torch.from_numpy(tile)[None])[0, 0].numpy()

    return _blend(pixels, size, predict)


@torch.inference_mode()
def prompt_with(
    model: Sam2Model, pixels: np.ndarray, mask: np.ndarray, memory: Memory | None = None
) -> np.ndarray:
    """Logits of the promptable network for a coarse mask over an image, (y, x) float32.

    Parameters
    ----------
    model : Sam2Model
    pixels : numpy.ndarray, (3, y, x)
        0 to 1, nodata 0.5.
    mask : numpy.ndarray, (y, x) bool
        The only prompt. A tile without any of it is answered with the mask itself.
    memory : dict, optional
        Embeddings of this image's tiles by their corner; filled here, so that
        further masks on the image cost a decode only.
    """
    memory = {} if memory is None else memory

    def predict(tile: np.ndarray, origin: tuple[int, int]) -> np.ndarray:
        given = _window(mask.astype(np.float32)[None], origin, TILE, 0.0)[0]
        if not given.any():
            return np.full((TILE, TILE), -DENSE_LOGIT, np.float32)
        halved = given.reshape(TILE // 2, 2, TILE // 2, 2).mean((1, 3)) >= 0.5
        dense = torch.from_numpy(np.where(halved, DENSE_LOGIT, -DENSE_LOGIT).astype(np.float32))
        prompts = Prompts(None, None, None, dense[None, None])
        if origin not in memory:
            memory[origin] = model.get_image_embeddings(normalise(torch.from_numpy(tile)[None]))
        logits, _, _ = answer(model, prompts, embeddings=memory[origin])
        return functional.interpolate(logits, (TILE, TILE), mode="bilinear")[0, 0].numpy()

    return _blend(pixels, TILE, predict)


def _blend(
    pixels: np.ndarray, size: int, predict: Callable[[np.ndarray, tuple[int, int]], np.ndarray]
) -> np.ndarray:
    ramp = np.minimum(np.arange(size) + 0.5, size - np.arange(size) - 0.5) / size
    weight = np.outer(ramp, ramp).astype(np.float32)
    total = np.zeros((2, *pixels.shape[1:]), np.float32)
    for row, col in _origins(pixels.shape[1:], size):
        logits = predict(_window(pixels, (row, col), size, NODATA_FILL), (row, col))
        rows, cols = slice(max(0, row), row + size), slice(max(0, col), col + size)
        height, width = total[0, rows, cols].shape
        inside = (
            slice(max(0, -row), max(0, -row) + height),
            slice(max(0, -col), max(0, -col) + width),
        )
        total[0, rows, cols] += (logits * weight)[inside]
        total[1, rows, cols] += weight[inside]
    return total[0] / total[1]


def _origins(shape: Sequence[int], size: int) -> Iterator[tuple[int, int]]:
    """Upper left corners of tiles that cover an image, centred on it where it is smaller."""
    starts = []
    for length in shape:
        if length <= size:
            starts.append([-((size - length) // 2)])
        else:
            count = int(np.ceil((length - size) / (0.75 * size))) + 1
            starts.append(np.linspace(0, length - size, count).astype(int).tolist())
    return ((row, col) for row in starts[0] for col in starts[1])


def _window(pixels: np.ndarray, origin: tuple[int, int], size: int, fill: float) -> np.ndarray:
    """A window that may overhang the image, its overhang filled."""
    out = np.full((pixels.shape[0], size, size), fill, np.float32)
    top, left = max(0, -origin[0]), max(0, -origin[1])
    part = pixels[:, max(0, origin[0]) : origin[0] + size, max(0, origin[1]) : origin[1] + size]
    out[:, top : top + part.shape[1], left : left + part.shape[2]] = part
    return out


def corrupted(shown: Shown, shift_native_px: float, drop: bool, seed: int) -> np.ndarray:
    """The true mask moved by native pixels, without some of its parts if asked."""
    truth = shown.water & shown.known
    mask = move_outline(truth, shift_native_px * shown.zoom) if shift_native_px else truth
    return drop_parts(mask, np.random.default_rng(seed)) if drop else mask


def load_promptable(folder: Path) -> Sam2Model:
    """The promptable network of a `river-tiny` folder, in float32, ready to predict."""
    model = Sam2Model.from_pretrained(folder, dtype=torch.float32).eval()
    model.vision_encoder.neck.position_encoding = NoPositions()
    return model


def score(answered: np.ndarray, shown: Shown) -> ImageScores:
    """Figures of one answer, (y, x) bool."""
    return score_label(answered, np.where(shown.known, shown.water, IGNORE).astype(np.uint8))


def rate_coarse(net: CoarseWaterNet, images: Sequence[Shown]) -> Row:
    """IoU of wet images, and the share of false water of dry ones."""
    figures = summarise([score(find_water(net, shown.pixels) > 0, shown) for shown in images])
    row: Row = {"wet images": figures.n_wet} if figures.n_wet else {}
    if figures.n_wet:
        iou = figures.wet["iou"]
        row |= {"IoU median": iou.median, "IoU quartile": iou.lower_quartile}
    if figures.n_dry:
        row |= {
            "dry images": figures.n_dry,
            "false mean": figures.false_water_mean,
            "false 90 %": figures.false_water_90th,
        }
    return row


def rate_prompted(model: Sam2Model, images: Sequence[Shown]) -> Row:
    """Median IoU of wrong masks and of the answers to them, by kind of error."""
    kinds = [
        (f"{name}, parts dropped" if drop else name, shift, drop)
        for name, shift in CORRUPTIONS.items()
        for drop in ((False, True) if shift else (False,))
    ]
    rows = []
    for seed, shown in enumerate(image for image in images if image.is_wet):
        memory: Memory = {}
        masks = [corrupted(shown, shift, drop, seed) for _, shift, drop in kinds]
        rows.append([x for mask in masks for x in _before_after(model, shown, mask, memory)])
    if not rows:
        return {}
    names = [f"{title}: {side}" for title, _, _ in kinds for side in ("given", "answered")]
    medians = np.median(np.array(rows), axis=0)
    return {"images": len(rows), **dict(zip(names, medians, strict=True))}


def _before_after(
    model: Sam2Model, shown: Shown, mask: np.ndarray, memory: Memory
) -> tuple[float, float]:
    answered = prompt_with(model, shown.pixels, mask, memory) > 0
    return score(mask, shown).pixels.iou, score(answered, shown).pixels.iou


def load_shown(
    data: Path,
    source: str,
    cache: Path | None,
    bands: tuple[int, ...] | None = None,
    most: int = 60,
) -> list[Shown]:
    """Test images of a data set, evenly picked where there are more than `most`."""
    scenes = load_scenes(data, source, "test", cache)
    step = max(1, -(-len(scenes) // most))
    return [show_scene(scene, bands) for scene in scenes[::step]]


def as_table(rows: dict[str, Row]) -> str:
    """A Markdown table of figures by data set."""
    columns = list(dict.fromkeys(key for row in rows.values() for key in row))
    lines = ["| data set | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name, row in rows.items():
        lines.append(f"| {name} | " + " | ".join(_cell(row.get(key)) for key in columns) + " |")
    return "\n".join(lines)


def _cell(value: float | None) -> str:
    if value is None:
        return ""
    return str(value) if isinstance(value, int) else f"{value:.3f}"


def report(
    networks: dict[str, Path], promptable: Path | None, data: Path, cache: Path | None, most: int
) -> str:
    """What bare networks do on whole test images, as Markdown tables.

    Parameters
    ----------
    networks : dict of Path
        Folders of coarse networks, by the name of their table.
    promptable : Path, optional
        Folder of the promptable network: median IoU of wrong masks before and after it.
    data : Path
        Folder with the data sets.
    cache : Path, optional
        Folder for packed pixels.
    most : int
        Most images of a data set.
    """
    images = {name: load_shown(data, name, cache, most=most) for name in list(ZOOMS)[:-1]}
    images["chips_multispectral, nir red green"] = load_shown(
        data, "chips_multispectral", cache, (3, 2, 1), most
    )
    tables = {}
    for title, folder in networks.items():
        net = load_coarse(folder)
        tables[title] = {name: rate_coarse(net, found) for name, found in images.items()}
    if promptable is not None:
        model = load_promptable(promptable)
        tables["Wrong masks, median IoU"] = {
            name: rate_prompted(model, [cut(x) for x in found])
            for name, found in images.items()
            if any(x.is_wet for x in found)
        }
    return "\n\n".join(f"### {title}\n\n{as_table(rows)}" for title, rows in tables.items())
