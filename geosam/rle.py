"""Masks as run lengths, as COCO and its tools write them.

A mask is read column by column (Fortran order); the counts are the lengths of its runs, of background
first. Compressed, each count is the difference from the one two before, in groups of five bits, each
a character from ``0`` on: https://github.com/cocodataset/cocoapi.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from geosam.cutouts import Cutout
from geosam.errors import InputError
from geosam.types import Window

_BITS, _MORE, _SIGN, _FIRST = 5, 0x20, 0x10, 48
"""Bits of a character, its flag that another follows, the sign of the last, and the first character."""


def encode_mask(mask: np.ndarray) -> dict[str, Any]:
    """Turn a mask, (y, x) bool, into uncompressed run lengths.

    Returns
    -------
    dict
        ``size`` [rows, columns] and ``counts``, a list of whole numbers.

    Examples
    --------
    >>> encode_mask(np.array([[0, 1], [1, 1]], bool))
    {'size': [2, 2], 'counts': [1, 3]}
    """
    height, width = mask.shape
    return encode_cutout(Cutout(Window(0, 0, height, width), mask), (height, width))


def encode_cutout(cutout: Cutout, shape: tuple[int, int]) -> dict[str, Any]:
    """Turn a mask that is known in its box into run lengths of the whole, never laying that out.

    Parameters
    ----------
    cutout
        The mask.
    shape
        Rows and columns of the whole.
    """
    edges = np.diff(np.pad(cutout.mask, ((1, 1), (0, 0))).view(np.int8), axis=0)
    (start_col, start_row), (end_col, end_row) = (np.nonzero((edges == step).T) for step in (1, -1))
    top, left = cutout.window.row, cutout.window.col
    starts = (start_col + left) * shape[0] + start_row + top
    ends = (end_col + left) * shape[0] + end_row + top
    # A run that ends where the next column's begins is one run.
    apart = starts[1:] != ends[:-1]
    starts, ends = (
        starts[np.append(True, apart)[: len(starts)]],
        ends[np.append(apart, True)[: len(ends)]],
    )
    bounds = np.stack([starts, ends], axis=1).ravel()
    counts = np.diff(np.concatenate([[0], bounds, [shape[0] * shape[1]]]))
    counts = counts[:-1] if counts[-1] == 0 else counts
    return {"size": [int(side) for side in shape], "counts": counts.tolist()}


def decode_cutout(rle: Mapping[str, Any]) -> Cutout | None:
    """Turn run lengths, compressed or not, into a mask in its box; None where it is empty.

    Raises
    ------
    InputError
        If they are no run lengths, or their sum is not the size.
    """
    (height, _), counts = _checked(rle)
    ends = np.cumsum(counts)
    starts = (ends - counts)[1::2]
    ends = ends[1::2]
    starts, ends = starts[ends > starts], ends[ends > starts]
    if len(starts) == 0:
        return None
    rows, row_end = _rows(starts, ends, height)
    left, right = int(starts[0] // height), int((ends[-1] - 1) // height) + 1
    mask = np.zeros((right - left, row_end - rows), bool)
    for start, end in zip(starts, ends, strict=True):
        first, last = start // height, (end - 1) // height
        if first == last:
            mask[first - left, start - first * height - rows : end - first * height - rows] = True
        else:
            whole = mask.reshape(-1)
            whole[start - left * height : end - left * height] = True
    return Cutout(Window(rows, left, row_end - rows, right - left), np.ascontiguousarray(mask.T))


def decode_mask(rle: Mapping[str, Any]) -> np.ndarray:
    """Turn run lengths, compressed or not, into a mask, (y, x) bool.

    Raises
    ------
    InputError
        If they are no run lengths, or their sum is not the size.
    """
    shape, _ = _checked(rle)
    cutout = decode_cutout(rle)
    return np.zeros(shape, bool) if cutout is None else cutout.paste(shape)


def compress(counts: Sequence[int]) -> str:
    """Write counts as COCO's string.

    Examples
    --------
    >>> compress([5, 40, 3]), decompress("5X13")
    ('5X13', [5, 40, 3])
    """
    text = []
    for k, count in enumerate(counts):
        left = int(count) - (int(counts[k - 2]) if k > 2 else 0)
        more = True
        while more:
            bits = left & (_MORE - 1)
            left >>= _BITS
            more = left != (-1 if bits & _SIGN else 0)
            text.append(chr(_FIRST + (bits | _MORE if more else bits)))
    return "".join(text)


def decompress(text: str) -> list[int]:
    """Read counts from COCO's string.

    Raises
    ------
    InputError
        If it has a character that no such string has, or ends in the middle of a count.
    """
    counts: list[int] = []
    value, shift = 0, 0
    for character in text:
        bits = ord(character) - _FIRST
        if not 0 <= bits < 2 * _MORE:
            raise InputError(
                f"Compressed run lengths hold {character!r}, which is none of COCO's characters. "
                "Export the annotations anew."
            )
        value |= (bits & (_MORE - 1)) << shift
        shift += _BITS
        if bits & _MORE:
            continue
        value -= 1 << shift if bits & _SIGN else 0
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value, shift = 0, 0
    if shift:
        raise InputError(
            "Compressed run lengths end in the middle of a count. Export the annotations anew."
        )
    return counts


def _rows(starts: np.ndarray, ends: np.ndarray, height: int) -> tuple[int, int]:
    """Return the first row and the one past the last; all, where a run goes on in the next column."""
    if (starts // height != (ends - 1) // height).any():
        return 0, height
    return int((starts % height).min()), int(((ends - 1) % height).max()) + 1


def _checked(rle: Mapping[str, Any]) -> tuple[tuple[int, int], np.ndarray]:
    """Return the size and the counts of run lengths that hold together."""
    try:
        height, width = (int(side) for side in rle["size"])
        counts = rle["counts"]
        counts = counts.decode("ascii") if isinstance(counts, bytes) else counts
        numbers = np.array(
            decompress(counts) if isinstance(counts, str) else counts, dtype=np.int64
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise InputError(
            "Run lengths need a size of [rows, columns] and counts, whole numbers or COCO's string; "
            f"{str(rle)[:80]} has not."
        ) from error
    if height < 0 or width < 0 or numbers.ndim != 1 or (numbers < 0).any():
        raise InputError(f"Run lengths of size {height} x {width} have counts below 0.")
    if numbers.sum() != height * width:
        raise InputError(
            f"Run lengths sum to {numbers.sum()}, and a mask of {height} x {width} has "
            f"{height * width} pixels. Export the annotations anew."
        )
    return (height, width), numbers
