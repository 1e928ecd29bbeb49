"""Requests of web pages, by the headers that browsers send, on every route of a gateway without tokens.

The routes come from the app's own map, so that a new one is covered.
"""

from collections.abc import Mapping
from typing import Any

import pytest
from flask import Flask
from flask_openapi3.openapi import OpenAPI
from werkzeug.test import Client

from api.app import PROBES, create_app
from api.composition import build_gateway
from api.operations import create_operations_app
from api.server.forwarded import ForwardedRequests
from api.settings import ApiSettings
from api.stores import connect_stores
from tests.support.routes import list_requests

ALLOWED = "https://app.example"
# Nothing listens here: a request that passes the checks is answered 503, 404 or 400, and no sooner than it is routed.
SETTINGS: dict[str, Any] = {
    "redis_url": "redis://127.0.0.1:1/0",
    "redis_timeout_seconds": 0.2,
    "storage_endpoint": "http://127.0.0.1:1",
    "storage_timeout_seconds": 0.2,
    "storage_access_key": "none",
    "storage_secret_key": "none",
    "cors_origins": f"{ALLOWED} http://localhost:5173",
    "allowed_hosts": "gateway.example",
}
CROSS_SITE = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}
# As a browser sends them, each with the status of a refusal.
FOREIGN: Mapping[str, tuple[dict[str, str], int]] = {
    "a script of a foreign page": ({"Origin": "https://evil.example"}, 403),
    "a form of a foreign page": (
        {
            "Origin": "https://evil.example",
            "Content-Type": "text/plain",
            "Sec-Fetch-Site": "cross-site",
            "Sec-Fetch-Mode": "navigate",
            "Sec-Fetch-Dest": "document",
        },
        403,
    ),
    "a sandboxed frame or a file": ({"Origin": "null"}, 403),
    "another port of an allowed page": ({"Origin": f"{ALLOWED}:8443"}, 403),
    "an allowed name within a foreign one": ({"Origin": f"{ALLOWED}.evil.example"}, 403),
    "two origins": ({"Origin": f"{ALLOWED}, https://evil.example"}, 403),
    "an empty origin": ({"Origin": ""}, 403),
    "an image of a foreign page": (CROSS_SITE, 403),
    "an image with a foreign referrer": ({**CROSS_SITE, "Referer": "https://evil.example/localhost"}, 403),
    "an unreadable referrer": ({**CROSS_SITE, "Referer": "http://["}, 403),
    "an image of another name of the site": ({"Sec-Fetch-Site": "same-site"}, 403),
    "a frame": ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"}, 403),
    "a web socket": (
        {
            "Origin": "https://evil.example",
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-Fetch-Mode": "websocket",
        },
        403,
    ),
    "a preflight": ({"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}, 403),
    "DNS rebinding": ({"Host": "evil.example:8000", "Sec-Fetch-Site": "same-origin"}, 421),
    "DNS rebinding with an origin": ({"Host": "evil.example", "Origin": "http://evil.example"}, 421),
    "a foreign name behind an allowed one": (
        {"Host": "evil.example", "X-Forwarded-Host": "localhost", "Forwarded": "host=localhost"},
        421,
    ),
    "no name": ({"Host": ""}, 421),
}
ALLOWED_REQUESTS: Mapping[str, dict[str, str]] = {
    "a client that is no browser": {},
    "a script of an allowed page": {"Origin": ALLOWED, "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "cors"},
    "an image of an allowed page": {**CROSS_SITE, "Referer": "http://localhost:5173/demo"},
    "a page of the same origin": {"Host": "gateway.example", "Origin": "https://gateway.example"},
    "a script of the same origin": {"Host": "127.0.0.1:8000", "Sec-Fetch-Site": "same-origin"},
    "an address that the user entered": {"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate"},
    "another name of the service": {"Host": "gateway.example."},
}


def open_app(**changes: Any) -> OpenAPI:
    settings = ApiSettings(**{**SETTINGS, **changes})
    return create_app(settings, build_gateway(settings, connect_stores(settings)))


def open_operations_app(**changes: Any) -> Flask:
    settings = ApiSettings(**{**SETTINGS, **changes})
    gateway = build_gateway(settings, connect_stores(settings))
    return create_operations_app(gateway, bind=settings.metrics_bind)


APP = open_app()
OPERATIONS_APP = open_operations_app()
REQUESTS = list(list_requests(APP))


def test_every_route_is_tried() -> None:
    assert len(REQUESTS) > 60
    assert {endpoint for _, _, endpoint in REQUESTS} >= PROBES


@pytest.mark.parametrize("page", FOREIGN)
def test_a_foreign_page_reaches_no_route(page: str) -> None:
    headers, status = FOREIGN[page]
    # Probes may name the service by any address, but they are no page.
    refused = [request for request in REQUESTS if status == 403 or request[2] not in PROBES]

    answered = {(method, path): answer(method, path, headers) for method, path, _ in refused}

    assert {request for request, found in answered.items() if found != status} == set()


@pytest.mark.parametrize("page", ALLOWED_REQUESTS)
def test_other_requests_reach_every_route(page: str) -> None:
    found = {answer(method, path, ALLOWED_REQUESTS[page]) for method, path, _ in REQUESTS}

    assert not found & {403, 421}


@pytest.mark.parametrize("page", FOREIGN)
def test_a_foreign_page_reaches_no_route_for_operators_on_loopback(page: str) -> None:
    headers, status = FOREIGN[page]

    answered = {
        (method, path): answer(method, path, headers, app=OPERATIONS_APP)
        for method, path, _ in list_requests(OPERATIONS_APP)
    }

    assert ("GET", "/metrics") in answered
    assert {request for request, found in answered.items() if found != status} == set()


def test_monitoring_on_a_network_may_use_any_name() -> None:
    client = open_operations_app(metrics_bind="0.0.0.0:9464").test_client()

    assert client.get("/metrics", headers={"Host": "10.42.0.3:9464"}).status_code == 200
    assert set(client.get("/readyz", headers={"Host": "api:9464"}).json) == {"status", "checks", "models"}
    assert OPERATIONS_APP.test_client().get("/metrics", headers={"Host": "127.0.0.1:9464"}).status_code == 200


def answer(method: str, path: str, headers: Mapping[str, str], *, app: Flask = APP) -> int:
    return app.test_client().open(path, method=method, headers=headers).status_code


def test_a_link_may_be_followed_and_a_form_may_not_be_sent() -> None:
    navigation = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}

    assert answer("GET", "/v1/jobs", navigation) == 503
    assert answer("POST", "/v1/jobs", navigation) == 403


def test_a_refusal_tells_the_operator_what_to_do() -> None:
    client = APP.test_client()
    page = client.post("/v1/jobs", headers={"Origin": "https://evil.example"})
    name = client.get("/v1/jobs", headers={"Host": "evil.example"})

    assert (page.json["error_type"], name.json["error_type"]) == ("foreign_origin", "unknown_host")
    assert "MASKMILL_CORS_ORIGINS" in page.json["error"]
    assert "MASKMILL_ALLOWED_HOSTS" in name.json["error"]
    assert "'evil.example'" in name.json["error"]
    assert "Access-Control-Allow-Origin" not in page.headers


def test_a_probe_by_address_sees_a_status_and_no_details() -> None:
    client = APP.test_client()

    by_address = client.get("/readyz", headers={"Host": "10.42.0.3:8000"})
    by_name = client.get("/readyz")

    assert (by_address.status_code, by_address.json) == (503, {"status": "unavailable"})
    assert set(by_name.json) == {"status", "checks", "models"}
    assert client.get("/healthz", headers={"Host": "10.42.0.3:8000"}).json == {"status": "ok"}


def test_a_star_lets_every_page_call() -> None:
    client = open_app(cors_origins="*").test_client()

    assert client.get("/healthz", headers={"Origin": "https://evil.example"}).status_code == 200
    assert client.get("/healthz", headers=CROSS_SITE).status_code == 200


def test_the_published_address_of_a_container_is_a_name_of_the_service() -> None:
    published = {"bind": "0.0.0.0:8000", "published": "192.0.2.7", "auth": "off"}
    client = open_app(**published).test_client()

    assert client.get("/v1/jobs", headers={"Host": "192.0.2.7:80"}).status_code == 503
    assert client.get("/v1/jobs", headers={"Host": "192.0.2.8:80"}).status_code == 421


def test_with_tokens_pages_may_call_and_listed_names_are_checked() -> None:
    any_name = open_app(tokens="shop:s3cret", cors_origins="auto", allowed_hosts="").test_client()
    one_name = open_app(tokens="shop:s3cret", cors_origins="auto").test_client()
    page = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}

    assert any_name.get("/v1/jobs", headers={**page, "Host": "any.example"}).status_code == 401
    assert one_name.get("/v1/jobs", headers=page).status_code == 401
    assert one_name.get("/v1/jobs", headers={"Host": "any.example"}).status_code == 421


@pytest.mark.parametrize(
    ("host", "forwarded", "origin", "expected"),
    [
        ("127.0.0.1:8000", "gateway.example", "https://gateway.example", 503),
        ("127.0.0.1:8000", "gateway.example:8443", "https://gateway.example:8443", 503),
        ("127.0.0.1:8000", "gateway.example", "https://gateway.example:8443", 403),
        ("127.0.0.1:8000", "gateway.example", "https://evil.example", 403),
        # A page whose own name was made to resolve to loopback, where a trusted proxy may be.
        ("evil.example", "gateway.example", "http://evil.example", 421),
        ("127.0.0.1:8000", "evil.example", "http://evil.example", 421),
    ],
)
def test_behind_a_proxy_a_page_of_the_forwarded_name_is_of_the_same_origin(
    host: str, forwarded: str, origin: str, expected: int
) -> None:
    headers = {"Host": host, "X-Forwarded-Host": forwarded, "X-Forwarded-Proto": "https", "Origin": origin}

    answered = Client(ForwardedRequests(APP)).get("/v1/jobs", headers=headers)

    assert answered.status_code == expected
