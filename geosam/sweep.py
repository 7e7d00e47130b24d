"""In which order the groups of a mosaic are asked, blended and forgotten: row by row, side by side.

A block can be blended when its group and those around it have answered. Waiting for a whole row of
answers would leave workers idle at every row's end, so blending follows some rows behind.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

from geosam.ledger import Index
from geosam.tiles import around

Kind = Literal["ask", "blend", "drop"]


@dataclass(frozen=True)
class Stage:
    """One piece of the work on a mosaic."""

    kind: Kind
    """Whether a group is asked, its block is blended, or what nobody needs any more is dropped."""
    index: Index
    """The group; of what is dropped, one in the row below."""
    needs: tuple[int, ...] = ()
    """Numbers of the stages that must be over before."""


def sweep(
    groups: Sequence[Index], asked: Collection[Index], missing: Collection[Index], ahead: int
) -> list[Stage]:
    """Put the work on a mosaic into an order.

    Parameters
    ----------
    groups
        All of them, row by row.
    asked
        Those that have not answered yet.
    missing
        Those whose blocks are not blended yet.
    ahead
        Pieces of work that are handed out at once: so many groups are asked before blocks wait for them.

    Returns
    -------
    list of Stage
        Each stands after what it needs.
    """
    rows = [list(row) for _, row in groupby(groups, key=lambda index: index[0])]
    lag = max(1, -(-ahead // max(map(len, rows), default=1)))
    stages: list[Stage] = []
    numbers: dict[tuple[Kind, Index], int] = {}

    def add(kind: Kind, index: Index, needs: Collection[tuple[Kind, Index]] = ()) -> None:
        numbers[kind, index] = len(stages)
        stages.append(Stage(kind, index, tuple(numbers[n] for n in needs if n in numbers)))

    dropped: list[tuple[Kind, Index]] = []
    for row, behind in zip([*rows, *[[]] * lag], [*[[]] * lag, *rows], strict=True):
        for index in row:
            if index in asked:
                add("ask", index)
        blends = [index for index in behind if index in missing]
        for index in blends:
            add("blend", index, [("ask", near) for near in around(index)])
        if blends:
            add("drop", blends[0], [("blend", index) for index in blends] + dropped)
            dropped = [("drop", blends[0])]
    return stages
