"""A folder of images and masks -> examples."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from geosam.errors import InputError
from geosam.opening import inspect_source
from geosam.options import Options
from geosam.raster import Source, inspect_picture
from geosam.raster.files import RasterFile, read_raw, readable
from geosam.raster.validity import find_frame
from geosam.reader import open_reader
from geosam.training.examples import Example
from geosam.training.imagery import FileImagery
from geosam.training.labels import (
    AllLand,
    Labels,
    MaskFile,
    check_values,
    open_mask,
    values_in,
)
from geosam.training.sample import IGNORE
from geosam.types import Window

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
"""Files that are images or masks."""
MASK_FOLDERS = ("masks", "labels")
"""Where masks lie beside ``images``."""
FRAME_IGNORED = 0.95
"""Share of a constant frame that the mask must ignore for it to be nodata."""


@dataclass(frozen=True)
class _Pair:
    """An image, looked at, and its mask, read once."""

    name: str
    source: Source
    mask: RasterFile | None
    values: frozenset[int]


def read_folder(
    folder: Path, options: Options, water_value: int | None, unmatched: str
) -> list[Example]:
    """Find the images of a folder and their masks, and look at all of them.

    Parameters
    ----------
    folder
        With ``images`` and ``masks`` or ``labels``.
    options
        How images are seen.
    water_value
        The mask value that is water.
    unmatched
        ``refuse``, ``skip`` or ``land``: what to do with images without a mask.

    Returns
    -------
    list of Example
        By name.

    Raises
    ------
    InputError
        A folder or mask is missing, a file cannot be read, a mask has another size than its image,
        or holds unknown values.
    """
    images, masks = _list_images(folder), _list_masks(folder, unmatched)
    names = _match(folder, images, masks, unmatched)
    pairs = [_look(name, images[name], masks.get(name), options) for name in names]
    found = [(pair.mask.path, pair.values) for pair in pairs if pair.mask is not None]
    water = check_values(found, water_value)
    return [_example(pair, water, options) for pair in pairs]


def _example(pair: _Pair, water: int, options: Options) -> Example:
    imagery = FileImagery(pair.source)
    labels: Labels = AllLand()
    if pair.mask is not None:
        labels = MaskFile(pair.mask, water, imagery.geobox)
    return Example(pair.name, None, imagery, labels, options)


def _list_images(folder: Path) -> dict[str, Path]:
    if folder.name in ("images", *MASK_FOLDERS) and (folder.parent / "images").is_dir():
        raise InputError(
            f"{folder} is one half of labelled data. Give {folder.parent}, which holds images and "
            "their masks."
        )
    if not (folder / "images").is_dir():
        raise InputError(
            f"{folder} has no folder images. Put images into {folder / 'images'} and their masks "
            f"into {folder / 'masks'}."
        )
    return _by_stem(folder / "images")


def _list_masks(folder: Path, unmatched: str) -> dict[str, Path]:
    there = [folder / name for name in MASK_FOLDERS if (folder / name).is_dir()]
    if len(there) == 2:
        raise InputError(f"{folder} has both masks and labels. Keep one of the two.")
    if not there and unmatched != "land":
        raise InputError(
            f"{folder} has no folder masks. Put the masks into {folder / 'masks'}, under the names "
            "of their images."
        )
    return _by_stem(there[0]) if there else {}


def _by_stem(folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in SUFFIXES:
            continue
        if path.stem in found:
            raise InputError(
                f"{folder} has both {found[path.stem].name} and {path.name}. Keep one of the two."
            )
        found[path.stem] = path
    return found


def _match(
    folder: Path, images: dict[str, Path], masks: dict[str, Path], unmatched: str
) -> list[str]:
    """Return the names of the images to use."""
    bare = [name for name in images if name not in masks]
    if bare and unmatched == "refuse":
        raise InputError(
            f"{images[bare[0]]} has no mask ({len(bare)} of {len(images)} images have none). Add it, "
            "or say what to do with such images: --unmatched skip, or --unmatched land."
        )
    alone = [name for name in masks if name not in images]
    if alone and unmatched == "refuse":
        raise InputError(
            f"{masks[alone[0]]} has no image in {folder / 'images'}. Add it, or remove the mask."
        )
    return [name for name in images if unmatched != "skip" or name in masks]


def _look(name: str, image: Path, mask: Path | None, options: Options) -> _Pair:
    source = _open_image(image, options)
    if mask is None:
        return _Pair(name, source, None, frozenset())
    shape = tuple(source.geobox.shape)
    file, values = open_mask(str(mask), (shape[0], shape[1]), str(image))
    if source.geobox.crs is not None:
        _check_same_ground(mask, image, source)
    elif not any(part.tagged for part in source.parts):
        source = _without_collar(source, values == IGNORE)
    return _Pair(name, source, file, values_in(values))


def _open_image(path: Path, options: Options) -> Source:
    """Look at an image, as a scene where it has a place on Earth."""
    if options.crs is not None or _has_place(path):
        return inspect_source([str(path)], options)
    return inspect_picture(path, options.bands, options.nodata)


def _has_place(path: Path) -> bool:
    with readable(str(path)), open_reader(path) as src:
        return src.crs is not None and not src.transform.is_identity


def _check_same_ground(mask: Path, image: Path, source: Source) -> None:
    """Check that a mask that knows its place lies where its image does."""
    if not _has_place(mask):
        return
    with open_reader(mask) as src:
        off = ~source.geobox.affine @ src.transform
    corner = np.abs(np.array(off[:6]) - (1, 0, 0, 0, 1, 0)) @ np.array(
        [src.width, src.height, 1, src.width, src.height, 1]
    )
    if corner > 0.01:
        raise InputError(
            f"Mask {mask} has the size of {image} but lies elsewhere. Export it on the image's grid."
        )


def _without_collar(source: Source, ignored: np.ndarray) -> Source:
    """Take a constant frame for nodata where the mask ignores it, as inference would.

    Without a mask nothing tells a black collar from dark water at an image's edge.
    """
    part, whole = source.parts[0], Window(0, 0, *ignored.shape)
    frame = find_frame([part.file]) if ignored.any() else None
    if frame is None:
        return source
    raw = read_raw(part.file, part.indexes, whole)
    framed = (raw == frame.value).all(axis=0) & frame.within(whole, (whole.height, whole.width))
    if ignored[framed].mean() < FRAME_IGNORED:
        return source
    return replace(source, parts=(part.with_frame(frame),))
