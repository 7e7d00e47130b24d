"""The rows of an experiment as a Markdown table, a CSV and a picture."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from geosam.training.grid import told

ZERO_SHOT, TUNED, ALL_WATER = "zero-shot", "tuned", "all water"
"""What a row is measured of; the last is no network, but an answer of nothing but water."""
RATIOS = ("f1", "iou", "precision", "recall", "accuracy")
TITLES = {"f1": "F1", "iou": "IoU"}
READING = (
    "Each figure: **median** over the test tiles with at least 1 % water (quartiles), then their mean, "
    "and the figure of all pixels of all tiles together. Ignored pixels do not count. *Water* is the "
    "share of all pixels that is called water, and in truth; *false water* the mean share in tiles "
    "with less than 1 % water. The row *all water* is what an answer of nothing but water gets: figures "
    "near it say little."
)
PANELS = ("iou", "f1", "precision", "recall")


@dataclass(frozen=True)
class Row:
    """One network, measured on the test part."""

    weights: str
    """``zero-shot``, ``tuned`` or ``all water``."""

    name: str
    """What is other than in the base."""

    options: Mapping[str, Any]
    """The value of every factor; empty where it does not matter."""

    figures: Mapping[str, Any] | None
    """Of :class:`geosam.summaries.SetEvaluation` without single tiles; None where there are none."""

    record: Mapping[str, Any] = field(default_factory=dict)
    """Of a training: ``epochs``, ``best_epoch``, ``seconds``, ``validation``, or ``error``."""

    def to_dict(self) -> dict[str, Any]:
        """Return the same as JSON takes it."""
        kept = ("epochs", "best_epoch", "seconds", "validation", "error")
        training = {name: self.record[name] for name in kept if name in self.record}
        facts = {"weights": self.weights, "name": self.name, "options": dict(self.options)}
        return {**facts, "figures": self.figures, **training}

    def median(self, ratio: str) -> float:
        """Return the median of a figure; NaN where there is none."""
        value = None if self.figures is None else self.figures["wet"][ratio]["median"]
        return math.nan if value is None else float(value)

    def pooled(self, ratio: str) -> float:
        """Return a figure over all pixels of all tiles; NaN where there is none."""
        return math.nan if self.figures is None else float(self.figures["pooled"][ratio])

    def quartiles(self, ratio: str) -> tuple[float, float]:
        """Return the lower and the upper quartile of a figure."""
        if self.figures is None or math.isnan(self.median(ratio)):
            return math.nan, math.nan
        spread = self.figures["wet"][ratio]
        return float(spread["lower_quartile"]), float(spread["upper_quartile"])


def write_markdown(path: Path, rows: Sequence[Row], about: str, picture: str) -> None:
    """Write one table, what it is about, how it is read, and the picture.

    Parameters
    ----------
    path
        The file to write.
    rows
        In the order of the table; all with the same factors.
    about
        A sentence on model and data.
    picture
        Path of the picture beside it.
    """
    factors = list(rows[0].options)
    titles = ["weights", *factors, *(TITLES.get(r, r) for r in RATIOS)]
    titles += ["water (truth)", "false water", "best epoch"]
    lines = [_line(titles), _line(["---"] * len(titles))]
    lines += [_line(_cells(row)) for row in rows]
    text = "\n".join(lines)
    path.write_text(
        f"# Experiments\n\n{about}\n\n{READING}\n\n{text}\n\n![Experiments]({picture})\n"
    )


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _cells(row: Row) -> Iterator[str]:
    yield row.weights
    yield from (told(value).replace("*", "\\*") for value in row.options.values())
    if row.figures is None:
        yield str(row.record.get("error", "no tile could be prompted"))
        yield from [""] * (len(RATIOS) + 2)
        return
    wet, pooled = row.figures["wet"], row.figures["pooled"]
    yield from (_figure(wet[ratio], pooled[ratio]) for ratio in RATIOS)
    yield f"{_percent(pooled['water_share_pred'])} ({_percent(pooled['water_share_truth'])})"
    yield _percent(row.figures["dry"]["false_water_mean"])
    yield f"{row.record['best_epoch']} of {row.record['epochs']}" if row.record else ""


def _figure(spread: Mapping[str, float | None], pooled: float) -> str:
    if spread["median"] is None:
        return f"all pixels {pooled:.3f}"
    text = "**{median:.3f}** ({lower_quartile:.3f} to {upper_quartile:.3f})<br>mean {mean:.3f}, "
    return text.format(**spread) + f"all pixels {pooled:.3f}"


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f} %"


def write_csv(path: Path, rows: Sequence[Row]) -> None:
    """Write every figure of every row, a column each."""
    flat = [dict(_columns(row)) for row in rows]
    names = list(dict.fromkeys(name for row in flat for name in row))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, names, restval="")
        writer.writeheader()
        writer.writerows(flat)


def _columns(row: Row) -> Iterator[tuple[str, Any]]:
    facts = row.to_dict()
    yield "weights", row.weights
    yield "name", row.name
    yield from row.options.items()
    yield from _flat("", facts["figures"] or {})
    yield from (
        (k, v) for k, v in facts.items() if k in ("epochs", "best_epoch", "seconds", "error")
    )
    yield from _flat("validation_", facts.get("validation", {}))


def _flat(prefix: str, values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(f"{prefix}{name}_", value)
        else:
            yield f"{prefix}{name}", value


def draw_table(path: Path, rows: Sequence[Row]) -> None:
    """Draw medians and quartiles of each cell, tuned and before, as a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    tuned = [row for row in rows if row.weights == TUNED]
    figure = Figure(figsize=(13, 1.6 + 0.34 * len(tuned)), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, ratio in zip(figure.subplots(1, len(PANELS), sharey=True), PANELS, strict=True):
        _draw_panel(axes, rows, tuned, ratio)
    axes = figure.axes[0]
    axes.set_yticks(range(len(tuned)), [row.name for row in tuned])
    axes.invert_yaxis()
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, frameon=False)
    figure.savefig(path, dpi=90, format="png")


def _draw_panel(axes: Any, rows: Sequence[Row], tuned: Sequence[Row], ratio: str) -> None:
    styles = {ZERO_SHOT: ("0.55", "none", -0.14), TUNED: ("tab:blue", "tab:blue", 0.14)}
    for weights, (colour, face, shift) in styles.items():
        found = [row if weights == TUNED else _before(row, rows) for row in tuned]
        places = [i + shift for i, row in enumerate(found) if row is not None]
        shown = [row for row in found if row is not None]
        for place, row in zip(places, shown, strict=True):
            axes.plot(row.quartiles(ratio), (place, place), color=colour, lw=1.6)
        medians = [row.median(ratio) for row in shown]
        label = f"{weights}: median, quartiles"
        axes.plot(medians, places, "o", color=colour, markerfacecolor=face, label=label)
        together = [row.pooled(ratio) for row in shown]
        axes.plot(together, places, "x", color=colour, label=f"{weights}: all pixels")
    for row in rows:
        if row.weights == ALL_WATER:
            label = f"{ALL_WATER}: median"
            axes.axvline(row.median(ratio), color="tab:red", ls=":", label=label)
    axes.set_title(TITLES.get(ratio, ratio))
    axes.grid(axis="x", alpha=0.3)


def _before(row: Row, rows: Sequence[Row]) -> Row | None:
    """Find what the same prompts gave before training."""
    for other in rows:
        same = all(
            value in ("", row.options[name]) or str(row.options[name]).endswith(f"/{value}")
            for name, value in other.options.items()
        )
        if other.weights == ZERO_SHOT and same:
            return other
    return None
