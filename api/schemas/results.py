"""The wire form of a job's result.  Its links to files come from the format registry."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Literal, Self

from flask import url_for
from pydantic import BaseModel, Field, create_model

from api.schemas.jobs import ImageView, JobPath, ParametersView
from api.schemas.omitted import OMITTED_TEXT, OmittedView, show_omitted
from api.schemas.query import Query
from shared.formats.registry import FORMATS, get_format
from shared.jobs.format_options import FORMAT_OPTIONS, MAX_TOLERANCE
from shared.jobs.model import JobState
from shared.jobs.provenance import Provenance
from shared.jobs.result import JobResult, Segment
from shared.storage.keys import object_key
from shared.storage.signing import SignedUrl, UrlSigner


def _describe_option(name: str) -> str:
    schema = FORMAT_OPTIONS.json_schema()["properties"][name]
    return f"{schema['description']} Without it, as the job says."


class MaskPath(JobPath):
    number: int = Field(description="The `id` of a segment, from 1.", ge=1)


_URLS = "Whether `urls` has signed URLs of the files, where clients reach the object store."
_REDIRECT = "Answer 307 with a signed URL of the file, where clients reach the object store."


class ResultQuery(Query):
    urls: bool = Field(False, description=_URLS)


class InputQuery(Query):
    redirect: bool = Field(False, description=_REDIRECT)


_OPTIONS: dict[str, Any] = {
    "polygon_tolerance": (
        float | None,
        Field(None, ge=0, le=MAX_TOLERANCE, allow_inf_nan=False, description=_describe_option("polygon_tolerance")),
    ),
    "coco_polygons": (bool | None, Field(None, description=_describe_option("coco_polygons"))),
}
# By format: the query of its route.
FILE_QUERIES: Mapping[str, type[InputQuery]] = {
    one.name: create_model(
        f"{one.name.title()}Query", __base__=InputQuery, **{name: _OPTIONS[name] for name in one.options}
    )
    for one in FORMATS
}


class SignedUrlView(BaseModel):
    """An address at which anybody can fetch a file, without a token, for a while."""

    url: str
    expires_in_seconds: int

    @classmethod
    def of(cls, signed: SignedUrl) -> Self:
        return cls(url=signed.url, expires_in_seconds=signed.expires_in_seconds)


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


class ProvenanceView(BaseModel):
    """All that the result depends on, to compute it again."""

    image_sha256: str
    exif_orientation: int = Field(description="Of the image file, 1 to 8: it was turned upright by it.")
    model: str
    model_revision: str
    forward: str = Field(description="Kind of forward pass: `exact` or `fast`.")
    dtype: str
    device: str
    libraries: dict[str, str] = Field(description="Versions, by name.")
    parameters: ParametersView
    attempt: int
    worker: str = Field(description="Its `id` in `/v1/models`.")
    timings_ms: dict[str, float]
    recut_of: str | None = Field(
        description="Of a stored recut: id of the job whose logits it was made from. What is said of the model, the "
        "device and the worker is of that job; parameters and timings are its own."
    )
    recut_libraries: dict[str, str] | None = Field(description="Of a stored recut: versions of what made it, by name.")

    @classmethod
    def of(cls, result: JobResult, found: Provenance) -> Self:
        request, execution = result.request, found.execution
        return cls(
            image_sha256=request.require_image().sha256,
            exif_orientation=found.exif_orientation,
            model=request.model,
            model_revision=result.model_revision,
            forward=execution.forward,
            dtype=execution.dtype,
            device=execution.device,
            libraries=dict(execution.libraries),
            parameters=ParametersView(**asdict(request.parameters)),
            attempt=result.attempt,
            worker=found.worker,
            timings_ms=dict(result.timings_ms),
            recut_of=request.recut_of,
            recut_libraries=dict(found.recut_libraries) if request.recut_of else None,
        )


class ResultView(_FileLinks):
    """The result of a job that succeeded.  A format that is not among its `formats` is rendered when it is asked for.

    urls: by format, of the files that the job was submitted with.
    """

    id: str
    state: Literal[JobState.SUCCEEDED] = JobState.SUCCEEDED
    model: str
    model_revision: str
    image: ImageView
    segments: list[SegmentView]
    omitted: dict[str, OmittedView] = Field(description=OMITTED_TEXT)
    timings_ms: dict[str, float]
    provenance: ProvenanceView | None = Field(description="null in results of earlier versions.")
    urls: dict[str, SignedUrlView] | None = Field(
        description="With `urls=1`, by format: signed URLs of the files that were asked for at submission; null where "
        "clients do not reach the object store."
    )

    @classmethod
    def of(cls, result: JobResult, signer: UrlSigner | None = None) -> Self:
        job_id = result.request.id
        return cls(
            id=job_id,
            model=result.request.model,
            model_revision=result.model_revision,
            image=ImageView.of(result.request.require_image()),
            segments=[SegmentView.of(segment, job_id) for segment in result.segments],
            omitted=show_omitted(result.omitted),
            timings_ms=dict(result.timings_ms),
            provenance=ProvenanceView.of(result, result.provenance) if result.provenance else None,
            urls=_sign_files(result, signer) if signer else None,
            **{one.result_field: url_for(f"results.show_{one.name}", job_id=job_id) for one in FORMATS},
        )


def _sign_files(result: JobResult, signer: UrlSigner) -> dict[str, SignedUrlView]:
    return {
        name: SignedUrlView.of(signer.sign(object_key(result.request.id, result.attempt_name, get_format(name).file)))
        for name in result.request.formats
        if name not in result.omitted
    }
