"""``geosam vectorize`` and ``geosam evaluate``: what one does with a mask."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from geosam.cli import flags, text
from geosam.cli.steps import show_written

if TYPE_CHECKING:
    from geosam.evaluation import Evaluation, Pairs, SetEvaluation

VECTORIZE_EXAMPLES = """\b
Examples:
  geosam vectorize mask.tif -o rivers.gpkg
  geosam vectorize probability.tif -o rivers.gpkg --threshold 0.4 --min-area 500
  geosam vectorize mask.tif -o rivers.gpkg --simplify 0 --join-gap 20
"""
EVALUATE_EXAMPLES = """\b
Examples:
  geosam evaluate mask.tif truth.tif
  geosam evaluate rivers.gpkg truth.tif --tolerance 5
  geosam evaluate probability.tif truth.gpkg --threshold 0.4 --json
  geosam evaluate predictions/ masks/ --tolerance-px 3
"""
_TITLES = {
    "iou": "IoU",
    "f1": "F1",
    "precision": "Precision",
    "recall": "Recall",
    "accuracy": "Accuracy",
    "boundary_f1": "Boundary F1",
}


@click.command(cls=flags.GroupedCommand, epilog=VECTORIZE_EXAMPLES)
@click.argument("mask", metavar="MASK.tif")
@flags.output_flag("OUT.gpkg", "The GeoPackage to write.")
@flags.only_flags("threshold", "min_area", "min_island", "simplify", "join_gap", "overwrite")
@flags.report_flags
def vectorize(mask: str, output: str, as_json: bool, quiet: bool, **settings: Any) -> None:
    """Turn any mask or probability raster into outlines."""
    from geosam.commands import vectorize as write

    written = write(mask, output, **settings)
    counts = written.counts
    rows = [
        ("Outlines", f"{counts['outlines']} with {counts['islands']} islands"),
        ("Water", text.area(counts["water_m2"])),
    ]
    show_written(written, rows, as_json)


@click.command(cls=flags.GroupedCommand, epilog=EVALUATE_EXAMPLES)
@click.argument("pred")
@click.argument("truth")
@click.option(
    "--tolerance",
    type=click.FLOAT,
    metavar="M",
    help="Metres that a bank may be off; two pixels where not given.",
)
@click.option(
    "--tolerance-px",
    type=click.FLOAT,
    default=2.0,
    metavar="PX",
    help="The same in pixels, where --tolerance is not given. [2]",
)
@flags.only_flags("threshold")
@flags.report_flags
def evaluate(
    pred: str,
    truth: str,
    tolerance: float | None,
    tolerance_px: float,
    threshold: float,
    as_json: bool,
    quiet: bool,
) -> None:
    """Compare a prediction with the truth, or two folders of them.

    Each may be a raster or vectors, on any grid and in any CRS, or two pictures of one size without
    georeference. Of two folders, the files of one name are compared; images with less than 1 % of
    true water count by their false water, not by IoU.
    """
    from geosam.evaluation import evaluate as compare
    from geosam.evaluation import evaluate_set, pair_files

    settings: dict[str, Any] = {
        "tolerance_m": tolerance,
        "tolerance_px": tolerance_px,
        "threshold": threshold,
    }
    if not (Path(pred).is_dir() or Path(truth).is_dir()):
        scores = compare(pred, truth, **settings)
        text.show_json(scores.to_dict()) if as_json else text.show_table(_rows(scores))
        return
    files = pair_files(pred, truth)
    found = evaluate_set(files.pairs, **settings)
    if as_json:
        left = {"without_truth": files.only_pred, "without_prediction": files.only_truth}
        text.show_json({**found.to_dict(), **left})
        return
    if found.n_wet:
        text.show_columns(["", "MEDIAN", "MEAN", "QUARTILES", "POOLED"], _columns(found))
        click.echo()
    text.show_table(_notes(found, files))


def _rows(scores: Evaluation) -> list[tuple[str, str]]:
    shares = [text.percent(s) for s in (scores.water_share_pred, scores.water_share_truth)]
    return [
        ("IoU", f"{scores.iou:.3f}"),
        ("F1", f"{scores.f1:.3f}"),
        ("Precision", f"{scores.precision:.3f}"),
        ("Recall", f"{scores.recall:.3f}"),
        ("Boundary F1", f"{scores.boundary_f1:.3f} within {_tolerance(scores)}"),
        ("Water", f"{shares[0]} predicted, {shares[1]} true"),
        ("Pixels", f"{scores.n_pixels:,} that both know"),
    ]


def _tolerance(scores: Evaluation) -> str:
    pixels = f"{scores.tolerance_px:.3g} px"
    return pixels if scores.tolerance_m is None else f"{text.metres(scores.tolerance_m)}, {pixels}"


def _columns(found: SetEvaluation) -> list[list[str]]:
    return [
        [
            _TITLES[name],
            f"{spread.median:.3f}",
            f"{spread.mean:.3f}",
            f"{spread.lower_quartile:.3f} to {spread.upper_quartile:.3f}",
            f"{getattr(found.pooled, name):.3f}",
        ]
        for name, spread in found.wet.items()
    ]


def _notes(found: SetEvaluation, files: Pairs) -> list[tuple[str, str]]:
    mean, high = text.percent(found.false_water_mean), text.percent(found.false_water_90th)
    rows = [("Images", f"{found.n_wet} with at least 1% of water, {found.n_dry} with less")]
    if found.n_dry:
        rows.append(("False water", f"mean {mean}, 90th percentile {high}, where there is less"))
    rows.append(("Banks", f"found within {_tolerance(found.pooled)}"))
    wet = sorted((image.figures.iou, image.name) for image in found.images if not image.is_dry)
    if wet:
        rows.append(("Lowest IoU", ", ".join(f"{name} {iou:.3f}" for iou, name in wet[:3])))
    left_out = (
        ("All unknown", found.unknown),
        ("No truth", files.only_pred),
        ("No prediction", files.only_truth),
    )
    return rows + [(title, _some(names)) for title, names in left_out if names]


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{', '.join(names[:3])}{more}: left out"
