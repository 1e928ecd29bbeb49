"""What the API shows, field by field.  A new field of a job does not leak by itself: it has to be named here."""

from typing import Literal, Self

from flask import url_for
from pydantic import BaseModel, ConfigDict, Field

from api.served import ModelState, ServedModel
from shared.catalogue import WorkerState
from shared.jobs import ImageFacts, Job, JobState, Subtask
from shared.results import JobResult, Segment


class ErrorView(BaseModel):
    """Every error of every route."""

    error: str = Field(description="One sentence for a person.")
    error_type: str = Field(description="A code for a program; codes never change.", examples=["queue_full"])
    request_id: str = Field(description="The same as in the header x-request-id, and in the log.")


class JobPath(BaseModel):
    job_id: str = Field(description="32 hex digits, as the submission gave them.")


class MaskPath(JobPath):
    number: int = Field(description="The `id` of a segment, from 1.", ge=1)


class ModelPath(BaseModel):
    model_id: str = Field(description="The model's id; it may contain slashes.")


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


class WorkerView(BaseModel):
    id: str
    state: WorkerState
    device: str
    revision: str
    reason: str = Field(description="Why it cannot serve, if it cannot.")
    load_seconds: float | None = Field(description="How long its model took to load.")


class ModelView(BaseModel):
    """A model, and the workers that serve it."""

    id: str
    state: ModelState
    workers: list[WorkerView]

    @classmethod
    def of(cls, model: ServedModel) -> Self:
        workers = [
            WorkerView(
                id=worker.id,
                state=worker.state,
                device=worker.device,
                revision=worker.revision,
                reason=worker.reason,
                load_seconds=worker.load_seconds,
            )
            for worker in model.workers
        ]
        return cls(id=model.id, state=model.state, workers=workers)


class ModelListView(BaseModel):
    """Every model that can be asked for."""

    models: list[ModelView]
    default: str


class HfSegmentView(BaseModel):
    """One segment in the form of the Hugging Face task image-segmentation."""

    score: float
    label: str
    mask: str = Field(description="Base64 of an 8-bit grey PNG, 0 or 255, as large as the upright image.")
