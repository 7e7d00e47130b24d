"""The table of options -> flags, and a help page that shows them by group."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import click

from geosam.options import Options

GROUPS = ("scene", "model", "prompts", "output")
"""The groups of :class:`geosam.options.Options`, as a help page shows them."""

TITLES = {
    "scene": "The scene",
    "model": "The model, and what it sees",
    "prompts": "The prompts",
    "masks": "The masks, by the names of SAM's generator",
    "output": "The output",
    "general": "General",
}
"""Headings on the help page."""

_TYPES: dict[type, click.ParamType] = {
    int: click.INT,
    float: click.FLOAT,
    str: click.STRING,
    Path: click.STRING,
}


class GroupedOption(click.Option):
    """An option that knows its place on the help page."""

    def __init__(self, *args: Any, group: str = "general", **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.group = group


class GroupedCommand(click.Command):
    """A command whose help page lists options by group."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write one section of options a group."""
        sections: dict[str, list[tuple[str, str]]] = {name: [] for name in TITLES}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None and isinstance(parameter, click.Option):
                sections[getattr(parameter, "group", "general")].append(record)
        for name, records in sections.items():
            if records:
                with formatter.section(TITLES[name]):
                    formatter.write_dl(records)


def scene_flags(groups: Collection[str] = GROUPS, leave_out: Collection[str] = ()) -> Callable:
    """Return a decorator that adds every option of some groups, but for those named."""
    return _add(f for f in _fields() if f.metadata["group"] in groups and f.name not in leave_out)


def only_flags(*names: str) -> Callable:
    """Return a decorator that adds the named options."""
    return _add(f for f in _fields() if f.name in names)


def rule_flags(table: type) -> Callable:
    """Return a decorator that adds every field of a table, whose defaults a model may overrule."""
    hints = typing.get_type_hints(table)

    def decorate(command: Callable) -> Callable:
        for field in reversed(dataclasses.fields(table)):
            command = _rule(field, hints[field.name])(command)
        return command

    return decorate


def _rule(field: dataclasses.Field, hint: Any) -> Callable:
    flag = "--" + field.name.replace("_", "-")
    shown = f"{field.default:.3g}" if hint is float else str(field.default)
    shown = ("yes" if field.default else "no") if hint is bool else shown
    return click.option(
        f"{flag}/--no-{flag[2:]}" if hint is bool else flag,
        field.name,
        default=None,
        type=None if hint is bool else _click_type(hint),
        metavar=field.metadata["metavar"],
        help=f"{field.metadata['help']}  [default: the model's, else {shown}]",
        cls=GroupedOption,
        group=field.metadata["group"],
    )


def flag(name: str, text: str, group: str = "output", **settings: typing.Any) -> Callable:
    """Return a decorator that adds an option of one command alone, shown in a group."""
    return click.option(name, help=text, cls=GroupedOption, group=group, **settings)


def output_flag(metavar: str, text: str, required: bool = True) -> Callable:
    """Return a decorator that adds ``-o``."""
    return click.option(
        "-o",
        "--output",
        required=required,
        metavar=metavar,
        help=text,
        cls=GroupedOption,
        group="output",
    )


def report_flags(command: Callable) -> Callable:
    """Add ``--json``, ``--quiet`` and ``--debug``: how a command says what it did."""
    return json_flag(quiet_flag(debug_flag(command)))


def json_flag(command: Callable) -> Callable:
    """Add ``--json``."""
    text = "Print one JSON object instead of the summary."
    return click.option("--json", "as_json", is_flag=True, help=text, cls=GroupedOption)(command)


def quiet_flag(command: Callable) -> Callable:
    """Add ``--quiet``."""
    text = "No progress and no warnings."
    return click.option("-q", "--quiet", is_flag=True, help=text, cls=GroupedOption)(command)


def debug_flag(command: Callable) -> Callable:
    """Add ``--debug``, which the program looks for itself, before a command is known."""
    text = "Show the traceback of an error, and what the libraries say."
    return click.option("--debug", is_flag=True, expose_value=False, help=text, cls=GroupedOption)(
        command
    )


def _fields() -> list[dataclasses.Field]:
    return list(dataclasses.fields(Options))


def _add(fields: typing.Iterable[dataclasses.Field]) -> Callable:
    hints = typing.get_type_hints(Options)
    options = [_option(field, hints[field.name]) for field in fields]

    def decorate(command: Callable) -> Callable:
        # A decorator adds its option before those of the decorators below it.
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def _option(field: dataclasses.Field, hint: Any) -> Callable:
    flag = "--" + field.name.replace("_", "-")
    settings = {
        "help": field.metadata["help"],
        "cls": GroupedOption,
        "group": field.metadata["group"],
    }
    if hint is bool:
        names = f"{flag}/--no-{flag[2:]}" if field.default else flag
        return click.option(names, field.name, is_flag=True, default=field.default, **settings)
    return click.option(
        flag,
        field.name,
        type=_click_type(hint),
        default=field.default,
        show_default=field.default is not None,
        metavar=field.metadata["metavar"],
        **settings,
    )


def _click_type(hint: Any) -> click.ParamType:
    members = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    # A number where the hint allows one; what else it allows is written as text.
    return next(_TYPES[kind] for kind in (int, float, str, Path) if kind in members)
