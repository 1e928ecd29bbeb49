"""The file of a recut: what is kept of one image, compressed without loss, and what a recut needs of its model.

    4 bytes   magic
    4 bytes   length of the header, little endian
    header    JSON, see RecutHeader
    rest      one frame of zstd: the bytes of the class logits, then of the mask logits

The four bytes of a float32 are stored in four planes, all first bytes first.  Signs and exponents repeat, so their
plane compresses to little; the last bits of a logit are noise.
"""

import struct
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
import zstandard
from numpy.typing import NDArray
from pydantic import TypeAdapter

from worker.recut.kept import KeptLogits, RecutModel

MAGIC: Final = b"mmr1"
# What does not compress costs no time at this level, and higher ones find nothing more.
LEVEL: Final = 1
# Far above any model's; a file that says more is broken.
MAX_RAW_BYTES: Final = 2**30
_PREFIX: Final = struct.Struct("<4sI")


@dataclass(frozen=True, slots=True)
class RecutHeader:
    """model, revision: whose logits these are.  height, width: of the image, in pixels.

    shape: (Q, C + 1, h, w) of the network's output.  queries: those of which the masks are in the file.
    """

    model: str
    revision: str
    height: int
    width: int
    floor: float
    shape: tuple[int, int, int, int]
    queries: tuple[int, ...]
    names: dict[int, str]
    stuff: tuple[int, ...] | None


@dataclass(frozen=True, slots=True)
class RecutData:
    """All that a recut is made from.

    model: public id.  height, width: of the upright image in pixels.
    """

    model: str
    revision: str
    height: int
    width: int
    classes: RecutModel
    logits: KeptLogits

    def to_bytes(self) -> bytes:
        """Return the file."""
        kept = self.logits
        header = _HEADER.dump_json(self._build_header())
        raw = np.concatenate([kept.class_logits.ravel(), kept.mask_logits.ravel()])
        # The compressor is not thread-safe, and making one takes microseconds.
        content = zstandard.ZstdCompressor(level=LEVEL).compress(_split_bytes(raw).data)
        return _PREFIX.pack(MAGIC, len(header)) + header + content

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        """Read a file.

        Raises:
            ValueError: it is none of this version, or broken.
        """
        header, frame = _read_header(content)
        queries, classes, rows, columns = header.shape
        class_count, mask_count = queries * classes, len(header.queries) * rows * columns
        raw = _join_bytes(_decompress(frame, 4 * (class_count + mask_count)))
        kept = KeptLogits(
            header.floor,
            raw[:class_count].reshape(queries, classes),
            np.array(header.queries, np.int64),
            raw[class_count:].reshape(len(header.queries), rows, columns),
        )
        stuff = None if header.stuff is None else frozenset(header.stuff)
        model = RecutModel(header.names, stuff)
        return cls(header.model, header.revision, header.height, header.width, model, kept)

    def _build_header(self) -> RecutHeader:
        kept, stuff = self.logits, self.classes.stuff
        rows, columns = kept.mask_logits.shape[-2:]
        return RecutHeader(
            self.model,
            self.revision,
            self.height,
            self.width,
            kept.floor,
            (*kept.class_logits.shape, rows, columns),
            tuple(kept.queries.tolist()),
            dict(self.classes.names),
            None if stuff is None else tuple(sorted(stuff)),
        )


_HEADER: Final = TypeAdapter(RecutHeader)


def _read_header(content: bytes) -> tuple[RecutHeader, memoryview]:
    if len(content) < _PREFIX.size:
        raise ValueError("The file of a recut is cut off")
    magic, length = _PREFIX.unpack_from(content)
    if magic != MAGIC:
        raise ValueError("The file is not one of a recut, or of another version")
    end = _PREFIX.size + length
    header = _HEADER.validate_json(content[_PREFIX.size : end])
    _check_header(header)
    return header, memoryview(content)[end:]


def _check_header(header: RecutHeader) -> None:
    queries, _, _, _ = header.shape
    is_sorted = all(low < high for low, high in zip(header.queries, header.queries[1:], strict=False))
    is_inside = all(0 <= query < queries for query in header.queries)
    if min(header.shape) <= 0 or min(header.height, header.width) <= 0 or not (is_sorted and is_inside):
        raise ValueError("The header of a recut contradicts itself")


def _decompress(frame: memoryview, nbytes: int) -> bytes:
    if nbytes > MAX_RAW_BYTES:
        raise ValueError("The file of a recut claims to be larger than any")
    try:
        parameters = zstandard.get_frame_parameters(frame)
        if parameters.content_size != nbytes:
            raise ValueError("The logits of a recut have another size than its header says")
        return zstandard.ZstdDecompressor().decompress(frame, max_output_size=nbytes)
    except zstandard.ZstdError as error:
        raise ValueError(f"The logits of a recut cannot be read: {error}") from error


def _split_bytes(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return the bytes of (n,) values in four planes, (4, n)."""
    return np.ascontiguousarray(values.astype("<f4", copy=False).view(np.uint8).reshape(-1, 4).T)


def _join_bytes(content: bytes) -> NDArray[np.float32]:
    """Return (n,) values from their bytes in four planes; a copy."""
    planes = np.frombuffer(content, np.uint8).reshape(4, -1)
    return np.ascontiguousarray(planes.T).view("<f4").ravel().astype(np.float32, copy=False)
