"""Figures without a window, written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geosam.errors import OutputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 120
"""Resolution of figures with axes."""


def figure_of(
    rows: int, size: tuple[float, float], columns: int = 1, **settings: Any
) -> tuple[Figure, Any]:
    """Make a figure of some inches with axes in rows and columns."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(size, dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, **settings)


def save(figure: Figure, path: str | os.PathLike) -> Path:
    """Write a figure as PNG.

    Raises
    ------
    OutputError
        It cannot be written.
    """
    path = Path(path)
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        figure.savefig(unfinished, dpi=figure.dpi, format="png", metadata={"Software": None})
        os.replace(unfinished, path)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise OutputError(f"The picture {path} could not be written: {error}.") from error
    return path
