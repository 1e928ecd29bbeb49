"""The checks of Host, Origin and a proxy's headers in a gateway process without tokens, by requests as on the wire."""

from collections.abc import Iterator

import pytest

from tests.conftest import Storage
from tests.support.jobs import png
from tests.support.raw_gateway import RawGateway, build_environment, build_get


@pytest.fixture(scope="module")
def env(redis_url: str, storage: Storage, bucket_name: str) -> dict[str, str]:
    # Gunicorn would read SCRIPT_NAME, and answer 500 on each path that does not begin with it.
    return {**build_environment(redis_url, storage, bucket_name), "MASKMILL_PROCESSES": "1", "SCRIPT_NAME": "/public"}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, env: dict[str, str]) -> Iterator[RawGateway]:
    with RawGateway(tmp_path_factory.mktemp("gateway"), env) as process:
        yield process.wait_ready()


REFUSED_NAMES = {
    "a foreign name": build_get("/v1/jobs", "Host: evil.example"),
    "two names, the first one foreign": build_get("/v1/jobs", "Host: evil.example", "Host: localhost"),
    "two names, the second one foreign": build_get("/v1/jobs", "Host: localhost", "Host: evil.example"),
    "no name": build_get("/v1/jobs", version="1.0"),
    "a foreign target": build_get("http://evil.example/v1/jobs", "Host: localhost"),
    "a foreign target with an allowed user": build_get("http://localhost@evil.example/v1/jobs", "Host: localhost"),
    "a foreign header with an allowed target": build_get("http://localhost/v1/jobs", "Host: evil.example"),
    "a user": build_get("/v1/jobs", "Host: localhost@evil.example"),
    "a forwarded name": build_get("/v1/jobs", "Host: evil.example", "X-Forwarded-Host: localhost"),
    "a path that does not exist": build_get("/none", "Host: evil.example"),
    "metrics": build_get("/metrics", "Host: evil.example"),
}


@pytest.mark.parametrize("request_bytes", REFUSED_NAMES.values(), ids=REFUSED_NAMES)
def test_a_foreign_name_is_refused(gateway: RawGateway, request_bytes: bytes) -> None:
    status, error_type = gateway.send(request_bytes)

    # Gunicorn itself may refuse what is not a request at all.
    assert (status, error_type) == (421, "unknown_host") or status == 400


@pytest.mark.parametrize(
    "request_bytes",
    [
        build_get("/v1/jobs", "Host: localhost"),
        build_get("/v1/jobs", "Host: 127.0.0.1:8000"),
        build_get("/v1/jobs", "Host: [::1]"),
        build_get("http://127.0.0.1/v1/jobs", "Host: 127.0.0.1"),
        build_get("/v1/jobs", "Host: localhost", version="1.0"),
    ],
)
def test_loopback_names_are_accepted(gateway: RawGateway, request_bytes: bytes) -> None:
    assert gateway.send(request_bytes)[0] == 200


@pytest.mark.parametrize("content_type", ["text/plain", "multipart/form-data; boundary=b", "image/png"])
@pytest.mark.parametrize("origin", ["https://evil.example", "null"])
def test_a_page_cannot_submit_a_job(gateway: RawGateway, content_type: str, origin: str) -> None:
    head = (
        f"POST /v1/jobs HTTP/1.1\r\nHost: 127.0.0.1:{gateway.port}\r\nOrigin: {origin}\r\n"
        f"Content-Type: {content_type}\r\nContent-Length: {len(png())}\r\nConnection: close\r\n\r\n"
    )

    assert gateway.send(head.encode() + png()) == (403, "foreign_origin")


@pytest.fixture(scope="module")
def socket_gateway(tmp_path_factory: pytest.TempPathFactory, env: dict[str, str]) -> Iterator[RawGateway]:
    folder = tmp_path_factory.mktemp("socket")
    with RawGateway(folder, env, f"unix:{folder / 'gateway.socket'}") as process:
        yield process.wait_ready()


