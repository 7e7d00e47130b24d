"""``geosam change``: what moved between dates."""

from __future__ import annotations

from math import isfinite
from typing import Any

import click

from geosam.cli import flags, text

EXAMPLES = """\b
Examples:
  geosam change 1985.tif 2020.tif -o change.gpkg --dates 1985,2020
  geosam change may.gpkg june.gpkg -o change.gpkg --uncertainty 5
  geosam change 1985.tif 1990.tif 1995.tif -o change.gpkg --dates 1985,1990,1995 --plot change.png
"""
_TITLES = ("DATE", "EROSION", "ACCRETION", "MIGRATION", "A YEAR", "CUT-OFFS", "SHORTER BY")


@click.command(cls=flags.GroupedCommand, epilog=EXAMPLES)
@click.argument("sources", metavar="BEFORE AFTER...", nargs=-1)
@flags.output_flag("OUT.gpkg", "The GeoPackage to write.")
@click.option(
    "--dates",
    metavar="D1,D2,...",
    help="A date for each file, as 1985, 1985-07 or 1985-07-16, for rates a year.",
)
@click.option(
    "--uncertainty",
    type=click.FLOAT,
    metavar="M",
    help="Metres that a bank may be wrong at one date; less is not called change.  "
    "[default: half a pixel]",
)
@click.option(
    "--spacing",
    type=click.FLOAT,
    metavar="M",
    help="Metres between perpendiculars along which migration is measured.  "
    "[default: half the river's width]",
)
@click.option(
    "--flow", metavar="n|ne|e|...", help="Compass direction the river flows to, for left and right."
)
@click.option("--plot", metavar="OUT.png", help="Also draw a small map of every step.")
@flags.only_flags("threshold", "min_area", "join_gap", "overwrite")
@flags.report_flags
def change(
    sources: tuple[str, ...], output: str, as_json: bool, quiet: bool, **settings: Any
) -> None:
    """Measure what moved between two dates or more, from early to late.

    Erosion and accretion with their areas, the migration of the main line and the retreat of its
    banks, and bends that were cut off. Files may be outlines, masks or probability rasters, each
    in any CRS and on any grid.
    """
    from geosam.changing import write_change

    written = write_change(sources, output, **settings)
    if as_json:
        text.show_json(written.to_dict())
        return
    text.show_columns(_TITLES, [_row(row) for row in written.counts["series"]])
    click.echo()
    text.show_table([("Time", text.seconds(written.seconds)), ("Written", written.output)])


def _row(row: dict[str, Any]) -> list[str]:
    return [
        row["date"],
        text.area(row["erosion_m2"]),
        text.area(row["accretion_m2"]),
        _known(row["migration_mean_m"]),
        _known(row["rate_m_per_year"]),
        str(row["n_cutoffs"]),
        f"{row['length_lost_m'] / 1000:.1f} km" if row["n_cutoffs"] else "",
    ]


def _known(length: float) -> str:
    return text.metres(length) if isfinite(length) else ""
