"""``geosam models`` and ``geosam demo``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from geosam.cli import flags, text

if TYPE_CHECKING:
    from geosam.demo import Trial

MODELS_EXAMPLES = """\b
Examples:
  geosam models
  geosam models --json
  geosam models ~/checkpoints                    also what lies in a folder of your own
  geosam segment ortho.tif -o rivers.gpkg --model facebook/sam2.1-hiera-tiny
  geosam segment ortho.tif -o rivers.gpkg --model ~/checkpoints/sam_vit_b_01ec64.pth
"""
DEMO_EXAMPLES = """\b
Examples:
  geosam demo
  geosam demo -o /tmp/demo --size 512
"""
_HOW = """
river-tiny is the default: trained by the geosam developers for water, quick on a CPU, part of the
installation. The others come from https://huggingface.co/NAME when they are first named with
--model; the files of the original SAM are fetched by hand, and named with their path.

Without a network: on a machine that has one, run for example
  {fetch}
copy the folder to this machine, and name it: --model {folder_name}
"""


@click.command(cls=flags.GroupedCommand, epilog=MODELS_EXAMPLES)
@click.argument("folders", metavar="[FOLDER]...", nargs=-1)
@flags.report_flags
def models(folders: tuple[str, ...], as_json: bool, quiet: bool) -> None:
    """List models, their licence, and how to get them.

    Listed are those known by name, other checkpoints in the cache of the Hugging Face hub, and those
    in each FOLDER. Any other checkpoint of these families works as well. AUTOSAM tells whether a
    dense prompt network lies beside the model, for --prompts autosam.
    """
    from geosam.models.registry import list_families, list_models

    rows, families = list_models(folders), list_families()
    if as_json:
        text.show_json({"models": rows, "families": families})
        return
    titles = ["MODEL", "FAMILY", "WEIGHTS", "DOWNLOAD", "LICENCE", "AUTOSAM", "HERE"]
    text.show_columns(titles, map(_model, rows))
    click.echo()
    text.show_columns(["FAMILY", "--model TAKES", "TILE SIZE", "NEEDS"], map(_family, families))
    click.echo()
    text.show_columns(["FAMILY", "WEIGHTS FROM"], ([f["name"], f["source"]] for f in families))
    click.echo(_HOW.format(**rows[1]))


def _model(row: dict[str, Any]) -> list[str]:
    return [
        row["name"],
        row["family"],
        f"{row['parameters_m']:,.1f} M" if row["parameters_m"] else "",
        f"{row['download_mb']:,} MB" if row["download_mb"] else "none",
        row["licence"] or "not known",
        "yes" if row["autosam"] else "no",
        row["folder"] or "no",
    ]


def _family(row: dict[str, Any]) -> list[str]:
    return [
        row["name"],
        row["takes"],
        f"{row['size_px']} px; {row['sizes']}",
        row["needs"] or "nothing",
    ]


@click.command(cls=flags.GroupedCommand, epilog=DEMO_EXAMPLES)
@flags.output_flag("DIR", "Folder to write into  [default: geosam-demo]", required=False)
@click.option(
    "--size",
    type=click.INT,
    default=1024,
    show_default=True,
    metavar="PX",
    help="Side of the scene in pixels of 1 m.",
)
@click.option(
    "--seed",
    type=click.INT,
    default=0,
    show_default=True,
    metavar="N",
    help="Another seed draws another river.",
)
@flags.only_flags("model", "overwrite")
@flags.report_flags
def demo(output: str | None, as_json: bool, quiet: bool, **settings: Any) -> None:
    """Try the main job on a synthetic river.

    Its water is known, so the result is scored; once with its near infrared and once without.
    """
    from geosam.demo import demo as show

    shown = show(output or "geosam-demo", progress=not quiet, **settings)
    if as_json:
        text.show_json(shown.to_dict())
        return
    for trial in shown.trials.values():
        text.show_table(_trial(trial))
        click.echo()
    text.show_table([("Time", text.seconds(shown.seconds))])


def _trial(trial: Trial) -> list[tuple[str, str]]:
    scores, report = trial.scores, trial.report
    return [
        ("Scene", f"{trial.folder}/scene.tif"),
        ("Chosen", "\n".join(report.notes)),
        ("IoU", f"{scores.iou:.3f} with the truth, boundary F1 {scores.boundary_f1:.3f}"),
        (
            "Outlines",
            f"{report.outlines} with {report.islands} islands, {text.area(report.water_m2)}",
        ),
        ("Time", text.seconds(report.seconds)),
        ("Look at", f"{trial.folder}/rivers.png"),
        ("In QGIS", f"{trial.folder}/rivers.gpkg"),
    ]
