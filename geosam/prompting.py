"""What prompts the model, for any part of a scene and from any source."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import dask
import xarray as xr
from odc.geo.geobox import GeoBox

from geosam.coarse import (
    MIN_COMPONENT_PX,
    coarse_from_evidence,
    coarse_from_network,
    coarse_from_raster,
    follow_hint,
    is_related,
    mask_prompt,
)
from geosam.decision import Decision
from geosam.durable import Keep, Step, pixels_of
from geosam.evidence import EVIDENCE_PX, learned_evidence, water_evidence, weighed
from geosam.grids import geobox_of
from geosam.hysteresis import CELL_PX, REACH_PX
from geosam.kept import on_grid
from geosam.loading import placement
from geosam.options import Options
from geosam.prompts.automatic import PromptRule
from geosam.prompts.from_text import find_phrases, parse_phrases
from geosam.prompts.scene_prompts import ScenePrompts, dense_mask
from geosam.prompts.vector import read_prompts
from geosam.raster import check_coarse, read_coarse
from geosam.segmentation import PromptSource
from geosam.stretch import Stretch
from geosam.tiles import TileGrid
from geosam.views import Looks, Views, covering
from geosam.whereabouts import anywhere

COARSE_PX = EVIDENCE_PX + MIN_COMPONENT_PX
"""Pixels of the working grid around it that a coarse mask depends on."""
BELIEF_PX = REACH_PX + CELL_PX + MIN_COMPONENT_PX
"""The same where the learned network finds the water."""


@dataclass(frozen=True)
class Prompting:
    """What prompts the model, for any part of the scene; see :class:`PromptSource`."""

    coarse: Step | None = None
    """Gives the coarse mask."""
    rule: PromptRule | None = None
    """How points are drawn from it."""
    doubt: Step | None = None
    """Gives the mask prompt where it is more than the coarse mask; see :func:`geosam.coarse.mask_prompt`."""
    given: ScenePrompts | None = None
    """Prompts that are there already, on the working grid of the scene."""
    dense: bool = True
    """Whether the coarse mask itself is given to the model."""
    boxes: bool = True
    """Whether boxes are given to the model."""
    evidence: Step | None = None
    """Gives the logits that speak for water beside the model."""
    unprompted: bool = False
    """Whether every tile is decoded without any prompt, or prompts itself."""
    joined: bool = False
    """Whether only what hangs together with a prompt is meant, as with a user's own."""

    def of(self, looks: Looks, grid: GeoBox) -> PromptSource:
        """Return what prompts the model in a part of a scene, whose working grid is `grid`."""
        given = self.given
        if given is not None:
            window = covering(looks.grid(), grid)
            given = given.within(window).moved(-window.col, -window.row)
        return PromptSource(
            None if self.coarse is None else pixels_of(self.coarse, looks),
            self.rule,
            given,
            self.dense,
            None if self.doubt is None else pixels_of(self.doubt, looks),
            self.boxes,
            self.unprompted,
            self.joined,
        )


def prompt_source(views: Views, decision: Decision, options: Options, keep: Keep) -> Prompting:
    """Return what will prompt the model, and what speaks for water beside it."""
    if decision.source in ("none", "autosam"):
        return Prompting(unprompted=True)
    learned = learned_evidence(views, decision, options, keep)
    evidence = None
    if decision.witness is not None:
        evidence = partial(water_evidence, decision=decision, learned=learned)
    if decision.source == "vector":
        given = read_prompts(options.prompts, geobox_of(views.working))
        drawn = partial(_burned, given=given, grid=geobox_of(views.working))
        return Prompting(
            doubt=_doubt(decision, evidence, drawn, keep),
            given=given,
            evidence=weighed(evidence, drawn, decision, learned),
        )
    coarse = _coarse(views, options, decision, evidence, keep)
    return Prompting(
        coarse=coarse,
        rule=_rule(decision, options),
        doubt=_doubt(decision, evidence, coarse, keep) if options.dense else None,
        dense=options.dense,
        boxes=options.boxes,
        evidence=weighed(evidence, coarse, decision, learned),
    )


def _rule(decision: Decision, options: Options) -> PromptRule:
    source = decision.source
    return PromptRule(
        f"{source}/{decision.witness}" if source == "raster" else source,
        options.points,
        options.negatives,
        boxes=options.boxes,
        seed=options.seed,
    )


def _burned(looks: Looks, given: ScenePrompts, grid: GeoBox) -> xr.DataArray:
    """Return the polygons of prompts as a coarse mask."""
    box = looks.grid()
    corner = covering(box, grid)
    return on_grid(dense_mask(given.moved(-corner.col, -corner.row), box), box)


def _coarse(
    views: Views, options: Options, decision: Decision, evidence: Step | None, keep: Keep
) -> Step:
    """Return the coarse mask: what the evidence says, a user's raster, or what the two agree on."""
    if decision.source != "raster":
        assert evidence is not None
        if decision.witness == "learned":
            return keep.raster(partial(_of_network, evidence=evidence), "coarse", BELIEF_PX)
        return keep.raster(partial(_of_evidence, evidence=evidence), "coarse", COARSE_PX)
    check_coarse(options.prompts, geobox_of(views.working))
    hinted = partial(_hint, path=anywhere(options.prompts))
    if evidence is None:
        return keep.raster(hinted, "coarse")
    rasters = (
        keep.raster(hinted, "hint"),
        keep.raster(partial(_of_evidence, evidence=evidence), "evident", COARSE_PX),
    )
    # Which water a hint means is a question of whole water bodies: here both are held in memory.
    hint, water = dask.compute(*(raster(views) for raster in rasters))
    return keep.hold(follow_hint(hint, water) if is_related(hint, water) else hint, "coarse")


def _doubt(decision: Decision, evidence: Step | None, coarse: Step, keep: Keep) -> Step | None:
    """Return the mask prompt in logits, where they are the learned network's."""
    if evidence is None or decision.witness != "learned":
        return None
    said = partial(_said, evidence=evidence, coarse=coarse)
    return keep.raster(said, "mask_prompt")


def _said(looks: Looks, evidence: Step, coarse: Step) -> xr.DataArray:
    return mask_prompt(evidence(looks), coarse(looks))


def _hint(looks: Looks, path: str) -> xr.DataArray:
    return coarse_from_raster(read_coarse(path, looks.grid()), looks.working)


def _of_evidence(looks: Looks, evidence: Step) -> xr.DataArray:
    return coarse_from_evidence(evidence(looks), looks.working)


def _of_network(looks: Looks, evidence: Step) -> xr.DataArray:
    return coarse_from_network(evidence(looks))


def named_prompts(
    views: Views, decision: Decision, grid: TileGrid, options: Options
) -> ScenePrompts:
    """Return the boxes of what ``--text`` names, an object each.

    Raises
    ------
    PromptError
        If the detector does not know a phrase, or finds nothing.
    """
    from geosam.models.detectors import COLOUR, load_detector

    stretch = decision.stretch
    if options.detector == COLOUR and "nir" in stretch.bands:
        # An index is of ratios: one factor for all bands.
        stretch = Stretch(stretch.bands, (0.0,) * 3, (max(stretch.high),) * 3)
    detector = load_detector(options.detector, roles=decision.composite, **placement(options))
    phrases = parse_phrases(options.text or "")
    return find_phrases(views.working, grid, stretch, detector, phrases).as_prompts()
