"""The result of a job."""

from typing import Literal, Self

from flask import url_for
from pydantic import BaseModel, Field

from api.schemas.jobs import ImageView, JobPath, LinksView
from shared.jobs.model import JobState
from shared.jobs.result import JobResult, Segment


class MaskPath(JobPath):
    number: int = Field(description="The `id` of a segment, from 1.", ge=1)


class SegmentView(BaseModel):
    id: int = Field(description="Its value in labels.png, from 1.")
    label: str
    label_id: int
    score: float | None = Field(description="From 0 to 1; null where the subtask has none (semantic).")
    area: int = Field(description="Pixels.")
    bbox: tuple[int, int, int, int] = Field(description="[x, y, width, height] in pixels.")
    mask_url: str

    @classmethod
    def of(cls, segment: Segment, job_id: str) -> Self:
        return cls(
            id=segment.id,
            label=segment.label,
            label_id=segment.label_id,
            score=segment.score,
            area=segment.area,
            bbox=segment.bbox,
            mask_url=url_for("jobs.show_mask", job_id=job_id, number=segment.id),
        )


class ResultView(BaseModel):
    """What came of a job that succeeded."""

    id: str
    state: Literal[JobState.SUCCEEDED] = JobState.SUCCEEDED
    model: str
    model_revision: str
    image: ImageView
    segments: list[SegmentView]
    labels_url: str = Field(description="PNG of the label map: 0 is nothing, n is the segment of id n.")
    overlay_url: str
    masks_zip_url: str
    timings_ms: dict[str, float]

    @classmethod
    def of(cls, end: JobResult) -> Self:
        job_id, links = end.request.id, LinksView.of(end.request.id)
        return cls(
            id=job_id,
            model=end.request.model,
            model_revision=end.model_revision,
            image=ImageView.of(end.request.image),
            segments=[SegmentView.of(segment, job_id) for segment in end.segments],
            labels_url=links.labels,
            overlay_url=links.overlay,
            masks_zip_url=links.masks,
            timings_ms=dict(end.timings_ms),
        )
