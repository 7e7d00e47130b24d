"""Files -> one scene that has been looked at and not read: its grid, its bands, its nodata."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
from odc.geo.geobox import GeoBox

from geosam.bands import OPTICAL, BandNames, canonical_role, infer_roles, names_file, parse_bands
from geosam.errors import BandError, GeosamWarning, InputError, OptionError
from geosam.raster.files import RasterFile, look_at, look_at_picture
from geosam.raster.mosaic import union_geobox
from geosam.raster.parts import Part
from geosam.raster.validity import ValidMask, find_frame, holds_alpha, parse_valid

_FRAMES = ("nodata", "keep", "refuse")


class Reading(TypedDict, total=False):
    """Keywords of :func:`inspect_scene`, where they are handed on: what a scene's files mean."""

    bands: str | Mapping[str, Any] | None
    scale: float | None
    offset: float | None
    nodata: float | None
    crs: str | None
    valid: str | None
    frame: str
    mosaic: str | None


@dataclass(frozen=True)
class Source:
    """A scene that has been looked at and not read."""

    paths: tuple[str, ...]
    """The files, as they were given."""
    parts: tuple[Part, ...]
    """Each file's share; where they overlap the first that is valid counts."""
    names: BandNames
    """The role of each band, and how it is known."""
    places: tuple[str, ...]
    """What holds each band: its index, or its file."""
    geobox: GeoBox
    """The scene's own grid: that of its finest band."""
    valid: ValidMask | None
    """Which pixels count."""

    @property
    def sentence(self) -> str:
        """The bands and how their roles are known, in one line."""
        return self.names.sentence(self.places)


def inspect_scene(
    paths: str | Path | Sequence[str | Path],
    *,
    bands: str | Mapping[str, Any] | None = None,
    scale: float | None = None,
    offset: float | None = None,
    nodata: float | None = None,
    crs: str | None = None,
    valid: str | None = None,
    frame: str = "nodata",
    mosaic: str | None = None,
) -> Source:
    """Look at the files of a scene without reading more than a thinned-out sample of them.

    Parameters
    ----------
    paths : path, str or sequence of them
        A raster that GDAL opens, or several of the same bands, CRS and resolution: one mosaic,
        whose grids are moved onto that of the first by up to half a pixel. May be empty, or repeat
        the files, where `bands` names files.
    bands : str, mapping or None
        ``"red=3,nir=B8"`` or a mapping: role to 1-based index, description, or file. One file a
        band may have any resolution; the finest is the scene's. Default: inferred.
    scale, offset, nodata, crs : optional
        Instead of what the files say: value = stored * scale + offset, nodata as stored.
        Below zero, optical bands are set to 0 where a scale or offset is in force, and where they
        are stored as signed integers, down to -2000 there. Other bands (radar in decibels, unnamed
        ones) and unscaled floats are never clipped.
    valid : str or None
        ``"MASK.tif"`` or ``"qa.tif:1,2"``: only its non-zero pixels, or those values, count.
    frame : {"nodata", "keep", "refuse"}
        What to do with a frame without a nodata tag in a file where nothing marks nodata: all bands
        hold one value, or in 8 bits are nearly black or white, in a region that is connected to the
        border and more than 1 % of the scene.
    mosaic : {"first", "last"} or None
        Which of overlapping files wins; by default more than 20 % of overlap is refused.

    Raises
    ------
    InputError, BandError
        The files cannot be used as one scene.
    OptionError
        `frame` or `mosaic` is none of these.

    Warns
    -----
    GeosamWarning
        A frame is taken for nodata.
    """
    given = parse_bands(bands) if isinstance(bands, str) else dict(bands or {})
    as_files = {role: str(value) for role, value in given.items() if names_file(value)}
    if as_files and len(as_files) < len(given):
        raise BandError(
            "--bands mixes files and indices. Give one file for each band, or one index for each."
        )
    if frame not in _FRAMES:
        raise OptionError(f"Frame {frame!r} is not known: use one of {', '.join(_FRAMES)}.")
    if mosaic not in (None, "first", "last"):
        raise OptionError(f"Mosaic rule {mosaic!r} is not known: use first or last.")
    listed = tuple(os.fspath(p) for p in ([paths] if isinstance(paths, (str, Path)) else paths))
    _check_named(listed, as_files)
    build = _band_files(as_files, crs) if as_files else _mosaic_files(listed, given, crs, mosaic)
    parts = tuple(_with_values(part, build.names, scale, offset, nodata) for part in build.parts)
    shown = tuple(as_files.values()) or listed
    if len(build.names.names) < 2 and not given:
        raise BandError(
            f"{shown[0]} has one band; rivers need at least two. Give the others with --bands "
            "green=B03.tif,nir=B08.tif, or several bands in one file."
        )
    parts = _without_frames(parts, bool(as_files), frame)
    return Source(
        shown, parts, build.names, build.places, build.geobox, parse_valid(valid) if valid else None
    )


