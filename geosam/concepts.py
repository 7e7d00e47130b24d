"""Things that have a colour of their own, found by name without any network.

A detector of this kind knows few words; it stands in for a trained one, so that the way from text
to masks works without a download.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from geosam.boxes import boxes_of_parts
from geosam.errors import BandError, OptionError, PromptError
from geosam.indices import DEFAULT_HSV, HsvRange, hsv_mask, ndvi, ndwi

Bands = Mapping[str, np.ndarray]
"""(y, x) float by role, 0 to 1."""
GREEN_HSV = HsvRange(low=(60, 0.15, 0.05), high=(160, 1, 1))
"""Yellow-green to blue-green, with some colour."""


SOIL_HSV = HsvRange(low=(15, 0.15, 0.2), high=(50, 0.7, 1))
"""Yellow and brown, neither grey nor dark."""


@dataclass(frozen=True)
class Concept:
    """Something with a colour of its own."""

    name: str
    """What it is called."""
    words: tuple[str, ...]
    """What else it is called, in lower case."""
    measures: tuple[tuple[frozenset[str], Callable[[Bands], np.ndarray]], ...]
    """The bands that each way to measure needs, and the measure: (y, x) of 0 to 1, above 0.5 where
    the thing is. The first whose bands are there counts."""

    def measure(self, bands: Bands) -> np.ndarray:
        """Measure it, (y, x) of 0 to 1; BandError where the bands do not allow it."""
        for needed, function in self.measures:
            if needed <= bands.keys():
                return function(bands)
        needs = " or ".join("+".join(sorted(needed)) for needed, _ in self.measures)
        raise BandError(
            f"{self.name} is found in the bands {needs}, and the picture has {', '.join(bands)}."
        )


def _share(values: np.ndarray) -> np.ndarray:
    """Bring an index of -1 to 1 to 0 to 1."""
    return (values + 1) / 2


def _inside(colours: HsvRange) -> Callable[[Bands], np.ndarray]:
    def measure(bands: Bands) -> np.ndarray:
        rgb = np.stack([bands[role] for role in ("red", "green", "blue")])
        return hsv_mask(rgb, colours.low, colours.high).astype(float)

    return measure


def _soil(red: np.ndarray, green: np.ndarray, nir: np.ndarray) -> np.ndarray:
    """Measure how far ground is from plants (NDVI 0.25) and from water (NDWI 0), 0 to 1."""
    from_plants, from_water = 0.25 - ndvi(red, nir), -ndwi(green, nir)
    return np.clip(_share(np.minimum(from_plants, from_water)), 0, 1)


_RGB = frozenset({"red", "green", "blue"})

CONCEPTS: tuple[Concept, ...] = (
    Concept(
        "water",
        ("river", "rivers", "stream", "lake", "pond", "sea", "waterbody"),
        (
            (frozenset({"green", "nir"}), lambda b: _share(ndwi(b["green"], b["nir"]))),
            (_RGB, _inside(DEFAULT_HSV)),
        ),
    ),
    Concept(
        "vegetation",
        ("plants", "forest", "wood", "woods", "trees", "grass", "meadow"),
        (
            # NDVI above 0.3 is green by common use; bare soil lies around 0.1 to 0.2.
            (
                frozenset({"red", "nir"}),
                lambda b: np.clip(_share(ndvi(b["red"], b["nir"]) - 0.3), 0, 1),
            ),
            (_RGB, _inside(GREEN_HSV)),
        ),
    ),
    Concept(
        "bare soil",
        ("soil", "bare ground", "sand", "gravel", "earth"),
        (
            (frozenset({"red", "green", "nir"}), lambda b: _soil(b["red"], b["green"], b["nir"])),
            (_RGB, _inside(SOIL_HSV)),
        ),
    ),
)
"""What is known by its colour."""


@dataclass(frozen=True)
class ConceptDetector:
    """Finds the connected parts of what has a colour of its own."""

    roles: tuple[str, str, str] = ("red", "green", "blue")
    """What the three bands of a picture are."""
    concepts: tuple[Concept, ...] = CONCEPTS
    """What it knows."""
    min_px: int = 64
    """Smaller parts are not found."""

    def __post_init__(self) -> None:
        if len(set(self.roles)) != 3:
            raise OptionError(f"The roles {self.roles} must be three different ones.")

    @property
    def words(self) -> list[str]:
        """Every word it knows."""
        return [word for concept in self.concepts for word in (concept.name, *concept.words)]

    def detect(
        self, image: np.ndarray, phrases: Sequence[str]
    ) -> tuple[np.ndarray, np.ndarray, list[str]]:
        """Find what phrases name in (3, y, x) of 0 to 1.

        Returns
        -------
        tuple
            Boxes (n, 4) of x_min, y_min, x_max, y_max in pixels from the outer corner of the first;
            scores (n,), the mean measure of each part; and for each the phrase it is for.

        Raises
        ------
        PromptError
            A phrase is not known; the message names those that are.
        BandError
            The bands do not show it.
        """
        known = [self._concept(phrase) for phrase in phrases]
        bands = dict(zip(self.roles, image, strict=True))
        boxes, scores, labels = [np.empty((0, 4))], [np.empty(0)], []
        for phrase, concept in zip(phrases, known, strict=True):
            found, rated = boxes_of_parts(concept.measure(bands), self.min_px)
            boxes.append(found)
            scores.append(rated)
            labels += [phrase] * len(found)
        return np.concatenate(boxes), np.concatenate(scores), labels

    def _concept(self, phrase: str) -> Concept:
        word = phrase.strip().rstrip(".").lower()
        for concept in self.concepts:
            if word in (concept.name, *concept.words):
                return concept
        raise PromptError(
            f"The phrase {phrase!r} is not known without a trained detector. Known are "
            f"{', '.join(self.words)}."
        )
