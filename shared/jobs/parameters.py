"""The segmentation parameters of a job, each declared once.

Validation, the OpenAPI document, the job view, the wire form and README's table are derived from this class.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Final

from pydantic import BeforeValidator, Field, Strict, TypeAdapter
from pydantic.dataclasses import dataclass
from pydantic.fields import FieldInfo


class Subtask(StrEnum):
    PANOPTIC = "panoptic"
    INSTANCE = "instance"
    SEMANTIC = "semantic"


def _parse_switch(value: object) -> object:
    """Return the boolean that a query or a form spells as text; any other value as it is."""
    return {"true": True, "false": False}.get(value.lower(), value) if isinstance(value, str) else value


Fraction = Annotated[float, Strict(), Field(ge=0, le=1)]
Switch = Annotated[bool, BeforeValidator(_parse_switch), Strict()]


@dataclass(frozen=True, slots=True)
class SegmentParameters:
    """How to segment; the defaults are those of the reference pipeline.

    Unknown members are ignored, so that documents of a newer gateway can be read; requests are checked for them in
    api/http/parameters.py.
    """

    threshold: Fraction = Field(default=0.9, description="Minimum score of a segment.")
    mask_threshold: Fraction = Field(default=0.5, description="Minimum probability of a pixel of a segment's mask.")
    overlap_mask_area_threshold: Fraction = Field(
        default=0.5, description="Minimum fraction of its own mask that a segment must keep."
    )
    subtask: Subtask | None = Field(default=None, description="Kind of segments; null: the model's default.")
    fuse_stuff: Switch = Field(
        default=False, description="panoptic: merge all segments of a stuff class, such as sky or road, into one."
    )
    strict_instance_thresholds: Switch = Field(
        default=False, description="instance: apply the other two thresholds, which the reference ignores."
    )


FIELDS: Final[Mapping[str, FieldInfo]] = SegmentParameters.__pydantic_fields__  # type: ignore[attr-defined]
"""Default, range and description of each parameter."""

PARAMETERS: Final = TypeAdapter(SegmentParameters)
"""Checks and converts parameters; its JSON schema is that of the wire form."""
