"""What the API shows, field by field.  A new field of a job does not leak by itself: it has to be named here."""

from typing import Self

from flask import url_for
from pydantic import BaseModel, ConfigDict, Field

from shared.jobs.model import ImageFacts, Job, JobState
from shared.jobs.parameters import Subtask


class JobPath(BaseModel):
    job_id: str = Field(description="32 hex digits, as the submission gave them.")


class WaitQuery(BaseModel):
    wait: float = Field(
        0.0, ge=0, le=3600, description="Hold the answer until the job has ended, for this many seconds at most."
    )


class ListQuery(BaseModel):
    model_config = ConfigDict(extra="forbid")

    limit: int = Field(50, ge=1, le=200, description="Most jobs on a page.")
    cursor: str | None = Field(None, description="`next_cursor` of the page before.")
    state: JobState | None = Field(None, description="Only jobs of this state.")


class ParametersView(BaseModel):
    threshold: float
    mask_threshold: float
    overlap_mask_area_threshold: float
    subtask: Subtask | None = Field(description="null: the model's own first choice.")
    fuse_stuff: bool
    strict_instance_thresholds: bool


class ImageView(BaseModel):
    format: str
    width: int = Field(description="Pixels, as seen upright.")
    height: int
    bytes: int
    sha256: str

    @classmethod
    def of(cls, image: ImageFacts) -> Self:
        return cls(format=image.format, width=image.width, height=image.height, bytes=image.bytes, sha256=image.sha256)


class LinksView(BaseModel):
    """Absolute paths on this host.  All but `self` answer 409 until the job has succeeded."""

    self: str
    result: str
    labels: str
    overlay: str
    masks: str

    @classmethod
    def of(cls, job_id: str) -> Self:
        routes = {
            "self": "jobs.show_job",
            "result": "jobs.show_result",
            "labels": "jobs.show_labels",
            "overlay": "jobs.show_overlay",
            "masks": "jobs.show_masks",
        }
        return cls.model_validate({name: url_for(route, job_id=job_id) for name, route in routes.items()})


class JobView(BaseModel):
    """Where a job stands."""

    id: str
    state: JobState
    model: str
    parameters: ParametersView
    image: ImageView
    created_at: float = Field(description="Unix seconds, as all times.")
    started_at: float | None
    ended_at: float | None
    attempt: int = Field(description="How often a worker has taken it.")
    timings_ms: dict[str, float] = Field(description="Milliseconds by stage, once it has ended.")
    error: str | None = Field(description="Why there is no result, if there is none.")
    error_type: str | None
    links: LinksView

    @classmethod
    def of(cls, job: Job) -> Self:
        request = job.request
        parameters = request.parameters
        return cls(
            id=job.id,
            state=job.state,
            model=request.model,
            parameters=ParametersView(
                threshold=parameters.threshold,
                mask_threshold=parameters.mask_threshold,
                overlap_mask_area_threshold=parameters.overlap_mask_area_threshold,
                subtask=parameters.subtask,
                fuse_stuff=parameters.fuse_stuff,
                strict_instance_thresholds=parameters.strict_instance_thresholds,
            ),
            image=ImageView.of(request.image),
            created_at=request.created_at,
            started_at=job.started_at,
            ended_at=job.ended_at,
            attempt=job.attempt,
            timings_ms=dict(job.timings_ms),
            error=job.failure.message if job.failure else None,
            error_type=job.failure.code if job.failure else None,
            links=LinksView.of(job.id),
        )


class JobListView(BaseModel):
    """A page of jobs, newest first."""

    jobs: list[JobView]
    next_cursor: str | None = Field(description="Hand it in as `cursor` for the next page; null on the last.")
