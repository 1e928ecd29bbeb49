"""The segmentation parameters of a job, each declared once."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self


class Subtask(StrEnum):
    PANOPTIC = "panoptic"
    INSTANCE = "instance"
    SEMANTIC = "semantic"


THRESHOLDS = ("threshold", "mask_threshold", "overlap_mask_area_threshold")
SWITCHES = ("fuse_stuff", "strict_instance_thresholds")


@dataclass(frozen=True, slots=True)
class SegmentParameters:
    """How to segment; the defaults are those of the reference pipeline.

    The three thresholds lie in [0, 1].  Without a subtask the model's own first choice is taken.

    fuse_stuff: in panoptic, make one segment of all that a class such as sky or road has.
    strict_instance_thresholds: let mask_threshold and overlap_mask_area_threshold count for instance, too.
    """

    threshold: float = 0.9
    mask_threshold: float = 0.5
    overlap_mask_area_threshold: float = 0.5
    subtask: Subtask | None = None
    fuse_stuff: bool = False
    strict_instance_thresholds: bool = False

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> Self:
        subtask = wire.get("subtask")
        known: dict[str, Any] = {name: float(wire[name]) for name in THRESHOLDS if name in wire}
        known |= {name: bool(wire[name]) for name in SWITCHES if name in wire}
        return cls(**known, subtask=Subtask(subtask) if subtask else None)
