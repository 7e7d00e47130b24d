"""``geosam rivers``: what hydrologists measure on outlines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import click

from geosam.cli import flags, text
from geosam.cli.steps import show_written

EXAMPLES = """\b
Examples:
  geosam rivers rivers.gpkg -o rivers.gpkg                 add the layers to the same file
  geosam rivers mask.tif -o rivers.gpkg --spacing 100 --flow se
  geosam rivers rivers.gpkg -o measured.gpkg --probability probability.tif
  geosam rivers mask.tif -o rivers.gpkg --join-gap 30      one river under its bridges
  geosam rivers mask.tif -o rivers.gpkg --plot widths.png
"""


@click.command(cls=flags.GroupedCommand, epilog=EXAMPLES)
@click.argument("source", metavar="OUTLINES_OR_MASK")
@flags.output_flag(
    "OUT.gpkg", "The GeoPackage to write; the same as the input to add layers to it."
)
@click.option(
    "--probability",
    metavar="P.tif",
    help="Probability of the same place, for low and high widths (at 0.75 and 0.25).",
)
@click.option("--plot", metavar="OUT.png", help="Also draw width along the longest main line.")
@flags.only_flags("spacing", "spur", "flow")
@flags.only_flags("threshold", "min_area", "min_island", "simplify", "join_gap", "overwrite")
@flags.report_flags
def rivers(source: str, output: str, as_json: bool, quiet: bool, **settings: Any) -> None:
    """Measure rivers: centrelines, widths, banks, islands, reaches.

    From outlines in a vector file, or from a mask or probability raster. Lakes, ponds, oxbows and
    pools are told from rivers by their shape and what they lie beside; rivers and oxbows have lines.
    """
    from geosam.measuring import write_rivers

    written = write_rivers(source, output, **settings)
    show_written(written, list(_rows(written.counts)), as_json)


def _rows(counts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "Outlines", ", ".join(f"{n} {kind}" for kind, n in counts["kinds"].items())
    if not counts["rivers"]:
        yield "Rivers", "none: no outline is long enough for its width, or leaves the scene"
        return
    main, whole = (f"{counts[name] / 1000:,.2f} km" for name in ("main_m", "channels_m"))
    rivers = "1 river" if counts["rivers"] == 1 else f"{counts['rivers']} rivers"
    yield "Main lines", f"{main} of {rivers}; all channels {whole}"
    if counts["width_m"] is not None:
        span, channels = text.metres(counts["span_m"]), f"{counts['braiding']:.2f} channels"
        yield "Width", f"{text.metres(counts['width_m'])} of water, {span} bank to bank, {channels}"
    yield "Transects", f"{counts['transects']:,}, of which {counts['flagged']:,} are flagged"
