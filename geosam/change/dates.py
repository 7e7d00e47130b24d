"""Dates as a user writes them: 1985, 1985-07 or 1985-07-16."""

from __future__ import annotations

import calendar
from collections.abc import Sequence
from datetime import date
from itertools import pairwise

from geosam.errors import OptionError


def decimal_year(text: str) -> float:
    """Return a date as years; a year alone is its beginning, a month alone its first day.

    Raises
    ------
    OptionError
        It is no date.

    Examples
    --------
    >>> decimal_year("1985"), round(decimal_year("1986-07-02"), 2)
    (1985.0, 1986.5)
    """
    try:
        parts = [int(part) for part in text.strip().split("-")]
        day = date(*[*parts, 1, 1][:3])
    except (ValueError, TypeError):
        raise OptionError(f"{text!r} is no date. Write 1985, 1985-07 or 1985-07-16.") from None
    days = 366 if calendar.isleap(day.year) else 365
    return day.year + (day - date(day.year, 1, 1)).days / days


def check_order(dates: Sequence[str], n: int) -> None:
    """Check that there is one date for each of n scenes, from early to late.

    Raises
    ------
    OptionError
        There are more or fewer, one is no date, or one is not later than the one before.
    """
    if len(dates) != n:
        raise OptionError(f"There are {len(dates)} dates for {n} scenes: give one for each.")
    for before, after in pairwise(dates):
        if not decimal_year(after) > decimal_year(before):
            raise OptionError(
                f"The date {after} is not after {before}: give scenes and dates from early to late."
            )
