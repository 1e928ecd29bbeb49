"""The result of a job: its segments, the file of each format in the registry, and single masks; and its image."""

from collections.abc import Callable
from functools import partial
from hashlib import sha256
from http import HTTPStatus

from flask import Response, request
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from pydantic import BaseModel

from api.http.files import FileContent, build_file_response
from api.http.openapi import (
    FILE_HEADERS,
    FILE_RESPONSES,
    IMAGE,
    PNG,
    RENDERED,
    RESULT,
    SECURITY,
    build_job_operation_id,
    describe_file,
    failures,
)
from api.jobs.files import ResultFile
from api.routes.context import get_gateway, get_tenant_jobs
from api.routes.jobs import build_json
from api.schemas.jobs import JobPath
from api.schemas.query import Query
from api.schemas.results import FILE_QUERIES, InputQuery, MaskPath, ResultQuery, ResultView
from shared.errors import Gone, StorageUnavailable, UnknownJob, UnknownMask
from shared.formats.registry import FORMATS, Format
from shared.jobs.result import ByteRange

bp = APIBlueprint(
    "results",
    __name__,
    url_prefix="/v1/jobs",
    abp_tags=[Tag(name="jobs")],
    abp_security=SECURITY,
    operation_id_callback=build_job_operation_id,
)

# The files of a job never change; only their owner may cache them.
_CACHE_CONTROL = "private, max-age=3600, immutable"
_NO_STORE = "private, no-store"
_PICTURES = frozenset({"image/png", "image/jpeg", "image/webp"})
_CONDITIONAL = {"parameters": FILE_HEADERS}


@bp.get("/<job_id>/result", responses={200: ResultView, **failures(*RESULT)})
def show_result(path: JobPath, query: ResultQuery) -> Response:
    """Show the segments of a job that succeeded, or the error of one that did not."""
    result = get_tenant_jobs().get_result(path.job_id)
    signer = get_gateway().signer if query.urls else None
    response = build_json(ResultView.of(result, signer))
    # Signed URLs expire before a cache would.
    response.headers["Cache-Control"] = _NO_STORE if query.urls else _CACHE_CONTROL
    return response


@bp.get(
    "/<job_id>/masks/<int:number>.png",
    responses={200: PNG, **FILE_RESPONSES, **failures(*RESULT, *RENDERED, UnknownMask)},
    openapi_extensions=_CONDITIONAL,
)
def show_mask(path: MaskPath, query: Query) -> Response:
    """Fetch the mask of one segment: 8-bit grey, 0 or 255, as large as the upright image."""
    file, place = get_tenant_jobs().get_mask(path.job_id, path.number)
    return _build_immutable(_open_part(file, place, path.number), f"{path.job_id}-mask-{path.number}.png")


@bp.get(
    "/<job_id>/input",
    responses={200: IMAGE, **FILE_RESPONSES, 307: None, **failures(UnknownJob, Gone, StorageUnavailable)},
    openapi_extensions=_CONDITIONAL,
)
def show_input(path: JobPath, query: InputQuery) -> Response:
    """Fetch the image file that a job was submitted with, until it is not kept any more."""
    tenant_jobs = get_tenant_jobs()
    found = tenant_jobs.find_input(path.job_id)
    if query.redirect and (redirect := _redirect(found.key)):
        return redirect
    read = partial(tenant_jobs.read_input, path.job_id)
    media_type = f"image/{found.format}" if found.format else "application/octet-stream"
    response = build_file_response(FileContent(found.bytes, found.sha256, media_type, read), request)
    response.headers["Content-Disposition"] = f'attachment; filename="{path.job_id}.{found.format or "bin"}"'
    response.headers["Cache-Control"] = _NO_STORE
    return response


def _build_route(one: Format) -> Callable[..., Response]:
    def show_file(path: JobPath, query: BaseModel) -> Response:
        values = query.model_dump(exclude_none=True)
        wants_redirect = values.pop("redirect")
        file = get_tenant_jobs().get_file(path.job_id, one.name, values)
        if wants_redirect and file.is_unchanged() and (redirect := _redirect(file.key)):
            return redirect
        return _build_immutable(_open(file), f"{path.job_id}-{one.file}")

    show_file.__name__ = f"show_{one.name}"
    show_file.__doc__ = f"{one.description}  It is rendered now if the job was submitted without it."
    show_file.__annotations__["query"] = FILE_QUERIES[one.name]
    return show_file


for _format in FORMATS:
    bp.get(
        f"/<job_id>/{_format.file}",
        responses={200: describe_file(_format), **FILE_RESPONSES, 307: None, **failures(*RESULT, *RENDERED)},
        openapi_extensions=_CONDITIONAL,
    )(_build_route(_format))


def _open(file: ResultFile) -> FileContent:
    if file.stored is None:
        # Of a result whose files were not described: only its content tells its hash.
        content = file.read()
        return FileContent(len(content), sha256(content).hexdigest(), file.media_type, partial(_cut, content))
    return FileContent(file.stored.bytes, file.stored.sha256, file.media_type, file.read)


def _open_part(file: ResultFile, place: ByteRange, number: int) -> FileContent:
    """Return a PNG inside an archive as a file; its ETag is that of the archive, and its number."""

    def read(part: ByteRange | None) -> bytes:
        return file.read(ByteRange(place.offset + part.offset, part.length) if part else place)

    if file.stored is None:
        content = read(None)
        return FileContent(len(content), sha256(content).hexdigest(), "image/png", partial(_cut, content))
    return FileContent(place.length, f"{file.stored.sha256}-{number}", "image/png", read)


def _cut(content: bytes, part: ByteRange | None) -> bytes:
    return content if part is None else content[part.offset : part.offset + part.length]


def _redirect(key: str) -> Response | None:
    """Return a redirect to a signed URL; None where clients do not reach the object store."""
    signer = get_gateway().signer
    if signer is None:
        return None
    response = Response(status=HTTPStatus.TEMPORARY_REDIRECT)
    response.headers["Location"] = signer.sign(key).url
    response.headers["Cache-Control"] = _NO_STORE
    # The URL is a credential, which the object store's answer must not pass on.
    response.headers["Referrer-Policy"] = "no-referrer"
    return response


def _build_immutable(file: FileContent, name: str) -> Response:
    """Return a file that never changes.

    A browser shows pictures, and saves all others: a document that it showed would be of the origin of the service.
    """
    response = build_file_response(file, request)
    kind = "inline" if file.media_type in _PICTURES else "attachment"
    response.headers["Content-Disposition"] = f'{kind}; filename="{name}"'
    response.headers["Cache-Control"] = _CACHE_CONTROL
    return response
