"""The embeddings of a scene's tiles in a Zarr group that plain ``xarray.open_zarr`` reads.

Each feature map of the model is a float16 array (tile_row, tile_col, channel, y, x) with one chunk a tile,
and ``encoded`` says which tiles are there. Any number of processes may write at once, a tile each.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from geosam import __version__
from geosam.errors import OptionError, OutputError
from geosam.masks import Embed, Show
from geosam.stretch import Stretch
from geosam.tiles import TileGrid
from geosam.types import Features, Model, Tile

ENCODED = "encoded"
"""The array (tile_row, tile_col) uint8 that is 1 where a tile is complete."""
_TILES = ("tile_row", "tile_col")
"""The axes that count tiles."""
_PARTS = {
    "model_sha256": "the model's checkpoint",
    "stretch": "the radiometric stretch",
    "tile_grid": "the tile grid",
    "scene_fingerprint": "the scene",
    "geosam_version": "the version of geosam",
}
"""The parts of a signature, and how a sentence calls them."""


@dataclass(frozen=True)
class EmbeddingStore:
    """Embeddings of one scene by one model."""

    folder: Path
    """The Zarr group."""
    names: tuple[str, ...]
    """The model's feature maps."""
    first: tuple[int, int]
    """Index of the tile in the upper left corner."""

    def embedder(self, model: Model, tiles: Sequence[Tile]) -> Embed:
        """Return what gives the features of a group's tiles: from here, else from the model, which
        is then remembered.
        """
        arrays = self._arrays

        def holds(tile: Tile) -> bool:
            return bool(self._value(arrays[ENCODED], self._place(tile)))

        def keep(tile: Tile, maps: Mapping[str, np.ndarray]) -> None:
            self._write(arrays, self._place(tile), {name: maps[name] for name in self.names})

        def recall(tile: Tile) -> dict[str, np.ndarray]:
            return self._read(arrays, self._place(tile))

        return _remembering(model, tiles, holds, keep, recall)

    def count(self) -> int:
        """Return the number of tiles that are there."""
        return int(np.count_nonzero(self._arrays[ENCODED][:]))

    @cached_property
    def _arrays(self) -> Mapping[str, Any]:
        """The arrays by name. Their descriptions are read once: a store is of one model, scene and grid."""
        import zarr

        group = zarr.open_group(self.folder, mode="r+")
        return {name: group[name] for name in (*self.names, ENCODED)}

    def _place(self, tile: Tile) -> tuple[int, int]:
        return tile.index[0] - self.first[0], tile.index[1] - self.first[1]

    def _write(
        self, arrays: Mapping[str, Any], place: tuple[int, int], maps: Mapping[str, np.ndarray]
    ) -> None:
        try:
            for name, values in maps.items():
                arrays[name][place] = values
            arrays[ENCODED][place] = 1  # last: whoever finds it takes the maps for complete
        except OSError as error:
            raise OutputError(
                f"--store {self.folder} cannot be written ({error}). Free some space, or name a folder "
                "that you may write to."
            ) from error

    def _read(self, arrays: Mapping[str, Any], place: tuple[int, int]) -> dict[str, np.ndarray]:
        maps = {name: self._value(arrays[name], place) for name in self.names}
        if any(_is_missing(values) for values in maps.values()):
            raise self._damaged(place, "a feature map is missing")
        return maps

    def _value(self, array: Any, place: tuple[int, int]) -> np.ndarray:
        try:
            return array[place]
        except (OSError, ValueError, RuntimeError) as error:
            raise self._damaged(place, str(error)) from error

    def _damaged(self, place: tuple[int, int], reason: str) -> OutputError:
        return OutputError(
            f"--store {self.folder} is damaged at tile {place[0] + self.first[0]}_"
            f"{place[1] + self.first[1]} ({reason}). Delete the folder, and it is filled anew."
        )


