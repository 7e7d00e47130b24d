"""Where training tiles come from that ask for something: water, land, a segment, a shape."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import torch

from geosam.models.unet import CoarseWaterNet
from geosam.training.river_tiny.augment import augment
from geosam.training.river_tiny.batch_prompts import PromptPlan
from geosam.training.river_tiny.coarse import water_colours
from geosam.training.river_tiny.painting import paint_river
from geosam.training.river_tiny.sources import Scene
from geosam.training.river_tiny.targets import (
    Target,
    halve_label,
    land_target,
    one_component,
    segment_target,
    shape_target,
    water_target,
)
from geosam.training.river_tiny.tiles import FALSE_COLOURS, draw_tile
from geosam.training.sample import IGNORE, LAND, WATER, Sample

WATER_SHARES = {
    "chips_s2_rgb": 0.12,
    "chips_multispectral": 0.34,
    "aerial_ste_marguerite": 0.12,
    "aerial_dubai": 0.17,
    "aerial_monterey": 0.05,
    "aerial_dry": 0.20,
    "synthetic": 0.45,
}
"""Where tiles that ask for water come from; dry images get a painted river."""

COARSE_SHARE = 0.3
"""Share of the coloured tiles that ask for water by a mask whose mask is the coarse network's answer. With
0.65 and more Sentinel-2 a further round brought those masks further and others less far; see the model card."""


INDEXED = {"chips_multispectral": 0.35, "synthetic": 0.6}
"""Share of the tiles of a set whose coarse mask is a water index."""


DENSE_KINDS = {"water": 0.62, "land": 0.1, "segment": 0.2, "shape": 0.08}


SPARSE_KINDS = {"water": 0.42, "land": 0.05, "segment": 0.3, "shape": 0.23}
"""What is asked for by a coarse mask, and what by clicks or a box."""


class TargetSource:
    """Draws tiles that ask for something, and the coarse masks that go with some."""

    def __init__(
        self,
        scenes: dict[str, list[Scene]],
        rng: np.random.Generator,
        coarse: CoarseWaterNet | None = None,
    ) -> None:
        self.rng, self.coarse = rng, coarse
        self.scenes = {name: found for name, found in scenes.items() if found}
        self.wet = {
            name: [s for s in found if len(s.wet) or name == "aerial_dry"]
            for name, found in self.scenes.items()
        }
        self.wet = {name: found for name, found in self.wet.items() if found}
        self.colours = water_colours([s for found in self.scenes.values() for s in found])

    def draw(self, plan: PromptPlan, size: int) -> Target:
        """One tile and its object; redrawn until there is something to ask for."""
        kinds = DENSE_KINDS if plan.dense else SPARSE_KINDS
        while True:
            kind = str(self.rng.choice(list(kinds), p=list(kinds.values())))
            target = self._draw_kind(kind, size, plan.dense)
            if target is not None and (target.truth & target.known).sum() >= 12:
                return target if plan.dense else self._narrow(target)

    def _narrow(self, target: Target) -> Target:
        """A click or a box mostly asks for one part; clicks on all the water stay possible."""
        if target.kind in ("water", "land") and self.rng.random() < 0.8:
            return one_component(target, self.rng)
        return target

    def _draw_kind(self, kind: str, size: int, dense: bool) -> Target | None:
        if kind == "shape":
            return shape_target(size, self.rng)
        if kind == "segment":
            name = str(self.rng.choice(list(self.scenes)))
            scene = self.scenes[name][self.rng.integers(len(self.scenes[name]))]
            return segment_target(self._show(scene, size, 0.3), self.rng)
        return self._draw_water(kind, size, dense)

    def _draw_water(self, kind: str, size: int, dense: bool) -> Target | None:
        odds = np.array([WATER_SHARES.get(name, 0.1) for name in self.wet])
        name = str(self.rng.choice(list(self.wet), p=odds / odds.sum()))
        scene = self.wet[name][self.rng.integers(len(self.wet[name]))]
        if dense and kind == "water" and self.rng.random() < INDEXED.get(name, 0.0):
            return self._draw_index(scene, size)
        sample = self._show(scene, size, 0.9)
        if name == "aerial_dry" or self.rng.random() < 0.05:
            sample = paint_river(sample, self.rng, self.colours)
        sample = augment(sample, self.rng, strength=0.8)
        if kind == "land":
            return land_target(sample)
        target = water_target(sample)
        if target is None or not (dense and scene.is_rgb and self.coarse):
            return target
        if self.rng.random() >= COARSE_SHARE:
            return target
        return replace(target, coarse=coarse_mask(self.coarse, sample.pixels))

    def _show(self, scene: Scene, size: int, wet_share: float) -> Sample:
        return draw_tile(scene, size, self.rng, self._composite(scene), wet_share)

    def _composite(self, scene: Scene) -> tuple[int, ...] | None:
        if scene.is_rgb or self.rng.random() < 0.25:
            return None
        return FALSE_COLOURS[self.rng.integers(len(FALSE_COLOURS))]

    def _draw_index(self, scene: Scene, size: int) -> Target | None:
        """A tile whose coarse mask is a water index, as the toolkit makes it.

        The same random numbers cut and turn label and index alike.
        """
        indexed = replace(scene, labels=(index_label(scene, self.rng),))
        bands = self._composite(scene)
        twin = copy.deepcopy(self.rng)
        sample = augment(draw_tile(scene, size, self.rng, bands, 0.9), self.rng, 0.5)
        hint = augment(draw_tile(indexed, size, twin, bands, 0.9), twin, 0.5)
        target = water_target(sample)
        return None if target is None else replace(target, coarse=halve_label(hint.label)[0])


def index_label(scene: Scene, rng: np.random.Generator) -> np.ndarray:
    """NDWI or MNDWI of a five-band chip against about zero, as a label array (y, x)."""
    bands = scene.levels[0].astype(np.float32)
    green, other = bands[1], bands[int(rng.integers(3, 5))]
    water = green - other > rng.normal(0, 0.06) * (green + other)
    return np.where(scene.labels[0] == IGNORE, IGNORE, np.where(water, WATER, LAND)).astype(
        np.uint8
    )


@torch.inference_mode()
def coarse_mask(net: CoarseWaterNet, pixels: np.ndarray) -> np.ndarray:
    """What the coarse network calls water, (y / 2, x / 2) bool."""
    return (net.half_size(torch.from_numpy(pixels)[None])[0, 0] > 0).numpy()
