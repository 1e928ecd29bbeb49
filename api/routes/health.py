"""Liveness and readiness of the gateway.  No token is required."""

from http import HTTPStatus

from flask import Response, g, jsonify, request
from flask_openapi3.blueprint import APIBlueprint

from api.routes.context import get_gateway
from shared.readiness import Readiness, ReadyStatus

bp = APIBlueprint("health", __name__, doc_ui=False)


@bp.get("/healthz")
def live() -> Response:
    """Report that the process is alive."""
    return jsonify(status="ok")


@bp.get("/readyz")
@bp.get("/health")
def ready() -> Response:
    """Report whether jobs can be read and submitted; and the state of stores and models, to clients that may see them.

    503 only if not even results can be read.
    """
    readiness = get_gateway().readiness.run()
    response = jsonify(status=readiness.status, **_describe(readiness))
    is_unavailable = readiness.status is ReadyStatus.UNAVAILABLE
    response.status_code = HTTPStatus.SERVICE_UNAVAILABLE if is_unavailable else HTTPStatus.OK
    return response


def _describe(readiness: Readiness) -> dict[str, object]:
    """Return the details of /readyz; a probe that has no token, or names the service by an unknown host, gets none."""
    gateway = get_gateway()
    if g.get("is_host_unknown", False) or not gateway.authenticator.accepts(request.headers.get("Authorization")):
        return {}
    # Without workers submissions can still be accepted, so their state is shown but does not count.
    can_read = readiness.status is not ReadyStatus.UNAVAILABLE
    models = {model.id: model.state for model in gateway.models.list_all()} if can_read else {}
    return {"checks": readiness.checks, "models": models}
