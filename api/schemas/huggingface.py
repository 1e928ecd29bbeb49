"""Hugging Face task image-segmentation."""

from pydantic import BaseModel, Field


class HfSegmentView(BaseModel):
    """One segment in the form of the Hugging Face task image-segmentation."""

    score: float
    label: str
    mask: str = Field(description="Base64 of an 8-bit grey PNG, 0 or 255, as large as the upright image.")
