"""For whoever watches over the gateway: does it live, can it take work, what does it count.  No token is asked for."""

from concurrent.futures import Future, ThreadPoolExecutor, wait
from http import HTTPStatus

from flask import Response, jsonify
from flask_openapi3.blueprint import APIBlueprint
from prometheus_client import CONTENT_TYPE_LATEST

from api.http.context import services
from api.services import Services

bp = APIBlueprint("health", __name__, doc_ui=False)


@bp.get("/healthz")
def live() -> Response:
    """Say that the process lives."""
    return jsonify(status="ok")


@bp.get("/readyz")
@bp.get("/health")
def ready() -> Response:
    """Say whether work can be taken in, and who is there to do it."""
    verdicts = check_all(services())
    is_ready = all(verdict == "ok" for verdict in verdicts.values())
    # Without workers work can still be taken in, so they are told of but do not decide.
    models = {model.id: model.state for model in services().model_registry.all()} if is_ready else {}
    response = jsonify(status="ok" if is_ready else "unavailable", checks=verdicts, models=models)
    response.status_code = HTTPStatus.OK if is_ready else HTTPStatus.SERVICE_UNAVAILABLE
    return response


@bp.get("/metrics")
def metrics() -> Response:
    """Expose the metrics of all processes of this gateway, and what Redis knows of the fleet."""
    return Response(services().metrics.exposition(services().fleet), content_type=CONTENT_TYPE_LATEST)


def check_all(services: Services) -> dict[str, str]:
    """Ask everything that the service leans on at once, and wait no longer than the settings say."""
    pool = ThreadPoolExecutor(max_workers=max(1, len(services.checks)), thread_name_prefix="ready")
    try:
        asked = {name: pool.submit(check) for name, check in services.checks.items()}
        wait(asked.values(), timeout=services.limits.ready_timeout_seconds)
        return {name: _verdict(answer) for name, answer in asked.items()}
    finally:
        # What hangs ends by its own timeout; this answer does not wait for it.
        pool.shutdown(wait=False, cancel_futures=True)


def _verdict(answer: "Future[object]") -> str:
    if not answer.done():
        return "does not answer"
    error = answer.exception()
    return "ok" if error is None else str(error)
