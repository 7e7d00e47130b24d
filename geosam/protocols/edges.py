"""Edges from the outlines of masks: one map a picture, and how well it meets the true ones.

Kirillov et al. 2023, Segment Anything, https://arxiv.org/abs/2304.02643, section 7.2; the figures
by Arbeláez et al. 2011, https://doi.org/10.1109/TPAMI.2010.161.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy import ndimage, sparse
from scipy.sparse.csgraph import maximum_bipartite_matching
from scipy.spatial import cKDTree

from geosam.boxes import box_of, suppress
from geosam.decoding import decode_clicks, encode_picture
from geosam.errors import InputError, OptionError
from geosam.generation import click_grid
from geosam.protocols.examples import Dataset, Example, examples
from geosam.protocols.matching import mean_precision
from geosam.protocols.strata import mean
from geosam.scores import banks
from geosam.types import ManyMaskModel

TOLERANCE_SHARE = 0.0075
"""How far an edge may be off, as a share of the picture's diagonal: that of BSDS500."""


@dataclass(frozen=True)
class EdgeRules:
    """Where to click, and how many masks stay."""

    clicks_per_side: int = 16
    """Clicks along each side of the picture; their square in all."""
    max_overlap: float = 0.7
    """Of masks whose boxes have a higher IoU than this only the best rated stays."""
    batch: int = 16
    """Clicks that are decoded at once."""


@dataclass(frozen=True)
class EdgeScores:
    """Agreement of edge maps with the true edges; NaN where there is no true edge at all."""

    n_pictures: int
    """Pictures."""
    ods: float
    """F1 at the one threshold that is best for all pictures."""
    ois: float
    """F1 with the best threshold of each picture."""
    ap: float
    """Precision averaged over 101 recalls, each taken as the best at that recall or above."""
    r50: float
    """Highest recall of a threshold with a precision of at least one half; 0 where there is none."""
    tolerance_px: float
    """How far an edge may be off, the mean over pictures."""

    def to_dict(self) -> dict[str, Any]:
        """Return the figures by name."""
        return asdict(self)


@dataclass(frozen=True)
class EdgeCounts:
    """Edge pixels of one picture, at rising thresholds."""

    matched: np.ndarray
    """(t,): pairs of a predicted and a true pixel, each in one pair at most."""
    predicted: np.ndarray
    """(t,): predicted pixels."""
    true: int
    """True pixels."""


def edges(
    model: ManyMaskModel,
    dataset: Dataset,
    *,
    rules: EdgeRules | None = None,
    tolerance_px: float | None = None,
    n_thresholds: int = 99,
) -> EdgeScores:
    """Draw the edges of pictures from masks, and compare them with the outlines of the objects.

    Parameters
    ----------
    model
        Gives several masks a click.
    dataset
        Of pictures of the model's size.
    rules
        Where to click, and which masks stay.
    tolerance_px
        How far an edge may be off; 0.75 % of the diagonal where left out.
    n_thresholds
        Strengths at which the map is cut, evenly between 0 and 1.

    Returns
    -------
    EdgeScores

    Raises
    ------
    InputError
        A picture has not the model's size.
    ModelError
        The model gives one mask a click only.
    """
    maps, truths, ignores = [], [], []
    for example in examples(dataset):
        maps.append(edge_map(model, example.pixels, rules))
        truths.append(true_edges(example))
        ignores.append(example.ignore)
    return score_edges(maps, truths, ignores, tolerance_px=tolerance_px, n_thresholds=n_thresholds)


def true_edges(example: Example) -> np.ndarray:
    """Mark the outermost pixels of every object, (y, x) bool; none along the picture's edge."""
    out = np.zeros(example.ignore.shape, bool)
    for mask in example.objects:
        out |= banks(mask, example.ignore)
    return out


def edge_map(
    model: ManyMaskModel, pixels: np.ndarray, rules: EdgeRules | None = None
) -> np.ndarray:
    """Draw the edges of one picture.

    A grid of clicks, all masks of each; of those that overlap the best. Where a mask ends, the
    slope (Sobel) of its probability says how sharply; the strongest mask counts, the whole is
    scaled to 0 to 1 and thinned.

    Parameters
    ----------
    model
        Gives several masks a click.
    pixels : (3, size, size) float32
        0 to 1, nodata 0.5; of the model's size.
    rules
        Where to click, and which masks stay.

    Returns
    -------
    (size, size) float32
        0 to 1; 0 where there is no edge.
    """
    rules = rules or EdgeRules()
    outlines = list(_outlines(model, pixels, rules))
    slopes = np.zeros((2, model.size, model.size), np.float32)
    strength = np.zeros((model.size, model.size), np.float32)
    boxes = np.array([outline.box for outline in outlines], float).reshape(-1, 4)
    for i in suppress(boxes, np.array([o.score for o in outlines]), rules.max_overlap):
        outline = outlines[i]
        stronger = outline.strength > strength[outline.where]
        rows, cols = (index[stronger] for index in outline.where)
        strength[rows, cols] = outline.strength[stronger]
        slopes[:, rows, cols] = outline.slope[:, stronger]
    return thin(_scaled(strength), slopes)


