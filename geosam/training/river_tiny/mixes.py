"""What the coarse networks of `river-tiny` learn from, and how it is shown to them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from geosam.training.river_tiny.augment import WATER_RECOLOURED
from geosam.training.river_tiny.tiles import FALSE_COLOURS

AERIAL = ("aerial_dry", "aerial_monterey", "aerial_dubai")
"""Sets of aerial images with labels of their own for all of it."""


@dataclass(frozen=True)
class Mix:
    """Where training tiles come from, and what is done to them."""

    shares: Mapping[str, float]
    """How often a tile comes from each data set; sets that are not named are not read."""

    composites: tuple[tuple[int, ...], ...]
    """False colours of scenes with near infrared, one of which is drawn for a tile."""

    false_colour: float
    """Share of the tiles of such scenes that are shown in false colours."""

    strength: float
    """How far colours are moved."""

    recoloured: float
    """Share of tiles whose water gets another colour."""

    agreed: bool
    """Whether labels of five-band chips count only where the sign of MNDWI agrees with them."""

    painted: Mapping[str, float] = field(default_factory=dict)
    """Share of tiles of a data set that get a synthetic river."""

    plain_fields: float = 0.0
    """Share of aerial tiles that get a plain piece of land with straight edges."""

    shadowed: float = 0.0
    """Share of aerial tiles that get shadows, which are not water."""


COLOURS = Mix(
    shares=MappingProxyType(
        {
            "chips_s2_rgb": 0.28,
            "chips_multispectral": 0.12,
            "aerial_ste_marguerite": 0.06,
            "aerial_dubai": 0.18,
            "aerial_monterey": 0.10,
            "aerial_dry": 0.28,
            "oblique_floods": 0.03,
            "scenes": 0.10,
            "synthetic": 0.14,
        }
    ),
    composites=FALSE_COLOURS[:5],
    false_colour=0.35,
    strength=0.6,
    recoloured=WATER_RECOLOURED,
    agreed=True,
    painted=MappingProxyType(
        {"aerial_dry": 0.4, "aerial_monterey": 0.3, "aerial_dubai": 0.1, "chips_s2_rgb": 0.04}
    ),
    plain_fields=0.12,
    shadowed=0.12,
)
"""For scenes in plain colours."""

INFRARED = Mix(
    shares=MappingProxyType({"chips_multispectral": 0.6, "scenes": 0.15, "synthetic": 0.25}),
    composites=FALSE_COLOURS[:1],
    false_colour=1.0,
    strength=0.3,
    recoloured=0.0,
    agreed=False,
)
"""For scenes with near infrared. Its colours mean something, so they are left nearly as they are, and
what a label says of flooded fields can be seen in them, so labels count in full."""
