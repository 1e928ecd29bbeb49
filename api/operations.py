"""The app of the listener for operators: metrics, liveness and readiness.  It is not reachable for clients."""

from flask import Flask, Response
from prometheus_client import CONTENT_TYPE_LATEST

from api import errors
from api.gateway import Gateway
from api.routes import health
from api.routes.context import EXTENSION, get_gateway


def create_operations_app(gateway: Gateway) -> Flask:
    """Return a WSGI app over the same gateway as the public one."""
    app = Flask("api.operations")
    app.extensions[EXTENSION] = gateway
    errors.register(app)
    app.register_blueprint(health.bp)
    app.add_url_rule("/metrics", "metrics", expose_metrics)
    return app


def expose_metrics() -> Response:
    """Expose the metrics of all processes of this gateway, and of the workers as Redis knows them."""
    gateway = get_gateway()
    return Response(gateway.metrics.exposition(gateway.fleet), content_type=CONTENT_TYPE_LATEST)
