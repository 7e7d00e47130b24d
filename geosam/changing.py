"""Outlines or masks of several dates in files -> what moved: what ``geosam change`` does."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from geosam.change import Moment, measure_change
from geosam.change.dates import check_order
from geosam.clock import Clock
from geosam.commands import Written
from geosam.errors import OptionError
from geosam.export.change_maps import plot_change
from geosam.export.geopackage import write_geopackage
from geosam.measuring import choose, named, read_measurable
from geosam.tables import run_row
from geosam.workspace import Targets, check_targets

_DRAWING = ("threshold", "min_area")
_COMPARING = ("spacing", "join_gap", "flow")


def write_change(
    sources: Sequence[str | Path],
    output: str | Path,
    *,
    dates: str | Sequence[str] | None = None,
    uncertainty: float | None = None,
    plot: str | Path | None = None,
    **options: Any,
) -> Written:
    """Write erosion, accretion, migration and cut-offs between dates: ``geosam change``.

    Parameters
    ----------
    sources
        Two or more files from early to late: outlines, masks or probability rasters, of any grid
        and CRS.
    output
        The GeoPackage to write: layers ``erosion``, ``accretion``, ``migration``, ``cutoffs``,
        ``series``, ``runs``, in the CRS of the first.
    dates
        One for each, as 1985, 1985-07 or 1985-07-16; in a string with commas between. Without them
        the files' names stand for them and there are no rates.
    uncertainty
        As for :func:`geosam.measure_change`.
    plot
        Also draw small maps of every step, as a PNG.
    **options
        Of :class:`geosam.options.Options`: `spacing`, `join_gap` and `flow` as for
        :func:`geosam.measure_change`; `threshold` and `min_area` as for :func:`geosam.outlines`,
        where a source is a raster; `overwrite`, whether to replace existing outputs.

    Raises
    ------
    GeosamError
        If the request or its input is wrong; nothing is written then.
    """
    chosen = choose(options, (*_DRAWING, *_COMPARING, "overwrite"))
    started, clock = datetime.now(UTC), Clock()
    names = _names(sources, dates)
    targets = Targets(outlines=Path(output), quicklook=None if plot is None else Path(plot))
    check_targets(targets, [str(source) for source in sources], chosen.overwrite)
    settings = {"uncertainty": uncertainty, **named(chosen, _COMPARING)}
    with clock.time("outlines"):
        given = [read_measurable(source, None, chosen) for source in sources]
    moments = [
        Moment(name, each.outlines, each.edge, each.pixel_m)
        for name, each in zip(names, given, strict=True)
    ]
    with clock.time("change"):
        layers = measure_change(moments, dated=dates is not None, **settings)
    parameters = {**named(chosen, _DRAWING), **settings, "dates": names}
    row = run_row("change", ", ".join(map(str, sources)), parameters, started, clock)
    write_geopackage(output, overwrite=chosen.overwrite, **layers, runs=row)
    if plot is not None:
        plot_change(layers, [moment.outlines for moment in moments], plot)
    return Written(str(output), (), _counts(layers), clock.seconds())


def _names(sources: Sequence[str | Path], dates: str | Sequence[str] | None) -> list[str]:
    if len(sources) < 2:
        raise OptionError("Change is between two dates or more: name at least two files.")
    if dates is None:
        stems = [Path(source).stem for source in sources]
        if len(set(stems)) < len(stems):
            raise OptionError("Two files have the same name: say which is which with --dates.")
        return stems
    names = dates.split(",") if isinstance(dates, str) else list(dates)
    names = [name.strip() for name in names]
    check_order(names, len(sources))
    return names


def _counts(layers: dict[str, Any]) -> dict[str, Any]:
    series = layers["series"].drop(columns=["water_m2"])
    return {"series": series.to_dict("records"), "cutoffs": len(layers["cutoffs"])}
