"""Uploads: files that are sent once, and used by jobs later."""

from http import HTTPStatus

from flask import Response, request, url_for
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from orjson import JSONDecodeError
from pydantic import ValidationError

from api.errors import reject_invalid
from api.http.json_documents import parse_json
from api.http.openapi import SECURITY, failures
from api.http.openapi_bodies import IMAGE_UPLOAD
from api.http.parameters import refuse_query
from api.http.request_body import keep_reserved, read_request_body
from api.jobs.uploads import NewUpload
from api.routes.context import get_caller, get_gateway
from api.routes.jobs import build_json
from api.schemas.uploads import UploadPath, UploadRequest, UploadView
from shared.errors import (
    BodyTooLarge,
    EmptyBody,
    ImageTooCostly,
    ImageTooLarge,
    NotAnImage,
    QuotaExceeded,
    StackUnconfirmed,
    StorageUnavailable,
    StoreFull,
    TruncatedImage,
    UnknownUpload,
    UnreadableBody,
    UnsupportedCoding,
    UploadsFull,
    WrongStores,
)

bp = APIBlueprint("uploads", __name__, url_prefix="/v1/uploads", abp_tags=[Tag(name="uploads")], abp_security=SECURITY)
bp.before_request(lambda: refuse_query(request.args))

_STORES = (StorageUnavailable, StoreFull, StackUnconfirmed, WrongStores)
_BODY = (QuotaExceeded, UnreadableBody, UnsupportedCoding, BodyTooLarge, UploadsFull)
_IMAGE = (EmptyBody, NotAnImage, TruncatedImage, ImageTooLarge, ImageTooCostly)


@bp.post(
    "",
    responses={201: UploadView, **failures(*_BODY, *_STORES)},
    openapi_extensions={
        "requestBody": {
            "required": False,
            "content": {
                "application/json": {
                    "schema": UploadRequest.model_json_schema(),
                    "examples": {"photo": {"value": {"bytes": 2_500_000, "content_type": "image/jpeg"}}},
                }
            },
        }
    },
)
def create_upload() -> Response:
    """Get an address for a file that jobs name later, as `{"upload_id": ...}`."""
    asked = read_upload_request()
    gateway = get_gateway()
    upload = gateway.uploads.create(get_caller().tenant, max_bytes=asked.bytes, content_type=asked.content_type)
    return build_json(build_view(upload, asked.content_type), HTTPStatus.CREATED)


@bp.put(
    "/<upload_id>",
    responses={204: None, **failures(*_BODY, *_IMAGE, *_STORES, UnknownUpload)},
    openapi_extensions={"requestBody": IMAGE_UPLOAD},
)
def put_upload(path: UploadPath) -> Response:
    """Upload the file through the gateway: its bytes alone, no form.  A second file takes the place of the first."""
    content = read_request_body()
    if not content:
        raise EmptyBody("The body is empty: send the bytes of the image.")
    get_gateway().uploads.put(get_caller().tenant, path.upload_id, content)
    del content
    keep_reserved(0)
    return Response(status=HTTPStatus.NO_CONTENT)


def build_view(upload: NewUpload, content_type: str) -> UploadView:
    """Return how an upload is made: at the object store by its signed form, or else through the gateway."""
    form = upload.form
    return UploadView(
        upload_id=upload.upload_id,
        method="POST" if form else "PUT",
        url=form.url if form else url_for("uploads.put_upload", upload_id=upload.upload_id),
        fields=dict(form.fields) if form else {},
        headers={} if form else {"Content-Type": content_type},
        expires_at=upload.expires_at,
    )


def read_upload_request() -> UploadRequest:
    """Read the body, which may be empty.

    Raises:
        UnreadableBody: it is no JSON object.
        UnknownParameter, BadParameter: a member that does not exist, or a wrong value.
    """
    body = read_request_body().strip() or b"{}"
    try:
        document = parse_json(body)
    except JSONDecodeError as error:
        raise UnreadableBody(f"The body is no JSON: {error.msg}") from error
    if not isinstance(document, dict):
        raise UnreadableBody("The body must be a JSON object.")
    try:
        return UploadRequest.model_validate(document, strict=True)
    except ValidationError as error:
        reject_invalid(error)
        raise
