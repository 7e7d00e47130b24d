"""Every option of the main job, declared once: its name, default, rule and the words of its help.

The command line makes its flags from this table and Python its keywords, so that both are the same.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from geosam.errors import OptionError

PROMPT_SOURCES = ("auto", "index", "hsv", "learned", "autosam", "text", "none")
DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("auto", "fp32", "bf16", "fp16")
FLOWS = ("n", "ne", "e", "se", "s", "sw", "w", "nw")
"""Compass directions that a river may flow to, clockwise."""
SPUR = 1.0
"""A dead end of a channel is kept when it is longer than this many widths: of its own mouth, and of the
channel that it leaves."""


def _option(default: Any, group: str, text: str, metavar: str | None = None) -> Any:
    return field(default=default, metadata={"group": group, "help": text, "metavar": metavar})


@dataclass(frozen=True)
class Options:
    """What may be asked of ``geosam segment`` and :func:`geosam.run`, beside scene and output."""

    bands: str | Mapping[str, Any] | None = _option(
        None,
        "scene",
        "Band roles by index or description, or one file a band. "
        "Inferred, and said aloud, where not given.",
        "red=3,green=2,blue=1,nir=4",
    )
    scale: float | None = _option(
        None, "scene", "Factor to reflectance where the file does not say, or says it wrong.", "X"
    )
    offset: float | None = _option(None, "scene", "Added after the scale.", "X")
    nodata: float | None = _option(
        None, "scene", "Value without data where the file does not say.", "X"
    )
    crs: str | None = _option(
        None, "scene", "Coordinate reference system where the file does not say.", "EPSG:32633"
    )
    valid: str | None = _option(
        None,
        "scene",
        "Cloud or quality mask: only its non-zero pixels, or those with one of VALUES, count.",
        "MASK.tif[:VALUES]",
    )
    frame: str = _option(
        "nodata",
        "scene",
        "A frame of one value, or nearly black or white, without a nodata tag: treat it as 'nodata', 'keep' "
        "its values, or 'refuse' the scene.",
        "nodata|keep|refuse",
    )
    mosaic: str | None = _option(
        None, "scene", "Allow scenes that overlap, and say which one wins.", "first|last"
    )

    model: str = _option(
        "river-tiny",
        "model",
        "river-tiny, a local folder, a .pth file of the original SAM, or a Hugging Face id.",
        "MODEL",
    )
    composite: str = _option(
        "auto",
        "model",
        "The three bands the model sees; auto is nir,red,green where there is a "
        "near infrared, else red,green,blue.",
        "nir,red,green",
    )
    stretch: str = _option(
        "percentile",
        "model",
        "Radiometric stretch, one for the whole scene: percentile, "
        "percentile:LOW,HIGH, none (8-bit), or MIN,MAX.",
        "STRETCH",
    )
    resolution: float | None = _option(
        None,
        "model",
        "Metres on the ground at which the model sees the scene; the outputs are on "
        "the scene's own grid all the same.",
        "M",
    )
    tile_size: int | None = _option(None, "model", "Pixels at that resolution.", "PX")
    overlap: int | None = _option(None, "model", "Pixels that neighbouring tiles share.", "PX")
    device: str = _option(
        "auto",
        "model",
        "Where the model runs; several CUDA devices have a worker each.",
        "auto|cpu|cuda|cuda:0,1|mps",
    )
    batch_size: int | None = _option(
        None,
        "model",
        "Tiles that go through the model at once: 2, or 1 where its input is above 512 px; on a GPU as many "
        "as its free memory allows, 16 at most.",
        "N",
    )
    precision: str = _option(
        "auto",
        "model",
        "Number format; auto is bfloat16 where the processor is fast at it or the GPU computes in it.",
        "auto|fp32|bf16|fp16",
    )
    store: str | Path | None = _option(
        None,
        "model",
        "Keep the embeddings of tiles in this folder, and reuse what is there.",
        "DIR",
    )
    workers: int | None = _option(
        None,
        "model",
        "Processes that work side by side; 1 is one thread of this process, and without it this "
        "process uses as many threads as pay.",
        "N",
    )
    scheduler: str | None = _option(
        None,
        "model",
        "Work on a Dask cluster that runs already: the address of its scheduler, or its file.",
        "tcp://HOST:PORT",
    )

    prompts: str = _option(
        "auto",
        "prompts",
        "Where prompts come from: auto (a water index where the bands allow "
        "one, else learned), index, hsv, learned, autosam (a dense prompt network trained for the "
        "model and saved beside it), text (what --text names), none; or a vector file of points, boxes and polygons; or a "
        "raster used as the coarse mask.",
        "SOURCE",
    )
    text: str | None = _option(
        None, "prompts", "What --prompts text looks for; several phrases with commas.", "PHRASES"
    )
    detector: str = _option(
        "colour",
        "prompts",
        "What finds phrases: colour (needs no network, knows water, vegetation and bare soil), or a "
        "folder or Hugging Face id of Grounding DINO, OWLv2 or CLIPSeg.",
        "DETECTOR",
    )
    index: str = _option("auto", "prompts", "Water index.", "auto|ndwi|mndwi|awei|ndvi")
    index_threshold: str = _option("otsu", "prompts", "Above it a pixel is water.", "otsu|X")
    hsv: str | None = _option(
        None,
        "prompts",
        "Range of hue (degrees), saturation and value (0 to 1) that is water.",
        "H-H,S-S,V-V",
    )
    points: int = _option(3, "prompts", "Control points a component.", "N")
    negatives: int = _option(2, "prompts", "Background points a tile.", "N")
    dense: bool = _option(
        True, "prompts", "Also give the coarse mask itself to the model, as its dense prompt."
    )
    boxes: bool = _option(
        False, "prompts", "Also give the box around the coarse mask of a tile to the model."
    )
    rounds: int | None = _option(
        None,
        "prompts",
        "Times the model is asked: its answer is the coarse mask of the next round. 1, and 3 where "
        "the coarse mask is a raster of your own and the bands allow no index.",
        "N",
    )
    seed: int = _option(0, "prompts", "Seed of every random choice.", "N")

    threshold: float = _option(0.5, "output", "Probability above which a pixel is water.", "P")
    mask: str | Path | None = _option(None, "output", "Also write the water mask (COG).", "OUT.tif")
    probability: str | Path | None = _option(
        None, "output", "Also write the probability (COG).", "OUT.tif"
    )
    quicklook: str | Path | None = _option(
        None, "output", "Also draw the outlines over the scene.", "OUT.png"
    )
    min_area: float | None = _option(None, "output", "Smallest outline in square metres.", "M2")
    min_island: float | None = _option(None, "output", "Smallest island in square metres.", "M2")
    simplify: float | None = _option(
        None, "output", "Tolerance of the outlines in metres; 0 keeps the pixel edges.", "M"
    )
    join_gap: float = _option(
        0.0,
        "output",
        "Give outlines this close one river id, across a road bridge for example.",
        "M",
    )
    rivers: bool = _option(
        False,
        "output",
        "Also measure the rivers: centrelines, reaches, transects and banks, as geosam rivers does.",
    )
    spacing: float | None = _option(
        None,
        "output",
        "Metres between transects; a quarter of the channels' mean width where not given.",
        "M",
    )
    spur: float = _option(
        SPUR,
        "output",
        "Dead ends no longer than this, in widths, are bays and not channels.",
        "WIDTHS",
    )
    flow: str | None = _option(
        None,
        "output",
        "Compass direction the rivers flow to, so that left and right are as looking downstream; "
        "else lines go from west to east, or north to south.",
        "n|ne|e|...",
    )
    aoi: str | Path | None = _option(None, "output", "Work only inside these polygons.", "AOI.gpkg")
    resume: bool = _option(False, "output", "Go on with a run that was interrupted.")
    overwrite: bool = _option(False, "output", "Replace what an earlier run wrote.")

    def __post_init__(self) -> None:
        _one_of("frame", self.frame, ("nodata", "keep", "refuse"))
        _one_of("mosaic", self.mosaic, (None, "first", "last"))
        _one_of("precision", self.precision, PRECISIONS)
        _one_of("flow", self.flow, (None, *FLOWS))
        if self.device not in DEVICES and not re.fullmatch(r"cuda:\d+(,\d+)*", self.device):
            raise OptionError(
                f"Device {self.device!r} is unknown. Use one of {', '.join(DEVICES)}, or numbers of "
                "CUDA devices as in cuda:0,1."
            )
        self._check_crew()
        if self.resume and self.overwrite:
            raise OptionError("--resume goes on and --overwrite starts anew. Give one of them.")
        if (self.prompts == "text") != (self.text is not None):
            raise OptionError(
                "--prompts text and --text PHRASES belong together: give both, such as --prompts text "
                '--text "water".'
            )
        _between("threshold", self.threshold, 0.0, 1.0)
        for name in (
            "scale",
            "resolution",
            "tile_size",
            "batch_size",
            "workers",
            "points",
            "rounds",
            "spacing",
        ):
            _positive(name, getattr(self, name))
        for name in (
            "negatives",
            "overlap",
            "min_area",
            "min_island",
            "simplify",
            "join_gap",
            "spur",
            "seed",
        ):
            _not_negative(name, getattr(self, name))
        if self.index_threshold != "otsu":
            _number("index_threshold", self.index_threshold)
        if not self.rivers and (self.spacing, self.spur, self.flow) != (None, SPUR, None):
            raise OptionError(
                "--spacing, --spur and --flow say how rivers are measured: add --rivers."
            )

    @property
    def devices(self) -> tuple[str, ...]:
        """Numbers of the CUDA devices, where there are several."""
        numbers = self.device.partition(":")[2].split(",")
        return tuple(numbers) if len(numbers) > 1 else ()

    def _check_crew(self) -> None:
        if self.devices and self.workers is not None:
            raise OptionError("Several devices have a worker each. Leave --workers out.")
        if self.scheduler is not None and (self.workers is not None or self.devices):
            raise OptionError(
                "A cluster has its own workers and devices: give --scheduler without --workers, and "
                "with --device auto, cpu or cuda."
            )

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Options:
        """Make options from keywords.

        Raises
        ------
        OptionError
            If a keyword is not an option; the message names the nearest ones.
        """
        names = {f.name for f in dataclasses.fields(cls)}
        for name in options:
            if name not in names:
                raise OptionError(
                    f"{name!r} is not an option. Options: {', '.join(sorted(names))}."
                )
        return cls(**options)

    def to_dict(self) -> dict[str, Any]:
        """Return the options as JSON-ready values."""
        return {
            k: str(v) if isinstance(v, Path) else v for k, v in dataclasses.asdict(self).items()
        }


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _one_of(name: str, value: Any, allowed: tuple[Any, ...]) -> None:
    if value not in allowed:
        words = ", ".join(str(a) for a in allowed if a is not None)
        raise OptionError(f"{_flag(name)} {value!r} is unknown. Use one of: {words}.")


def _between(name: str, value: float, low: float, high: float) -> None:
    if not low < value < high:
        raise OptionError(f"{_flag(name)} {value} must lie between {low:g} and {high:g}.")


def _positive(name: str, value: float | None) -> None:
    if value is not None and not 0 < value < math.inf:
        raise OptionError(f"{_flag(name)} {value} must be greater than 0, and a number.")


def _not_negative(name: str, value: float | None) -> None:
    if value is not None and not value >= 0:
        raise OptionError(f"{_flag(name)} {value} must not be negative.")


def _number(name: str, value: Any) -> None:
    try:
        finite = math.isfinite(float(value))
    except (TypeError, ValueError):
        finite = False
    if not finite:
        raise OptionError(f"{_flag(name)} {value!r} must be 'otsu' or a number.")
