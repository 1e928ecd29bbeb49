"""The wire form of jobs.  A new field of a job does not appear by itself: it has to be named here."""

from dataclasses import asdict
from typing import Any, Literal, Self

from flask import url_for
from pydantic import BaseModel, Field, create_model

from api.schemas.query import Query
from shared.formats.registry import FORMATS
from shared.jobs.format_options import FormatOptions
from shared.jobs.ids import CLIENT_ID_PATTERN
from shared.jobs.model import ImageFacts, Job, JobState, Priority, QueuePlace, UrlInput
from shared.jobs.parameters import FIELDS
from shared.jobs.service_times import Eta
from shared.outgoing.policy import strip_secrets
from shared.rfc3339 import Timestamp

_JOB_ID = "^[0-9a-f]{32}$"


class JobPath(BaseModel):
    job_id: str = Field(
        description="32 hex digits, as the submission returned them; or your own id, if it was submitted with one.",
        json_schema_extra={"pattern": f"^{CLIENT_ID_PATTERN}$"},
    )


class WaitQuery(Query):
    wait: float = Field(
        0.0, ge=0, le=3600, description="Answer when the job is final, or after this many seconds at most."
    )


class PurgeQuery(Query):
    purge: bool = Field(
        False,
        description="Delete the job at once, ended or not, with its input, results and record: 204, then 404.",
    )


def _describe_parameters() -> dict[str, Any]:
    return {name: (_plain(field.annotation), Field(description=field.description)) for name, field in FIELDS.items()}


def _plain(annotation: Any) -> Any:
    """Return a type without its constraints: the view shows values that were checked at submission."""
    return getattr(annotation, "__origin__", annotation)


ParametersView = create_model("ParametersView", **_describe_parameters())


class FormatOptionsView(BaseModel):
    """How the files of a job are made."""

    polygon_tolerance: float = Field(
        description="Pixels by which a simplified outline may differ from the exact one; 0: not at all."
    )
    coco_polygons: bool = Field(description="Whether coco.json has polygons in place of RLE.")

    @classmethod
    def of(cls, options: FormatOptions) -> Self:
        return cls(polygon_tolerance=options.polygon_tolerance, coco_polygons=options.coco_polygons)


class ImageView(BaseModel):
    format: str
    width: int = Field(description="Pixels, as seen upright.")
    height: int
    bytes: int
    sha256: str

    @classmethod
    def of(cls, image: ImageFacts) -> Self:
        return cls(format=image.format, width=image.width, height=image.height, bytes=image.bytes, sha256=image.sha256)


_LINKED = {"self": "jobs.show_job", "input": "results.show_input", "result": "results.show_result"} | {
    one.name: f"results.show_{one.name}" for one in FORMATS
}
LinksView = create_model(
    "LinksView",
    __doc__="Absolute paths on this host.  All but `self` and `input` answer 409 until the job has succeeded.  A format"
    " that is not among the job's `formats` is rendered when it is asked for; `input` answers 410 once the image is not"
    " kept.",
    **dict.fromkeys(_LINKED, (str, ...)),  # type: ignore[call-overload]
)


def build_links(job_id: str) -> BaseModel:
    """Return the paths of a job, its result and the file of each format."""
    return LinksView.model_validate({name: url_for(route, job_id=job_id) for name, route in _LINKED.items()})


class EtaView(BaseModel):
    """A range of time, RFC 3339 in UTC."""

    earliest: Timestamp
    latest: Timestamp

    @classmethod
    def of(cls, eta: Eta) -> Self:
        return cls(earliest=eta.earliest, latest=eta.latest)


class JobView(BaseModel):
    """The current state of a job."""

    id: str
    client_id: str | None = Field(description="Your own id of the job, if it was submitted with one.")
    state: JobState
    model: str
    priority: Priority
    parameters: ParametersView
    formats: list[str] = Field(description="Formats whose files are made of the result.")
    format_options: FormatOptionsView
    labels: list[str] = Field(description="Labels of the segments that the result has; empty: all.")
    recut: Literal["semantic"] | None = Field(description="What the job keeps for a recut, if that was asked for.")
    metadata: dict[str, Any] = Field(description="Your own data, as they were submitted.")
    webhook: str | None = Field(description="Who is told of its end.")
    image: ImageView | None = Field(description="null until a worker has read an image that was only named.")
    image_url: str | None = Field(description="Where it is fetched from, without the query, which may hold a secret.")
    created_at: Timestamp = Field(description="UTC with milliseconds, as all times.")
    deadline_at: Timestamp | None = Field(description="When it is `expired` if it has not ended.")
    started_at: Timestamp | None
    ended_at: Timestamp | None
    expires_at: Timestamp | None = Field(
        description="When the job is deleted with its files, at the earliest; null until it has ended."
    )
    attempt: int = Field(description="How often a worker has claimed it.")
    timings_ms: dict[str, float] = Field(description="Milliseconds by stage, once it is final.")
    redrive_of: str | None = Field(description="The job that this one runs again.")
    recut_of: str | None = Field(description="Id of the job of which it is a stored recut.")
    error: str | None = Field(description="Why there is no result, if there is none.")
    error_type: str | None
    queue_position: int | None = Field(
        None,
        description="Of a queued job that can be claimed, where it is shown alone: the jobs of its model that come "
        "before it, of its own priority and of higher ones, plus one. Jobs that others submit later may come "
        "before it, because the workers are shared out between tenants.",
        examples=[3],
    )
    eta: EtaView | None = Field(
        None,
        description="Of the same job: when it will have ended, by what the workers complete at present. Null while "
        "that is unknown.",
    )
    links: LinksView

    @classmethod
    def of(cls, job: Job, place: QueuePlace | None = None, eta: Eta | None = None) -> Self:
        request = job.request
        return cls(
            id=job.id,
            client_id=request.client_id,
            state=job.state,
            model=request.model,
            priority=request.priority,
            parameters=ParametersView(**asdict(request.parameters)),
            formats=list(request.formats),
            format_options=FormatOptionsView.of(request.format_options),
            labels=list(request.labels),
            recut="semantic" if request.keeps_all_queries else None,
            metadata=dict(request.metadata),
            webhook=request.webhook,
            image=ImageView.of(request.image) if request.image else None,
            image_url=strip_secrets(request.input.url) if isinstance(request.input, UrlInput) else None,
            created_at=request.created_at,
            deadline_at=request.deadline_at,
            started_at=job.started_at,
            ended_at=job.ended_at,
            expires_at=job.expires_at,
            attempt=job.attempt,
            timings_ms=dict(job.timings_ms),
            redrive_of=request.redrive_of,
            recut_of=request.recut_of,
            error=job.failure.message if job.failure else None,
            error_type=job.failure.code if job.failure else None,
            queue_position=place.position if place else None,
            eta=EtaView.of(eta) if eta else None,
            links=build_links(job.id),
        )


class JobListView(BaseModel):
    """A page of jobs, newest first; or the jobs of `ids`, in their order."""

    jobs: list[JobView]
    next_cursor: str | None = Field(
        None,
        description="Send it as `cursor` for the next page; null on the last. A page before may be empty, because each "
        "looks at a bounded number of jobs.",
    )
    missing: list[str] = Field([], description="Of `ids`: those of no job.")
