"""What goes to standard error: one sentence for each thing a person should know."""

from __future__ import annotations

import logging
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from geosam.errors import GeosamError, GeosamWarning, is_gpu_full

if TYPE_CHECKING:
    from geosam.report import TileReport

DONE = 0
SOME_TILES_FAILED = 1
WRONG_REQUEST = 2
UNEXPECTED = 3
"""Exit status of an error that no sentence was written for: a defect, or too little memory."""
INTERRUPTED = 130
STARTS_ANEW = "The unfinished work was removed; the same command starts anew."
"""What is said where the interruption itself does not say how to go on."""


def say(text: str) -> None:
    """Write a message to standard error, as one line."""
    click.echo(" ".join(text.split()), err=True)


def end(*reports: TileReport) -> None:
    """Say which of some runs lost tiles, and end the command with their exit status.

    Raises
    ------
    click.exceptions.Exit
        If one of them did.
    """
    failed = [report for report in reports if report.exit_status]
    for report in failed:
        say(
            f"Warning: {report.tiles['failed']} of {sum(report.tiles.values())} tiles failed; the "
            f"layer tiles of {report.output} says which, and why."
        )
    if failed:
        raise click.exceptions.Exit(SOME_TILES_FAILED)


def exit_status(action: Callable[[], Any], debug: bool) -> int:
    """Do something, and turn what goes wrong with it into a sentence and an exit status."""
    try:
        status = action()
        return status if isinstance(status, int) else DONE
    except click.Abort as error:
        say(f"Interrupted. {error.__cause__ or STARTS_ANEW}")
        return INTERRUPTED
    except click.ClickException as error:
        return _fail(_usage_sentence(error), WRONG_REQUEST, debug)
    except GeosamError as error:
        return _fail(str(error), WRONG_REQUEST, debug)
    except MemoryError as error:
        text = f"Not enough memory ({error}). Use a smaller --batch-size, or --workers 1."
        return _fail(text, UNEXPECTED, debug)
    except Exception as error:  # noqa: BLE001  (the program's border: nobody else can catch it)
        return _fail(_unexpected(error), UNEXPECTED, debug)


def _unexpected(error: Exception) -> str:
    if not is_gpu_full(error):
        return f"{type(error).__name__}: {error}. This should not happen; --debug shows where."
    asked = ". ".join(str(error).split(". ")[:2]).rstrip(".")  # the rest is advice on torch
    return (
        f"Not enough memory on the GPU ({asked}). Use another --device, a smaller --batch-size, or a "
        "smaller model."
    )


def _fail(text: str, status: int, debug: bool) -> int:
    if debug:
        click.echo(traceback.format_exc(), err=True)
    say(f"Error: {text}")
    return status


def _usage_sentence(error: click.ClickException) -> str:
    text = error.format_message().strip()
    text = text if text.endswith((".", "?")) else f"{text}."
    context = getattr(error, "ctx", None)
    return text if context is None else f"{text} See {context.command_path} --help."


@contextmanager
def chosen_warnings(quiet: bool, debug: bool) -> Iterator[None]:
    """Show geosam's own warnings once each, as one line, and those of libraries only to debug."""
    shown: set[str] = set()

    def show(message: Warning | str, category: type[Warning], *_: Any) -> None:
        text = str(message)
        if text not in shown and (debug or (not quiet and _is_own(category))):
            shown.add(text)
            say(f"Warning: {text}")

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = show  # type: ignore[assignment]
        yield


def _is_own(category: type[Warning]) -> bool:
    return issubclass(category, GeosamWarning)


def choose_logs(debug: bool) -> None:
    """Let the libraries' loggers speak only to debug: Python prints their warnings by default."""
    if debug:
        logging.basicConfig(level=logging.INFO)
    elif not logging.getLogger().handlers:
        logging.getLogger().addHandler(logging.NullHandler())
