"""``geosam coco``: annotations to polygons and back."""

from __future__ import annotations

from typing import Any

import click

from geosam.cli import flags
from geosam.cli.steps import show_written

EXAMPLES = """\b
Examples:
  geosam coco segments.gpkg -o annotations.json --grid ortho.tif
  geosam coco rivers.gpkg -o annotations.json --grid ortho.tif --layer outlines
  geosam coco annotations.json -o segments.gpkg                     written by geosam
  geosam coco annotations.json -o segments.gpkg --grid ortho.tif    drawn on this image
"""


@click.command(cls=flags.GroupedCommand, epilog=EXAMPLES)
@click.argument("source", metavar="SOURCE")
@flags.output_flag("OUT", "The COCO file (.json) or GeoPackage (.gpkg) to write.")
@click.option("--grid", metavar="SCENE.tif", help="The raster whose pixels the annotations count.")
@click.option(
    "--layer", metavar="NAME", help="Layer to export.  [default: segments, else outlines]"
)
@click.option("--image", metavar="NAME", help="Image to import, where the file has several.")
@flags.only_flags("overwrite")
@flags.report_flags
def coco(source: str, output: str, as_json: bool, quiet: bool, **settings: Any) -> None:
    """Bring polygons into COCO JSON, or annotations of COCO JSON onto the ground.

    What SOURCE ends in says which way. Masks are run lengths, polygons and run lengths are read.
    """
    from geosam.commands import convert_coco

    written = convert_coco(source, output, **settings)
    show_written(written, [("Objects", f"{written.counts['objects']:,}")], as_json)
