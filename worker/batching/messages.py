"""The messages between a host process and its engine process; pixels and label maps are in shared memory.

Both sides are started from the same code, so the messages have no versions.  They are JSON and not pickled objects: a
host handles files of strangers, and unpickling what it sends could run code in the engine.
"""

from dataclasses import field
from typing import Annotated, Literal

from pydantic import Discriminator, TypeAdapter
from pydantic.dataclasses import dataclass

from shared.jobs.model import JobState, Priority
from shared.jobs.parameters import SegmentParameters
from shared.jobs.provenance import Execution
from shared.jobs.result import Segment
from worker.recut.kept import KeepRule, RecutModel
from worker.segmenter import Resize


@dataclass(frozen=True, slots=True)
class ModelLoaded:
    """Engine to host, once: the model is ready."""

    model: str
    revision: str
    device: str
    resize: Resize | None
    can_scale_decode: bool = False
    recut_model: RecutModel | None = None
    execution: Execution = field(default_factory=Execution)
    kind: Literal["model_loaded"] = "model_loaded"


@dataclass(frozen=True, slots=True)
class Announce:
    """Host to engine: the number of images that are being fetched or decoded changed by `count`."""

    count: int
    kind: Literal["announce"] = "announce"


@dataclass(frozen=True, slots=True)
class Submit:
    """Host to engine: segment an image.  The engine replies once, with Segmented or Failed.

    offset: of the pixels in the pool; the label map is written behind them, at `label_map_offset`.
    mark_offset: of a byte that is 1 while the engine works on the image, and 0 while it waits; in memory, so that it
        can be read when the engine has ended.
    rows, columns: of the pixels, which are (rows, columns, 3) uint8.
    height, width: of the upright image and of its label map.
    deadline: by the clock of time.monotonic(), which all processes of a machine share.
    is_alone: whether it gets a batch of its own.
    keep: which logits are wanted; they are written at `kept_offset`, where memory for `keep.max_bytes` is free.
    """

    id: int
    offset: int
    rows: int
    columns: int
    mark_offset: int
    label_map_offset: int
    height: int
    width: int
    parameters: SegmentParameters
    priority: Priority
    deadline: float | None
    is_alone: bool = False
    keep: KeepRule | None = None
    kept_offset: int = 0
    kind: Literal["submit"] = "submit"


@dataclass(frozen=True, slots=True)
class Cancel:
    """Host to engine: an image need not be segmented any more."""

    id: int
    kind: Literal["cancel"] = "cancel"


@dataclass(frozen=True, slots=True)
class KeptShape:
    """What the engine has written at `kept_offset`: the class logits, and behind them the mask logits; float32.

    queries, classes: shape of the class logits.  kept: the queries of which there are masks, each (rows, columns).
    floor: as in KeptLogits.
    """

    floor: float
    queries: int
    classes: int
    rows: int
    columns: int
    kept: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Segmented:
    """Engine to host: the label map is in the pool, (height, width) uint8, or uint16 if `is_wide`.

    kept: None if no logits are wanted, or if they do not fit.
    """

    id: int
    segments: tuple[Segment, ...]
    is_wide: bool
    wait_ms: float
    device_ms: float
    batch_size: int
    kept: KeptShape | None = None
    kind: Literal["segmented"] = "segmented"


@dataclass(frozen=True, slots=True)
class Failed:
    """Engine to host: the error of an image, by its code."""

    id: int
    code: str
    message: str
    kind: Literal["failed"] = "failed"


@dataclass(frozen=True, slots=True)
class Alive:
    """To either side, at a fixed interval: the sender is neither hung nor stopped."""

    kind: Literal["alive"] = "alive"


@dataclass(frozen=True, slots=True)
class ReadinessChanged:
    """Host to engine: it takes messages from the queues, or takes no more."""

    is_ready: bool
    kind: Literal["readiness_changed"] = "readiness_changed"


@dataclass(frozen=True, slots=True)
class JobCompleted:
    """Host to engine, for the metrics."""

    priority: Priority
    state: JobState
    code: str
    timings_ms: dict[str, float]
    kind: Literal["job_completed"] = "job_completed"


@dataclass(frozen=True, slots=True)
class JobDropped:
    """Host to engine, for the metrics."""

    reason: str
    kind: Literal["job_dropped"] = "job_dropped"


Message = (
    ModelLoaded | Announce | Submit | Cancel | Segmented | Failed | Alive | ReadinessChanged | JobCompleted | JobDropped
)

_MESSAGE: TypeAdapter[Message] = TypeAdapter(Annotated[Message, Discriminator("kind")])


def encode(message: Message) -> bytes:
    return _MESSAGE.dump_json(message)


def decode(data: bytes) -> Message:
    """Return a message.

    Raises:
        ValueError: the bytes are not one.
    """
    return _MESSAGE.validate_json(data)