@dataclass(frozen=True)
class Memory:
    """Embeddings of some tiles by one model, for as long as the program runs."""

    maps: dict[tuple[int, int], Mapping[str, np.ndarray]] = field(default_factory=dict)
    """The model's feature maps in float16, by the index of the tile."""
    grows: bool = True
    """Whether what is encoded is remembered as well."""

    def embedder(self, model: Model, tiles: Sequence[Tile]) -> Embed:
        """Return what gives the features of tiles: from here, else from the model, which is then
        remembered.
        """
        return _remembering(
            model,
            tiles,
            lambda tile: tile.index in self.maps,
            lambda tile, maps: self.maps.update({tile.index: maps} if self.grows else {}),
            lambda tile: self.maps[tile.index],
        )


Embeddings = EmbeddingStore | Memory
"""Where embeddings are kept and looked for."""


def _remembering(
    model: Model,
    tiles: Sequence[Tile],
    holds: Callable[[Tile], bool],
    keep: Callable[[Tile, Mapping[str, np.ndarray]], None],
    recall: Callable[[Tile], Mapping[str, np.ndarray]],
) -> Embed:
    """Return what encodes the tiles that are not held, keeps them, and recalls all."""

    def embed(which: Sequence[int], show: Show) -> Features:
        from geosam.models.features import encoder_of, from_half, prompted, to_half

        encoder = encoder_of(model)
        wanted = [tiles[i] for i in which]
        there = [recall(tile) if holds(tile) else {} for tile in wanted]
        missing = [k for k, maps in enumerate(there) if not maps]
        if missing:
            fresh = to_half(encoder.encode(show([which[k] for k in missing])))
            for n, k in enumerate(missing):
                there[k] = {name: maps[n] for name, maps in fresh.items()}
                keep(wanted[k], there[k])
        maps = {name: _together([m[name] for m in there]) for name in there[0]}
        return prompted(from_half(maps, encoder), lambda: show(which), model)

    return embed


def _is_missing(values: np.ndarray) -> bool:
    """Return whether a map is NaN throughout, as what was never written is."""
    return bool(np.isnan(values.flat[0]) and np.isnan(values).all())


def _together(maps: Sequence[np.ndarray]) -> np.ndarray:
    """Stack the maps of tiles; that of one tile is not copied."""
    return maps[0][None] if len(maps) == 1 else np.stack(maps)


def sign(model: Model, stretch: Stretch, grid: TileGrid, fingerprint: str) -> dict[str, Any]:
    """Return what embeddings depend on, part by part, JSON-ready.

    Parameters
    ----------
    model
        Makes them.
    stretch
        Of the bands it sees.
    grid
        The tiles of the whole scene.
    fingerprint
        Of the scene; see :func:`geosam.raster.fingerprint`.
    """
    rows, cols = grid.index_range()
    affine = grid.geobox.affine
    return {
        "model_sha256": model.signature,
        "stretch": stretch.to_dict(),
        "tile_grid": {
            "crs": str(grid.geobox.crs),
            "pixel": [affine.a, affine.b, affine.d, affine.e],
            "size": grid.size,
            "overlap": grid.overlap,
            "first": [rows[0], cols[0]],
            "shape": [len(rows), len(cols)],
        },
        "scene_fingerprint": fingerprint,
        "geosam_version": __version__,
    }


def open_store(
    folder: str | Path, model: Model, grid: TileGrid, signature: Mapping[str, Any]
) -> EmbeddingStore:
    """Open an embedding store, or make an empty one.

    Parameters
    ----------
    folder
        The store. It is made, its parent is not.
    model
        Makes the embeddings.
    grid
        The tiles of the whole scene.
    signature
        From :func:`sign`.

    Raises
    ------
    OptionError
        If the store is of something else; the message says which part differs.
    OutputError
        If the folder is no store, or cannot be made.
    """
    path = Path(folder).absolute()
    if not path.is_dir() or not any(path.iterdir()):
        _make(path, model, grid, signature)
    there = _attributes(path)
    now = json.loads(json.dumps(signature))
    for part, name in _PARTS.items():
        if there.get(part) != now[part]:
            raise OptionError(
                f"--store {path} does not fit: {name} differs{_values(part, there, now)}. Name another "
                "folder, or delete this one."
            )
    rows, cols = grid.index_range()
    return EmbeddingStore(path, tuple(there["feature_maps"]), (rows[0], cols[0]))


