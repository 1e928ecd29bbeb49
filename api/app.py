"""The gateway as a function of its collaborators: routes, request ids, authentication, one log line per request."""

import re
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial

import structlog
from flask import Response, g, jsonify, request
from flask_openapi3.models.info import Info
from flask_openapi3.openapi import OpenAPI

from api import errors
from api.gateway import Gateway
from api.http import cors
from api.http.compression import compress
from api.http.hosts import build_host_policy, check_host, check_prefix
from api.http.openapi_document import Document, complete_document
from api.http.pages import check_page
from api.http.parameters import check_query
from api.http.paths import serve_merged_paths
from api.http.tokens import Scope
from api.metrics import GatewayMetrics
from api.routes import (
    data,
    documents,
    events,
    health,
    job_changes,
    jobs,
    models,
    queue,
    recut,
    results,
    ui,
    uploads,
    usage,
    webhooks,
)
from api.routes import huggingface as inference
from api.routes import huggingface_info as endpoint
from api.routes.context import EXTENSION, get_gateway
from api.routes.reference import ReferencePage
from api.schemas.errors import ErrorView
from api.settings import ApiSettings
from shared import __version__
from shared.errors import UnknownHost

log = structlog.get_logger()

REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")
# These need no token: probes and scrapes have none, and the OpenAPI document tells clients that one is required.
PUBLIC_BLUEPRINTS = frozenset({"documents", "health", "ui"})
PUBLIC_ENDPOINTS = frozenset({"openapi", "reference", "static"})
# A POST that only reads; what it needs beyond that is checked by its route.
READING_ENDPOINTS = frozenset({"recut.recut_job"})
API_BLUEPRINTS = (
    *(jobs.bp, events.bp, job_changes.bp, results.bp, recut.bp, uploads.bp, data.bp),
    *(models.bp, queue.bp, usage.bp, webhooks.bp, inference.bp, endpoint.bp, health.bp),
)
# Probes name the service by an address that no setting knows, such as that of a pod.
PROBES = frozenset({"health.live", "health.ready"})


def create_app(settings: ApiSettings, gateway: Gateway) -> OpenAPI:
    """Return a WSGI app; two apps share no state."""
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
    # Clients repeat the POST after some redirects and not after others, so the app never redirects.
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False
    app.wsgi_app = serve_merged_paths(app.wsgi_app)  # type: ignore[assignment, method-assign]
    app.extensions[EXTENSION] = gateway
    app.before_request(begin_request)
    app.before_request(build_check(settings, requires_token=gateway.authenticator.requires_token))
    app.before_request(authenticate_caller)
    # Flask calls after_request functions in reverse order: CORS exposes the headers that finish_request() has set.
    cors.install(app, cors.build_policy(settings.cors_origins, requires_token=gateway.authenticator.requires_token))
    app.before_request(check_parameters)
    app.after_request(finish_request)
    errors.register(app)
    for blueprint in API_BLUEPRINTS:
        app.register_api(blueprint)
    app.register_blueprint(documents.bp)
    app.register_blueprint(ui.bp)
    document = complete_document(app.api_doc, requires_token=gateway.authenticator.requires_token)
    app.add_url_rule("/openapi.json", "openapi", partial(show_document, document))
    app.add_url_rule("/docs/api", "reference", ReferencePage(document).show)
    return app


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """The facts of one request for the log and the metrics, read while its context exists.

    ms: from the start of the request to its response.
    is_routine: a probe or a scrape, logged at level debug.
    """

    method: str
    route: str
    status: int
    ms: float
    tenant: str | None
    error_type: str | None
    is_routine: bool


def begin_request() -> None:
    """Bind the request id and the peer to the log context; the lines of submissions and deletions are an audit log."""
    g.started = time.perf_counter()
    sent = request.headers.get("X-Request-ID", "")
    g.request_id = sent if REQUEST_ID.fullmatch(sent) else uuid.uuid4().hex
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(request_id=g.request_id, peer=request.remote_addr or "")


def build_check(settings: ApiSettings, *, requires_token: bool) -> Callable[[], None]:
    """Return the check of what a browser says of a request: the name of the service, and the page.

    Raises:
        ValueError: a setting is not valid.
    """
    is_allowed = build_host_policy(settings.allowed_hosts, bind=settings.reachable_at, requires_token=requires_token)
    policy = cors.build_policy(settings.cors_origins, requires_token=requires_token)

    def check_request() -> None:
        # Before routing is looked at: a path that does not exist is refused alike.
        try:
            check_host(request, is_allowed)
        except UnknownHost:
            if request.endpoint not in PROBES:
                raise
            g.is_host_unknown = True
        check_prefix(request)
        if not requires_token:
            check_page(request, policy)

    return check_request


def show_document(document: Document) -> Response:
    """Return the OpenAPI document, whose paths are below the prefix of the proxy in front, if there is one."""
    return jsonify({**document, "servers": [{"url": request.script_root or "/"}]})


def authenticate_caller() -> None:
    """Authenticate, and check the token's scope, unless the endpoint is public."""
    if _is_public():
        return
    access = get_gateway().authenticator.authenticate(request.headers.get("Authorization"))
    g.tenant, g.scopes, g.permission = access.tenant, access.scopes, access.permission
    structlog.contextvars.bind_contextvars(tenant=access.tenant)
    get_gateway().rate.admit(access.tenant)
    access.require(_find_scope())


def _find_scope() -> Scope:
    """Return what a token needs for the current request."""
    if request.method in ("GET", "HEAD") or request.endpoint in READING_ENDPOINTS:
        return Scope.READ
    # Without tokens there is no administrator, and every caller may purge each job.
    is_guarded = request.blueprint == data.bp.name and get_gateway().authenticator.requires_token
    return Scope.ADMIN if is_guarded else Scope.SUBMIT


def check_parameters() -> None:
    """Refuse a query with a parameter that is given twice, on every route."""
    if request.url_rule is not None:
        check_query(request.args)


def finish_request(response: Response) -> Response:
    """Add the request id, compress the body, and schedule the record of the request."""
    response.headers["X-Request-ID"] = g.request_id
    # No browser may take a response for anything but its type, such as a photo for a script.
    response.headers["X-Content-Type-Options"] = "nosniff"
    compress(response)
    # Metrics and the log line are recorded after the response is sent, when the request context is gone.
    response.call_on_close(partial(record_request, _build_record(response), get_gateway().metrics))
    return response


def record_request(record: RequestRecord, metrics: GatewayMetrics) -> None:
    """Count and log a request whose response has been sent."""
    metrics.count_request(
        record.route, record.method, record.status, seconds=record.ms / 1000, error_type=record.error_type
    )
    terms = asdict(record)
    write = log.debug if terms.pop("is_routine") else log.info
    write("request_answered", **terms)


def _build_record(response: Response) -> RequestRecord:
    return RequestRecord(
        method=request.method,
        route=request.url_rule.rule if request.url_rule is not None else "none",
        status=response.status_code,
        ms=round(1000 * (time.perf_counter() - g.started), 1),
        tenant=g.get("tenant"),
        error_type=g.get("error_type"),
        is_routine=request.blueprint == health.bp.name,
    )


def _is_public() -> bool:
    # A path that does not exist is a 404 with or without a token, and a CORS preflight never has one.
    if request.url_rule is None or request.method == "OPTIONS":
        return True
    return request.blueprint in PUBLIC_BLUEPRINTS or request.endpoint in PUBLIC_ENDPOINTS
