"""How a job's files are made, beside what is in them."""

from typing import Annotated, Final

from pydantic import Field, Strict, TypeAdapter
from pydantic.dataclasses import dataclass

MAX_TOLERANCE: Final = 100.0


@dataclass(frozen=True, slots=True)
class FormatOptions:
    """Options of the output formats.

    polygon_tolerance: pixels by which a simplified outline may differ from the exact one; 0 keeps every corner.
    coco_polygons: whether coco.json has polygons in place of RLE.
    """

    polygon_tolerance: Annotated[float, Strict(), Field(ge=0, le=MAX_TOLERANCE)] = Field(
        default=1.0, description="Pixels by which a simplified outline may differ from the exact one; 0: not at all."
    )
    coco_polygons: Annotated[bool, Strict()] = Field(
        default=False, description="coco.json: polygons in place of RLE, in which holes are lost."
    )


FORMAT_OPTIONS: Final = TypeAdapter(FormatOptions)
"""Checks and converts options; its JSON schema is that of the wire form."""