def _values(part: str, there: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    if part == "geosam_version":
        return f" ({there.get(part)}, and this is {now[part]})"
    if part == "tile_grid":
        before = there.get(part) or {}
        name = next(n for n in now[part] if before.get(n) != now[part][n])
        return f" ({name} {before.get(name)}, and now {now[part][name]})"
    return ""


def _attributes(path: Path) -> dict[str, Any]:
    import zarr

    try:
        group = zarr.open_group(path, mode="r")
        attributes: dict[str, Any] = dict(group.attrs)
        arrays = set(group.array_keys())
    except (OSError, ValueError, KeyError) as error:
        raise OutputError(
            f"--store {path} is no embedding store ({error}). Name another folder."
        ) from error
    if not {*attributes.get("feature_maps", [""]), ENCODED} <= arrays:
        raise OutputError(f"--store {path} is no embedding store. Name another folder.")
    return attributes


def _make(path: Path, model: Model, grid: TileGrid, signature: Mapping[str, Any]) -> None:
    from geosam.models.features import to_half

    if not path.parent.is_dir():
        raise OutputError(
            f"The folder {path.parent} of --store {path} does not exist. Make it first."
        )
    # What a model's maps are called, and how large they are, is known from one answer.
    maps = to_half(model.encode(np.full((1, 3, model.size, model.size), 0.5, np.float32)))
    try:
        _make_arrays(
            path, {name: values.shape[1:] for name, values in maps.items()}, grid, signature
        )
    except OSError as error:
        raise OutputError(
            f"--store {path} cannot be made ({error}). Name another folder."
        ) from error


def _make_arrays(
    path: Path, maps: Mapping[str, tuple[int, ...]], grid: TileGrid, signature: Mapping[str, Any]
) -> None:
    import zarr

    group = zarr.open_group(path, mode="w")
    shape = tuple(signature["tile_grid"]["shape"])
    _make_maps(group, maps, shape)
    group.create_array(
        ENCODED, shape=shape, chunks=(1, 1), dtype="uint8", fill_value=0, dimension_names=_TILES
    )
    for name, (axis, values) in _coordinates(grid).items():
        group.create_array(name, data=values, dimension_names=[axis])
    group.attrs.update({**signature, "feature_maps": list(maps)})
    with warnings.catch_warnings():
        # Not yet in the specification of Zarr 3, but xarray looks for it and warns without it.
        warnings.simplefilter("ignore", UserWarning)
        zarr.consolidate_metadata(path)


def _make_maps(
    group: Any, maps: Mapping[str, tuple[int, ...]], shape: tuple[int, ...]
) -> Mapping[str, Any]:
    """Make the arrays of feature maps, which are compressed as Zarr does where nothing is said."""
    return {
        name: group.create_array(
            name, shape=shape + inner, chunks=(1, 1, *inner), dtype="float16", fill_value=np.nan,
            dimension_names=[*_TILES, *(f"{a}_{name}" for a in ("channel", "y", "x")[-len(inner) :])],
        )
        for name, inner in maps.items()
    }  # fmt: skip


def stored_bytes(maps: Mapping[str, np.ndarray]) -> int:
    """Return what the feature maps of a tile take in a store, compressed as they are there."""
    import zarr

    group = zarr.open_group(zarr.storage.MemoryStore(), mode="w")
    arrays = _make_maps(group, {name: values.shape for name, values in maps.items()}, (1, 1))
    for name, values in maps.items():
        arrays[name][0, 0] = values
    return sum(array.nbytes_stored() for array in arrays.values())


def _coordinates(grid: TileGrid) -> dict[str, tuple[str, np.ndarray]]:
    """Return the tiles' indices, and where the middle of each lies, in the units of the CRS."""
    rows, cols = grid.index_range()
    affine = grid.geobox.affine
    tops = [grid.tile((row, cols[0])).core.row + grid.stride / 2 for row in rows]
    lefts = [grid.tile((rows[0], col)).core.col + grid.stride / 2 for col in cols]
    return {
        "tile_row": ("tile_row", np.array(rows)),
        "tile_col": ("tile_col", np.array(cols)),
        "y": ("tile_row", np.array([(affine @ (lefts[0], top))[1] for top in tops])),
        "x": ("tile_col", np.array([(affine @ (left, tops[0]))[0] for left in lefts])),
    }
