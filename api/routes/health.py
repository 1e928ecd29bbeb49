"""Liveness and readiness of the gateway.  No token is required."""

from http import HTTPStatus

from flask import Response, g, jsonify, request
from flask_openapi3.blueprint import APIBlueprint

from api.routes.context import get_gateway

bp = APIBlueprint("health", __name__, doc_ui=False)


@bp.get("/healthz")
def live() -> Response:
    """Report that the process is alive."""
    return jsonify(status="ok")


@bp.get("/readyz")
@bp.get("/health")
def ready() -> Response:
    """Report whether submissions can be accepted; and the state of stores and models, to clients that may see them."""
    gateway = get_gateway()
    verdicts = gateway.health.run()
    is_ready = all(verdict == "ok" for verdict in verdicts.values())
    # Without workers submissions can still be accepted, so their state is shown but does not count.
    response = jsonify(status="ok" if is_ready else "unavailable", **_describe_stores(verdicts, is_ready=is_ready))
    response.status_code = HTTPStatus.OK if is_ready else HTTPStatus.SERVICE_UNAVAILABLE
    return response


def _describe_stores(verdicts: dict[str, str], *, is_ready: bool) -> dict[str, object]:
    """Return the details of /readyz; a probe that has no token, or names the service by an unknown host, gets none."""
    gateway = get_gateway()
    if g.get("is_host_unknown", False) or not gateway.authenticator.accepts(request.headers.get("Authorization")):
        return {}
    models = {model.id: model.state for model in gateway.models.list_all()} if is_ready else {}
    return {"checks": verdicts, "models": models}
