"""Labelled data of any kind -> examples: one image each, with its label, both read when needed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from odc.geo.geobox import GeoBox

from geosam.decision import choose_composite
from geosam.errors import InputError, OptionError
from geosam.options import Options
from geosam.stretch import Stretch, fit_stretch, parse_stretch
from geosam.tiles import zoom as zoomed
from geosam.tiles import zoom_factor
from geosam.training.imagery import Imagery
from geosam.training.labels import Labels, label_from
from geosam.training.places import find_places
from geosam.training.sample import IGNORE
from geosam.views import pixel_m

KINDS = ("auto", "folder", "polygons", "geopackage", "hub")
"""What labelled data may be."""
UNMATCHED = ("refuse", "skip", "land")
"""What to do with images of a folder that have no mask."""


@dataclass(frozen=True)
class Example:
    """One labelled image or scene."""

    name: str
    """Its name; of a folder the file name without its ending."""
    place: str | None
    """The place it shows, None where that is not known. Images of one place belong into one part of
    a split."""
    imagery: Imagery
    """Its pixels."""
    labels: Labels
    """What is known of it."""
    options: Options
    """How it is seen: composite, stretch, ground resolution."""

    @property
    def geobox(self) -> GeoBox:
        """Its own grid; without CRS where it has no place on Earth."""
        return self.imagery.geobox

    @property
    def is_georeferenced(self) -> bool:
        """Whether it has a place on Earth."""
        return self.geobox.crs is not None

    @cached_property
    def composite(self) -> tuple[str, str, str]:
        """The three bands the model sees."""
        return choose_composite(self.imagery.roles, self.options.composite)

    @cached_property
    def stretch(self) -> Stretch:
        """The one stretch of the whole image, as inference chooses it."""
        rule = parse_stretch(self.options.stretch)
        return fit_stretch(self.imagery.preview(), self.composite, rule)

    def zoom(self, wanted: float | None = None) -> float:
        """Return the pixels the model sees for each pixel of the image.

        Parameters
        ----------
        wanted
            Asked for, a whole number or one over one. Without it a scene is seen at the ground
            resolution at which inference sees it, and an image without a place as it is.

        Raises
        ------
        OptionError
            It is neither.
        """
        if wanted is not None:
            return _whole_zoom(wanted)
        if not self.is_georeferenced:
            return 1.0
        return 1.0 / zoom_factor(pixel_m(self.geobox), self.options.resolution)

    def working(self, zoom: float) -> GeoBox:
        """Return the grid the model sees it on, as :func:`geosam.tiles.zoom` does."""
        return self.geobox if zoom == 1 else zoomed(self.geobox, 1 / zoom)

    def read(self, geobox: GeoBox) -> tuple[np.ndarray, np.ndarray]:
        """Read pixels and label on a grid of the same axes, which may overhang the image.

        Returns
        -------
        pixels : numpy.ndarray, (3, y, x) float32
            The composite, stretched to 0..1, nodata 0.5.
        label : numpy.ndarray, (y, x) uint8
            LAND, WATER or IGNORE; IGNORE where the composite has no data.
        """
        bands = [self.imagery.roles.index(role) for role in self.composite]
        values = self.imagery.read(geobox)[bands]
        label = label_from(*self.labels.shares(geobox))
        label[np.isnan(values).all(axis=0)] = IGNORE
        return self.stretch.apply(values), label

    def shares(self, geobox: GeoBox) -> tuple[float, float]:
        """Return how much of a grid is land and how much water, each 0 to 1: the rest is unknown.

        Cheap on a coarse grid.
        """
        water, known = self.labels.shares(geobox)
        seen = np.isfinite(self.imagery.read(geobox)).any(axis=0)
        known = np.where(seen, known, 0)
        wet = float(np.mean(np.nan_to_num(water) * known))
        return float(np.mean(known)) - wet, wet


def read_examples(
    source: str | Path,
    kind: str = "auto",
    *,
    labels: str | Path | None = None,
    labelled: str | Path | None = None,
    scene: str | Path | None = None,
    places: str | Path | Mapping[str, object] | None = None,
    water_value: int | None = None,
    unmatched: str = "refuse",
    options: Options | None = None,
) -> list[Example]:
    """Find labelled images; what is wrong with any of them is said here.

    Masks hold 0 land, 1 water, 255 ignored.

    Parameters
    ----------
    source
        A folder with ``images`` and ``masks`` (or ``labels``), matched by file name without
        ending; a scene, whose polygons are `labels`; a GeoPackage that ``segment`` wrote and a
        person corrected, whose scene its layer ``runs`` names; a folder of the `datasets` package
        or a parquet file, with columns ``image``, ``label`` and, optional, ``name`` and ``place``.
    kind
        One of ``folder``, ``polygons``, ``geopackage``, ``hub``; found out by ``auto``.
    labels
        Polygons of water on the scene in any CRS, of a GeoPackage the layer ``outlines`` if there
        is one. A column ``label`` may say 1 water, 0 land, 255 ignored.
    labelled
        Polygons outside which nothing is known; without them all of a scene is.
    scene
        The scene of a GeoPackage, where it has moved.
    places
        The place each image shows: a JSON file or mapping of name to place, or ``prefix``, or
        ``prefix:N``: the first N parts of the name, which ``_`` or ``-`` part.
    water_value
        The mask value that is water, such as 255.
    unmatched
        What to do with images without a mask: ``refuse``, ``skip``, or take all of them for
        ``land``.
    options
        How scenes are read and seen: bands, composite, stretch, resolution and the like. For a
        GeoPackage what is left at its default is as in its run.

    Returns
    -------
    list of Example

    Raises
    ------
    GeosamError
        The data cannot be used: the message names the file.

    Examples
    --------
    >>> read_examples("chips/")  # doctest: +SKIP
    >>> read_examples("scene.tif", labels="water.geojson", labelled="area.geojson")  # doctest: +SKIP
    >>> read_examples("rivers.gpkg")  # doctest: +SKIP
    """
    if unmatched not in UNMATCHED:
        raise OptionError(f"Unmatched {unmatched!r} is unknown. Use one of {', '.join(UNMATCHED)}.")
    found = _find_kind(Path(source), kind, labels)
    seen = options or Options()
    if found == "folder":
        from geosam.training.folders import read_folder

        examples = read_folder(Path(source), seen, water_value, unmatched)
    elif found == "polygons":
        from geosam.training.outlined import read_outlined

        if labels is None:
            raise OptionError(
                f"{source} is taken for a scene, and nothing says where its water is. Name polygons "
                "with --labels, or give a folder with images and masks."
            )
        examples = [read_outlined(source, labels, seen, labelled)]
    elif found == "geopackage":
        from geosam.training.outlined import read_corrected

        examples = [read_corrected(source, seen, scene, labelled)]
    else:
        from geosam.training.hub import read_hub

        examples = read_hub(Path(source), seen, water_value)
    if not examples:
        raise InputError(f"{source} holds no labelled image. Add images and their masks.")
    if places is None:
        return examples
    known = find_places(places, [example.name for example in examples])
    return [replace(example, place=known[example.name]) for example in examples]


def _find_kind(source: Path, kind: str, labels: object) -> str:
    """Return what the data is, by what lies there."""
    if kind not in KINDS:
        raise OptionError(f"Kind of data {kind!r} is unknown. Use one of {', '.join(KINDS)}.")
    if kind != "auto":
        return kind
    if labels is not None:
        if (source / "images").is_dir():
            raise OptionError(
                f"--labels names the polygons of one scene, and {source} is a folder of images and "
                "masks. Leave --labels out, or give the scene."
            )
        return "polygons"
    if source.suffix.lower() == ".gpkg":
        return "geopackage"
    if source.suffix.lower() == ".parquet" or (source / "state.json").is_file():
        return "hub"
    if (source / "dataset_dict.json").is_file():
        return "hub"
    if source.is_dir():
        has_images = (source / "images").is_dir()
        return "hub" if not has_images and any(source.rglob("*.parquet")) else "folder"
    if not source.exists():
        raise InputError(f"{source} does not exist. Check the path of the labelled data.")
    return "polygons"


def _whole_zoom(wanted: float) -> float:
    """Return the whole number, or one over one, that a zoom is."""
    if wanted > 0:
        times = round(wanted) if wanted >= 1 else round(1 / wanted)
        exact = float(times) if wanted >= 1 else 1 / times
        if abs(exact / wanted - 1) < 0.02:
            return exact
    raise OptionError(
        f"--zoom {wanted:g} must be a whole number or one over a whole number, such as 2 or 0.5."
    )
