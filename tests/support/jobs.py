"""Jobs for tests: complete requests, and a fake segmenter that divides an image into two halves."""

import io
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
from PIL import Image
from uuid_utils import uuid7

from shared.errors import MaskmillError
from shared.jobs import request_record
from shared.jobs.model import ImageFacts, InboxInput, JobRequest, PayloadInput, Priority, Retention
from shared.jobs.parameters import SegmentParameters
from shared.jobs.result import Segment
from shared.storage.bucket import Bucket
from shared.worker_registry import ModelFacts
from worker.batching.scheduler import Ticket
from worker.recut.kept import RecutModel
from worker.segmenter import ForwardPass, ModelImage, Prepared, Resize, Segmentation

MODEL = "maskmill/embedded"


def build_request(**changes: object) -> JobRequest:
    """Return the request of a new job for an image of 6 x 4 pixels, with some fields changed."""
    image = png()
    default = JobRequest(
        id=uuid7().hex,
        tenant="public",
        model=MODEL,
        parameters=SegmentParameters(),
        image=ImageFacts("PNG", 6, 4, len(image), "00" * 32),
        input=InboxInput(),
        priority=Priority.NORMAL,
        formats=("labels", "overlay", "masks"),
        retention=Retention(record_seconds=3600),
        created_at=time.time(),
        request_id="test",
    )
    return replace(default, **changes)  # type: ignore[arg-type]


def build_sync_request(**changes: object) -> JobRequest:
    """Return the request of a new synchronous job."""
    defaults: dict[str, object] = {
        "input": PayloadInput(),
        "priority": Priority.INTERACTIVE,
        "formats": ("labels", "masks"),
        "retention": Retention(record_seconds=3600, is_listed=False),
        "wants_reply": True,
    }
    return build_request(**{**defaults, **changes})


def store_input(bucket: Bucket, request: JobRequest, image: bytes | None = None) -> None:
    """Store the input of a job as the gateway does; by default it is the image of build_request()."""
    request_record.store_input(request, png() if image is None else image, bucket=bucket)


def png(width: int = 6, height: int = 4) -> bytes:
    """Return a PNG of one color."""
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), "teal").save(buffer, "PNG")
    return buffer.getvalue()


class FakeSegmenter:
    """A segmenter without a model: the left half is a cat, the right half a dog."""

    model = MODEL
    revision = "halves"
    device = "cpu"
    resize: Resize | None = Resize(8, 8, Image.Resampling.BILINEAR)
    forward_pass = ForwardPass()
    facts = ModelFacts()
    recut_model: RecutModel | None = None

    def prepare(self, image: ModelImage) -> Prepared:
        return Prepared(None, image.height, image.width, image.parameters)

    def segment(self, batch: Sequence[Prepared]) -> list[Segmentation | MaskmillError]:
        return [segment_halves(prepared.width, prepared.height) for prepared in batch]

    def warm_up(self) -> None:
        pass


def segment_halves(width: int, height: int) -> Segmentation:
    """Return two segments: the left half is a cat, the right half a dog."""
    label_map = np.ones((height, width), dtype=np.uint8)
    label_map[:, width // 2 :] = 2
    left, right = width // 2, width - width // 2
    return Segmentation(
        label_map,
        (
            Segment(1, "cat", 15, 0.98, left * height, (0, 0, left, height)),
            Segment(2, "dog", 16, 0.95, right * height, (left, 0, right, height)),
        ),
    )


def segment_checkers(width: int, height: int) -> Segmentation:
    """Return two segments whose pixels take turns: each point between pixels is a corner of both."""
    label_map = (np.indices((height, width)).sum(axis=0) % 2 + 1).astype(np.uint8)
    area, box = int((label_map == 1).sum()), (0, 0, width, height)
    segments = Segment(1, "sky", 0, 0.95, area, box), Segment(2, "cat", 1, 0.95, width * height - area, box)
    return Segmentation(label_map, segments)


class ImmediateScheduler:
    """A batch scheduler whose batches hold one image and run on the submitting thread."""

    def __init__(self, segmenter: FakeSegmenter) -> None:
        self._segmenter = segmenter

    def announce(self) -> AbstractContextManager[None]:
        return nullcontext()

    def submit(
        self, image: ModelImage, *, priority: Priority, deadline: float | None, is_alone: bool = False
    ) -> Ticket:
        future = Ticket()
        (outcome,) = self._segmenter.segment([self._segmenter.prepare(image)])
        if isinstance(outcome, MaskmillError):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)
        return future


def drop_place(view: Any) -> dict[str, Any]:
    """Return the JSON of a job without its place in line, which is not shown at once."""
    return {name: value for name, value in view.items() if name not in ("queue_position", "eta")}
