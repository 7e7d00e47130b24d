"""A style of QGIS with one entry for each step between dates, of which the last alone is shown."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree as ET


def steps_apart(qml: str, steps: Sequence[tuple[str, str]], *, sure: bool) -> str:
    """Turn a style of one symbol into one that can show a step at a time.

    Parameters
    ----------
    qml : str
        A QGIS style with a single symbol.
    steps : sequence of (str, str)
        `from_date` and `to_date` of each step, from early to late.
    sure : bool
        Whether rows tell by `beyond_uncertainty` what is change; the others get an entry of their
        own that is not shown.

    Returns
    -------
    str
        The style with the same symbol for every entry. All steps upon each other cannot be read,
        so that the last alone is ticked in the legend.
    """
    root = ET.fromstring(qml)
    renderer = root.find("renderer-v2")
    symbols = None if renderer is None else renderer.find("symbols")
    symbol = None if symbols is None else symbols.find("symbol")
    if renderer is None or symbols is None or symbol is None:
        raise ValueError("The style has no symbol.")
    renderer.set("type", "RuleRenderer")
    rules = ET.Element("rules", key="steps")
    renderer.insert(0, rules)
    entries = [(f"{a} to {b}", _of_step(a, b, sure)) for a, b in steps]
    if sure:
        entries.append(("within the uncertainty", 'NOT "beyond_uncertainty"'))
    symbols.clear()
    for number, (label, rows) in enumerate(entries):
        shown = "1" if number == len(steps) - 1 else "0"
        key = str(number)
        ET.SubElement(
            rules, "rule", key=key, symbol=key, label=label, filter=rows, checkstate=shown
        )
        own = ET.fromstring(ET.tostring(symbol))
        own.set("name", key)
        symbols.append(own)
    return ET.tostring(root, encoding="unicode")


def _of_step(before: str, after: str, sure: bool) -> str:
    rows = f'"from_date" = {_quoted(before)} AND "to_date" = {_quoted(after)}'
    return rows + ' AND "beyond_uncertainty"' if sure else rows


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
