"""The steps of the main job that are commands of their own: coarse mask, prompts, outlines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from geosam.clock import Clock
from geosam.coco import exportable, read_coco, write_coco
from geosam.embeddings import EmbeddingStore
from geosam.errors import OptionError, PromptError
from geosam.export.cog import write_raster
from geosam.export.geopackage import layer_names, read_layer, write_geopackage
from geosam.job import Job, all_prompts, keep_of, open_job, prepare_job
from geosam.kept import Kept
from geosam.loading import load
from geosam.options import Options
from geosam.pipeline import encode_prepared
from geosam.prompts.automatic import NODATA
from geosam.prompts.scene_prompts import to_frames
from geosam.raster import fingerprint, inspect_scene
from geosam.strips import grid_of_raster
from geosam.tables import run_row, run_table
from geosam.vectors import islands, outlines
from geosam.views import pixel_m
from geosam.workers import crew_of
from geosam.workspace import Targets, check_targets, partial_folder, publish

Scene = str | Path | Sequence[str | Path]


@dataclass(frozen=True)
class Written:
    """What a step wrote."""

    output: str
    """The file."""
    notes: tuple[str, ...] = ()
    """What was chosen, in sentences."""
    counts: Mapping[str, Any] = field(default_factory=dict)
    """What is in the file, by name."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Time of each step; ``total`` is all of it."""

    def to_dict(self) -> dict[str, Any]:
        """Return the same as JSON-ready values."""
        return asdict(self)


def write_coarse(
    scene: Scene, output: str | Path, *, progress: bool = False, **options: Any
) -> Written:
    """Write the coarse mask that prompts are drawn from: what ``geosam coarse`` does.

    It lies on the grid the model works on. Mended by hand, it can be given back as ``prompts``.

    Parameters
    ----------
    scene
        A raster, or several of the same bands and CRS.
    output
        The GeoTIFF to write: uint8, 1 water, 0 land, 255 nodata.
    progress
        Whether to show bars on standard error.
    **options
        Those of :class:`geosam.options.Options`.

    Raises
    ------
    PromptError
        If the options ask for prompts without a coarse mask.
    GeosamError
        If the request or its input is wrong; nothing is written then.
    """
    # The model's own answers, which later rounds start from, are not this mask.
    chosen = replace(Options.of(options), rounds=1)
    targets = Targets(coarse=Path(output))
    with open_job(scene, Path(output), targets, chosen, progress) as job:
        model = load(chosen)
        with crew_of(job, model) as crew:
            prepared = prepare_job(job, model, keep_of(job, crew))
        kept = prepared.prompts.coarse
        if not isinstance(kept, Kept):
            raise PromptError(
                f"--prompts {chosen.prompts} has no coarse mask. Use auto, index, hsv, learned or "
                "a raster."
            )
        coarse = kept.lazy()
        write_raster(coarse, job.folder / "coarse.tif", kind="mask")
        valid = int((coarse != NODATA).sum())
        share = int((coarse == 1).sum()) / valid if valid else 0.0
        publish(job.folder, targets)
    counts = {"water_share": share, "resolution_m": pixel_m(prepared.grid.geobox)}
    return _written(job, output, counts)


def write_prompts(
    scene: Scene, output: str | Path, *, progress: bool = False, **options: Any
) -> Written:
    """Write the prompts as a run would use them: what ``geosam prompts`` does.

    Given back as ``prompts``, with the other options as they were, they give the same result.

    Parameters
    ----------
    scene
        A raster, or several of the same bands and CRS.
    output
        The GeoPackage to write: layers ``prompts``, ``prompt_boxes``, ``prompt_masks``, ``runs``.
    progress
        Whether to show bars on standard error.
    **options
        Those of :class:`geosam.options.Options`.

    Raises
    ------
    PromptError
        If the options ask for no prompts.
    GeosamError
        If the request or its input is wrong; nothing is written then.
    """
    chosen = Options.of(options)
    if chosen.prompts == "none":
        raise PromptError("--prompts none draws no prompts. Use auto, index, hsv or learned.")
    if chosen.prompts == "autosam":
        raise PromptError(
            "--prompts autosam has no points, boxes or polygons to write: its network prompts the "
            "model inside. Use auto, index, hsv or learned."
        )
    targets = Targets(prompts=Path(output))
    with open_job(scene, Path(output), targets, chosen, progress) as job:
        # The model decides how large a tile is, and each tile has points of its own.
        model = load(chosen)
        with crew_of(job, model) as crew:
            keep = keep_of(job, crew)
            prepared = prepare_job(job, model, keep)
            drawn = all_prompts(job, prepared, keep)
        layers = to_frames(drawn, prepared.grid.geobox)
        runs = run_table(job, prepared, "prompts")
        write_geopackage(job.folder / "prompts.gpkg", **layers, runs=runs)
        publish(job.folder, targets)
    positive = int((drawn.labels == 1).sum())
    counts = {
        "points_on_water": positive,
        "points_on_land": len(drawn.labels) - positive,
        "boxes": len(drawn.boxes),
        "polygons": len(drawn.polygons),
    }
    return _written(job, output, counts)


