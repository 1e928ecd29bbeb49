"""Compressed request bodies over a real Valkey and a real object store, on the synchronous and the job path alike."""

import base64
import gzip
import json
import time
import zlib
from collections.abc import Callable, Iterator

import pytest
from werkzeug.test import TestResponse

from shared.redis_client import connect
from shared.worker_registry import WorkerRegistry, WorkerState, WorkerStatus
from tests.support.compressed import deflate_bare
from tests.support.gateway import GatewayUnderTest, consume_messages, open_gateway, run_job
from tests.support.jobs import MODEL, png

ENCODERS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress),
    "deflate": ("deflate", zlib.compress),
    "bare deflate": ("deflate", deflate_bare),
}
IMAGE = png()
FORM = b'--X\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n' + IMAGE + b"\r\n--X--\r\n"
BODIES: dict[str, tuple[bytes, str]] = {
    "raw": (IMAGE, "image/png"),
    "JSON": (json.dumps({"inputs": base64.b64encode(IMAGE).decode()}).encode(), "application/json"),
    "base64": (base64.b64encode(IMAGE), "text/plain"),
    "a form": (FORM, "multipart/form-data; boundary=X"),
}


@pytest.fixture
def gateway(clean_redis: str, storage_env: dict[str, str]) -> Iterator[GatewayUnderTest]:
    """A gateway, and a worker that runs its jobs and reports itself."""
    gateway = open_gateway(clean_redis, storage_env, sync_deadline_seconds=10, cold_start_seconds=1)
    status = WorkerStatus("w", MODEL, WorkerState.READY, revision="r1", since=time.time())
    WorkerRegistry(connect(gateway.settings)).report(status)
    with consume_messages(gateway, lambda job_id: run_job(gateway, job_id)):
        yield gateway


def post(gateway: GatewayUnderTest, path: str, body: bytes, coding: str = "", **headers: str) -> TestResponse:
    coded = {"Content-Encoding": coding} if coding else {}
    return gateway.client.post(path, data=body, headers={**coded, **headers})


def test_every_body_may_have_every_coding_on_both_paths(gateway: GatewayUnderTest) -> None:
    plain = post(gateway, "/", IMAGE)
    assert plain.status_code == 200

    for body, kind in BODIES.values():
        for coding, encode in ENCODERS.values():
            answer = post(gateway, "/", encode(body), coding, **{"Content-Type": kind})
            job = post(gateway, "/v1/jobs", encode(body), coding, **{"Content-Type": kind})

            assert (answer.status_code, answer.json) == (200, plain.json)
            # The key of the cache is that of the image.
            assert answer.headers["x-maskmill-cache"] in {"hit", "coalesced"}
            assert job.status_code == 202
            assert job.json["image"]["bytes"] == len(IMAGE)


def test_an_idempotency_key_stands_for_the_image(gateway: GatewayUnderTest) -> None:
    names = {"Idempotency-Key": "one", "Content-Type": "image/png"}

    first = post(gateway, "/v1/jobs", gzip.compress(IMAGE), "gzip", **names)
    second = post(gateway, "/v1/jobs", IMAGE, **names)

    assert first.status_code == second.status_code == 202
    assert first.json["id"] == second.json["id"]


def test_what_is_not_accepted_says_what_is(gateway: GatewayUnderTest) -> None:
    for path in ("/", f"/models/{MODEL}", "/v1/jobs"):
        refused = post(gateway, path, IMAGE, "br")

        assert (refused.status_code, refused.json["error_type"]) == (415, "unsupported_coding")
        assert "send gzip or deflate, or the body as it is" in refused.json["error"]
        assert refused.headers["Accept-Encoding"] == "gzip, deflate, identity"
        assert "Accept-Encoding" not in post(gateway, path, b"no image").headers


def test_a_bomb_is_too_large(gateway: GatewayUnderTest) -> None:
    bomb = gzip.compress(bytes(gateway.settings.max_upload_bytes + 1))

    for path in ("/", "/v1/jobs"):
        refused = post(gateway, path, bomb, "gzip")

        assert (refused.status_code, refused.json["error_type"]) == (413, "body_too_large")
        assert str(gateway.settings.max_upload_bytes) in refused.json["error"]
