"""The body of a request as the app takes it from the server."""

import base64
import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any

import orjson
import pytest
from flask import Flask, request

from api.http.request_body import LARGE_BODY_BYTES, keep_reserved, parse_in_turn, read_request_body
from api.jobs.limits import OptionLimits
from api.routes.jobs import read_submission
from api.server.budget import ByteBudget
from api.server.options import REFUSAL_KEY, RESERVATION_KEY
from shared.errors import BodyTooLarge, UnreadableBody, UnsupportedCoding, UploadsFull
from tests.support.polling import wait_until

MAX_BYTES = 100


@contextmanager
def open_request(body: bytes, *, max_bytes: int = MAX_BYTES, **environ: Any) -> Iterator[None]:
    app = Flask("test")
    app.config["MAX_CONTENT_LENGTH"] = max_bytes
    keys = {"refusal": REFUSAL_KEY, "reservation": RESERVATION_KEY}
    overrides = {keys.get(name, name): value for name, value in environ.items()}
    with app.test_request_context("/", method="POST", input_stream=BytesIO(body), environ_overrides=overrides):
        yield


def test_the_bytes_are_not_copied_and_not_kept() -> None:
    body = bytes(MAX_BYTES)
    with open_request(body):
        assert read_request_body() is body
        assert request.environ["wsgi.input"].closed


def test_a_refusal_of_the_server_is_raised_when_the_body_is_read() -> None:
    with open_request(b"", refusal=UploadsFull()), pytest.raises(UploadsFull):
        read_request_body()


def test_a_body_that_is_too_large_or_cut_is_an_error() -> None:
    with open_request(bytes(MAX_BYTES + 1)), pytest.raises(BodyTooLarge):
        read_request_body()
    with open_request(b"abc", CONTENT_LENGTH="4"), pytest.raises(UnreadableBody, match="3 of 4"):
        read_request_body()


def test_what_is_not_held_any_more_is_given_back_to_the_budget() -> None:
    budget = ByteBudget(MAX_BYTES)
    with open_request(b"", reservation=budget.reserve(80)):
        keep_reserved(60)

    assert budget.used == 60


def test_a_compressed_body_counts_as_what_is_held_of_it() -> None:
    content = b"a" * (MAX_BYTES - 1)
    packed = gzip.compress(content)
    budget = ByteBudget(MAX_BYTES + len(packed))
    with open_request(packed, reservation=budget.reserve(len(packed)), HTTP_CONTENT_ENCODING="gzip"):
        assert read_request_body() == content

        assert budget.used == len(content)


def test_a_compressed_body_is_within_the_limit_and_the_budget() -> None:
    packed = gzip.compress(b"a" * (MAX_BYTES + 1))
    with open_request(packed, HTTP_CONTENT_ENCODING="gzip"), pytest.raises(BodyTooLarge):
        read_request_body()
    reservation = ByteBudget(MAX_BYTES).reserve(len(packed))
    full = open_request(packed, max_bytes=2 * MAX_BYTES, reservation=reservation, HTTP_CONTENT_ENCODING="gzip")
    with full, pytest.raises(UploadsFull):
        read_request_body()


def test_a_coding_that_is_not_accepted_is_an_error_unless_the_body_was_refused() -> None:
    with open_request(b"body", HTTP_CONTENT_ENCODING="br"), pytest.raises(UnsupportedCoding, match="'br'"):
        read_request_body()
    with open_request(b"", refusal=UploadsFull(), HTTP_CONTENT_ENCODING="br"), pytest.raises(UploadsFull):
        read_request_body()


def test_a_submission_keeps_reserved_what_its_image_takes_until_it_is_released() -> None:
    image = b"\xff\xd8\xff" + bytes(30)
    body = orjson.dumps({"inputs": base64.b64encode(image).decode(), "parameters": {"threshold": 0.5}})
    assert len(body) > len(image)
    budget = ByteBudget(10 * MAX_BYTES)
    with open_request(body, reservation=budget.reserve(len(body)), CONTENT_TYPE="application/json"):
        submission = read_submission(OptionLimits(deadline_seconds=60, metadata_bytes=100))

        assert budget.used == len(submission.image.content) == len(image)
        submission.image.release()

    assert budget.used == 0


def test_large_bodies_are_parsed_one_at_a_time_and_small_ones_do_not_wait() -> None:
    parsed: list[int] = []

    def parse(nbytes: int) -> None:
        with parse_in_turn(nbytes):
            parsed.append(nbytes)

    sizes = (LARGE_BODY_BYTES + 1, LARGE_BODY_BYTES)
    threads = [threading.Thread(target=parse, args=[size]) for size in sizes]
    with parse_in_turn(LARGE_BODY_BYTES + 1):
        for thread in threads:
            thread.start()
        wait_until(lambda: parsed == [LARGE_BODY_BYTES])
    for thread in threads:
        thread.join()

    assert parsed == [LARGE_BODY_BYTES, LARGE_BODY_BYTES + 1]
