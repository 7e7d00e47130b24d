"""Numbers and tables as a person reads them on standard output."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from math import isfinite
from typing import Any

import click


def show_json(value: Mapping[str, Any]) -> None:
    """Write one JSON object to standard output; what is not a number is null."""
    click.echo(json.dumps(_plain(value), indent=2, default=str, allow_nan=False))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not isfinite(value) else value


def show_table(rows: Iterable[tuple[str, str]]) -> None:
    """Write names and values in two columns; a value of several lines stays in its column."""
    rows = list(rows)
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        first, *others = value.splitlines() or [""]
        click.echo(f"{name:<{width}}  {first}".rstrip())
        for line in others:
            click.echo(f"{'':<{width}}  {line}")


def show_columns(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Write a table with one line a row."""
    lines = [titles, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(titles))]
    for line in lines:
        cells = (f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True))
        click.echo("  ".join(cells).rstrip())


def area(square_metres: float) -> str:
    """Write an area in the unit that suits it.

    Examples
    --------
    >>> area(1234.5), area(2_500_000)
    ('1,234 m²', '2.50 km²')
    """
    if square_metres >= 1e6:
        return f"{square_metres / 1e6:,.2f} km²"
    return f"{square_metres:,.0f} m²"


def percent(share: float) -> str:
    """Write a share of 1 as per cent.

    Examples
    --------
    >>> percent(0.1234)
    '12.3%'
    """
    return f"{100 * share:.1f}%"


def metres(length: float) -> str:
    """Write a length in metres with three digits.

    Examples
    --------
    >>> metres(0.0571), metres(28.5)
    ('0.0571 m', '28.5 m')
    """
    return f"{length:.3g} m"


def tiles(statuses: Mapping[str, int], resolution_m: float) -> str:
    """Write how many tiles there are, at what resolution, and what became of them.

    Examples
    --------
    >>> tiles({"done": 4, "skipped_nodata": 1}, 0.25)
    '5 at 0.25 m: 4 done, 1 without data'
    """
    words = {
        "done": "done",
        "skipped_nodata": "without data",
        "skipped_no_prompt": "without prompts",
    }
    parts = [f"{n} {words.get(status, status)}" for status, n in statuses.items()]
    return f"{sum(statuses.values())} at {metres(resolution_m)}: {', '.join(parts)}"


def seconds(steps: Mapping[str, float]) -> str:
    """Write the time of a run, and of its three longest steps.

    Examples
    --------
    >>> seconds({"segment": 8.0, "open": 0.5, "total": 9.0})
    '9.0 s (segment 8.0, open 0.5)'
    """
    longest = sorted(((t, name) for name, t in steps.items() if name != "total"), reverse=True)[:3]
    parts = ", ".join(f"{name} {t:.1f}" for t, name in longest)
    return f"{steps.get('total', 0.0):.1f} s" + (f" ({parts})" if parts else "")


def size(n_bytes: float) -> str:
    """Write a number of bytes in the unit that suits it.

    Examples
    --------
    >>> size(2_500_000), size(1.25e10)
    ('2.5 MB', '12.5 GB')
    """
    return f"{n_bytes / 1e9:,.1f} GB" if n_bytes >= 1e9 else f"{n_bytes / 1e6:,.1f} MB"


def minutes(n: float) -> str:
    """Write minutes in the unit that suits them.

    Examples
    --------
    >>> minutes(0.5), minutes(12.2), minutes(150)
    ('30 s', '12 min', '2.5 h')
    """
    if n < 1:
        return f"{60 * n:.0f} s"
    return f"{n:.0f} min" if n < 100 else f"{n / 60:.1f} h"
