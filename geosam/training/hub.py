"""Tables with columns image, label and name, as on the Hugging Face hub -> examples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from geosam.errors import InputError
from geosam.options import Options
from geosam.training.examples import Example
from geosam.training.imagery import row_image, row_imagery
from geosam.training.labels import (
    RowMask,
    check_size,
    check_values,
    mask_values,
    values_in,
)

NAMES, PLACES = "name", "place"
"""Optional columns: of the image, and of the place it shows."""


def read_hub(path: Path, options: Options, water_value: int | None) -> list[Example]:
    """Find the images of a dataset that `datasets` saved, or of parquet files.

    Parameters
    ----------
    path
        A folder of ``save_to_disk``, a parquet file, or a folder of them.
    options
        How images are seen.
    water_value
        The mask value that is water.

    Returns
    -------
    list of Example
        In the order of the rows. The parts of a dataset that has several follow each other.

    Raises
    ------
    InputError
        The package `datasets` is missing, the dataset cannot be read, a column is missing, or a
        mask does not fit its image.
    """
    tables = _load(path)
    parts = [(part, table) for part, table in tables.items() if len(table)]
    examples = []
    for part, table in parts:
        where, lead = (str(path), "") if len(parts) == 1 else (f"{path} ({part})", f"{part}_")
        examples += read_rows(table, options, water_value, where, lead)
    _check_names(examples, path)
    return examples


def read_rows(
    rows: Any, options: Options, water_value: int | None, table: str, lead: str = ""
) -> list[Example]:
    """Make examples of rows.

    Parameters
    ----------
    rows
        A sequence of mappings with ``image`` and ``label`` (PIL images or arrays), and optionally
        ``name`` and ``place``.
    options
        How images are seen.
    water_value
        The mask value that is water.
    table
        What messages call the rows.
    lead
        What the names of rows begin with that have none of their own.

    Raises
    ------
    InputError
        As in :func:`read_hub`.
    """
    found = []
    for i in range(len(rows)):
        row, where = rows[i], f"{table}, row {i}"
        mask, image = mask_values(row.get("label"), where), row_image(rows, i, table)
        check_size(mask.shape, image.shape[1:], where, "image")
        found.append((where, values_in(mask)))
    water = check_values(found, water_value)
    return [_example(rows, i, water, options, table, lead) for i in range(len(rows))]


def _example(rows: Any, index: int, water: int, options: Options, table: str, lead: str) -> Example:
    imagery = row_imagery(rows, index, table)
    row = rows[index]
    name = str(row.get(NAMES) or f"{lead}row{index:06d}")
    labels = RowMask(rows, index, water, imagery.geobox)
    place = row.get(PLACES)
    return Example(name, None if place is None else str(place), imagery, labels, options)


def _load(path: Path) -> dict[str, Any]:
    """Open the tables of a dataset by the names of its parts."""
    try:
        import datasets
    except ImportError as error:
        raise InputError(
            f"{path} needs the package datasets: pip install 'geosam-toolkit[datasets]'."
        ) from error
    files = [str(path)] if path.is_file() else sorted(str(p) for p in path.rglob("*.parquet"))
    try:
        if files:
            loaded: Any = datasets.load_dataset("parquet", data_files=files, split="train")
        else:
            loaded = datasets.load_from_disk(str(path))
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise InputError(f"{path} cannot be read by the package datasets ({error}).") from error
    tables = dict(loaded) if isinstance(loaded, dict) else {"train": loaded}
    for name, table in tables.items():
        _check_columns(table, f"{path} ({name})", datasets)
    return tables


def _check_columns(table: Any, where: str, datasets: Any) -> None:
    for column in ("image", "label"):
        feature = table.features.get(column)
        if feature is None:
            raise InputError(
                f"{where} has no column {column}; its columns are {', '.join(table.column_names)}. "
                "Rename the one that holds it."
            )
        if not isinstance(feature, datasets.Image):
            raise InputError(f"{where}: column {column} does not hold images but {feature}.")


def _check_names(examples: list[Example], path: Path) -> None:
    names = [example.name for example in examples]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"{path} names two images {twice!r}. Give each a name of its own.")
