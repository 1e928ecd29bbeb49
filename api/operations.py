"""The app of the listener for operators: metrics, liveness and readiness.  It is not reachable for clients."""

from flask import Flask, Response, request
from prometheus_client import CONTENT_TYPE_LATEST

from api import errors
from api.gateway import Gateway
from api.http.hosts import check_host
from api.http.pages import check_page
from api.routes import health
from api.routes.context import EXTENSION, get_gateway
from shared.authority import parse_address


def create_operations_app(gateway: Gateway, *, bind: str) -> Flask:
    """Return a WSGI app over the same gateway as the public one.

    Args:
        bind: where it is served.  On loopback it refuses web pages, and other names than those of loopback: a page can
            have its own name point there, and would read the response.
    """
    app = Flask("api.operations")
    app.extensions[EXTENSION] = gateway
    errors.register(app)
    own = parse_address(bind)
    if own is not None and own.is_loopback:
        app.before_request(check_local_request)
    app.register_blueprint(health.bp)
    app.add_url_rule("/metrics", "metrics", expose_metrics)
    return app


def check_local_request() -> None:
    """Refuse a request of a web page, or for another name than one of loopback.

    Raises:
        UnknownHost: it is for such a name.
        ForeignOrigin: it comes from a page.
    """
    check_host(request, lambda authority: authority.is_loopback)
    check_page(request, lambda _origin: None)


def expose_metrics() -> Response:
    """Expose the metrics of all processes of this gateway, and of the workers as Redis knows them."""
    gateway = get_gateway()
    return Response(gateway.metrics.exposition(gateway.fleet), content_type=CONTENT_TYPE_LATEST)
