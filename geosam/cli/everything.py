"""``geosam everything``: automatic mask generation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from geosam.cli import flags, text
from geosam.cli.messages import end
from geosam.generation_rules import GenerationRules

if TYPE_CHECKING:
    from geosam.inventory import Found

EXAMPLES = """\b
Examples:
  geosam everything ortho.tif -o segments.gpkg
  geosam everything ortho.tif -o segments.gpkg --labels labels.tif --quicklook segments.png
  geosam everything ortho.tif -o segments.gpkg --aoi harbour.gpkg --min-area 20
  geosam everything ortho.tif -o segments.gpkg --model facebook/sam-vit-base --points-per-side 32
  geosam everything ortho.tif -o segments.gpkg --coco annotations.json
"""


@click.command(cls=flags.GroupedCommand, epilog=EXAMPLES)
@click.argument("scenes", metavar="SCENE...", nargs=-1)
@flags.output_flag("OUT.gpkg", "The GeoPackage to write.")
@flags.scene_flags(("scene", "model"))
@flags.rule_flags(GenerationRules)
@flags.flag(
    "--max-share",
    "A segment goes if it is more of the scene than this: what the others lie on.",
    group="masks",
    type=click.FLOAT,
    default=0.5,
    show_default=True,
    metavar="SHARE",
)
@flags.flag(
    "--labels",
    "Also write a raster of segment numbers (COG), the smallest where they overlap.",
    metavar="OUT.tif",
)
@flags.flag(
    "--coco", "Also write the segments as COCO JSON, in pixels of the scene.", metavar="OUT.json"
)
@flags.only_flags("min_area", "simplify", "quicklook", "aoi", "resume", "overwrite")
@flags.report_flags
def everything(
    scenes: tuple[str, ...], output: str, as_json: bool, quiet: bool, **options: Any
) -> None:
    """Find every object of a scene, each once and whole across tiles.

    Segments may contain one another, as a house does its chimney. Defaults of the masks are those
    that the model has recorded, else SAM's.
    """
    from geosam.inventory import everything as find

    found = find(scenes, output, progress=not quiet, **options)
    if as_json:
        text.show_json(found.to_dict())
    else:
        text.show_table(_summary(found))
    end(found)


def _summary(found: Found) -> Iterator[tuple[str, str]]:
    yield "Chosen", "\n".join(found.notes)
    median = f", half of them over {text.area(found.area_m2)}" if found.segments else ""
    yield "Segments", f"{found.segments:,}{median}"
    yield "Tiles", text.tiles(found.tiles, found.resolution_m)
    yield "Time", text.seconds(found.seconds)
    yield "Written", "\n".join(found.files)
