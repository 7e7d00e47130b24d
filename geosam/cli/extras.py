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
  geosam segment ortho.tif -o rivers.gpkg --model facebook/sam2.1-hiera-tiny
"""
DEMO_EXAMPLES = """\b
Examples:
  geosam demo
  geosam demo -o /tmp/demo --size 512
"""
_HOW = """
river-tiny is the default: trained by the geosam developers for water, quick on a CPU, part of the
installation. The others are by Meta AI and come from https://huggingface.co/NAME when they are
first named with --model.

Without a network: on a machine that has one, run for example
  {fetch}
copy the folder to this machine, and name it: --model {folder_name}
"""


@click.command(cls=flags.GroupedCommand, epilog=MODELS_EXAMPLES)
@flags.json_flag
@flags.debug_flag
def models(as_json: bool) -> None:
    """List models, their licence, and how to get them.

    Any other checkpoint of SAM, SAM 2 or SAM 2.1 that transformers loads works as well: --model
    takes its folder or its Hugging Face id. AUTOSAM tells whether a dense prompt network lies
    beside the model, for --prompts autosam.
    """
    from geosam.models.registry import list_models

    rows = list_models()
    if as_json:
        text.show_json({"models": rows})
        return
    titles = ["MODEL", "WEIGHTS", "DOWNLOAD", "LICENCE", "AUTOSAM", "HERE"]
    text.show_columns(titles, map(_model, rows))
    click.echo(_HOW.format(**rows[1]))


def _model(row: dict[str, Any]) -> list[str]:
    return [
        row["name"],
        f"{row['parameters_m']:,.1f} M" if row["parameters_m"] else "",
        f"{row['download_mb']:,} MB" if row["download_mb"] else "none",
        row["licence"],
        "yes" if row["autosam"] else "no",
        row["folder"] or "no",
    ]


@click.command(cls=flags.GroupedCommand, epilog=DEMO_EXAMPLES)
@flags.output_flag("DIR", "Folder to write into  [default: geosam-demo]", required=False)
@click.option(
    "--size",
    type=click.INT,
    default=1024,
    show_default=True,
    metavar="PX",
    help="Side of the scene in pixels of 2 m.",
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
@flags.json_flag
@flags.quiet_flag
@flags.debug_flag
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
