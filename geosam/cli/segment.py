"""``geosam segment``: the main job."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from geosam.cli import flags, text
from geosam.cli.messages import end

if TYPE_CHECKING:
    from geosam.report import Report

EXAMPLES = """\b
Examples:
  geosam segment ortho.tif -o rivers.gpkg
  geosam segment ortho.tif -o rivers.gpkg --probability p.tif --quicklook rivers.png
  geosam segment scene.tif -o rivers.gpkg --bands red=3,green=2,blue=1,nir=4
  geosam segment -o rivers.gpkg --bands red=B04.tif,green=B03.tif,blue=B02.tif,nir=B08.tif
  geosam segment scene.tif -o rivers.gpkg --prompts my_points.gpkg
  geosam segment west.tif east.tif -o rivers.gpkg      one mosaic, one result
  geosam segment 2016.tif 2020.tif -o rivers/          one result a scene
"""


@click.command(cls=flags.GroupedCommand, epilog=EXAMPLES)
@click.argument("scenes", metavar="SCENE...", nargs=-1)
@flags.output_flag("OUT.gpkg", "The GeoPackage to write; or a folder, for one a scene.")
@flags.scene_flags()
@flags.report_flags
def segment(
    scenes: tuple[str, ...], output: str, as_json: bool, quiet: bool, **options: Any
) -> None:
    """Turn a raster of any size into river outlines.

    Several scenes of the same bands and CRS are one mosaic; no SCENE where --bands names one file
    a band. Everything that is not said is chosen from the scene, and the summary tells what was.
    """
    from geosam.batch import is_folder, run_each
    from geosam.runs import run

    if is_folder(output):
        reports = run_each(scenes, output, progress=not quiet, **options)
        _show_each(output, reports, as_json)
    else:
        reports = {"": run(scenes, output, progress=not quiet, **options)}
        _show(reports[""], as_json)
    end(*reports.values())


def _show(report: Report, as_json: bool) -> None:
    if as_json:
        text.show_json(report.to_dict())
    else:
        text.show_table(summary(report))


def _show_each(folder: str, reports: dict[str, Report], as_json: bool) -> None:
    if as_json:
        text.show_json(
            {"output": folder, "runs": [report.to_dict() for report in reports.values()]}
        )
        return
    for scene, report in reports.items():
        text.show_table([("Scene", scene), *summary(report)])
        click.echo()


def summary(report: Report) -> Iterator[tuple[str, str]]:
    """Return names and values of what a person wants to know of a run."""
    yield "Chosen", "\n".join(report.notes)
    yield "Outlines", f"{report.outlines} with {report.islands} islands"
    yield (
        "Water",
        f"{text.area(report.water_m2)}, {text.percent(report.water_share)} of the valid pixels",
    )
    yield "Tiles", text.tiles(report.tiles, report.resolution_m)
    yield "Time", text.seconds(report.seconds)
    yield "Written", "\n".join(report.files)
