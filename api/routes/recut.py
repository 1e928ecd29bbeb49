"""Recut: other segments of a job that has succeeded, without its model."""

from dataclasses import replace
from http import HTTPStatus

from flask import Response, request
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag

from api.http.connection import is_client_connected
from api.http.openapi import RECUT, RECUT_KEY, SECURITY, build_job_operation_id, failures
from api.http.openapi_bodies import RECUT_BODY
from api.http.parameters import refuse_query
from api.http.recut_body import parse_recut
from api.http.request_body import read_request_body
from api.http.tokens import Scope
from api.routes.context import get_caller, get_gateway, get_tenant_jobs, require_scope
from api.routes.jobs import build_json
from api.schemas.jobs import JobPath
from api.schemas.recut import RecutView

bp = APIBlueprint(
    "recut",
    __name__,
    url_prefix="/v1/jobs",
    abp_tags=[Tag(name="jobs")],
    abp_security=SECURITY,
    operation_id_callback=build_job_operation_id,
)
bp.before_request(lambda: refuse_query(request.args))


@bp.post(
    "/<job_id>/recut",
    responses={200: RecutView, 201: RecutView, **failures(*RECUT)},
    openapi_extensions={"requestBody": RECUT_BODY, "parameters": [RECUT_KEY]},
)
def recut_job(path: JobPath) -> Response:
    """Segment the image of a job again with other parameters, from its logits; with `store`, as a job of its own.

    The answer is what a new job with these parameters gives.  It needs the scope `read`, and `submit` with `store`.
    """
    wish = replace(parse_recut(read_request_body()), idempotency_key=request.headers.get("Idempotency-Key"))
    if wish.is_stored:
        require_scope(Scope.SUBMIT)
    recut = get_gateway().recutting.recut(
        path.job_id, wish, get_caller(), get_tenant_jobs(), is_wanted=is_client_connected
    )
    view = RecutView.of(recut.document, wish.parameters, recut_of=recut.source_id, stored_as=recut.stored_as)
    response = build_json(view, HTTPStatus.CREATED if view.id else HTTPStatus.OK)
    response.headers["Cache-Control"] = "private, no-store"
    if view.job_url:
        response.headers["Location"] = view.job_url
    return response
