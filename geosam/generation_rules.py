"""The rules of the automatic mask generator, by the names they have in SAM.

Kirillov et al. 2023, Segment Anything, https://arxiv.org/abs/2304.02643, appendix B. A leaf: the
command line makes its flags from this table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from geosam.errors import OptionError


def _rule(default: Any, text: str, metavar: str | None = None) -> Any:
    return field(default=default, metadata={"group": "masks", "help": text, "metavar": metavar})


@dataclass(frozen=True)
class GenerationRules:
    """What the model is asked in a picture, and which masks stay. Defaults are the paper's."""

    points_per_side: int = _rule(
        32, "Clicks along each side of a tile; their square in all. 0 for none.", "N"
    )
    points_per_batch: int = _rule(16, "Prompts that are decoded at once.", "N")
    shapes: bool = _rule(
        False,
        "Also ask about every shape that colour alone tells apart, with a mask as the prompt: for "
        "models that read a mask better than a click.",
    )
    pred_iou_thresh: float = _rule(
        0.88, "A mask goes unless the model rates it above this predicted IoU.", "IOU"
    )
    stability_score_thresh: float = _rule(
        0.95, "A mask goes if it is less stable than this.", "SHARE"
    )
    stability_score_offset: float = _rule(
        1.0,
        "Logits by which the threshold is moved up and down to see how stable a mask is.",
        "LOGITS",
    )
    box_nms_thresh: float = _rule(
        0.7, "Of masks whose boxes have a higher IoU than this only the best rated stays.", "IOU"
    )
    mask_nms_thresh: float = _rule(
        0.7, "The same of the masks themselves, within a tile and across tiles.", "IOU"
    )
    crop_n_layers: int = _rule(
        0, "Times a tile is cut into crops that are looked at larger: 4, 16, ... of them.", "N"
    )
    crop_nms_thresh: float = _rule(
        0.7,
        "Of masks from different crops whose boxes have a higher IoU than this only that of the "
        "smallest crop stays.",
        "IOU",
    )
    crop_overlap_ratio: float = _rule(
        512 / 1500, "Share of a tile's side by which the crops of the first layer overlap.", "SHARE"
    )
    crop_n_points_downscale_factor: int = _rule(
        1, "By how much there are fewer clicks a side with every layer of crops.", "N"
    )
    min_mask_region_area: int = _rule(
        0, "Islands and holes of a mask below this many pixels of a tile are mended.", "PX"
    )
    snap_px: int = _rule(
        0,
        "Pixels by which the edge of a mask may move to where colours part: for models whose masks are "
        "coarser than what they see.",
        "PX",
    )
    edge_contrast: float = _rule(
        0.0,
        "A mask goes unless colours inside and outside differ by this many standard deviations along three "
        "quarters of its outer edge.",
        "SD",
    )
    max_mask_share: float = _rule(
        1.0, "A mask goes if it covers more of a tile than this; the paper has 0.95.", "SHARE"
    )

    def __post_init__(self) -> None:
        for name in _SHARES:
            _check(name, getattr(self, name), 0 <= getattr(self, name) <= 1, "lie between 0 and 1")
        for name in _COUNTS:
            least = _COUNTS[name]
            _check(name, getattr(self, name), getattr(self, name) >= least, f"be {least} or more")
        offset = self.stability_score_offset
        _check("stability_score_offset", offset, offset > 0, "be greater than 0")
        _check("crop_n_layers", self.crop_n_layers, self.crop_n_layers <= 4, "be 4 or less")
        if not self.points_per_side and not self.shapes:
            raise OptionError(
                "--points-per-side 0 without --shapes asks the model nothing. Use --shapes, or 32 clicks."
            )

    @classmethod
    def of(cls, asked: Mapping[str, Any], recorded: Mapping[str, Any]) -> GenerationRules:
        """Make rules of what was asked for, and where that is None of what a model recorded."""
        known = {name: value for name, value in recorded.items() if name in RULE_NAMES}
        return cls(**{**known, **{k: v for k, v in asked.items() if v is not None}})


RULE_NAMES = frozenset(rule.name for rule in fields(GenerationRules))
"""The names of all rules."""
_SHARES = (
    "pred_iou_thresh",
    "stability_score_thresh",
    "box_nms_thresh",
    "mask_nms_thresh",
    "crop_nms_thresh",
    "crop_overlap_ratio",
    "max_mask_share",
)
_COUNTS = {
    "points_per_side": 0,
    "points_per_batch": 1,
    "crop_n_layers": 0,
    "crop_n_points_downscale_factor": 1,
    "min_mask_region_area": 0,
    "snap_px": 0,
    "edge_contrast": 0,
}


def _check(name: str, value: float, right: bool, rule: str) -> None:
    if not right:
        raise OptionError(f"--{name.replace('_', '-')} {value} must {rule}.")
