"""The call of a recut: what the gateway asks of the renderer, and what it is answered."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Self

from pydantic import JsonValue, TypeAdapter

from shared.jobs.model import Failure, JobRequest
from shared.jobs.parameters import SegmentParameters
from shared.jobs.result import Segment


@dataclass(frozen=True, slots=True)
class RecutArguments:
    """What a recut is to be.

    formats: names from shared/formats/registry.py, in its order.
    max_side: the longest side of the label map of a preview, in pixels; None: that of the image.
    request: of the job as which the recut is stored; None: nothing is stored.
    """

    parameters: SegmentParameters
    formats: tuple[str, ...]
    max_side: int | None = None
    request: JobRequest | None = None

    def to_wire(self) -> dict[str, JsonValue]:
        return _ARGUMENTS.dump_python(self, mode="json")  # type: ignore[no-any-return]

    @classmethod
    def from_wire(cls, wire: Mapping[str, JsonValue]) -> Self:
        """Read the arguments of a call; members that a newer gateway added are ignored.

        Raises:
            ValueError: they are not those of a recut.
        """
        return _ARGUMENTS.validate_python(dict(wire))  # type: ignore[return-value]


@dataclass(frozen=True, slots=True)
class InlineFile:
    """A file inside the answer: one of the two is set.

    text: of a file in UTF-8.  base64: of any other.
    """

    media_type: str
    text: str | None = None
    base64: str | None = None


@dataclass(frozen=True, slots=True)
class RecutDocument:
    """What a renderer answers.

    width, height: of the label map, in pixels.
    files: by the name of their format, the label map among them.
    timings_ms: milliseconds by stage.
    omitted: formats that cannot hold this result, by name, and why.
    """

    model: str
    model_revision: str
    width: int
    height: int
    segments: tuple[Segment, ...]
    files: dict[str, InlineFile]
    timings_ms: dict[str, float]
    omitted: dict[str, Failure] = field(default_factory=dict)

    def to_json(self) -> bytes:
        return _DOCUMENT.dump_json(self)

    @classmethod
    def from_json(cls, content: bytes) -> Self:
        return _DOCUMENT.validate_json(content)  # type: ignore[return-value]


_ARGUMENTS: Final = TypeAdapter(RecutArguments)
_DOCUMENT: Final = TypeAdapter(RecutDocument)
