"""Heads of requests as they come in pieces, and their one parser."""

import pytest
from gunicorn.config import Config  # type: ignore[import-untyped]
from gunicorn.http.errors import LimitRequestHeaders, LimitRequestLine, ParseException  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st

from api.server.head import MAX_HEAD_BYTES, find_end, get_body_length, get_header, is_refusable, parse_head

CFG = Config()
ADDRESS = ("192.0.2.1", 1234)
HEAD = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nAuthorization: Bearer a\r\n\r\n"


@given(cuts=st.lists(st.integers(0, len(HEAD)), max_size=8))
def test_the_end_is_found_wherever_the_bytes_are_cut(cuts: list[int]) -> None:
    received, searched = bytearray(), 0
    wire = HEAD + b"hello"
    for start, end in zip([0, *sorted(cuts)], [*sorted(cuts), len(wire)], strict=True):
        received += wire[start:end]
        found = find_end(received, searched)
        assert found == (len(HEAD) if len(received) >= len(HEAD) else -1)
        if found >= 0:
            break
        assert not is_refusable(received, searched, CFG.limit_request_line)
        searched = len(received)


def test_the_framing_is_that_of_the_parser() -> None:
    request = parse_head(HEAD, CFG, ADDRESS, 1)
    chunked = parse_head(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", CFG, ADDRESS, 1)
    none = parse_head(b"\r\nGET / HTTP/1.1\r\n\r\n", CFG, ADDRESS, 1)

    assert [get_body_length(one) for one in (request, chunked, none)] == [5, None, 0]
    assert get_header(request, "AUTHORIZATION") == "Bearer a"
    assert get_header(none, "AUTHORIZATION") is None


@pytest.mark.parametrize(
    "head",
    [
        b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: +1\r\n\r\n",
        b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: xchunked\r\n\r\n",
        b"POST / HTTP/1.1\r\nX: y\r\n z\r\n\r\n",
        b"\r\n\r\n",
        b"GARBAGE\r\n\r\n",
    ],
)
def test_a_head_that_two_parsers_could_read_differently_is_refused(head: bytes) -> None:
    with pytest.raises(ParseException):
        parse_head(head, CFG, ADDRESS, 1)


@pytest.mark.parametrize(
    ("received", "error"),
    [
        (b"GET /" + b"a" * 5000, LimitRequestLine),
        (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 12_000, LimitRequestHeaders),
        (b"GET / HTTP/1.1\nHost: x\n\n", ParseException),
        (b"GET / HTTP/1.1\r\nHost: x\n", ParseException),
    ],
)
def test_a_head_without_an_end_is_refused_before_its_deadline(received: bytes, error: type[Exception]) -> None:
    assert is_refusable(bytearray(received), 0, CFG.limit_request_line)
    with pytest.raises(error):
        parse_head(received, CFG, ADDRESS, 1)


def test_the_longest_line_may_still_come() -> None:
    received = bytearray(b"GET /" + b"a" * (CFG.limit_request_line - 5))

    assert not is_refusable(received, 0, CFG.limit_request_line)
    assert is_refusable(bytearray(b"GET / HTTP/1.1\r\n" + bytes(MAX_HEAD_BYTES)), 0, CFG.limit_request_line)
