"""Jobs for tests: requests with everything filled in, and a segmenter that cuts a photo into halves at once."""

import io
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

import numpy as np
from PIL import Image

from shared.errors import MaskmillError
from shared.jobs.ids import new_job_id
from shared.jobs.model import ImageFacts, JobRequest, Priority
from shared.jobs.parameters import SegmentParameters
from shared.jobs.result import Segment
from worker.batching.scheduler import Ticket
from worker.segmenter import Prepared, Segmentation

MODEL = "maskmill/embedded"


def request(**changes: object) -> JobRequest:
    """Return the request of a new job for an image of 6 x 4 pixels."""
    image = png()
    plain = JobRequest(
        id=new_job_id(),
        tenant="public",
        model=MODEL,
        parameters=SegmentParameters(),
        image=ImageFacts("PNG", 6, 4, len(image), "00" * 32),
        priority=Priority.NORMAL,
        created_at=time.time(),
        request_id="test",
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def png(width: int = 6, height: int = 4) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), "teal").save(buffer, "PNG")
    return buffer.getvalue()


class FakeSegmenter:
    """A segmenter without a model: the left half is a cat, the right half a dog."""

    model = MODEL
    revision = "halves"
    device = "cpu"

    def prepare(self, image: Image.Image, parameters: SegmentParameters) -> Prepared:
        return Prepared(None, image.height, image.width, parameters)

    def segment(self, batch: Sequence[Prepared]) -> list[Segmentation | MaskmillError]:
        return [halves(prepared.width, prepared.height) for prepared in batch]

    def warm_up(self) -> None:
        pass


def halves(width: int, height: int) -> Segmentation:
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


class ImmediateScheduler:
    """Batches of one, segmented by the thread that submits them."""

    def __init__(self, segmenter: FakeSegmenter) -> None:
        self._segmenter = segmenter

    def announce(self) -> AbstractContextManager[None]:
        return nullcontext()

    def submit(self, prepared: Prepared, **_: object) -> Ticket:
        future = Ticket()
        (outcome,) = self._segmenter.segment([prepared])
        if isinstance(outcome, MaskmillError):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)
        return future
