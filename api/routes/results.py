"""The result of a job: its segments, the file of each format in the registry, and single masks; and its image."""

from collections.abc import Callable

from flask import Response, request
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag

from api.http.openapi import IMAGE, PNG, RESULT, SECURITY, build_job_operation_id, describe_file, failures
from api.http.parameters import refuse_query
from api.routes.context import get_tenant_jobs
from api.routes.jobs import build_json
from api.schemas.jobs import JobPath
from api.schemas.results import MaskPath, ResultView
from shared.errors import Gone, StorageUnavailable, UnknownJob, UnknownMask
from shared.formats.registry import FORMATS, Format

bp = APIBlueprint(
    "results",
    __name__,
    url_prefix="/v1/jobs",
    abp_tags=[Tag(name="jobs")],
    abp_security=SECURITY,
    operation_id_callback=build_job_operation_id,
)
bp.before_request(lambda: refuse_query(request.args))

# The files of a job never change; only their owner may cache them.
_CACHE_CONTROL = "private, max-age=3600, immutable"


@bp.get("/<job_id>/result", responses={200: ResultView, **failures(*RESULT)})
def show_result(path: JobPath) -> Response:
    """Show the segments of a job that succeeded, or the error of one that did not."""
    response = build_json(ResultView.of(get_tenant_jobs().get_result(path.job_id)))
    response.headers["Cache-Control"] = _CACHE_CONTROL
    return response


@bp.get("/<job_id>/masks/<int:number>.png", responses={200: PNG, **failures(*RESULT, UnknownMask)})
def show_mask(path: MaskPath) -> Response:
    """Fetch the mask of one segment: 8-bit grey, 0 or 255, as large as the upright image."""
    return _build_immutable(get_tenant_jobs().get_mask(path.job_id, path.number), "image/png")


@bp.get("/<job_id>/input", responses={200: IMAGE, **failures(UnknownJob, Gone, StorageUnavailable)})
def show_input(path: JobPath) -> Response:
    """Fetch the image file that a job was submitted with, until it is not kept any more."""
    content, name = get_tenant_jobs().get_input(path.job_id)
    response = Response(content, content_type=f"image/{name}" if name else "application/octet-stream")
    response.headers["Content-Disposition"] = f'attachment; filename="{path.job_id}.{name or "bin"}"'
    response.headers["Cache-Control"] = "private, no-store"
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response


def _build_route(one: Format) -> Callable[[JobPath], Response]:
    def show_file(path: JobPath) -> Response:
        return _build_immutable(*get_tenant_jobs().get_file(path.job_id, one.name))

    show_file.__name__ = f"show_{one.name}"
    show_file.__doc__ = one.description
    return show_file


for _format in FORMATS:
    bp.get(
        f"/<job_id>/{_format.file}",
        responses={200: describe_file(_format), **failures(*RESULT, UnknownMask)},
    )(_build_route(_format))


def _build_immutable(content: bytes, content_type: str) -> Response:
    response = Response(content, content_type=content_type)
    response.headers["Cache-Control"] = _CACHE_CONTROL
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response
