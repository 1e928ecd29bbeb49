"""The parts of the wire contract that no client library shows: bytes, headers, errors, and no outgoing requests."""

import base64
import gzip
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.local.stack import Stack
from shared.worker_registry import EMBEDDED_MODEL_ID
from tests.conformance.forms import Reference
from tests.conformance.gateways import ABSENT, BROKEN, COLD_START_SECONDS, FULL, LOADING, SLOW, TOKEN, Gateway
from tests.conformance.wire import document, post, send

BROWSER = {"Origin": "https://example.org"}
REQUEST_HEADERS = (
    "authorization, content-type, user-agent, x-hf-bill-to, x-use-cache, x-wait-for-model, baggage, cache-control, "
    "sentry-trace, traceparent, x-requested-with"
)
EXPOSED_HEADERS = {"x-request-id", "x-compute-time", "x-compute-type", "x-maskmill-job-id", "x-maskmill-cache"}


@pytest.fixture(scope="module")
def image_base64(image: bytes) -> str:
    return base64.b64encode(image).decode()


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A listener on loopback to which the gateway must never connect."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield server


def test_the_array_has_the_shape_of_the_reference_pipeline(stack: Stack, image: bytes) -> None:
    response = post(stack.url, "/?threshold=0.3", image)

    assert response.status == 200
    assert response.headers["content-type"] == "application/json"
    array = response.json()
    assert len(array) >= 2
    assert [list(element) for element in array] == [["score", "label", "mask"]] * len(array)
    for segment in response.segments:
        assert isinstance(segment.score, float) and 0.3 < segment.score <= 1
        assert (segment.mode, segment.size) == ("L", (256, 256))
        assert set(segment.values) <= {0, 255} and 255 in segment.values


def test_a_rotated_image_has_upright_masks(reference: Reference) -> None:
    segments = reference("sideways.jpg", {"threshold": 0.3})

    assert segments
    assert {segment.size for segment in segments} == {(451, 300)}


def test_semantic_segments_have_a_numeric_score(reference: Reference) -> None:
    segments = reference("photo.jpg", {"subtask": "semantic"})

    assert segments
    assert all(isinstance(segment.score, float | int) for segment in segments)


@pytest.mark.parametrize("parameters", [None, {}, {"threshold": None, "mask_threshold": None, "subtask": None}])
def test_null_parameters_are_the_defaults(
    stack: Stack, image_base64: str, parameters: Any, reference: Reference
) -> None:
    response = post(stack.url, "/", document(image_base64, parameters=parameters))

    expected = reference("photo.jpg", {"threshold": 0.9, "mask_threshold": 0.5, "overlap_mask_area_threshold": 0.5})
    assert response.segments == expected
    assert expected


def test_no_segment_above_the_threshold_gives_an_empty_array(stack: Stack, image_base64: str) -> None:
    response = post(stack.url, "/", document(image_base64, parameters={"threshold": 1.0}))

    assert (response.status, response.body.strip()) == (200, b"[]")


def test_the_response_is_compressed_if_the_client_accepts_gzip(stack: Stack, image: bytes) -> None:
    plain = post(stack.url, "/?subtask=semantic", image)
    compressed = post(stack.url, "/?subtask=semantic", image, {"Accept-Encoding": "gzip, deflate"})

    assert "content-encoding" not in plain.headers
    assert compressed.headers["content-encoding"] == "gzip"
    assert gzip.decompress(compressed.body) == plain.body
    assert len(compressed.body) < len(plain.body)


def test_the_headers_give_request_id_job_id_and_compute_time(stack: Stack, image: bytes) -> None:
    response = post(stack.url, "/", image, {"X-Request-ID": "mine.1"})

    assert response.headers["x-request-id"] == "mine.1"
    assert float(response.headers["x-compute-time"]) >= 0
    assert response.headers["x-compute-type"] in ("cpu", "gpu")
    job = send(stack.url, "GET", f"/v1/jobs/{response.headers['x-maskmill-job-id']}").json()
    assert job["state"] == "succeeded"


BAD_BODIES: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "empty_body"),
    "blanks": (b" \r\n", "empty_body"),
    "text": (b"What is this?", "unreadable_body"),
    "JSON without inputs": (b'{"parameters": {}}', "unreadable_body"),
    "JSON cut short": (b'{"inputs": "aaaa', "unreadable_body"),
    "a list": (b'["aaaa"]', "unreadable_body"),
    "inputs null": (document(None), "unreadable_body"),
    "inputs an object": (document({"url": "http://127.0.0.1"}), "unreadable_body"),
    "inputs a list": (document(["aaaa"]), "unreadable_body"),
    "inputs empty": (document(""), "empty_body"),
    "inputs a file's name": (document("cats.jpg"), "unreadable_body"),
    "inputs /etc/passwd": (document("/etc/passwd"), "unreadable_body"),
    "inputs file:///etc/passwd": (document("file:///etc/passwd"), "unreadable_body"),
    "inputs text in base64": (document(base64.b64encode(b"no image").decode()), "not_an_image"),
}


