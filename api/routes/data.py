"""All data of a tenant: delete them."""

from http import HTTPStatus

import structlog
from flask import Response, request
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag

from api.http.openapi import SECURITY, failures
from api.http.parameters import refuse_query
from api.routes.context import get_caller, get_gateway
from api.routes.jobs import build_json
from api.schemas.data import DataView, DeletionView
from shared.errors import StorageUnavailable

log = structlog.get_logger()

bp = APIBlueprint("data", __name__, url_prefix="/v1/data", abp_tags=[Tag(name="data")], abp_security=SECURITY)
bp.before_request(lambda: refuse_query(request.args))


@bp.delete("", responses={202: DataView, **failures(StorageUnavailable)})
def delete_data() -> Response:
    """Delete all your jobs, in any state, with their results, images, uploads and keys, and your webhooks.

    It needs the scope `admin`.
    It is done in the background. Jobs and webhooks that are made after the answer are not deleted. Sent again, it
    includes what was stored meanwhile.
    """
    gateway, tenant = get_gateway(), get_caller().tenant
    erasure = gateway.erasures.request(tenant, gateway.submitter.admission.now())
    log.info("data_deletion_requested")
    return build_json(DataView(deletion=DeletionView.of(erasure)), HTTPStatus.ACCEPTED)


@bp.get("", responses={200: DataView, **failures(StorageUnavailable)})
def show_data() -> Response:
    """Show the deletion of your data that is under way, if there is one."""
    erasure = get_gateway().erasures.find(get_caller().tenant)
    return build_json(DataView(deletion=None if erasure is None else DeletionView.of(erasure)))
