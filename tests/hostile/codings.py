"""Hostile bodies in a content coding: bombs, broken streams, and codings that are not accepted."""

import base64
import gzip
import zlib
from collections.abc import Callable, Sequence
from functools import cache

from tests.hostile.inputs import JOBS, HostileInput
from tests.support.compressed import build_empty_blocks, build_members, deflate_bare
from tests.support.images import cat, jpeg

_MANY_MEGABYTES = 1 << 30  # decompressed; compressed it is 1 MB


def send_coded(name: str, status: int, coding: str, build: Callable[[], bytes]) -> HostileInput:
    return HostileInput(name, frozenset({status}), target=JOBS, headers={"Content-Encoding": coding}, body=build)


@cache
def image() -> bytes:
    return jpeg(cat())


@cache
def build_bomb(window_bits: int) -> bytes:
    encoder = zlib.compressobj(wbits=window_bits)
    piece = bytes(1 << 20)
    return b"".join([encoder.compress(piece) for _ in range(_MANY_MEGABYTES // len(piece))] + [encoder.flush()])


def wrap_many_inputs() -> bytes:
    return gzip.compress(b'{"inputs":"' + base64.b64encode(image()) + b'","a":[' + b"[]," * 10_000_000 + b"0]}")


INPUTS: Sequence[HostileInput] = (
    send_coded("gzip of a gigabyte", 413, "gzip", lambda: build_bomb(zlib.MAX_WBITS + 16)),
    send_coded("deflate of a gigabyte", 413, "deflate", lambda: build_bomb(zlib.MAX_WBITS)),
    send_coded("deflate of a gigabyte, bare", 413, "deflate", lambda: build_bomb(-zlib.MAX_WBITS)),
    send_coded("gzip of members of 32 MB", 413, "gzip", lambda: gzip.compress(bytes(32 << 20)) * 500),
    send_coded("gzip of a byte more than 32 MB", 413, "gzip", lambda: gzip.compress(bytes((32 << 20) + 1))),
    send_coded("gzip of 32 MB of zeros", 400, "gzip", lambda: gzip.compress(bytes(32 << 20))),
    send_coded("gzip of JSON of millions of lists", 400, "gzip", wrap_many_inputs),
    send_coded("gzip of a million members", 400, "gzip", lambda: build_members(1_000_000)),
    send_coded("deflate of blocks without content", 400, "deflate", lambda: build_empty_blocks(32 << 20)),
    send_coded("gzip in gzip", 400, "gzip", lambda: gzip.compress(gzip.compress(image()))),
    send_coded("two codings", 415, "gzip, gzip", lambda: gzip.compress(gzip.compress(image()))),
    send_coded("a thousand codings", 415, ", ".join(["gzip"] * 1000), image),
    send_coded("brotli", 415, "br", lambda: b"\x0b\x02\x80hello\x03"),
    send_coded("zstd", 415, "zstd", lambda: b"\x28\xb5\x2f\xfd\x04\x00"),
    send_coded("a coding of 4,000 letters", 415, "g" * 4000, image),
    send_coded("an image that is not compressed", 400, "gzip", image),
    send_coded("an image that is not compressed, deflate", 400, "deflate", image),
    send_coded("gzip that ends early", 400, "gzip", lambda: gzip.compress(image())[:-100]),
    send_coded("gzip with a wrong checksum", 400, "gzip", lambda: gzip.compress(image())[:-8] + bytes(8)),
    send_coded("gzip with an image behind it", 400, "gzip", lambda: gzip.compress(image()) + image()),
    send_coded("gzip with a header without an end", 400, "gzip", lambda: b"\x1f\x8b\x08\x08" + b"a" * (8 << 20)),
    send_coded("gzip of nothing", 400, "gzip", lambda: gzip.compress(b"")),
    send_coded("nothing", 400, "gzip", lambda: b""),
    send_coded(
        "gzip of members of an image", 202, "gzip", lambda: gzip.compress(image()[:99]) + gzip.compress(image()[99:])
    ),
    send_coded("deflate of an image, bare", 202, "deflate", lambda: deflate_bare(image())),
    send_coded("codings that change nothing", 202, "identity, , identity", image),
)
