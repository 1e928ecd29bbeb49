"""The gateway's HTTP server around an app that needs no stores:  python -m tests.support.echo_server

It is configured like the gateway, by MASKMILL_* in the environment.
"""

import hashlib
import os
import time
from functools import partial

from flask import Flask, Response, jsonify, request

from api import errors
from api.http.authentication import build_authenticator
from api.http.connection import wait_for_disconnect
from api.http.request_body import read_request_body
from api.server.listening import listen
from api.server.options import DropReason, HttpService
from api.settings import ApiSettings
from api.wsgi import GatewayApplication, listen_for_operators, raise_file_limit, refuse_unauthorized
from shared.logs import configure_logging


class EchoApplication(GatewayApplication):
    """Serves the app below."""

    def load(self) -> HttpService:
        dropped: list[DropReason] = []
        return HttpService(
            app=build_app(),
            operations=build_operations_app(dropped),
            refuse=partial(refuse_unauthorized, build_authenticator(self._settings)),
            count_drop=dropped.append,
            begin_drain=lambda: None,
            end_waits=lambda: None,
            close=lambda: None,
        )


def build_app() -> Flask:
    """Return an app that describes each request, and has slow and large responses."""
    app = Flask("echo")
    errors.register(app)

    @app.get("/healthz")
    @app.route("/echo", methods=["GET", "POST"])
    def echo() -> Response:
        body = read_request_body() if request.method == "POST" else b""
        return jsonify(
            path=request.full_path,
            client=request.remote_addr,
            scheme=request.scheme,
            body_bytes=len(body),
            body_sha256=hashlib.sha256(body).hexdigest(),
        )

    @app.get("/large/<int:nbytes>")
    def make_large(nbytes: int) -> Response:
        return Response(bytes(nbytes))

    @app.get("/chunks")
    def stream() -> Response:
        return Response(iter([b"one,", b"two,", b"three"]))

    @app.route("/wait/<float:seconds>", methods=["GET", "POST"])
    def wait(seconds: float) -> Response:
        """Answer after a time, or when the client has gone; the body is not read."""
        started = time.monotonic()
        is_gone = wait_for_disconnect(seconds)
        app.logger.warning("waited gone=%s for=%.1f", is_gone, time.monotonic() - started)
        return jsonify(is_gone=is_gone)

    @app.get("/crash")
    def crash() -> Response:
        raise SystemError("This is a test.")

    return app


def build_operations_app(dropped: list[DropReason]) -> Flask:
    app = Flask("echo.operations")
    app.add_url_rule("/healthz", "healthz", lambda: jsonify(status="ok"))
    app.add_url_rule("/dropped", "dropped", lambda: jsonify(dropped))
    return app


def main() -> None:
    settings = ApiSettings(**{name: os.environ[f"MASKMILL_{name.upper()}"] for name in ("bind", "metrics_bind")})
    configure_logging(settings, process="gateway")
    raise_file_limit()
    EchoApplication(settings, listen(settings.bind, name="bind"), listen_for_operators(settings)).run()


if __name__ == "__main__":
    main()