def thin(strength: np.ndarray, slopes: np.ndarray) -> np.ndarray:
    """Keep an edge where it is strongest across its direction, and drop the rest.

    Parameters
    ----------
    strength : (y, x)
        Of the edges.
    slopes : (2, y, x)
        Down and to the right: which way is across, to the nearest of the eight neighbours.

    Returns
    -------
    (y, x)
        The strength, 0 where a neighbour across the edge is stronger.

    References
    ----------
    Canny 1986, https://doi.org/10.1109/TPAMI.1986.4767851.
    """
    octant = np.rint(np.arctan2(slopes[0], slopes[1]) / (np.pi / 4)).astype(int) % 4
    padded = np.pad(strength, 1)
    keep = np.zeros(strength.shape, bool)
    for k, (down, right) in enumerate(((0, 1), (1, 1), (1, 0), (1, -1))):
        ahead, behind = _moved(padded, down, right), _moved(padded, -down, -right)
        # Of two that are as strong, one side stays.
        keep |= (octant == k) & (strength >= ahead) & (strength > behind)
    return np.where(keep, strength, 0)


def score_edges(
    maps: Sequence[np.ndarray],
    truths: Sequence[np.ndarray],
    ignores: Sequence[np.ndarray] | None = None,
    *,
    tolerance_px: float | None = None,
    n_thresholds: int = 99,
) -> EdgeScores:
    """Compare edge maps with true edges.

    At each threshold as many predicted pixels as possible are paired with true ones within the
    tolerance, each in one pair at most, so that thick edges gain nothing.

    Parameters
    ----------
    maps : sequence of (y, x) float
        Strength of the edges, 0 to 1.
    truths : sequence of (y, x) bool
        True edges, one pixel wide.
    ignores : sequence of (y, x) bool, optional
        Where nothing is known.
    tolerance_px
        How far an edge may be off; 0.75 % of the diagonal where left out.
    n_thresholds
        Strengths at which a map is cut, evenly between 0 and 1.

    Returns
    -------
    EdgeScores

    Raises
    ------
    InputError
        There is no map, or they differ in number or size.
    OptionError
        The tolerance is negative, or there is no threshold.
    """
    _check(maps, truths, tolerance_px, n_thresholds)
    cuts = np.arange(1, n_thresholds + 1) / (n_thresholds + 1)
    tolerances = [
        TOLERANCE_SHARE * float(np.hypot(*m.shape)) if tolerance_px is None else tolerance_px
        for m in maps
    ]
    known = [None] * len(maps) if ignores is None else ignores
    counts = [
        _count(strength, truth, ignore, tolerance, cuts)
        for strength, truth, ignore, tolerance in zip(maps, truths, known, tolerances, strict=True)
    ]
    return _scores(counts, mean(np.array(tolerances)))


@dataclass(frozen=True)
class _Outline:
    """Where one mask ends."""

    box: tuple[int, int, int, int]
    score: float
    where: tuple[np.ndarray, np.ndarray]
    strength: np.ndarray
    slope: np.ndarray


def _outlines(model: ManyMaskModel, pixels: np.ndarray, rules: EdgeRules) -> Iterator[_Outline]:
    points = click_grid(rules.clicks_per_side, model.size)
    features = encode_picture(model, pixels)
    for _, logits, scores in decode_clicks(model, features, points, rules.batch):
        for masks, rated in zip(logits, scores, strict=True):
            for mask, score in zip(masks, rated, strict=True):
                outline = _outline(mask, float(score))
                if outline is not None:
                    yield outline


def _outline(logits: np.ndarray, score: float) -> _Outline | None:
    box = box_of(logits > 0)
    if box is None:
        return None
    # The slope needs the pixels beside the mask.
    row, col = max(0, box[1] - 2), max(0, box[0] - 2)
    part = logits[row : box[3] + 2, col : box[2] + 2]
    ends = banks(part > 0)
    probability = 1 / (1 + np.exp(-np.clip(part, -30, 30)))
    slope = np.stack([ndimage.sobel(probability, axis)[ends] for axis in (0, 1)])
    rows, cols = ends.nonzero()
    return _Outline(box, score, (rows + row, cols + col), np.hypot(*slope), slope)


