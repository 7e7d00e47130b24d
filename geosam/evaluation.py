"""How well predictions agree with the truth: one pair, or a set of them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np

from geosam.errors import InputError, OptionError
from geosam.ground import resolution_m
from geosam.overlay import VECTOR_SUFFIXES, FullMeaning, on_one_grid
from geosam.plain import PICTURE_SUFFIXES, full_means_water, is_plain, read_plain
from geosam.scores import BankScores, PixelScores, boundary_f1, pixel_scores
from geosam.summaries import Evaluation, ImageScores, SetEvaluation, score_label, summarise

__all__ = [
    "BankScores",
    "Evaluation",
    "Pairs",
    "PixelScores",
    "SetEvaluation",
    "boundary_f1",
    "evaluate",
    "evaluate_set",
    "pair_files",
    "pixel_scores",
]


@dataclass(frozen=True)
class Pairs:
    """Files of two folders that have the same stem."""

    pairs: dict[str, tuple[Path, Path]]
    """Prediction and truth by stem, in alphabetical order."""
    only_pred: tuple[str, ...]
    """Stems of predictions without a truth."""
    only_truth: tuple[str, ...]
    """Stems of truths without a prediction."""


def evaluate(
    pred: Any,
    truth: Any,
    *,
    tolerance_m: float | None = None,
    tolerance_px: float = 2,
    threshold: float = 0.5,
) -> Evaluation:
    """Compare a prediction with the truth.

    Each may be a raster (path or DataArray: a mask or a probability) or polygons (path or
    GeoDataFrame; of a GeoPackage the layer `outlines`, or else the first). Rasters of different
    grids are compared on the truth's, to which the prediction is brought by nearest neighbour.
    Polygons are burnt into the grid of the other one, a pixel being water where its centre is; two
    sets of polygons into a grid of 4096 pixels along the longer side of what they cover together,
    in the truth's CRS, or in its UTM zone if that is in degrees. Arrays and pictures without a CRS
    are compared pixel by pixel, with each other or with a raster of the same size.

    Parameters
    ----------
    pred, truth : path, array of shape (y, x), xarray.DataArray, or geopandas.GeoDataFrame
        In any CRS. Nodata of either is ignored; what polygons do not cover is land.
    tolerance_m : float, optional
        How far, in metres, a bank may be off and still count as found.
    tolerance_px : float
        The same in pixels, where `tolerance_m` is left out.
    threshold : float
        Probability above which a pixel is water.

    Returns
    -------
    Evaluation

    Raises
    ------
    InputError
        One of them cannot be read or has no CRS, or they share no place.
    OptionError
        The tolerance is negative, or in metres where nothing tells the size of a pixel.

    Examples
    --------
    >>> evaluate("mask.tif", "truth.geojson", tolerance_m=5).iou  # doctest: +SKIP
    0.93
    """
    scores = _compare("", pred, truth, tolerance_m, tolerance_px, threshold, FullMeaning())
    if scores.pixels.n_pixels == 0:
        raise InputError(
            "The prediction and the truth share no pixel that both know: check that they show the "
            "same place."
        )
    return scores.figures


def evaluate_set(
    pairs: Mapping[str, tuple[Any, Any]] | Iterable[tuple[Any, Any]],
    *,
    tolerance_m: float | None = None,
    tolerance_px: float = 2,
    threshold: float = 0.5,
) -> SetEvaluation:
    """Compare many predictions with their truths.

    Images with less than 1 % of true water are reported by their share of false water, not by
    IoU. Whether 255 is water or unknown in files that do not say is settled for all predictions
    together, and for all truths: unknown where any of them holds a 1.

    Parameters
    ----------
    pairs : mapping of names to (prediction, truth), or these alone
        Each as :func:`evaluate` takes them. Without names they are named by the truth's file, or
        numbered from 1.
    tolerance_m, tolerance_px, threshold
        As for :func:`evaluate`.

    Returns
    -------
    SetEvaluation

    Raises
    ------
    InputError
        There are none, two have one name, or one cannot be compared; it is named.
    OptionError
        The tolerance is negative, or in metres where nothing tells the size of a pixel.

    Examples
    --------
    >>> river = np.eye(9, dtype=bool)
    >>> evaluate_set([(river, river)]).wet["iou"].median
    1.0
    """
    named = _named(pairs)
    full = FullMeaning(
        full_means_water([pred for pred, _ in named.values()]),
        full_means_water([truth for _, truth in named.values()]),
    )
    images = []
    for name, (pred, truth) in named.items():
        try:
            images.append(_compare(name, pred, truth, tolerance_m, tolerance_px, threshold, full))
        except InputError as error:
            raise InputError(f"Image {name}: {error}") from error
    return summarise(images)


def pair_files(preds: str | os.PathLike, truths: str | os.PathLike) -> Pairs:
    """Find the files of two folders that belong together: those of one stem.

    Raises
    ------
    InputError
        One is no folder, holds two files of one stem, or they have no stem in common.
    """
    mine, theirs = _by_stem(Path(preds)), _by_stem(Path(truths))
    common = sorted(mine.keys() & theirs.keys())
    if not common:
        raise InputError(
            f"{preds} holds {len(mine)} masks or vector files and {truths} {len(theirs)}, and no "
            "two have the same name without its ending: name the predictions as their truths."
        )
    return Pairs(
        {stem: (mine[stem], theirs[stem]) for stem in common},
        tuple(sorted(mine.keys() - theirs.keys())),
        tuple(sorted(theirs.keys() - mine.keys())),
    )


def _compare(
    name: str,
    pred: Any,
    truth: Any,
    tolerance_m: float | None,
    tolerance_px: float,
    threshold: float,
    full: FullMeaning,
) -> ImageScores:
    if is_plain(pred) or is_plain(truth):
        if tolerance_m is not None:
            raise OptionError(
                f"A tolerance of {tolerance_m:g} m needs the size of a pixel, and the masks have "
                "no georeference. Give it in pixels: --tolerance-px 2."
            )
        masks = _read_both(pred, truth, threshold, full)
        return score_label(*masks, tolerance_px, name=name)
    predicted, true, geobox = on_one_grid(pred, truth, threshold, full)
    pixel_m = float(np.mean(resolution_m(geobox)))
    tolerance_px = tolerance_px if tolerance_m is None else tolerance_m / pixel_m
    return replace(score_label(predicted, true, tolerance_px, name=name), pixel_m=pixel_m)


def _read_both(
    pred: Any, truth: Any, threshold: float, full: FullMeaning
) -> tuple[np.ndarray, np.ndarray]:
    for source in (pred, truth):
        if isinstance(source, gpd.GeoDataFrame) or _is_vector(source):
            raise InputError(
                "Polygons cannot be compared with a mask without georeference: give it one with "
                "gdal_edit -a_srs -a_ullr, or compare two masks."
            )
    return read_plain(pred, threshold, full.pred), read_plain(truth, threshold, full.truth)


def _named(
    pairs: Mapping[str, tuple[Any, Any]] | Iterable[tuple[Any, Any]],
) -> dict[str, tuple[Any, Any]]:
    if isinstance(pairs, Mapping):
        return dict(pairs)
    listed = list(pairs)
    if not listed:
        raise InputError("There is no pair of prediction and truth to compare.")
    names = [_name(truth, number) for number, (_, truth) in enumerate(listed, 1)]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"Two truths are called {twice}: give the pairs as a dict with names.")
    return dict(zip(names, listed, strict=True))


def _name(truth: Any, number: int) -> str:
    return Path(truth).stem if isinstance(truth, (str, os.PathLike)) else str(number)


def _is_vector(source: Any) -> bool:
    if not isinstance(source, (str, os.PathLike)):
        return False
    return Path(source).suffix.lower() in VECTOR_SUFFIXES


def _by_stem(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder: give two folders, or two files.")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in PICTURE_SUFFIXES | VECTOR_SUFFIXES:
            continue
        if path.stem in found:
            raise InputError(
                f"{folder} holds {found[path.stem].name} and {path.name}: which of them is meant "
                "cannot be told. Move one of them away."
            )
        found[path.stem] = path
    return found
