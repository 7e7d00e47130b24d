"""``geosam info``, ``coarse`` and ``prompts``: the main job up to its first steps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from geosam.cli import flags, text

if TYPE_CHECKING:
    from geosam.commands import Written
    from geosam.planning import Plan

INFO_EXAMPLES = """\b
Examples:
  geosam info ortho.tif
  geosam info scene.tif --bands red=3,green=2,blue=1,nir=4
  geosam info scene.tif --resolution 5 --json
"""
PLAN_EXAMPLES = """\b
Examples:
  geosam plan ortho.tif
  geosam plan ortho.tif --resolution 0.5 --json
  geosam plan ortho.tif --model facebook/sam-vit-base --device cuda
"""
COARSE_EXAMPLES = """\b
Examples:
  geosam coarse scene.tif -o coarse.tif
  geosam coarse scene.tif -o coarse.tif --index mndwi --index-threshold 0.1
  geosam segment scene.tif -o rivers.gpkg --prompts coarse.tif    once you have mended it
"""
PROMPTS_EXAMPLES = """\b
Examples:
  geosam prompts scene.tif -o prompts.gpkg
  geosam prompts scene.tif -o prompts.gpkg --points 5 --negatives 4
  geosam segment scene.tif -o rivers.gpkg --prompts prompts.gpkg  once you have mended them
"""

ENCODE_EXAMPLES = """\b
Examples:
  geosam encode ortho.tif --store embeddings
  geosam segment ortho.tif -o rivers.gpkg --store embeddings                      nothing is encoded again
  geosam segment ortho.tif -o other.gpkg --store embeddings --prompts mine.gpkg   nor with other prompts