@pytest.mark.parametrize(("body", "code"), BAD_BODIES.values(), ids=BAD_BODIES)
def test_a_body_without_an_image_is_rejected(stack: Stack, body: bytes, code: str) -> None:
    response = post(stack.url, "/", body)

    assert response.check_error(400)
    assert response.json()["error_type"] == code


@pytest.mark.parametrize("fraction", [0.001, 0.1, 0.5, 0.99])
def test_a_truncated_image_is_rejected_raw_and_in_json(stack: Stack, image: bytes, fraction: float) -> None:
    cut = image[: int(fraction * len(image))]

    raw = post(stack.url, "/", cut)
    packed = post(stack.url, "/", document(base64.b64encode(cut).decode()))

    assert raw.check_error(400)
    assert packed.check_error(400)


@pytest.mark.parametrize(
    ("parameters", "code"),
    [
        ({"subtask": "all"}, "bad_parameter"),
        ({"subtask": 1}, "bad_parameter"),
        ({"threshold": "0.5"}, "bad_parameter"),
        ({"threshold": 2}, "bad_parameter"),
        ({"mask_threshold": [0.5]}, "bad_parameter"),
        ([0.5], "bad_parameter"),
        ({"treshold": 0.5}, "unknown_parameter"),
    ],
    ids=str,
)
def test_bad_parameters_are_rejected(stack: Stack, image_base64: str, parameters: Any, code: str) -> None:
    response = post(stack.url, "/", document(image_base64, parameters=parameters))

    assert response.check_error(400)
    assert response.json()["error_type"] == code


def test_no_url_in_a_body_is_fetched(stack: Stack, listener: socket.socket) -> None:
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/cats.jpg"
    bodies = [document(url), document([url]), document({"url": url}), json.dumps({"image": url}).encode(), url.encode()]

    statuses = {path: [post(stack.url, path, body).status for body in bodies] for path in ("/", "/v1/jobs")}

    # 422: a URL where a job may name one, which the operator has not turned on.
    assert statuses == {"/": [400] * 5, "/v1/jobs": [422, 400, 400, 422, 400]}
    with pytest.raises(BlockingIOError):
        listener.accept()


def test_no_path_in_a_body_is_opened(stack: Stack, image_folder: Path) -> None:
    file = image_folder / "photo.jpg"
    names = [str(file), file.as_uri(), str(file).removeprefix("/")]

    responses = [post(stack.url, "/", body) for name in names for body in (document(name), name.encode())]

    assert {response.status for response in responses} == {400}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/v0/none", 404),
        ("GET", "/none", 404),
        ("GET", "/%ff", 404),
        ("POST", "/models/org/none", 404),
        ("GET", "/status/org/none", 404),
        ("PUT", "/", 405),
        ("PATCH", f"/models/{EMBEDDED_MODEL_ID}", 405),
        ("POST", "/healthz", 405),
    ],
)
def test_an_unknown_route_is_rejected_in_json(stack: Stack, image: bytes, method: str, path: str, status: int) -> None:
    body = image if method != "GET" else None

    response = send(stack.url, method, path, body)

    assert response.check_error(status)


@pytest.mark.parametrize(
    ("model", "status"), [(BROKEN, 500), (FULL, 429), (SLOW, 504), ("org/none", 404)], ids=lambda value: str(value)
)
def test_a_failing_model_is_reported_in_json(failing_gateway: Gateway, image: bytes, model: str, status: int) -> None:
    response = post(failing_gateway.url, f"/models/{model}", image, {"Authorization": f"Bearer {TOKEN}"})

    assert response.check_error(status)


@pytest.mark.parametrize(("model", "message"), [(ABSENT, "has no worker"), (LOADING, "is currently loading")])
def test_a_cold_start_is_reported_after_a_delay_with_an_estimate(
    failing_gateway: Gateway, image: bytes, model: str, message: str
) -> None:
    started = time.monotonic()

    response = post(failing_gateway.url, f"/models/{model}", image, {"Authorization": f"Bearer {TOKEN}"})

    assert message in response.check_error(503)
    assert response.json()["estimated_time"] > 0
    assert time.monotonic() - started >= COLD_START_SECONDS


@pytest.mark.parametrize("model", [ABSENT, LOADING])
def test_wait_for_model_waits_until_the_deadline(failing_gateway: Gateway, image: bytes, model: str) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}", "X-Wait-For-Model": "true"}

    response = post(failing_gateway.url, f"/models/{model}", image, headers)

    assert response.check_error(504)


def test_a_full_queue_tells_when_to_retry(failing_gateway: Gateway, image: bytes) -> None:
    response = post(failing_gateway.url, f"/models/{FULL}", image, {"Authorization": f"Bearer {TOKEN}"})

    seconds = int(response.headers["retry-after"])
    assert seconds > 0
    assert response.headers["ratelimit"] == f'"queue";r=0;t={seconds}'
    assert response.headers["ratelimit-policy"].startswith('"fixed window";"queue";q=')