def test_a_socket_at_a_path_is_no_exception(socket_gateway: RawGateway) -> None:
    assert socket_gateway.send(build_get("/v1/jobs", "Host: localhost"))[0] == 200
    assert socket_gateway.send(build_get("/v1/jobs", "Host: evil.example"))[0] == 421


@pytest.mark.parametrize(
    ("target", "header", "expected"),
    [
        ("/public/v1/jobs", "SCRIPT_NAME: /public", 404),
        ("/v1/jobs", "SCRIPT_NAME: /x", 200),
        ("/public", "PATH_INFO: /v1/jobs", 404),
    ],
)
def test_a_trusted_peer_names_no_other_path_by_a_header(
    socket_gateway: RawGateway, target: str, header: str, expected: int
) -> None:
    # Gunicorn trusts each peer of a Unix socket as it does a proxy, and a proxy passes on the headers of its clients.
    assert socket_gateway.send(build_get(target, "Host: localhost", header))[0] == expected


# A client of the Unix socket is a trusted proxy.  A page that has its own name point to loopback, where a trusted proxy
# may be, can add X-Forwarded-Host, and cannot change Host.
@pytest.mark.parametrize(
    ("host", "forwarded", "expected"),
    [
        ("evil.example", "localhost", 421),
        ("localhost", "evil.example", 421),
        ("localhost", "localhost, evil.example", 421),
        ("localhost", '"localhost, evil.example', 421),
        ("localhost", "evil.example/localhost", 421),
        ("localhost", "evil.example, localhost:8443", 200),
        ("localhost", "[::1]:8443", 200),
    ],
)
def test_a_forwarded_name_is_checked_beside_the_name_itself(
    socket_gateway: RawGateway, host: str, forwarded: str, expected: int
) -> None:
    request = build_get("/v1/jobs", f"Host: {host}", f"X-Forwarded-Host: {forwarded}")

    assert socket_gateway.send(request)[0] == expected


def read_prefix(gateway: RawGateway, path: str, *headers: str) -> tuple[int, str]:
    status, document = gateway.exchange(build_get(path, "Host: localhost", *headers))
    return status, document["servers"][0]["url"] if status == 200 else document["error_type"]


@pytest.mark.parametrize(
    ("path", "prefix", "expected"),
    [
        ("/openapi.json", "/masks", "/masks"),
        ("/openapi.json", "/masks/", "/masks"),
        ("/openapi.json", "/team-a/masks_2.0~x", "/team-a/masks_2.0~x"),
        ("/openapi.json", "/evil, /masks", "/masks"),
        ("/openapi.json", '"/evil, /masks', "/masks"),
        ("/openapi.json", "/", "/"),
        ("/openapi.json", "", "/"),
        ("/masks/openapi.json", "/masks", "/masks"),
        ("//masks//openapi.json", "/masks", "/masks"),
        ("/team//masks/openapi.json", "/team/masks", "/team/masks"),
        ("/m%61sks/openapi.json", "/masks", "/masks"),
    ],
)
def test_the_prefix_of_a_trusted_proxy_begins_the_links(
    socket_gateway: RawGateway, path: str, prefix: str, expected: str
) -> None:
    assert read_prefix(socket_gateway, path, f"X-Forwarded-Prefix: {prefix}") == (200, expected)


HOSTILE_PREFIXES = {
    "another host": "//evil.example",
    "another host after the prefix": "/masks//evil.example",
    "a backslash": "/\\evil.example",
    "a parent": "/masks/../admin",
    "a parent in percents": "/masks/%2e%2e/admin",
    "no slash": "masks",
    "a URL": "https://evil.example/masks",
    "a query": "/masks?x=",
    "a fragment": "/masks#",
    "a blank": "/ma sks",
    "a tab": "/ma\tsks",
    "latin-1": "/mäsks",
    "slashes": "/" * 7000,
    "7,000 characters": "/" + "a" * 7000,
}


