"""Hostile request headers.  Host and Origin are tested where it is decided who may call the service."""

from collections.abc import Sequence

from tests.hostile.inputs import HostileInput
from tests.support.images import cat, jpeg


def submit(name: str, status: int, headers: dict[str, str], *others: int, target: str = "/v1/jobs") -> HostileInput:
    return HostileInput(name, frozenset({status, *others}), target=target, headers=headers, body=lambda: jpeg(cat()))


def read(name: str, status: int, headers: dict[str, str], *others: int) -> HostileInput:
    return HostileInput(name, frozenset({status, *others}), method="GET", target="/v1/models", headers=headers)


INPUTS: Sequence[HostileInput] = (
    submit("an empty Idempotency-Key", 400, {"Idempotency-Key": ""}),
    submit("an Idempotency-Key of 256 characters", 400, {"Idempotency-Key": "k" * 256}),
    submit("an Idempotency-Key of 7,000 characters", 400, {"Idempotency-Key": "k" * 7000}),
    submit("an Idempotency-Key that is not printable", 400, {"Idempotency-Key": "a\x7fb"}),
    submit("an Idempotency-Key of Redis's protocol", 202, {"Idempotency-Key": "*1 $8 FLUSHALL"}),
    submit("a request id of 7,000 characters", 202, {"X-Request-ID": "r" * 7000}),
    submit("a request id of quotes", 202, {"X-Request-ID": "\"'<script>"}),
    submit("a Prefer of commas", 202, {"Prefer": "," * 7000}),
    submit("a Prefer of 9 digits", 202, {"Prefer": "wait=" + "9" * 9}),
    submit("a Prefer of 7,000 digits", 202, {"Prefer": "wait=" + "9" * 7000}),
    submit("a Prefer of quotes", 202, {"Prefer": '"' * 7000}),
    submit("a Prefer of backslashes", 202, {"Prefer": 'respond-async;a="' + "\\" * 7000}),
    submit("a Prefer that waits below 0", 202, {"Prefer": "wait=-5"}),
    submit("a Content-Encoding", 202, {"Content-Encoding": "gzip, gzip, gzip"}, 400, 415),
    submit("an Expect of something", 202, {"Expect": "miracles"}, 417),
    submit("a digest that is wrong", 202, {"Content-Digest": "sha-256=:AAAA:"}),
    submit("options of 7,000 characters", 202, {"x-use-cache": "f" * 7000, "x-wait-for-model": "t" * 7000}),
    submit("an option of 7,000 characters", 400, {"x-use-cache": "f" * 7000}, target="/"),
    read("an Accept-Encoding of 1,000 qualities", 200, {"Accept-Encoding": "gzip;q=0.0001," * 500}),
    read("an Accept-Encoding of nan", 200, {"Accept-Encoding": "gzip;q=nan"}),
    read("an Accept-Encoding of 7,000 digits", 200, {"Accept-Encoding": "gzip;q=" + "9" * 7000}),
    read("an Accept of stars", 200, {"Accept": "*/*," * 1900}),
    read("cookies", 200, {"Cookie": "a=b;" * 1900}),
    read("a cookie of quotes", 200, {"Cookie": 'a="' + '\\"' * 3000}),
    read("etags", 200, {"If-None-Match": 'W/"a",' * 1200}),
    read("an etag without an end", 200, {"If-None-Match": 'W/"' + "a" * 7000}),
    read("ranges", 200, {"Range": "bytes=" + "0-1," * 1500}, 206, 416),
    read("a range of 7,000 digits", 200, {"Range": "bytes=0-" + "9" * 7000}, 206, 416),
    read("a date of 7,000 characters", 200, {"If-Modified-Since": "Mon, " * 1400}),
    read("forwarded addresses", 200, {"X-Forwarded-For": "127.0.0.1, " * 600, "X-Forwarded-Proto": "https"}),
    read("another method in a header", 200, {"X-HTTP-Method-Override": "DELETE"}),
    read("another path in a header", 200, {"X-Original-URL": "/metrics", "X-Rewrite-URL": "/metrics"}),
    read("an Authorization of 7,000 characters", 200, {"Authorization": "Bearer " + "t" * 7000}, 401),
    read("an Authorization of spaces", 200, {"Authorization": "Bearer" + " " * 7000}, 401),
    read("an Authorization that is no bearer token", 200, {"Authorization": "Basic YTpi"}, 401),
    read("a header of 100 KB", 400, {"X-Long": "a" * 100_000}, 431),
    read("200 headers", 400, {f"X-{number}": "a" for number in range(200)}, 431),
    read("a header name of 7,000 characters", 200, {"X" * 7000: "a"}, 400, 431),
    read("a header of an underscore", 200, {"Content_Length": "9"}, 400),
)
