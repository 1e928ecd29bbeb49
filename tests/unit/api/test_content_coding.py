"""Decompression of request bodies: every form of encoders, and hostile ones within the limits."""

import gzip
import tracemalloc
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.http.content_coding import CHUNK_BYTES, DEFLATE, GZIP, MAX_CPU_SECONDS, decompress, parse_coding
from shared.errors import BodyTooLarge, ClientError, UnreadableBody, UnsupportedCoding, UploadsFull
from tests.support.compressed import build_empty_blocks, build_members, deflate_bare
from tests.support.cpu_time import measure_cpu_seconds

MAX_BYTES = 4 << 20


def unpack(body: bytes, coding: str = GZIP, *, max_bytes: int = MAX_BYTES) -> bytes:
    return decompress(body, coding, max_bytes=max_bytes, reserve=lambda _: True)


@pytest.mark.parametrize(
    ("header", "coding"),
    [
        *[("", "identity"), ("identity", "identity"), (" , ", "identity")],
        *[("gzip", GZIP), (" GZip ", GZIP), ("x-gzip", GZIP), ("identity, gzip", GZIP), ("deflate", DEFLATE)],
    ],
)
def test_a_header_names_a_coding(header: str, coding: str) -> None:
    assert parse_coding(header) == coding


@pytest.mark.parametrize(
    "header", ["br", "zstd", "compress", "utf-8", "base64", "gzip, gzip", "gzip, br", "aws-chunked"]
)
def test_other_codings_and_stacked_ones_are_refused_with_those_that_are_accepted(header: str) -> None:
    with pytest.raises(UnsupportedCoding) as caught:
        parse_coding(header)

    assert caught.value.headers() == {"Accept-Encoding": "gzip, deflate, identity"}


ENCODERS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": (GZIP, gzip.compress),
    "gzip, stored": (GZIP, lambda content: gzip.compress(content, 0)),
    "gzip of members": (GZIP, lambda content: gzip.compress(content[:99]) + gzip.compress(content[99:])),
    "deflate": (DEFLATE, zlib.compress),
    "deflate of a small window": (DEFLATE, lambda content: zlib.compress(content, 9, 9)),
    "deflate without its header": (DEFLATE, deflate_bare),
}


@pytest.mark.parametrize("name", ENCODERS)
@given(unit=st.binary(max_size=300), count=st.sampled_from([1, 3, 5000]))
def test_what_encoders_make_is_read(name: str, unit: bytes, count: int) -> None:
    coding, encode = ENCODERS[name]

    assert unpack(encode(unit * count), coding) == unit * count


@pytest.mark.parametrize("nbytes", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES])
def test_content_that_ends_with_a_chunk_is_whole(nbytes: int) -> None:
    assert unpack(gzip.compress(bytes(nbytes))) == bytes(nbytes)


def test_what_zlib_holds_back_at_the_end_of_the_input_is_read() -> None:
    # Nothing follows the last block of a bare stream, so its last match can be read before there is room for it.
    for nbytes in range(CHUNK_BYTES + 20, CHUNK_BYTES + 60):
        assert unpack(deflate_bare(bytes(nbytes)), DEFLATE) == bytes(nbytes)


@given(body=st.binary(max_size=200), coding=st.sampled_from([GZIP, DEFLATE]), has_signature=st.booleans())
def test_any_bytes_are_read_or_refused_with_a_sentence(body: bytes, coding: str, has_signature: bool) -> None:
    try:
        unpack((b"\x1f\x8b\x08\x00" if has_signature else b"") + body, coding)
    except ClientError as error:
        assert str(error)


PACKED = gzip.compress(b"an image" * 500)
BROKEN: dict[str, tuple[bytes, str, str]] = {
    "not compressed": (b"\xff\xd8\xff", GZIP, "the body is not compressed with it"),
    "not deflate": (b"\xff\xd8\xff", DEFLATE, "damaged"),
    "cut short": (PACKED[:-9], GZIP, "stops before its end"),
    "cut in its checksum": (PACKED[:-1], GZIP, "stops before its end"),
    "only a header": (PACKED[:10], GZIP, "stops before its end"),
    "a wrong checksum": (PACKED[:-8] + bytes(8), GZIP, "damaged"),
    "garbage behind it": (PACKED + b"garbage", GZIP, "Bytes follow"),
    "zeros behind it": (PACKED + bytes(8), GZIP, "Bytes follow"),
    "garbage behind deflate": (zlib.compress(b"an image") + b"x", DEFLATE, "Bytes follow"),
    "half a member behind it": (PACKED + PACKED[:30], GZIP, "stops before its end"),
    "too many members": (build_members(1001), GZIP, "more than 1000 gzip members"),
}


@pytest.mark.parametrize(("body", "coding", "message"), BROKEN.values(), ids=BROKEN)
def test_a_broken_body_is_refused_by_name(body: bytes, coding: str, message: str) -> None:
    with pytest.raises(UnreadableBody, match=message):
        unpack(body, coding)


@pytest.mark.parametrize("coding", [GZIP, DEFLATE])
def test_a_bomb_takes_no_more_memory_than_the_limit(coding: str) -> None:
    bomb = gzip.compress(bytes(64 << 20)) if coding == GZIP else zlib.compress(bytes(64 << 20))
    tracemalloc.start()

    with pytest.raises(BodyTooLarge, match=f"{MAX_BYTES} bytes"):
        unpack(bomb, coding)

    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.5 * MAX_BYTES + 4 * CHUNK_BYTES


def test_a_body_of_the_limit_is_accepted() -> None:
    assert len(unpack(gzip.compress(bytes(MAX_BYTES)))) == MAX_BYTES
    with pytest.raises(BodyTooLarge):
        unpack(gzip.compress(bytes(MAX_BYTES + 1)))


def test_blocks_without_content_are_refused_for_their_time() -> None:
    body = build_empty_blocks(32 << 20)

    def refuse() -> None:
        with pytest.raises(UnreadableBody, match="more time to decompress"):
            unpack(body, DEFLATE)

    assert measure_cpu_seconds(refuse) < MAX_CPU_SECONDS + 0.2


def test_room_is_reserved_before_content_is_kept() -> None:
    asked: list[int] = []

    def reserve(nbytes: int) -> bool:
        asked.append(nbytes)
        return sum(asked) <= 2 * CHUNK_BYTES

    with pytest.raises(UploadsFull):
        decompress(gzip.compress(bytes(MAX_BYTES)), GZIP, max_bytes=MAX_BYTES, reserve=reserve)

    assert max(asked) <= CHUNK_BYTES
    assert sum(asked) <= 3 * CHUNK_BYTES