def inspect_picture(
    path: str | Path, bands: str | Mapping[str, Any] | None = None, nodata: float | None = None
) -> Source:
    """Look at an image that has no place on Earth, such as a training chip.

    Parameters
    ----------
    path
        A raster that GDAL opens; georeferencing is not looked at.
    bands
        Role to 1-based index or description. Default: inferred.
    nodata
        Instead of what the file says.

    Returns
    -------
    Source
        On a grid without CRS that counts pixels from the upper left corner.

    Raises
    ------
    InputError, BandError
        The file cannot be used as an image.
    """
    given = parse_bands(bands) if isinstance(bands, str) else dict(bands or {})
    file = _with_true_colours([look_at_picture(path)], given)[0]
    indexes = _scene_indexes(file)
    names = _names_of(file, given, indexes)
    part = _part(file, file.geobox, indexes, tuple(range(len(indexes))))
    part = _with_values(part, names, None, None, nodata)
    places = tuple(str(i) for i in indexes)
    return Source((os.fspath(path),), (part,), names, places, file.geobox, None)


def _check_named(listed: Sequence[str], as_files: Mapping[str, str]) -> None:
    """Check that a scene is named once: by its files, or by its bands' files."""
    if not listed and not as_files:
        raise InputError("No scene is named. Give a raster, or one file a band with --bands.")
    extra = [path for path in listed if as_files and path not in as_files.values()]
    if extra:
        raise InputError(
            f"--bands names one file a band, and {extra[0]} is none of them. Leave it out, or name "
            "bands by their index in it."
        )


@dataclass(frozen=True)
class _Build:
    parts: tuple[Part, ...]
    names: BandNames
    places: tuple[str, ...]
    geobox: GeoBox


def _band_files(files: Mapping[str, str], crs: str | None) -> _Build:
    looked = {canonical_role(role): look_at(path, crs) for role, path in files.items()}
    first = next(iter(looked.values()))
    for role, file in looked.items():
        if len(_scene_indexes(file)) != 1:
            raise BandError(
                f"{file.path} ({role}) has {file.count} bands, and one file a band needs one: "
                "name bands by their index in it, without other files."
            )
        if file.geobox.crs != first.geobox.crs:
            raise InputError(
                f"{file.path} ({role}) is in {file.geobox.crs}, {first.path} in "
                f"{first.geobox.crs}: bring all bands into one CRS."
            )
    finest = min(looked.values(), key=lambda file: abs(file.geobox.affine.determinant))
    parts = tuple(_part(file, file.geobox, (1,), (k,)) for k, file in enumerate(looked.values()))
    names = BandNames(tuple(looked), ("one file a band",) * len(looked))
    places = tuple(Path(path).name for path in files.values())
    return _Build(parts, names, places, finest.geobox)


def _mosaic_files(
    paths: Sequence[str], given: Mapping[str, Any], crs: str | None, mosaic: str | None
) -> _Build:
    files = _with_true_colours([look_at(path, crs) for path in paths], given)
    geobox, boxes = union_geobox(files, mosaic)
    indexes = _scene_indexes(files[0])
    for file in files[1:]:
        if _scene_indexes(file) != indexes:
            raise InputError(
                f"{file.path} has {len(_scene_indexes(file))} bands, {files[0].path} has "
                f"{len(indexes)}: scenes of one mosaic need the same bands, so run them apart "
                "with -o DIR."
            )
    names = _names_of(files[0], given, indexes)
    positions = tuple(range(len(indexes)))
    parts = [_part(file, box, indexes, positions) for file, box in zip(files, boxes, strict=True)]
    ordered = parts[::-1] if mosaic == "last" else parts
    return _Build(tuple(ordered), names, tuple(str(i) for i in indexes), geobox)