@pytest.mark.parametrize(
    ("path", "token", "size", "status"),
    [("/", "", 100, 401), ("/", "wrong", 100, 401), ("/", TOKEN, 30_000_000, 413), ("/none", TOKEN, 30_000_000, 404)],
)
def test_the_error_of_a_rejected_upload_is_readable(
    failing_gateway: Gateway, path: str, token: str, size: int, status: int
) -> None:
    response = post(failing_gateway.url, path, bytes(size), {"Authorization": f"Bearer {token}"} if token else {})

    assert response.check_error(status)


MALFORMED: dict[str, bytes] = {
    "no request": b"GARBAGE\r\n\r\n",
    "no length": b"POST / HTTP/1.1\r\nHost: [::1]\r\nContent-Length: abc\r\n\r\n",
    "two lengths": b"POST / HTTP/1.1\r\nHost: [::1]\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "two types": b"POST / HTTP/1.1\r\nHost: [::1]\r\nContent-Type: a\r\nContent-Type: c\r\nContent-Length: 1\r\n\r\na",
    "no chunk": b"POST / HTTP/1.1\r\nHost: [::1]\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n\r\n",
    "a long line": b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: [::1]\r\n\r\n",
    "a long header": b"GET / HTTP/1.1\r\nHost: [::1]\r\nX-Long: " + b"a" * 20_000 + b"\r\n\r\n",
}


@pytest.mark.parametrize("request_bytes", MALFORMED.values(), ids=MALFORMED)
def test_malformed_http_is_rejected_in_json(stack: Stack, request_bytes: bytes) -> None:
    with socket.create_connection(("127.0.0.1", stack.port), timeout=10) as connection:
        connection.sendall(request_bytes)
        connection.shutdown(socket.SHUT_WR)
        response = b"".join(iter(lambda: connection.recv(1 << 16), b""))

    head, _, body = response.partition(b"\r\n\r\n")
    assert 400 <= int(head.split()[1]) < 500
    assert b"content-type: application/json" in head.lower()
    assert isinstance(json.loads(body)["error"], str)


@pytest.mark.parametrize("path", ["/", f"/models/{EMBEDDED_MODEL_ID}", "/v1/jobs", "/none"])
def test_a_preflight_is_answered_on_every_path(failing_gateway: Gateway, path: str) -> None:
    headers = {
        **BROWSER,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": REQUEST_HEADERS,
        "Access-Control-Request-Private-Network": "true",
    }

    response = send(failing_gateway.url, "OPTIONS", path, headers=headers)

    allowed = {name.strip() for name in response.headers["access-control-allow-headers"].lower().split(",")}
    assert response.status == 204
    assert response.headers["access-control-allow-origin"] == "*"
    assert "POST" in response.headers["access-control-allow-methods"]
    assert allowed >= set(REQUEST_HEADERS.split(", "))
    assert response.headers["access-control-allow-private-network"] == "true"
    assert "access-control-request-headers" in response.headers["vary"].lower()


def test_an_allowed_origin_may_read_the_response_and_its_headers(stack: Stack, image: bytes) -> None:
    origin = "http://localhost:5173"

    response = post(stack.url, "/", image, {"Origin": origin})

    exposed = {name.strip() for name in response.headers["access-control-expose-headers"].lower().split(",")}
    assert response.headers["access-control-allow-origin"] == origin
    assert exposed >= EXPOSED_HEADERS
    assert "origin" in response.headers["vary"].lower()


def test_an_allowed_origin_may_read_an_error(failing_gateway: Gateway) -> None:
    response = post(failing_gateway.url, "/", b"", BROWSER)

    assert response.check_error(401)
    assert response.headers["access-control-allow-origin"] == "*"
    assert "x-request-id" in response.headers["access-control-expose-headers"].lower()


def test_a_request_without_an_origin_gets_no_cors_headers(stack: Stack) -> None:
    response = send(stack.url, "GET", "/healthz")

    assert not [name for name in response.headers if name.startswith("access-control")]
    # Otherwise what a browser has in its cache for an image fails for a script.
    assert "origin" in response.headers["vary"].lower()


@pytest.mark.parametrize("path", ["/health", f"/models/{EMBEDDED_MODEL_ID}/health"])
def test_the_health_of_an_endpoint(stack: Stack, path: str) -> None:
    assert send(stack.url, "GET", path).status == 200


@pytest.mark.parametrize("path", ["/info", f"/models/{EMBEDDED_MODEL_ID}/info"])
def test_the_info_of_an_endpoint(stack: Stack, path: str) -> None:
    info = send(stack.url, "GET", path).json()

    assert (info["model_id"], info["task"], info["state"]) == (EMBEDDED_MODEL_ID, "image-segmentation", "ready")


def test_the_status_of_a_model_has_the_shape_of_the_inference_api(stack: Stack, failing_gateway: Gateway) -> None:
    ready = send(stack.url, "GET", f"/status/{EMBEDDED_MODEL_ID}").json()
    absent = send(failing_gateway.url, "GET", f"/status/{ABSENT}", headers={"Authorization": f"Bearer {TOKEN}"}).json()

    assert ready == {"loaded": True, "state": "Loaded", "compute_type": "cpu", "framework": "transformers"}
    assert (absent["loaded"], absent["state"]) == (False, "Loadable")