def fill_store(scene: Scene, *, progress: bool = False, **options: Any) -> Written:
    """Encode the tiles of a scene into an embedding store: what ``geosam encode`` does.

    Tiles without data or prompts are left out, and so are those that are there already.

    Parameters
    ----------
    scene
        A raster, or several of the same bands and CRS.
    progress
        Whether to show bars on standard error.
    **options
        Those of :class:`geosam.options.Options`; `store` is needed.

    Raises
    ------
    GeosamError
        If the request or its input is wrong.
    """
    chosen = Options.of(options)
    if chosen.store is None:
        raise OptionError("geosam encode needs --store DIR: the folder to fill.")
    with open_job(scene, Path(chosen.store), Targets(), chosen, progress) as job:
        model = load(chosen)
        with crew_of(job, model) as crew:
            keep = keep_of(job, crew)
            prepared = prepare_job(job, model, keep)
            store = prepared.store
            assert isinstance(store, EmbeddingStore)
            before = store.count()
            wanted = encode_prepared(prepared, keep)
    counts = {"tiles": len(prepared.grid), "wanted": wanted, "encoded": store.count() - before}
    return _written(job, chosen.store, counts)


def _written(job: Job, output: str | Path, counts: Mapping[str, float]) -> Written:
    notes = (job.source.sentence, *job.decision.notes)
    return Written(str(output), notes, counts, job.clock.seconds())


def vectorize(
    mask: str | Path,
    output: str | Path,
    *,
    threshold: float = 0.5,
    min_area: float | None = None,
    min_island: float | None = None,
    simplify: float | None = None,
    join_gap: float = 0.0,
    overwrite: bool = False,
) -> Written:
    """Write the outlines of any mask or probability raster: what ``geosam vectorize`` does.

    Parameters
    ----------
    mask
        A raster of one band; see :func:`geosam.outlines`.
    output
        The GeoPackage to write: layers ``outlines``, ``islands``, ``runs``.
    threshold, min_area, min_island, simplify, join_gap
        As for :func:`geosam.outlines`.
    overwrite
        Whether to replace an existing output.

    Raises
    ------
    GeosamError
        If the request or its input is wrong; nothing is written then.
    """
    settings: dict[str, Any] = {
        "threshold": threshold,
        "min_area": min_area,
        "min_island": min_island,
        "simplify": simplify,
        "join_gap": join_gap,
    }
    started, clock = datetime.now(UTC), Clock()
    targets = Targets(outlines=Path(output))
    check_targets(targets, [str(mask)], overwrite)
    with partial_folder(Path(output), overwrite) as folder:
        with clock.time("outlines"):
            rivers = outlines(mask, **settings)
            holes = islands(rivers)
        # Any role will do: the fingerprint is of files and pixels.
        pixels = fingerprint(inspect_scene(mask, bands={"pan": 1}, frame="keep"))
        runs = run_row("vectorize", str(mask), settings, started, clock, scene_fingerprint=pixels)
        write_geopackage(folder / "outlines.gpkg", outlines=rivers, islands=holes, runs=runs)
        publish(folder, targets)
    counts = {
        "outlines": len(rivers),
        "islands": len(holes),
        "water_m2": float(rivers.area_m2.sum()),
    }
    return Written(str(output), (), counts, clock.seconds())


def convert_coco(
    source: str | Path,
    output: str | Path,
    *,
    grid: str | Path | None = None,
    layer: str | None = None,
    image: str | None = None,
    overwrite: bool = False,
) -> Written:
    """Bring polygons into COCO JSON, or COCO JSON onto the ground: what ``geosam coco`` does.

    Parameters
    ----------
    source
        A vector file, or a COCO file that ends in ``.json``.
    output
        The COCO file, or the GeoPackage, with the layer ``annotations``.
    grid
        The raster whose pixels are counted; needed but for a COCO file that geosam wrote.
    layer
        What to export; ``segments`` where there are some, else ``outlines``.
    image
        What to import, where there are several images.
    overwrite
        Whether to replace an existing output.

    Raises
    ------
    GeosamError
        If the request or its input is wrong; nothing is written then.
    """
    clock, output = Clock(), Path(output)
    out = output.suffix.lower() == ".json"
    if out == (Path(source).suffix.lower() == ".json"):
        raise OptionError(
            f"{source} to {output}: one of them must end in .json and be COCO, the other be vectors."
        )
    targets = Targets(coco=output) if out else Targets(outlines=output)
    check_targets(targets, [str(source)], overwrite)
    pixels = None if grid is None else grid_of_raster(grid)
    if not out:
        found = read_coco(source, pixels, image=image)
        write_geopackage(output, annotations=found, overwrite=overwrite)
        return Written(str(output), (), {"objects": len(found)}, clock.seconds())
    if pixels is None:
        raise OptionError("Polygons have no pixels of their own: name the scene with --grid.")
    names = layer_names(source)
    usual = [name for name in ("segments", "outlines") if name in names]
    chosen = layer or (usual or names or ["outlines"])[0]
    objects = exportable(read_layer(source, chosen), f"The layer {chosen} of {source}")
    write_coco(output, objects, pixels, file_name=Path(str(grid)).name, overwrite=overwrite)
    return Written(str(output), (), {"objects": len(objects)}, clock.seconds())
