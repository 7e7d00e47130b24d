"""``geosam vectorize`` and ``geosam evaluate``: what one does with a mask."""

from __future__ import annotations

from typing import Any

import click

from geosam.cli import flags, text
from geosam.cli.steps import show_written

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
"""


@click.command(cls=flags.GroupedCommand, epilog=VECTORIZE_EXAMPLES)
@click.argument("mask", metavar="MASK.tif")
@flags.output_flag("OUT.gpkg", "The GeoPackage to write.")
@flags.only_flags("threshold", "min_area", "min_island", "simplify", "join_gap", "overwrite")
@flags.json_flag
@flags.quiet_flag
@flags.debug_flag
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
@flags.only_flags("threshold")
@flags.json_flag
@flags.debug_flag
def evaluate(
    pred: str, truth: str, tolerance: float | None, threshold: float, as_json: bool
) -> None:
    """Compare a prediction with the truth.

    Each may be a raster or vectors, on any grid and in any CRS.
    """
    from geosam.evaluation import evaluate as compare

    scores = compare(pred, truth, tolerance_m=tolerance, threshold=threshold)
    if as_json:
        text.show_json(scores.to_dict())
        return
    banks = f"{scores.boundary_f1:.3f} within {text.metres(scores.tolerance_m)}"
    shares = [text.percent(s) for s in (scores.water_share_pred, scores.water_share_truth)]
    text.show_table(
        [
            ("IoU", f"{scores.iou:.3f}"),
            ("F1", f"{scores.f1:.3f}"),
            ("Precision", f"{scores.precision:.3f}"),
            ("Recall", f"{scores.recall:.3f}"),
            ("Boundary F1", banks),
            ("Water", f"{shares[0]} predicted, {shares[1]} true"),
            ("Pixels", f"{scores.n_pixels:,} that both know"),
        ]
    )
