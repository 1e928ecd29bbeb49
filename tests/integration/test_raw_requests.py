"""The checks of Host and Origin in a gateway process without tokens, by requests as they are on the wire."""

from collections.abc import Iterator

import pytest

from tests.conftest import Storage
from tests.support.jobs import png
from tests.support.raw_gateway import RawGateway, build_environment, build_get


@pytest.fixture(scope="module")
def env(redis_url: str, storage: Storage, bucket_name: str) -> dict[str, str]:
    return {**build_environment(redis_url, storage, bucket_name), "MASKMILL_PROCESSES": "1"}


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