def _with_true_colours(files: list[RasterFile], given: Mapping[str, Any]) -> list[RasterFile]:
    """Untag alpha bands that the user names as something else, or that hold an image in any file."""
    named = {index for role, index in given.items() if canonical_role(role) != "alpha"}
    images = {
        i
        for file in files
        for i, colour in enumerate(file.colours, 1)
        if colour == "alpha" and (i in named or not holds_alpha(file, i))
    }
    return [_untagged(file, images) for file in files] if images else files


def _untagged(file: RasterFile, images: set[int]) -> RasterFile:
    colours = ("undefined" if i in images else c for i, c in enumerate(file.colours, 1))
    return replace(file, colours=tuple(colours))


def _scene_indexes(file: RasterFile) -> tuple[int, ...]:
    return tuple(i for i, colour in enumerate(file.colours, 1) if colour != "alpha")


def _names_of(file: RasterFile, given: Mapping[str, Any], indexes: tuple[int, ...]) -> BandNames:
    if len(indexes) == 1 and not given:
        return BandNames(("band1",), ("",))
    names = infer_roles(
        file.count,
        given=given,
        descriptions=file.descriptions,
        colours=file.colours,
        hint=Path(file.path).name,
    )
    return BandNames(
        tuple(names.names[i - 1] for i in indexes), tuple(names.reasons[i - 1] for i in indexes)
    )


def _part(
    file: RasterFile, geobox: GeoBox, indexes: tuple[int, ...], positions: tuple[int, ...]
) -> Part:
    alpha = next((i for i, colour in enumerate(file.colours, 1) if colour == "alpha"), None)
    return Part(
        file=file,
        geobox=geobox,
        indexes=indexes,
        positions=positions,
        nodata=tuple(file.nodata[i - 1] for i in indexes),
        scales=tuple(file.scales[i - 1] for i in indexes),
        offsets=tuple(file.offsets[i - 1] for i in indexes),
        clipped=(False,) * len(indexes),
        alpha=alpha,
    )


def _with_values(
    part: Part, names: BandNames, scale: float | None, offset: float | None, nodata: float | None
) -> Part:
    """Let the user's scale, offset and nodata win, and say which bands are clipped at zero."""
    n = len(part.indexes)
    scales = part.scales if scale is None else (scale,) * n
    offsets = part.offsets if offset is None else (offset,) * n
    scaled = [(s, o) != (1.0, 0.0) for s, o in zip(scales, offsets, strict=True)]
    signed = np.dtype(part.file.dtype).kind == "i"
    roles = [names.names[k] for k in part.positions]
    clipped = tuple(
        role in OPTICAL and (signed or s) for role, s in zip(roles, scaled, strict=True)
    )
    known = part.nodata if nodata is None else (nodata,) * n
    return replace(part, scales=scales, offsets=offsets, clipped=clipped, nodata=known)


def _without_frames(parts: tuple[Part, ...], together: bool, wanted: str) -> tuple[Part, ...]:
    """Find constant frames in files that tag no nodata; files of one band each share theirs."""
    groups = [parts] if together else [(part,) for part in parts]
    return tuple(part for group in groups for part in _without_frame(group, wanted))


def _without_frame(parts: tuple[Part, ...], wanted: str) -> tuple[Part, ...]:
    if wanted == "keep" or any(part.tagged for part in parts):
        return parts
    frame = find_frame([part.file for part in parts])
    if frame is None:
        return parts
    kind = "noisy" if frame.slack else "constant"
    found = (
        f"{parts[0].file.path} has no nodata tag and a {kind} frame of {frame.value:g} over "
        f"{100 * frame.share:.0f} % of it"
    )
    if wanted == "refuse":
        raise InputError(f"{found}. Set its nodata value, or use --frame nodata or --frame keep.")
    warnings.warn(
        f"{found}, which is taken for nodata. Use --frame keep if it is data.",
        GeosamWarning,
        stacklevel=2,
    )
    return tuple(part.with_frame(frame) for part in parts)
