"""The return value of every format's render()."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from shared.jobs.result import ByteRange


@dataclass(frozen=True, slots=True)
class Rendered:
    """One output file.

    content: the whole file.
    ranges: by segment id, the bytes of `content` that are that segment's own file; empty for most formats.
    """

    content: bytes
    ranges: Mapping[int, ByteRange] = field(default_factory=dict)
