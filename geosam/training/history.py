"""What every epoch of a training brought: a table, and a picture of it."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

Row = Mapping[str, float]
PANELS = (("loss", ("train_total", "loss")), ("validation", ("iou_median", "iou_mean", "f1")))
"""Title and columns of each panel of the picture."""


def write_history(path: Path, rows: Sequence[Row]) -> None:
    """Write one line an epoch as CSV, in one step."""
    partial = path.with_suffix(".unfinished")
    names = list(dict.fromkeys(name for row in rows for name in row))
    with partial.open("w", newline="") as file:
        writer = csv.DictWriter(file, names, restval="")
        writer.writeheader()
        writer.writerows({k: f"{v:.6g}" for k, v in row.items()} for row in rows)
    partial.replace(path)


def draw_history(path: Path, rows: Sequence[Row]) -> None:
    """Draw losses and figures by epoch as a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # Fixed margins: a layout that is solved for draws everything twice, after every epoch.
    figure = Figure(figsize=(9, 3.6))
    figure.subplots_adjust(left=0.06, right=0.99, bottom=0.14, top=0.92, wspace=0.14)
    FigureCanvasAgg(figure)
    for axes, (title, names) in zip(figure.subplots(1, len(PANELS)), PANELS, strict=True):
        for name in names:
            points = [(r["epoch"], r[name]) for r in rows if not math.isnan(r.get(name, math.nan))]
            if points:
                axes.plot(*zip(*points, strict=True), marker=".", label=name)
        axes.set(title=title, xlabel="epoch")
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend()
    figure.savefig(path, dpi=110, format="png")
