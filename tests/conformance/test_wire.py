"""The rules of the wire that no client shows: bytes, headers, what must be refused, and what must not be touched."""

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
from shared.worker_registry import EMBEDDED
from tests.conformance.forms import Reference
from tests.conformance.gateways import ABSENT, BROKEN, COLD_START_SECONDS, FULL, LOADING, SLOW, TOKEN, Gateway
from tests.conformance.wire import document, post, send

BROWSER = {"Origin": "https://example.org"}
ASKED = "authorization, content-type, user-agent, x-hf-bill-to, x-use-cache, x-wait-for-model"
EXPOSED = {"x-request-id", "x-compute-time", "x-compute-type", "x-maskmill-job-id"}


@pytest.fixture(scope="module")
def encoded(photo: bytes) -> str:
    return base64.b64encode(photo).decode()


@pytest.fixture
def canary() -> Iterator[socket.socket]:
    """A listener on loopback that nobody has any business to connect to."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        yield listener


def test_the_array_has_the_shape_of_the_reference_pipeline(stack: Stack, photo: bytes) -> None:
    answer = post(stack.url, "/?threshold=0.3", photo)

    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    array = answer.json()
    assert len(array) >= 2
    assert [list(element) for element in array] == [["score", "label", "mask"]] * len(array)
    for segment in answer.segments:
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
def test_null_parameters_are_the_defaults(stack: Stack, encoded: str, parameters: Any, reference: Reference) -> None:
    answer = post(stack.url, "/", document(encoded, parameters=parameters))

    expected = reference("photo.jpg", {"threshold": 0.9, "mask_threshold": 0.5, "overlap_mask_area_threshold": 0.5})
    assert answer.segments == expected
    assert expected


def test_no_segment_above_the_threshold_gives_an_empty_array(stack: Stack, encoded: str) -> None:
    answer = post(stack.url, "/", document(encoded, parameters={"threshold": 1.0}))

    assert (answer.status, answer.body.strip()) == (200, b"[]")


def test_the_response_is_compressed_if_the_client_accepts_gzip(stack: Stack, photo: bytes) -> None:
    plain = post(stack.url, "/?subtask=semantic", photo)
    shrunk = post(stack.url, "/?subtask=semantic", photo, {"Accept-Encoding": "gzip, deflate"})

    assert "content-encoding" not in plain.headers
    assert shrunk.headers["content-encoding"] == "gzip"
    assert gzip.decompress(shrunk.body) == plain.body
    assert len(shrunk.body) < len(plain.body)


def test_the_headers_give_request_id_job_id_and_compute_time(stack: Stack, photo: bytes) -> None:
    answer = post(stack.url, "/", photo, {"X-Request-ID": "mine.1"})

    assert answer.headers["x-request-id"] == "mine.1"
    assert float(answer.headers["x-compute-time"]) >= 0
    assert answer.headers["x-compute-type"] in ("cpu", "gpu")
    job = send(stack.url, "GET", f"/v1/jobs/{answer.headers['x-maskmill-job-id']}").json()
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
    answer = post(stack.url, "/", body)

    assert answer.insist_on_refusal(400)
    assert answer.json()["error_type"] == code


@pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 0.99])
def test_a_truncated_image_is_rejected_raw_and_in_json(stack: Stack, photo: bytes, share: float) -> None:
    cut = photo[: int(share * len(photo))]

    raw = post(stack.url, "/", cut)
    packed = post(stack.url, "/", document(base64.b64encode(cut).decode()))

    assert raw.insist_on_refusal(400)
    assert packed.insist_on_refusal(400)


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
def test_bad_parameters_are_rejected(stack: Stack, encoded: str, parameters: Any, code: str) -> None:
    answer = post(stack.url, "/", document(encoded, parameters=parameters))

    assert answer.insist_on_refusal(400)
    assert answer.json()["error_type"] == code


def test_no_url_in_a_body_is_fetched(stack: Stack, canary: socket.socket) -> None:
    url = f"http://127.0.0.1:{canary.getsockname()[1]}/cats.jpg"
    bodies = [document(url), document([url]), document({"url": url}), json.dumps({"image": url}).encode(), url.encode()]

    answers = [post(stack.url, path, body) for path in ("/", "/v1/jobs") for body in bodies]

    assert {answer.status for answer in answers} == {400}
    with pytest.raises(BlockingIOError):
        canary.accept()


def test_no_path_in_a_body_is_opened(stack: Stack, album: Path) -> None:
    file = album / "photo.jpg"
    names = [str(file), file.as_uri(), str(file).removeprefix("/")]

    answers = [post(stack.url, "/", body) for name in names for body in (document(name), name.encode())]

    assert {answer.status for answer in answers} == {400}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/v0/none", 404),
        ("GET", "/none", 404),
        ("GET", "/%ff", 404),
        ("POST", "/models/org/none", 404),
        ("GET", "/status/org/none", 404),
        ("PUT", "/", 405),
        ("PATCH", f"/models/{EMBEDDED}", 405),
        ("POST", "/healthz", 405),
    ],
)
def test_an_unknown_route_is_rejected_in_json(stack: Stack, photo: bytes, method: str, path: str, status: int) -> None:
    body = photo if method != "GET" else None

    answer = send(stack.url, method, path, body)

    assert answer.insist_on_refusal(status)


@pytest.mark.parametrize(
    ("model", "status"), [(BROKEN, 500), (FULL, 429), (SLOW, 504), ("org/none", 404)], ids=lambda value: str(value)
)
def test_a_failing_model_is_reported_in_json(grim: Gateway, photo: bytes, model: str, status: int) -> None:
    answer = post(grim.url, f"/models/{model}", photo, {"Authorization": f"Bearer {TOKEN}"})

    assert answer.insist_on_refusal(status)


@pytest.mark.parametrize(("model", "told"), [(ABSENT, "has no worker"), (LOADING, "is currently loading")])
def test_a_cold_start_is_reported_after_a_delay_with_an_estimate(
    grim: Gateway, photo: bytes, model: str, told: str
) -> None:
    started = time.monotonic()

    answer = post(grim.url, f"/models/{model}", photo, {"Authorization": f"Bearer {TOKEN}"})

    assert told in answer.insist_on_refusal(503)
    assert answer.json()["estimated_time"] > 0
    assert time.monotonic() - started >= COLD_START_SECONDS


@pytest.mark.parametrize("model", [ABSENT, LOADING])
def test_wait_for_model_waits_until_the_deadline(grim: Gateway, photo: bytes, model: str) -> None:
    waiting = {"Authorization": f"Bearer {TOKEN}", "X-Wait-For-Model": "true"}

    answer = post(grim.url, f"/models/{model}", photo, waiting)

    assert answer.insist_on_refusal(504)


def test_a_full_queue_tells_when_to_retry(grim: Gateway, photo: bytes) -> None:
    answer = post(grim.url, f"/models/{FULL}", photo, {"Authorization": f"Bearer {TOKEN}"})

    seconds = int(answer.headers["retry-after"])
    assert seconds > 0
    assert answer.headers["ratelimit"] == f'"queue";r=0;t={seconds}'
    assert answer.headers["ratelimit-policy"].startswith('"fixed window";"queue";q=')


@pytest.mark.parametrize(
    ("path", "token", "size", "status"),
    [("/", "", 100, 401), ("/", "wrong", 100, 401), ("/", TOKEN, 30_000_000, 413), ("/none", TOKEN, 30_000_000, 404)],
)
def test_the_error_of_a_rejected_upload_is_readable(
    grim: Gateway, path: str, token: str, size: int, status: int
) -> None:
    answer = post(grim.url, path, bytes(size), {"Authorization": f"Bearer {token}"} if token else {})

    assert answer.insist_on_refusal(status)


MALFORMED: dict[str, bytes] = {
    "no request": b"GARBAGE\r\n\r\n",
    "no length": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: abc\r\n\r\n",
    "two lengths": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "two types": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Type: a/b\r\nContent-Type: c/d\r\nContent-Length: 1\r\n\r\na",
    "no chunk": b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n\r\n",
    "a long line": b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "a long header": b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: " + b"a" * 20_000 + b"\r\n\r\n",
}


@pytest.mark.parametrize("request_bytes", MALFORMED.values(), ids=MALFORMED)
def test_malformed_http_is_rejected_in_json(stack: Stack, request_bytes: bytes) -> None:
    with socket.create_connection(("127.0.0.1", stack.port), timeout=10) as connection:
        connection.sendall(request_bytes)
        connection.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: connection.recv(1 << 16), b""))

    head, _, body = answer.partition(b"\r\n\r\n")
    assert 400 <= int(head.split()[1]) < 500
    assert b"content-type: application/json" in head.lower()
    assert isinstance(json.loads(body)["error"], str)


@pytest.mark.parametrize("path", ["/", f"/models/{EMBEDDED}", "/v1/jobs", "/none"])
def test_a_preflight_is_answered_on_every_path(grim: Gateway, path: str) -> None:
    asked = {**BROWSER, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": ASKED}

    answer = send(grim.url, "OPTIONS", path, headers=asked)

    allowed = {name.strip() for name in answer.headers["access-control-allow-headers"].lower().split(",")}
    assert answer.status == 204
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "POST" in answer.headers["access-control-allow-methods"]
    assert allowed >= set(ASKED.split(", "))


def test_an_allowed_origin_may_read_the_response_and_its_headers(stack: Stack, photo: bytes) -> None:
    origin = "http://localhost:5173"

    answer = post(stack.url, "/", photo, {"Origin": origin})

    exposed = {name.strip() for name in answer.headers["access-control-expose-headers"].lower().split(",")}
    assert answer.headers["access-control-allow-origin"] == origin
    assert exposed >= EXPOSED


def test_an_allowed_origin_may_read_an_error(grim: Gateway) -> None:
    answer = post(grim.url, "/", b"", BROWSER)

    assert answer.insist_on_refusal(401)
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "x-request-id" in answer.headers["access-control-expose-headers"].lower()


def test_a_request_without_an_origin_gets_no_cors_headers(stack: Stack) -> None:
    answer = send(stack.url, "GET", "/healthz")

    assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize("path", ["/health", f"/models/{EMBEDDED}/health"])
def test_the_health_of_an_endpoint(stack: Stack, path: str) -> None:
    assert send(stack.url, "GET", path).status == 200


@pytest.mark.parametrize("path", ["/info", f"/models/{EMBEDDED}/info"])
def test_the_info_of_an_endpoint(stack: Stack, path: str) -> None:
    info = send(stack.url, "GET", path).json()

    assert (info["model_id"], info["task"], info["state"]) == (EMBEDDED, "image-segmentation", "ready")


def test_the_status_of_a_model_has_the_shape_of_the_inference_api(stack: Stack, grim: Gateway) -> None:
    ready = send(stack.url, "GET", f"/status/{EMBEDDED}").json()
    away = send(grim.url, "GET", f"/status/{ABSENT}", headers={"Authorization": f"Bearer {TOKEN}"}).json()

    assert ready == {"loaded": True, "state": "Loaded", "compute_type": "cpu", "framework": "transformers"}
    assert (away["loaded"], away["state"]) == (False, "Loadable")
