"""What a run did, for a person and as JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class TileReport:
    """What a run over the tiles of a scene did, whatever it looked for."""

    output: str
    """The GeoPackage."""
    files: tuple[str, ...]
    """Everything that was written."""
    notes: tuple[str, ...]
    """What was chosen, in sentences."""
    resolution_m: float
    """Pixel of the grid that the model worked on, on the ground."""
    tiles: dict[str, int]
    """Number of tiles by status."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Time of each step; ``total`` is all of it."""

    @property
    def exit_status(self) -> int:
        """0, or 1 if some tiles failed."""
        return 1 if self.tiles.get("failed") else 0

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON-ready values."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Report(TileReport):
    """What a run that looked for water did."""

    outlines: int
    """Polygons of water."""
    islands: int
    """Holes in them."""
    water_m2: float
    """Area of the outlines on the ground."""
    water_share: float
    """Part of the valid pixels that is water."""
