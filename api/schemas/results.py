"""The wire form of a job's result.  Its links to files come from the format registry."""

from typing import Any, Literal, Self

from flask import url_for
from pydantic import BaseModel, Field, create_model

from api.schemas.jobs import ImageView, JobPath
from shared.formats.registry import FORMATS
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
    is_thing: bool = Field(
        description="Whether its class has instances; false: stuff, such as grass. true if the model does not say."
    )
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
            is_thing=segment.is_thing,
            mask_url=url_for("results.show_mask", job_id=job_id, number=segment.id),
        )


_FILE_FIELDS: dict[str, Any] = {one.result_field: (str, Field(description=one.description)) for one in FORMATS}
_FileLinks = create_model("_FileLinks", **_FILE_FIELDS)


class ResultView(_FileLinks):
    """The result of a job that succeeded.  A link to a format that is not among the job's `formats` answers 404."""

    id: str
    state: Literal[JobState.SUCCEEDED] = JobState.SUCCEEDED
    model: str
    model_revision: str
    image: ImageView
    segments: list[SegmentView]
    timings_ms: dict[str, float]

    @classmethod
    def of(cls, result: JobResult) -> Self:
        job_id = result.request.id
        return cls(
            id=job_id,
            model=result.request.model,
            model_revision=result.model_revision,
            image=ImageView.of(result.request.require_image()),
            segments=[SegmentView.of(segment, job_id) for segment in result.segments],
            timings_ms=dict(result.timings_ms),
            **{one.result_field: url_for(f"results.show_{one.name}", job_id=job_id) for one in FORMATS},
        )