"""

scenes_argument = click.argument("scenes", metavar="SCENE...", nargs=-1)
_NOT_DECODED = ("batch_size", "store")


@click.command(cls=flags.GroupedCommand, epilog=INFO_EXAMPLES)
@scenes_argument
@flags.scene_flags(
    ("scene", "model", "prompts"), (*_NOT_DECODED, "device", "precision", "workers", "scheduler")
)
@flags.only_flags("aoi")
@flags.report_flags
def info(scenes: tuple[str, ...], as_json: bool, quiet: bool, **options: Any) -> None:
    """Show what a scene is, and what segment would choose."""
    from geosam.inspection import info as look

    facts = look(scenes, **options)
    if as_json:
        text.show_json(facts)
        return
    text.show_table(_facts(facts))
    click.echo("\ngeosam segment would choose")
    text.show_table(_choice(facts["choice"]))


def _facts(facts: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield "Scene", "\n".join(facts["scene"])
    yield "Grid", "{:,} rows x {:,} columns, {}".format(*facts["shape"], facts["crs"])
    yield "Pixel", "{:g} x {:g} units of the CRS".format(*facts["pixel"])
    yield "Ground", " x ".join(text.metres(side) for side in facts["ground_m"])
    yield "Bounds", ", ".join(f"{edge:.10g}" for edge in facts["bounds"])
    yield "Bands", ", ".join(facts["bands"])
    if facts["notes"]:
        yield "", "\n".join(facts["notes"])
    yield "Nodata", text.percent(facts["nodata_share"])


def _choice(choice: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield "Choice", "\n".join(choice["notes"])
    yield "Model", f"{choice['model']} at {text.metres(choice['resolution_m'])}"
    if choice["tiles"] is None:
        yield "Tiles", "known once the model is at hand; see geosam models"
    else:
        yield "Tiles", "{tiles:,} of {tile_size} px, {overlap} px shared".format(**choice)


@click.command(cls=flags.GroupedCommand, epilog=PLAN_EXAMPLES)
@scenes_argument
@flags.scene_flags(("scene", "model", "prompts"), ("store", "rounds", "scheduler"))
@flags.only_flags("aoi")
@flags.report_flags
def plan(scenes: tuple[str, ...], as_json: bool, quiet: bool, **options: Any) -> None:
    """Say what segment would take, before starting: tiles, memory, disk and minutes.

    A few groups of tiles are really segmented for it, so the first figures take some seconds.
    """
    from geosam.planning import plan as estimate

    found = estimate(scenes, **options)
    if as_json:
        text.show_json(found.to_dict())
    else:
        text.show_table(_planned(found))


def _planned(found: Plan) -> Iterator[tuple[str, str]]:
    yield (
        "Tiles",
        f"{found.tiles:,}: {found.without_data:,} without data, about {found.without_prompts:,} "
        f"without prompts, {found.to_encode:,} to encode ({found.sampled:,} looked at)",
    )
    yield "Time", f"about {text.minutes(found.minutes)} on this machine, as it is busy now"
    yield "Memory", f"about {text.size(found.memory_bytes)}"
    yield "Disk", f"up to {text.size(found.disk_bytes)}; {text.size(found.free_bytes)} are free"
    yield "Store", f"{text.size(found.store_bytes)}, with --store"
    if found.advice:
        yield "Advice", "\n".join(found.advice)


@click.command(cls=flags.GroupedCommand, epilog=COARSE_EXAMPLES)
@scenes_argument
@flags.output_flag("COARSE.tif", "The mask to write: 1 water, 0 land, 255 nodata.")
@flags.scene_flags(
    ("scene", "model", "prompts"),
    (*_NOT_DECODED, "boxes", "dense", "points", "negatives", "seed", "rounds"),
)
@flags.only_flags("aoi", "overwrite")
@flags.report_flags
def coarse(
    scenes: tuple[str, ...], output: str, as_json: bool, quiet: bool, **options: Any
) -> None:
    """Write the coarse mask that prompts are drawn from.

    It lies on the grid the model works on. Mended by hand, it can be given back with --prompts.
    """
    from geosam.commands import write_coarse

    written = write_coarse(scenes, output, progress=not quiet, **options)
    share = text.percent(written.counts["water_share"])
    size = text.metres(written.counts["resolution_m"])
    show_written(written, [("Water", f"{share} of the valid pixels, at {size}")], as_json)


@click.command(cls=flags.GroupedCommand, epilog=PROMPTS_EXAMPLES)
@scenes_argument
@flags.output_flag("PROMPTS.gpkg", "The GeoPackage to write.")
@flags.scene_flags(("scene", "model", "prompts"), _NOT_DECODED)
@flags.only_flags("aoi", "overwrite")
@flags.report_flags
def prompts(
    scenes: tuple[str, ...], output: str, as_json: bool, quiet: bool, **options: Any
) -> None:
    """Write the prompts as segment would use them.

    Given back with --prompts, and the other options as they were, they give the same result.
    """
    from geosam.commands import write_prompts

    written = write_prompts(scenes, output, progress=not quiet, **options)
    counts = {name: int(value) for name, value in written.counts.items()}
    line = (
        "{points_on_water} points on water, {points_on_land} on land, {boxes} boxes, "
        "{polygons} polygons"
    )
    show_written(written, [("Prompts", line.format(**counts))], as_json)


@click.command(cls=flags.GroupedCommand, epilog=ENCODE_EXAMPLES)
@scenes_argument
@flags.scene_flags(("scene", "model", "prompts"), ("rounds",))
@flags.only_flags("aoi")
@flags.report_flags
def encode(scenes: tuple[str, ...], as_json: bool, quiet: bool, **options: Any) -> None:
    """Fill an embedding store, so that asking with other prompts later encodes nothing.

    Only tiles with data and with prompts are encoded: --prompts none takes all that have data. A
    store that was interrupted, or filled in part, is gone on with.
    """
    from geosam.commands import fill_store

    written = fill_store(scenes, progress=not quiet, **options)
    counts = {name: int(value) for name, value in written.counts.items()}
    line = "{wanted} of {tiles} have data and prompts; {encoded} were encoded now"
    show_written(written, [("Tiles", line.format(**counts))], as_json)


def show_written(written: Written, facts: list[tuple[str, str]], as_json: bool) -> None:
    """Show what a step wrote."""
    if as_json:
        text.show_json(written.to_dict())
        return
    chosen = [("Chosen", "\n".join(written.notes))] if written.notes else []
    time = ("Time", text.seconds(written.seconds))
    text.show_table([*chosen, *facts, time, ("Written", written.output)])
