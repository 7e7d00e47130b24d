"""``geosam``: the group of commands, and what every one of them shares."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

import click

from geosam import __version__
from geosam.cli.change import change
from geosam.cli.coco import coco
from geosam.cli.everything import everything
from geosam.cli.extras import demo, models
from geosam.cli.messages import INTERRUPTED, choose_logs, chosen_warnings, exit_status
from geosam.cli.rivers import rivers
from geosam.cli.segment import segment
from geosam.cli.steps import coarse, encode, info, plan, prompts
from geosam.cli.train import train
from geosam.cli.vectors import evaluate, vectorize

HELP = """From satellite scenes and orthomosaics of any size to river outlines.

\b
Examples:
  geosam demo                                   try it on a synthetic scene
  geosam info ortho.tif                         look at a scene before a run
  geosam segment ortho.tif -o rivers.gpkg       river outlines as a GeoPackage
"""
EPILOG = """\b
Exit status:
    0  done
    1  finished, but some tiles failed; the layer `tiles` lists them
    2  the request or its input is wrong, and one sentence says how to mend it
    3  an error that should not happen, or too little memory
  130  interrupted; where work was done, --resume goes on
"""


class Program(click.Group):
    """A group of commands that ends with one sentence and an exit status, whatever happens."""

    def main(  # type: ignore[override]
        self, args: Sequence[str] | None = None, prog_name: str | None = None, **extra: Any
    ) -> Any:
        """Run the command line and leave Python with its exit status."""
        words = list(sys.argv[1:] if args is None else args)
        debug, quiet = "--debug" in words, bool({"-q", "--quiet"} & set(words))
        settings = {**extra, "standalone_mode": False}
        choose_logs(debug)
        with chosen_warnings(quiet, debug):
            run = super().main
            sys.exit(exit_status(lambda: run(words, prog_name or "geosam", **settings), debug))


@click.group(
    "geosam",
    cls=Program,
    help=HELP,
    epilog=EPILOG,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="geosam", message="%(prog)s %(version)s")
@click.pass_context
def app(ctx: click.Context) -> None:
    """Show the help page where no command is named."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


for command in (
    segment,
    plan,
    info,
    coarse,
    prompts,
    encode,
    vectorize,
    rivers,
    change,
    everything,
    coco,
    evaluate,
    train,
    models,
    demo,
):
    app.add_command(command)


def main() -> None:
    """Run the command line."""
    try:
        app()
    except SystemExit as end:
        if end.code == INTERRUPTED:
            sys.stdout.flush()
            sys.stderr.flush()
            # Python would wait for threads in the middle of a block: whoever insists does not.
            os._exit(INTERRUPTED)
        raise
