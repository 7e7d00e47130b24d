"""What is decided once for a whole scene before any tile is looked at, each with its reason."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from geosam.errors import BandError, OptionError, PromptError
from geosam.indices import DEFAULT_HSV, INDICES, HsvRange, choose_index, compute_index, parse_hsv
from geosam.models.prompter_files import prompter_at_hand
from geosam.options import PROMPT_SOURCES, Options
from geosam.prompts.vector import prompt_origins
from geosam.stretch import Stretch, fit_stretch, parse_stretch
from geosam.thresholds import Threshold, choose_threshold, fixed_threshold
from geosam.views import Views, pixel_m

RGB = ("red", "green", "blue")
COLOUR_INFRARED = ("nir", "red", "green")
_AS_STORED = Stretch(RGB, (0.0,) * 3, (255.0,) * 3)
"""8-bit pictures have been made for the eye already. Stretched, dark water of a drone orthomosaic
looks like shade; as stored, satellite chips look flat. The network sees both."""


COARSEST_M = 35.0
"""Pixels up to which the learned network adds water to an index's: it has seen none above 30 m, and of the Ucayali
at 90 m it takes sand bars for water beside the oxbows that it finds."""


@dataclass(frozen=True)
class Decision:
    """The choices of a run that do not change from tile to tile."""

    composite: tuple[str, str, str]
    """The three bands the model sees."""
    stretch: Stretch
    """Of the composite."""
    source: str
    """Where prompts come from: index, hsv, learned, autosam, none, vector or raster."""
    index: str | None = None
    """The water index, where prompts come from one or a raster may choose among its water, or where
    it is known only what is no water."""
    threshold: Threshold | None = None
    """Of the index."""
    hsv: HsvRange | None = None
    """The range that is water, where prompts come from HSV."""
    witness: str | None = None
    """What finds water beside the model: index, hsv, learned, or nothing."""
    speaks: bool = True
    """Whether the witness is added to the model's logits. Beside clicks and boxes of a user's own it
    only says how far the water reaches that they mean."""
    rgb_stretch: Stretch | None = None
    """Of red, green and blue, where prompts come from HSV or the learned network."""
    renditions: tuple[Stretch, ...] = ()
    """Stretches of three bands in which the learned network sees the scene; its answers are averaged."""
    adds: bool = False
    """Whether the learned network adds water to an index's."""
    notes: tuple[str, ...] = ()
    """The choices in sentences, for a person."""

    @property
    def looks_everywhere(self) -> bool:
        """Whether prompts come from a look at all of the scene, before the model sees any of it."""
        return self.source in ("index", "hsv", "learned", "raster")


def decide(views: Views, options: Options, *, own: bool = False) -> Decision:
    """Choose composite, stretch, prompt source and threshold from the preview of the whole scene.

    Parameters
    ----------
    views
        The scene.
    options
        What was asked for.
    own
        Whether prompts of a user's own are at hand already, so that none are looked for.

    Raises
    ------
    BandError
        If the bands that are asked for are not in the scene.
    ModelError
        If the model is to prompt itself, and has no network that does.
    """
    roles = views.roles
    composite = choose_composite(roles, options.composite)
    source, reason = ("vector", "Prompts: as given.") if own else choose_source(roles, options)
    made_from = set() if own or source != "vector" else prompt_origins(options.prompts)
    witness, speaks = choose_witness(roles, source, made_from, options)
    hsv = _hsv_range(options, witness)
    notes = [f"The model sees {', '.join(composite)}.", reason]
    decision = Decision(
        composite, _fit(views, composite, options), source, witness=witness, speaks=speaks
    )
    if witness == "index":
        index = _index_name(roles, options.index)
        threshold = index_threshold(views, index, options.index_threshold)
        if _gives_way(decision, threshold, options):
            notes = [notes[0], threshold.sentence, _INSTEAD]
            decision = replace(decision, index=index, threshold=threshold, notes=tuple(notes))
            decision = replace(decision, renditions=(decision.stretch,))
            return replace(decision, source="learned", witness="learned")
        notes.append(threshold.sentence)
        hopeless = source in ("raster", "vector") and not threshold.separable
        witness = None if hopeless else witness
        decision = replace(decision, index=index, threshold=threshold, witness=witness)
        if _network_knows(decision, threshold):
            adds = composite == COLOUR_INFRARED and pixel_m(views.grid("scene")) <= COARSEST_M
            decision = replace(decision, renditions=(decision.stretch,), adds=adds)
            notes.append(_ADDS if adds else _BESIDE)
    elif witness == "learned" and composite == COLOUR_INFRARED:
        decision = replace(decision, renditions=(decision.stretch,))
    elif witness in ("hsv", "learned"):
        _check_bands(roles, RGB, f"--prompts {witness}")
        stretch = _fit(views, RGB, options)
        seen = (
            (stretch, _AS_STORED)
            if views.is_8bit and options.stretch == "percentile"
            else (stretch,)
        )
        decision = replace(decision, hsv=hsv, rgb_stretch=stretch, renditions=seen)
    return replace(decision, notes=tuple(notes))


_INSTEAD = (
    "Prompts: the learned network, since the index does not part water from land; it still speaks "
    "against water."
)


_BESIDE = "The learned network has a small word beside the index."
_ADDS = (
    "The learned network has a small word beside the index, and adds water that this leaves out."
)


