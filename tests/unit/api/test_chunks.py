"""The incremental decoder of chunked bodies, compared with gunicorn's reader of whole ones."""

from itertools import pairwise
from types import SimpleNamespace

import pytest
from gunicorn.http.body import Body, ChunkedReader  # type: ignore[import-untyped]
from gunicorn.http.errors import LimitRequestHeaders, NoMoreData, ParseException  # type: ignore[import-untyped]
from gunicorn.http.unreader import IterUnreader  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st

from api.server.chunks import MAX_FRAMING_BYTES, MAX_LINE_BYTES, BrokenChunks, ChunkDecoder

FOLLOWING = b"GET / HTTP/1.1\r\n"


def decode(wire: bytes, cuts: list[int]) -> tuple[bytes, bytes] | None:
    """Feed the bytes in pieces; return content and rest, or None if they are incomplete or broken."""
    decoder, content = ChunkDecoder(), b""
    bounds = [0, *sorted(cut % (len(wire) + 1) for cut in cuts), len(wire)]
    rest = b""
    try:
        for start, end in pairwise(bounds):
            if decoder.is_complete:
                rest += wire[start:end]
                continue
            content += b"".join(decoder.feed(wire[start:end]))
            rest = decoder.rest
    except BrokenChunks:
        return None
    return (content, rest) if decoder.is_complete else None


def decode_with_gunicorn(wire: bytes) -> tuple[bytes, bytes] | None:
    unreader = IterUnreader([wire])
    request = SimpleNamespace(parse_headers=lambda data, from_trailer: [])
    try:
        content = Body(ChunkedReader(request, unreader)).read()
    except (ParseException, NoMoreData, LimitRequestHeaders):
        return None
    return content, unreader.take_buffered()


def encode(pieces: list[bytes], extension: bytes = b"", trailers: bytes = b"") -> bytes:
    chunks = b"".join(b"%x%s\r\n%s\r\n" % (len(piece), extension, piece) for piece in pieces if piece)
    return chunks + b"0\r\n" + trailers + b"\r\n"


@given(
    pieces=st.lists(st.binary(max_size=50), max_size=8),
    extension=st.sampled_from([b"", b";a", b" ; a=b", b';a="x;y"']),
    trailers=st.sampled_from([b"", b"X-Sum: 1\r\n", b"A: b\r\nC: d\r\n"]),
    cuts=st.lists(st.integers(0, 1000), max_size=10),
)
def test_any_cut_of_the_bytes_gives_the_same_content(
    pieces: list[bytes], extension: bytes, trailers: bytes, cuts: list[int]
) -> None:
    wire = encode(pieces, extension, trailers) + FOLLOWING

    assert decode(wire, cuts) == (b"".join(pieces), FOLLOWING)


FRAGMENTS = [
    b"0",
    b"1",
    b"a",
    b"5",
    b"\r\n",
    b"\r",
    b"\n",
    b";",
    b" ",
    b"x",
    b"-1",
    b"+1",
    b"0x1",
    b":",
    b"a: b",
    b'"',
    b"=",
]


@given(
    wire=st.lists(st.sampled_from(FRAGMENTS), max_size=12).map(b"".join), cuts=st.lists(st.integers(0, 40), max_size=4)
)
def test_what_it_accepts_gunicorn_reads_in_the_same_way(wire: bytes, cuts: list[int]) -> None:
    decoded = decode(wire, cuts)

    assert decoded is None or decoded == decode_with_gunicorn(wire)


@given(pieces=st.lists(st.binary(min_size=1, max_size=20), max_size=6), cuts=st.lists(st.integers(0, 500), max_size=6))
def test_what_gunicorn_reads_it_accepts(pieces: list[bytes], cuts: list[int]) -> None:
    wire = encode(pieces)

    assert decode(wire, cuts) == decode_with_gunicorn(wire)


@pytest.mark.parametrize(
    "wire",
    [
        b"zz\r\n",
        b"\r\n",
        b"-1\r\n",
        b"0x1\r\n",
        b"1 \r\nx\r\n",
        b"1\nx\n0\n\n",
        b"1\r\nxy\r\n",
        b"1;\r\nx\r\n",
        b"1" * 17 + b"\r\n",
        b"a" * (MAX_LINE_BYTES + 3),
        b"0\r\nno trailer\r\n\r\n",
        b"0\r\nA: " + b"b" * 9000 + b"\r\n\r\n",
    ],
)
def test_broken_chunks_are_reported(wire: bytes) -> None:
    with pytest.raises(BrokenChunks):
        ChunkDecoder().feed(wire)


def test_a_body_of_tiny_chunks_is_refused_long_before_its_end() -> None:
    decoder = ChunkDecoder()

    with pytest.raises(BrokenChunks, match="too small"):
        for _ in range(MAX_FRAMING_BYTES):
            decoder.feed(b"1\r\nx\r\n")


def test_chunks_that_are_too_small_are_refused_before_all_are_decoded() -> None:
    decoder = ChunkDecoder()
    chunk = b"1\r\nx\r\n"

    with pytest.raises(BrokenChunks, match="too small"):
        decoder.feed(chunk * MAX_FRAMING_BYTES)
    assert len(decoder.rest) > len(chunk) * MAX_FRAMING_BYTES * 3 // 4
