"""The gateway as a function of what it needs: routes, request ids, limits, one log line a request."""

import gzip
import re
import time
import uuid
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus

import structlog
from flask import Response, g, jsonify, request
from flask_openapi3.models.info import Info
from flask_openapi3.openapi import OpenAPI

from api import errors
from api.http import cors
from api.http.context import EXTENSION, discard_rest, services
from api.metrics import GatewayMetrics
from api.routes import health, jobs, models
from api.routes import huggingface as inference
from api.routes import huggingface_info as endpoint
from api.schemas.errors import ErrorView
from api.services import Services
from api.settings import ApiSettings
from shared import __version__

log = structlog.get_logger()

REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")
LEAST_GZIPPED_BYTES = 1000
# Whoever cannot log in must still learn that the service lives, and what it offers.
OPEN_BLUEPRINTS = frozenset({"health", "ui"})
OPEN_ENDPOINTS = frozenset({"openapi", "static"})


def create_app(settings: ApiSettings, services: Services) -> OpenAPI:
    """Return a WSGI app that shares nothing with any other."""
    app = OpenAPI(
        "api",
        info=Info(
            title="Maskmill",
            version=__version__,
            description="Photos in, masks out. Errors are `{error, error_type, request_id}`, on every route.",
        ),
        security_schemes={"bearer": {"type": "http", "scheme": "bearer"}},
        validation_error_status=400,
        validation_error_model=ErrorView,
        validation_error_callback=errors.reject_invalid,
        doc_ui=False,
    )
    app.config["MAX_CONTENT_LENGTH"] = settings.max_upload_bytes
    app.json.sort_keys = False  # type: ignore[attr-defined]
    # Clients post again on some redirects and not on others, so there are none.
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False
    app.extensions[EXTENSION] = services
    app.before_request(begin_request)
    # Flask calls what comes after a request in reverse: all headers are there when it is said which may be read.
    cors.install(app, cors.build_policy(settings.cors_origins, requires_token=services.authenticator.requires_token))
    app.after_request(finish_request)
    errors.register(app)
    for blueprint in (jobs.bp, models.bp, inference.bp, endpoint.bp, health.bp):
        app.register_api(blueprint)
    described = app.api_doc
    app.add_url_rule("/openapi.json", "openapi", lambda: jsonify(described))
    return app


def begin_request() -> None:
    """Give every log line of this request the id that its worker lines will have too, and find out who asks."""
    g.started = time.perf_counter()
    asked = request.headers.get("X-Request-ID", "")
    g.request_id = asked if REQUEST_ID.fullmatch(asked) else uuid.uuid4().hex
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(request_id=g.request_id)
    if not _is_open():
        g.tenant = services().authenticator.authenticate(request.headers.get("Authorization"))


def finish_request(response: Response) -> Response:
    """Mark and shrink an answer, and have it counted and logged once it is sent."""
    response.headers["X-Request-ID"] = g.request_id
    if response.status_code >= HTTPStatus.BAD_REQUEST:
        discard_rest()
    if _may_gzip(response):
        _gzip(response)
    # Whoever waits for the answer need not wait for the books.
    response.call_on_close(partial(_book, _entry(response), services().metrics))
    return response


@dataclass(frozen=True, slots=True)
class _Entry:
    """What is noted of one request when it is over and Flask knows nothing of it any more."""

    method: str
    route: str
    status: int
    ms: float
    tenant: str | None
    error_type: str | None
    is_routine: bool


def _entry(response: Response) -> _Entry:
    return _Entry(
        method=request.method,
        route=request.url_rule.rule if request.url_rule is not None else "none",
        status=response.status_code,
        ms=round(1000 * (time.perf_counter() - g.started), 1),
        tenant=g.get("tenant"),
        error_type=g.get("error_type"),
        is_routine=request.blueprint == health.bp.name,
    )


def _book(entry: _Entry, metrics: GatewayMetrics) -> None:
    """Count and log an answer that has been sent."""
    metrics.requests.labels(entry.route, entry.method, entry.status).inc()
    metrics.request_seconds.labels(entry.route).observe(entry.ms / 1000)
    if entry.error_type:
        metrics.refusals.labels(entry.error_type).inc()
    write = log.debug if entry.is_routine else log.info
    write(
        "request_answered",
        method=entry.method,
        route=entry.route,
        status=entry.status,
        ms=entry.ms,
        tenant=entry.tenant,
        error_type=entry.error_type,
    )


def _is_open() -> bool:
    # A browser asks without the token whether it may send it.
    if request.url_rule is None or request.method == "OPTIONS":
        return True
    return request.blueprint in OPEN_BLUEPRINTS or request.endpoint in OPEN_ENDPOINTS


def _may_gzip(response: Response) -> bool:
    return (
        response.mimetype == "application/json"
        and not response.is_streamed
        and response.content_encoding is None
        and (response.content_length or 0) > LEAST_GZIPPED_BYTES
        and request.accept_encodings["gzip"] > 0
    )


def _gzip(response: Response) -> None:
    # The masks are compressed already and only their base64 is not: a higher level gains next to nothing.
    response.set_data(gzip.compress(response.get_data(), compresslevel=1))
    response.content_encoding = "gzip"
    response.vary.add("Accept-Encoding")
