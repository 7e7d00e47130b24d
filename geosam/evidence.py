"""What speaks for water beside the model, for any part of a scene."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import xarray as xr

from geosam.coarse import (
    EDGE_PX,
    NETWORK_WEIGHT,
    bounded,
    denied,
    detail,
    hsv_evidence,
    index_evidence,
    index_logits,
    mean_evidence,
    network_mosaic,
    store_evidence,
    stored_evidence,
    with_companion,
    without_slivers,
)
from geosam.decision import Decision
from geosam.durable import Keep, Learned, Lesson, Step, Tiling
from geosam.grids import geobox_of
from geosam.loading import load_network
from geosam.mosaic import Mosaic
from geosam.options import Options
from geosam.own_colours import learn_colours, with_own_colours
from geosam.regrid import onto_scene
from geosam.stretch import Stretch
from geosam.sure_pixels import SAMPLE_PX, draw_sample, sample_windows
from geosam.tiles import TileGrid
from geosam.types import CoarseNetwork
from geosam.views import Looks, Views, refine
from geosam.windows import void_look

EVIDENCE_PX = 2 * EDGE_PX + SAMPLE_PX
"""Pixels of the working grid around it that evidence depends on: slivers along nodata, and beyond them
what the scene's own colours are learned and told from."""
NETWORK_GROUP = 2
"""Tiles a side that go through the learned network together."""


def water_evidence(looks: Looks, decision: Decision, learned: Step | None) -> xr.DataArray:
    """Return what speaks for water before the model is asked: (y, x) float32 logits, lazily."""
    if decision.witness == "index":
        found = _of_index(looks, decision, index_evidence)
        return found if learned is None else with_companion(found, learned(looks), decision.adds)
    if decision.witness == "hsv":
        assert decision.hsv is not None and decision.rgb_stretch is not None
        return hsv_evidence(looks.working, decision.rgb_stretch, decision.hsv)
    assert learned is not None
    found = learned(looks)
    if decision.index is None:
        return found
    return denied(found, _of_index(looks, decision, index_logits))


def _of_index(
    looks: Looks, decision: Decision, logits: Callable[..., xr.DataArray]
) -> xr.DataArray:
    """Return logits of the scene's own pixels, brought to the model's grid."""
    seen = looks.scene if looks.is_refined else looks.working
    found = logits(seen, decision.index, decision.threshold)
    return refine(found, looks.grid()) if looks.is_refined else found


def learned_evidence(views: Views, decision: Decision, options: Options, keep: Keep) -> Step | None:
    """Return the step that gives the logits of the learned network, which looks twice, where it is
    asked.
    """
    beside = decision.witness == "index" and decision.renditions
    if decision.witness != "learned" and not beside:
        return None
    network = load_network(options, decision.renditions[0].bands)
    fine, wide = (
        keep.mosaic(
            partial(_asked_network, on=on, decision=decision, network=network),
            Tiling(_network_grid(getattr(views, on)), NETWORK_GROUP, on), name,
        )
        for on, name in (("working", "learned"), ("wider", "learned_wider"))
    )  # fmt: skip
    return _with_scene(partial(_both_looks, fine=fine, wide=wide), views, decision, keep)


def _with_scene(evidence: Step, views: Views, decision: Decision, keep: Keep) -> Step:
    """Add to the network's word what the scene's own colours say, once: several steps read it."""
    stretch, windows = decision.renditions[0], sample_windows(geobox_of(views.working))
    sample = partial(draw_sample, stretch=stretch)
    colours = keep.learn(Lesson(evidence, sample, learn_colours, windows, SAMPLE_PX), "colours")
    settled = partial(_settled, evidence=evidence, colours=colours, stretch=stretch)
    return partial(_read_back, stored=keep.raster(settled, "evidence", EVIDENCE_PX))


def _network_grid(scene: xr.DataArray) -> TileGrid:
    from geosam.models.coarse import COARSE_OVERLAP_PX, COARSE_TILE_PX

    return TileGrid(geobox_of(scene), COARSE_TILE_PX, COARSE_OVERLAP_PX)


def _asked_network(looks: Looks, on: str, decision: Decision, network: CoarseNetwork) -> Mosaic:
    scene = getattr(looks, on)
    return network_mosaic(scene, decision.renditions, network, _network_grid(scene), NETWORK_GROUP)


def _both_looks(looks: Looks, fine: Step, wide: Step) -> xr.DataArray:
    return mean_evidence(fine(looks), onto_scene(wide(looks), void_look(looks.working)))


def _settled(looks: Looks, evidence: Step, colours: Learned, stretch: Stretch) -> xr.DataArray:
    logits = evidence(looks)
    said = with_own_colours(logits, looks, colours(looks, logits), stretch)
    return store_evidence(without_slivers(said, looks.working), looks.working)


def _read_back(looks: Looks, stored: Step) -> xr.DataArray:
    return stored_evidence(stored(looks))


def weighed(
    evidence: Step | None, coarse: Step, decision: Decision, learned: Step | None
) -> Step | None:
    """Return evidence as it is added to the model's logits, without the water that is not meant."""
    if evidence is None or decision.witness == "hsv":
        return None
    return partial(_spoken, evidence=evidence, coarse=coarse, decision=decision)


def _spoken(looks: Looks, evidence: Step, coarse: Step, decision: Decision) -> xr.DataArray:
    said, meant = evidence(looks), coarse(looks)
    if decision.witness == "index":
        return bounded(said, meant)
    # Of pixels that the model sees enlarged it smooths away what is a pixel wide; of smaller ones, texture.
    fine = detail(said, meant) if looks.is_refined else None
    return bounded(said, meant, NETWORK_WEIGHT, fine)