def _hsv_range(options: Options, witness: str | None) -> HsvRange:
    """Return what colours water has by the options, which must not say so in vain."""
    if options.hsv is None:
        return DEFAULT_HSV
    hsv = parse_hsv(options.hsv)
    if witness != "hsv":
        raise OptionError(
            "--hsv says which colours --prompts hsv takes for water, and prompts come from elsewhere. "
            "Give both, or neither."
        )
    return hsv


def _gives_way(decision: Decision, threshold: Threshold, options: Options) -> bool:
    """Whether the learned network prompts in place of an index that nobody asked for by name."""
    by_itself = options.prompts == "auto" and options.index == "auto"
    return by_itself and not threshold.separable and decision.composite in (COLOUR_INFRARED, RGB)


def _network_knows(decision: Decision, threshold: Threshold) -> bool:
    """Whether the learned network may speak beside an index: it has seen these three bands, and there
    is water by the index at all.
    """
    return threshold.separable and decision.composite in (COLOUR_INFRARED, RGB)


def choose_witness(
    roles: Collection[str], source: str, made_from: Collection[str], options: Options
) -> tuple[str | None, bool]:
    """Return what finds water beside the model, and whether its logits are added to the model's.

    The prompts' own source, the index where a raster is a hint, what a file of prompts says it was
    made from (`made_from`); beside prompts of a user's own what would prompt by itself, unless no
    dense prompt is wanted.
    """
    by_index = "index" if choose_index(roles) not in (None, "ndvi") else None
    if source in ("index", "hsv", "learned"):
        return source, True
    if source == "raster":
        return by_index, True
    if source == "vector":
        saved = next((w for w in ("index", "learned", "hsv") if w in made_from), None)
        found = by_index or ("learned" if set(RGB) <= set(roles) else None)
        if set(made_from) - {"user"}:
            return saved, True
        return found if options.dense else None, False
    return None, False


def choose_composite(roles: Collection[str], wanted: str) -> tuple[str, str, str]:
    """Return the three bands the model sees: colour infrared where there is one, because water is
    dark in the near infrared and little else is.
    """
    if wanted == "auto":
        if set(COLOUR_INFRARED) <= set(roles):
            return COLOUR_INFRARED
        if set(RGB) <= set(roles):
            return RGB
        raise BandError(
            f"The scene has {', '.join(roles)}; the model needs three bands, red, green and blue as a "
            "rule. Name the roles with --bands, or choose with --composite."
        )
    bands = tuple(name.strip() for name in wanted.split(","))
    if len(bands) != 3:
        raise BandError(
            f"--composite {wanted!r} names {len(bands)} bands; it takes three, such as nir,red,green."
        )
    _check_bands(roles, bands, "--composite")
    return bands  # type: ignore[return-value]


def choose_source(roles: Collection[str], options: Options) -> tuple[str, str]:
    """Return the kind of prompt source, and why in a sentence."""
    wanted = options.prompts
    if wanted == "auto":
        index = choose_index(roles) if options.index == "auto" else options.index
        if index in (None, "ndvi"):
            return "learned", "Prompts: the learned network, since no water index fits these bands."
        return "index", f"Prompts: {str(index).upper()}, since the bands allow it."
    if wanted == "autosam":
        beside = prompter_at_hand(options.model)
        found = "Prompts: the dense prompt network beside the model, once that is fetched."
        return wanted, found if beside is None else beside.sentence
    if wanted in PROMPT_SOURCES:
        return wanted, f"Prompts: {wanted}, as asked."
    kind = _file_kind(wanted)
    name = Path(wanted).name
    if kind == "raster":
        return kind, f"Prompts: {name}, a hint to which water is meant."
    return kind, f"Prompts: {name}, as asked."


def _file_kind(path: str) -> str:
    if not os.path.exists(path):
        raise PromptError(
            f"--prompts {path}: no such file, and no source of that name. Sources: {', '.join(PROMPT_SOURCES)}."
        )
    rasters = (".tif", ".tiff", ".vrt", ".img", ".jp2")
    return "raster" if Path(path).suffix.lower() in rasters else "vector"


def index_threshold(views: Views, index: str, wanted: str) -> Threshold:
    """Choose the threshold of an index from the preview, or take the number that was asked for."""
    rule = INDICES[index]
    if wanted != "otsu":
        return fixed_threshold(float(wanted), rule)
    values = np.asarray(compute_index(views.preview, index), np.float64).ravel()
    return choose_threshold(values[np.isfinite(values)], rule)


def _index_name(roles: Collection[str], wanted: str) -> str:
    if wanted == "auto":
        name = choose_index(roles)
        if name is None:
            raise BandError(
                f"The scene has {', '.join(roles)}: no water index fits. Name a near infrared with --bands, or use --prompts learned."
            )
        return name
    if wanted not in INDICES:
        raise BandError(f"--index {wanted!r} is unknown. Indices: {', '.join(INDICES)}.")
    _check_bands(roles, INDICES[wanted].roles, f"--index {wanted}")
    return wanted


def _fit(views: Views, bands: tuple[str, ...], options: Options) -> Stretch:
    return fit_stretch(views.preview, bands, parse_stretch(options.stretch))


def _check_bands(roles: Collection[str], needed: Collection[str], asked_by: str) -> None:
    missing = [name for name in needed if name not in roles]
    if missing:
        raise BandError(
            f"{asked_by} needs {', '.join(missing)}; the scene has {', '.join(roles)}. Name the roles with --bands."
        )