@pytest.mark.parametrize("prefix", HOSTILE_PREFIXES.values(), ids=HOSTILE_PREFIXES)
@pytest.mark.parametrize("path", ["/openapi.json", "/healthz", "/none"])
def test_what_is_no_prefix_is_refused(socket_gateway: RawGateway, path: str, prefix: str) -> None:
    request = build_get(path, "Host: localhost", f"X-Forwarded-Prefix: {prefix}")

    assert socket_gateway.send(request) == (400, "bad_prefix")


@pytest.mark.parametrize("character", ["\0", "\x0b", "\x7f"])
def test_a_control_character_in_a_prefix_is_no_server_error(socket_gateway: RawGateway, character: str) -> None:
    request = build_get("/openapi.json", "Host: localhost", f"X-Forwarded-Prefix: /masks{character}")

    assert socket_gateway.send(request)[0] == 400


@pytest.mark.parametrize("prefix", ["/masks", *HOSTILE_PREFIXES.values()], ids=["a prefix", *HOSTILE_PREFIXES])
def test_what_is_no_trusted_proxy_has_no_prefix(gateway: RawGateway, prefix: str) -> None:
    forwarded = ("X-Forwarded-Host: evil.example", "X-Forwarded-Proto: https", f"X-Forwarded-Prefix: {prefix}")

    assert read_prefix(gateway, "/openapi.json", *forwarded) == (200, "/")


@pytest.mark.parametrize("path", ["", "/masks"])
def test_every_link_of_a_job_is_below_the_prefix(socket_gateway: RawGateway, path: str) -> None:
    head = (
        f"POST {path}/v1/jobs HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-Prefix: /masks\r\n"
        f"Content-Type: image/png\r\nContent-Length: {len(png())}\r\nConnection: close\r\n\r\n"
    )

    status, job = socket_gateway.exchange(head.encode() + png())

    assert status == 202
    assert job["links"]["self"] == f"/masks/v1/jobs/{job['id']}"
    assert all(link.startswith("/masks/v1/jobs/") for link in job["links"].values())


def test_a_variable_of_gunicorn_changes_no_path(gateway: RawGateway, env: dict[str, str]) -> None:
    assert env["SCRIPT_NAME"] == "/public"
    assert gateway.send(build_get("/v1/jobs", "Host: localhost"))[0] == 200
    assert gateway.send(build_get("/public/v1/jobs", "Host: localhost"))[0] == 404


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("//v1//jobs", 200),
        ("//v1/jobs//?limit=5", 200),
        ("http://localhost//v1/jobs", 200),
        ("//healthz", 200),
        ("//evil.example/", 404),
        ("//evil.example/v1/jobs", 404),
        ("//evil.example%2Fv1/jobs", 404),
        ("/v1/../v1/jobs", 404),
        ("/..//", 404),
    ],
)
def test_slashes_and_dots_of_a_target_name_no_other_host(gateway: RawGateway, target: str, expected: int) -> None:
    assert gateway.send(build_get(target, "Host: localhost"))[0] == expected


@pytest.mark.parametrize("target", ["//v1/jobs", "/v1//jobs", "/v1/jobs//"])
def test_a_post_to_a_path_with_slashes_keeps_its_body(gateway: RawGateway, target: str) -> None:
    head = f"POST {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(png())}\r\nConnection: close\r\n\r\n"

    assert gateway.send(head.encode() + png())[0] == 202


def test_an_option_that_is_twice_in_the_headers_is_refused(gateway: RawGateway) -> None:
    head = (
        "POST / HTTP/1.1\r\nHost: localhost\r\nX-Use-Cache: false\r\nx-use-cache: false\r\n"
        f"Content-Length: {len(png())}\r\nConnection: close\r\n\r\n"
    )

    status, body = gateway.exchange(head.encode() + png())

    assert (status, body["error"]) == (400, "The header x-use-cache is given twice; give it once.")