def _scaled(strength: np.ndarray) -> np.ndarray:
    low, high = float(strength.min()), float(strength.max())
    return (strength - low) / (high - low) if high > low else np.zeros_like(strength)


def _moved(padded: np.ndarray, down: int, right: int) -> np.ndarray:
    height, width = padded.shape[0] - 2, padded.shape[1] - 2
    return padded[1 + down : 1 + down + height, 1 + right : 1 + right + width]


def _check(
    maps: Sequence[np.ndarray],
    truths: Sequence[np.ndarray],
    tolerance_px: float | None,
    n_thresholds: int,
) -> None:
    if not maps or [m.shape for m in maps] != [t.shape for t in truths]:
        raise InputError(
            f"{len(maps)} edge maps and {len(truths)} true ones cannot be compared: there must be "
            "at least one, and as many of the same sizes."
        )
    if n_thresholds < 1 or (tolerance_px is not None and tolerance_px < 0):
        raise OptionError(
            f"A tolerance of {tolerance_px} px with {n_thresholds} thresholds: use 0 or more, and "
            "at least one."
        )


def _count(
    strength: np.ndarray,
    truth: np.ndarray,
    ignore: np.ndarray | None,
    tolerance_px: float,
    cuts: np.ndarray,
) -> EdgeCounts:
    known = np.ones(truth.shape, bool) if ignore is None else ~ignore
    here, there = np.argwhere((strength >= cuts[0]) & known), np.argwhere(truth & known)
    strong = strength[here[:, 0], here[:, 1]]
    order = np.argsort(-strong, kind="stable")
    here, predicted = here[order], np.array([(strong >= cut).sum() for cut in cuts])
    near = _pairs(here, there, tolerance_px)
    matched = {int(n): _matched(near[:n]) for n in np.unique(predicted)}
    return EdgeCounts(np.array([matched[int(n)] for n in predicted]), predicted, len(there))


def _pairs(here: np.ndarray, there: np.ndarray, tolerance_px: float) -> sparse.csr_matrix:
    """Which predicted pixels are near which true ones, (n, m)."""
    shape = len(here), len(there)
    if not all(shape):
        return sparse.csr_matrix(shape, dtype=bool)
    near = cKDTree(here).query_ball_tree(cKDTree(there), tolerance_px + 1e-9)
    rows = np.repeat(np.arange(len(near)), [len(found) for found in near])
    cols = np.array([j for found in near for j in found], dtype=int)
    return sparse.csr_matrix((np.ones(len(rows), bool), (rows, cols)), shape)


def _matched(near: sparse.csr_matrix) -> int:
    if near.nnz == 0:
        return 0
    return int((maximum_bipartite_matching(near, "column") >= 0).sum())


def _scores(counts: Sequence[EdgeCounts], tolerance_px: float) -> EdgeScores:
    matched = np.stack([c.matched for c in counts])
    predicted = np.stack([c.predicted for c in counts])
    true = np.array([c.true for c in counts])
    if true.sum() == 0:
        return EdgeScores(len(counts), *(float("nan"),) * 4, tolerance_px)
    f1 = _f1(matched, predicted, true[:, None])
    # Where several are as good, as all are of a picture without an edge, it is what predicts the fewest.
    at_best = f1 == f1.max(axis=1, keepdims=True)
    best = np.where(at_best, predicted, np.inf).argmin(axis=1)[:, None]
    own_both, own_mine = (np.take_along_axis(a, best, axis=1).sum() for a in (matched, predicted))
    both, mine = matched.sum(axis=0), predicted.sum(axis=0)
    precision = np.divide(both, mine, out=np.zeros(len(mine)), where=mine > 0)
    recall = both / true.sum()
    rising = np.argsort(recall, kind="stable")
    return EdgeScores(
        n_pictures=len(counts),
        ods=float(_f1(both, mine, true.sum()).max()),
        ois=float(_f1(own_both, own_mine, true.sum())),
        ap=mean_precision(recall[rising], precision[rising]),
        r50=float(recall[precision >= 0.5].max(initial=0.0)),
        tolerance_px=tolerance_px,
    )


def _f1(matched: Any, predicted: Any, true: Any) -> Any:
    """Harmonic mean of precision and recall; 0 where there is neither edge."""
    total = np.asarray(predicted + true, float)
    return np.divide(2.0 * matched, total, out=np.zeros(total.shape), where=total > 0)
