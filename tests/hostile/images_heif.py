"""Hostile HEICs and AVIFs."""

import struct
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache

from tests.hostile.inputs import HostileInput, send_image
from tests.support import heif
from tests.support.heif import (
    KINDS,
    Item,
    box,
    build_heif,
    crowded_grid,
    encode_item,
    full_box,
    grid,
    grid_item,
    save,
    set_size,
)
from tests.support.images import coffee


@cache
def photo(kind: str = "HEIF") -> Item:
    return encode_item(coffee().resize((150, 100)), kind)


@cache
def tile(kind: str = "HEIF") -> Item:
    return encode_item(coffee().resize((64, 64)), kind)


@cache
def whole() -> bytes:
    return build_heif(grid(coffee().resize((150, 100)), "HEIF"))


def cut_at(kind: bytes) -> Callable[[], bytes]:
    """Return a file that stops within a box."""
    return lambda: whole()[: whole().index(kind) + 6]


def replace_size(kind: bytes, size: int) -> Callable[[], bytes]:
    """Return a file whose box has another length."""

    def build() -> bytes:
        place = whole().index(kind) - 4
        return whole()[:place] + struct.pack(">I", size) + whole()[place + 4 :]

    return build


def damage(kind: str) -> bytes:
    item = photo(kind)
    return build_heif([replace(item, data=item.data[:200] + bytes(500) + item.data[700:])])


def loop(*targets: int) -> bytes:
    return build_heif([replace(grid_item(1, 1, (64, 64)), references=((b"dimg", (one,)),)) for one in targets])


def crowd(count: int) -> bytes:
    return build_heif([*[replace(tile(), data=b"a")] * count, tile()])


BOXES = (
    b"ftyp",
    b"meta",
    b"hdlr",
    b"pitm",
    b"iloc",
    b"iinf",
    b"infe",
    b"iref",
    b"iprp",
    b"ipco",
    b"hvcC",
    b"ispe",
    b"ipma",
    b"mdat",
)

INPUTS: Sequence[HostileInput] = (
    *(send_image(f"stopped in the box {kind.decode()}", 400, cut_at(kind)) for kind in BOXES),
    *(send_image(f"a box {kind.decode()} of 2 GB", 400, replace_size(kind, 2**31)) for kind in BOXES[1:-1]),
    *(send_image(f"a box {kind.decode()} of 3 bytes", 400, replace_size(kind, 3)) for kind in BOXES[1:-1]),
    *(send_image(f"the half of a file, {kind}", 400, lambda kind=kind: half(kind)) for kind in KINDS),
    *(send_image(f"damaged pixels, {kind}", 400, lambda kind=kind: damage(kind), 200) for kind in KINDS),
    *(
        send_image(f"no pixels, {kind}", 400, lambda kind=kind: build_heif([replace(tile(kind), data=b"a")]))
        for kind in KINDS
    ),
    *(
        send_image(
            f"4 gigapixels of nothing, {kind}",
            413,
            lambda kind=kind: build_heif([set_size(tile(kind), 65_000, 65_000)]),
        )
        for kind in KINDS
    ),
    *(
        send_image(
            f"64 megapixels of nothing, {kind}",
            400,
            lambda kind=kind: build_heif([set_size(tile(kind), 8000, 8000)]),
            200,
            413,
        )
        for kind in KINDS
    ),
    *(
        send_image(
            f"fewer pixels than are coded, {kind}",
            400,
            lambda kind=kind: build_heif([set_size(photo(kind), 8, 8)]),
            200,
        )
        for kind in KINDS
    ),
    send_image("a grid of 65,535 x 65,535", 400, lambda: build_heif([tile(), grid_item(1, 1, (65_535, 65_535))])),
    send_image("a grid of 4 billion columns", 400, lambda: build_heif([tile(), grid_item(1, 1, (2**32 - 1, 64))])),
    send_image(
        "a grid of 256 x 256 tiles that are not there",
        400,
        lambda: build_heif([tile(), replace(grid_item(1, 1, (64, 64)), data=b"\0\0\xff\xff\0\x40\0\x40")]),
    ),
    send_image("a grid of itself", 400, lambda: loop(1)),
    send_image("grids of each other", 400, lambda: loop(2, 1)),
    send_image("5,000 items", 422, lambda: crowd(5000)),
    send_image("1,000 items", 200, lambda: crowd(1000)),
    send_image("3,600 tiles that are one", 422, lambda: crowded_grid(tile(), is_shared=True)),
    send_image(
        "3,600 tiles that are one, of 1,000 parts and 64 properties",
        422,
        lambda: crowded_grid(tile(), is_shared=True, parts=1000, properties=64),
    ),
    send_image("3,600 tiles of 1,000 parts", 422, lambda: crowded_grid(tile(), parts=1000)),
    send_image("3,600 tiles of 64 properties", 422, lambda: crowded_grid(tile(), properties=64)),
    send_image("3,600 tiles of a byte", 400, lambda: crowded_grid(tile())),
    send_image("200 properties", 422, lambda: build_heif([tile().add(*[box(b"pasp", bytes(8))] * 200)])),
    send_image("thousands of boxes", 422, lambda: build_heif([tile()], before=box(b"free") * 100_000)),
    send_image("a million boxes", 422, lambda: build_heif([tile()], before=box(b"free") * 1_000_000)),
    send_image("a codec that is not supported", 400, lambda: build_heif([replace(tile(), kind=b"vvc1")])),
    send_image("a codec that is another", 400, lambda: build_heif([replace(tile(), kind=b"av01")])),
    send_image("an overlay", 400, lambda: build_heif([tile(), replace(grid_item(1, 1, (64, 64)), kind=b"iovl")])),
    send_image("a film", 400, lambda: box(b"ftyp", b"isom", bytes(4), b"mp42") + box(b"moov", bytes(9))),
    send_image("a sequence alone", 400, lambda: box(b"ftyp", b"msf1", bytes(4), b"hevc") + box(b"moov", bytes(9))),
    send_image("a crop of nothing", 400, lambda: build_heif([tile().add(heif.crop_box(0, 0))])),
    send_image("a crop by 0", 400, lambda: build_heif([tile().add(box(heif.CROP, bytes(32)))])),
    send_image("a property that must be known", 400, lambda: build_heif([tile().add(full_box(b"abcd"))])),
    send_image("megabytes behind its end", 200, lambda: build_heif([tile()]) + bytes(4_000_000)),
)


def half(kind: str) -> bytes:
    data = save(coffee(), kind)
    return data[: len(data) // 2]
