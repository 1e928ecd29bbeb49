"""Images that cross from a host to an engine through shared memory; both sides run here on threads of one process."""

import os
import socket
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from shared.errors import (
    BadParameter,
    EngineFailed,
    EngineLost,
    ImageTooLarge,
    MaskmillError,
    ModelNotReady,
    SharedMemoryFull,
)
from shared.jobs.model import JobState, Priority
from shared.jobs.parameters import SegmentParameters, Subtask
from shared.jobs.result import Segment
from tests.support.polling import wait_until
from worker.batching.channel import Channel, ChannelClosed, open_channel
from worker.batching.local import LocalBatches
from worker.batching.messages import (
    Alive,
    Failed,
    JobCompleted,
    JobDropped,
    Message,
    ModelLoaded,
    ReadinessChanged,
    Submit,
)
from worker.batching.policy import BatchLimits
from worker.batching.remote import RemoteBatches, RemoteObserver, wait_for_model
from worker.batching.scheduler import BatchScheduler, Ticket
from worker.batching.service import HostConnection
from worker.recut.kept import KeepRule, KeptLogits
from worker.segmenter import ModelImage, Prepared, Resize, Segmentation
from worker.slabs import Slab, SlabAllocator, SlabPool

TIMEOUT_SECONDS = 10.0
POOL_BYTES = 2**22
MODEL = ModelLoaded("test/sums", "1", "cpu", Resize(4, 2, 2))


@dataclass
class SummingSegmenter:
    """Returns a label map that is filled with the sum of an image's pixels; `segment` blocks until `gate` is set."""

    model: str = MODEL.model
    revision: str = MODEL.revision
    device: str = MODEL.device
    resize: Resize | None = MODEL.resize
    gate: threading.Event = field(default_factory=threading.Event)
    entered: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    segmented: list[int] = field(default_factory=list)

    def prepare(self, image: ModelImage) -> Prepared:
        if image.parameters.subtask is Subtask.SEMANTIC:
            raise BadParameter("no such subtask")
        return Prepared(image.pixels, image.height, image.width, image.parameters, image.keep)

    def segment(self, batch: list[Prepared]) -> list[Segmentation | MaskmillError]:
        self.entered.release()
        assert self.gate.wait(TIMEOUT_SECONDS), "the test did not set the gate"
        return [self._segment_one(prepared) for prepared in batch]

    def _segment_one(self, prepared: Prepared) -> Segmentation | MaskmillError:
        total = int(prepared.pixels.sum())
        self.segmented.append(total)
        if total == 0:
            return EngineFailed("nothing to see")
        dtype = np.uint16 if total > 255 else np.uint8
        label_map = np.full((prepared.height, prepared.width), total, dtype)
        area = prepared.height * prepared.width
        segment = Segment(1, "sum", 7, None, area, (0, 0, prepared.width, prepared.height))
        return Segmentation(label_map, (segment,), keep_logits(total) if prepared.keep else None)

    def warm_up(self) -> None:
        pass


@dataclass
class Pair:
    """A host and an engine that are connected."""

    segmenter: SummingSegmenter
    scheduler: BatchScheduler
    engine: threading.Thread
    channel: Channel
    allocator: SlabAllocator
    batches: RemoteBatches
    messages: list[Message]
    lost: list[str]

    def submit(
        self,
        pixels: NDArray[np.uint8] | None = None,
        *,
        is_alone: bool = False,
        keep: KeepRule | None = None,
        **changes: Any,
    ) -> Any:
        image = ModelImage(build_pixels(1) if pixels is None else pixels, 3, 5, SegmentParameters(**changes), keep)
        return self.batches.submit(image, priority=Priority.NORMAL, deadline=None, is_alone=is_alone)


def keep_logits(value: int) -> KeptLogits:
    """Return logits of 3 queries and 2 classes, of which masks of 2 x 4 are kept for queries 0 and 2: 100 bytes."""
    classes = np.arange(9, dtype=np.float32).reshape(3, 3) + value
    return KeptLogits(0.05, classes, np.array([0, 2]), np.arange(16, dtype=np.float32).reshape(2, 2, 4) - value)


def build_pixels(value: int) -> NDArray[np.uint8]:
    """Return (2, 4, 3) uint8 pixels whose sum is `value`, at most 255."""
    pixels = np.zeros((2, 4, 3), np.uint8)
    pixels[0, 0, 0] = value
    return pixels


def receive(batches: RemoteBatches) -> None:
    with suppress(ChannelClosed):
        batches.receive()


@pytest.fixture
def pair() -> Iterator[Pair]:
    segmenter = SummingSegmenter()
    scheduler = BatchScheduler(segmenter, BatchLimits(max_images=4), batch_timeout_seconds=60.0)
    scheduler.start().result(TIMEOUT_SECONDS)
    ours, theirs = open_channel()
    channel = Channel.from_fd(theirs.detach())
    pool = SlabPool.create(POOL_BYTES)
    messages: list[Message] = []
    connection = HostConnection(ours, pool, LocalBatches(segmenter, scheduler), preparing=None, handle=messages.append)
    engine = threading.Thread(target=connection.serve, args=(MODEL,))
    engine.start()
    assert wait_for_model(channel) == MODEL
    allocator = SlabAllocator(pool)
    lost: list[str] = []
    batches = RemoteBatches(
        channel,
        allocator,
        allocation_timeout_seconds=0.2,
        on_lost=lambda: lost.append("before its tickets fail" if batches._pending else "after"),
    )
    receiving = threading.Thread(target=receive, args=[batches])
    receiving.start()
    yield Pair(segmenter, scheduler, engine, channel, allocator, batches, messages, lost)
    segmenter.gate.set()
    channel.shut_down()
    for thread in (receiving, engine):
        thread.join(TIMEOUT_SECONDS)
        assert not thread.is_alive()
    assert scheduler.stop(timeout_seconds=TIMEOUT_SECONDS)
    assert allocator.allocated_bytes == 0
    pool.close()


@pytest.fixture
def host() -> Iterator[Channel]:
    """The channel of a host to an engine that is never asked for a batch."""
    ours, theirs = open_channel()
    host, pool = Channel.from_fd(theirs.detach()), SlabPool.create(POOL_BYTES)
    batches: Any = None
    engine = threading.Thread(
        target=HostConnection(ours, pool, batches, preparing=None, handle=print).serve, args=[MODEL]
    )
    engine.start()
    wait_for_model(host)
    yield host
    host.shut_down()
    engine.join(TIMEOUT_SECONDS)
    pool.close()


def test_a_label_map_and_its_segments_cross_unchanged(pair: Pair) -> None:
    pair.segmenter.gate.set()

    result = pair.submit(build_pixels(200)).result(TIMEOUT_SECONDS)

    assert result.label_map.dtype == np.uint8
    assert result.label_map.tolist() == [[200] * 5] * 3
    assert result.segments == (Segment(1, "sum", 7, None, 15, (0, 0, 5, 3)),)


def test_a_label_map_of_16_bits_crosses_unchanged(pair: Pair) -> None:
    pair.segmenter.gate.set()

    result = pair.submit(np.full((2, 4, 3), 100, np.uint8)).result(TIMEOUT_SECONDS)

    assert result.label_map.dtype == np.uint16
    assert result.label_map.tolist() == [[2400] * 5] * 3


def test_many_images_at_a_time_keep_their_own_results(pair: Pair) -> None:
    pair.segmenter.gate.set()

    tickets = [pair.submit(build_pixels(value)) for value in range(1, 101)]

    assert [int(ticket.result(TIMEOUT_SECONDS).label_map[0, 0]) for ticket in tickets] == list(range(1, 101))


def test_an_error_crosses_by_its_code(pair: Pair) -> None:
    pair.segmenter.gate.set()

    with pytest.raises(EngineFailed, match="nothing to see"):
        pair.submit(build_pixels(0)).result(TIMEOUT_SECONDS)
    with pytest.raises(BadParameter, match="no such subtask"):
        pair.submit(subtask=Subtask.SEMANTIC).result(TIMEOUT_SECONDS)


def test_the_times_on_the_device_cross(pair: Pair) -> None:
    pair.segmenter.gate.set()

    ticket = pair.submit()

    ticket.result(TIMEOUT_SECONDS)
    assert ticket.device_ms > 0


def test_a_canceled_image_leaves_the_queue_and_its_memory_is_freed(pair: Pair) -> None:
    on_device = pair.submit(build_pixels(1))
    assert pair.segmenter.entered.acquire(timeout=TIMEOUT_SECONDS)
    waiting = pair.submit(build_pixels(2))
    wait_until(lambda: pair.scheduler.queue_length == 1)
    two_images = pair.allocator.allocated_bytes

    assert waiting.cancel()

    # While the device is still busy with the other image.
    wait_until(lambda: pair.allocator.allocated_bytes < two_images)
    pair.segmenter.gate.set()
    on_device.result(TIMEOUT_SECONDS)
    with pytest.raises(CancelledError):
        waiting.result(TIMEOUT_SECONDS)
    last = pair.submit(build_pixels(3))
    last.result(TIMEOUT_SECONDS)
    assert pair.segmenter.segmented == [1, 3]


def test_the_memory_of_a_canceled_image_on_the_device_stays_until_the_engine_replies(pair: Pair) -> None:
    ticket = pair.submit()
    assert pair.segmenter.entered.acquire(timeout=TIMEOUT_SECONDS)

    ticket.cancel()

    assert pair.allocator.allocated_bytes > 0
    pair.segmenter.gate.set()
    wait_until(lambda: pair.allocator.allocated_bytes == 0)


def test_a_submission_waits_for_memory_and_fails_if_there_is_none_in_time(pair: Pair) -> None:
    half = np.zeros((POOL_BYTES // 2 // 300 + 1, 100, 3), np.uint8)
    half[0, 0, 0] = 1
    first = pair.submit(half)
    assert pair.segmenter.entered.acquire(timeout=TIMEOUT_SECONDS)

    with pytest.raises(SharedMemoryFull):
        pair.submit(half)

    pair.segmenter.gate.set()
    first.result(TIMEOUT_SECONDS)
    pair.submit(half).result(TIMEOUT_SECONDS)


def test_an_image_that_never_fits_is_too_large(pair: Pair) -> None:
    with pytest.raises(ImageTooLarge):
        pair.submit(np.ones((POOL_BYTES // 300 + 1, 100, 3), np.uint8))


def test_only_what_the_engine_worked_on_is_suspected_when_it_ends(pair: Pair) -> None:
    pair.segmenter.gate.set()
    pair.submit().result(TIMEOUT_SECONDS)  # so that the memory is used again
    pair.segmenter.gate.clear()
    assert pair.segmenter.entered.acquire(timeout=TIMEOUT_SECONDS)
    with pair.batches.announce():
        on_device = pair.submit()
        assert pair.segmenter.entered.acquire(timeout=TIMEOUT_SECONDS)
        waiting = pair.submit()
        wait_until(lambda: pair.scheduler.queue_length == 1)
        assert not pair.lost

        pair.channel.shut_down()

        errors = [type(ticket.exception(TIMEOUT_SECONDS)) for ticket in (on_device, waiting, pair.submit())]
    assert errors == [EngineLost, ModelNotReady, ModelNotReady]
    assert pair.lost == ["before its tickets fail"]
    assert pair.allocator.allocated_bytes == 0


def test_an_image_is_suspected_while_it_is_prepared(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    def prepare(_: ModelImage) -> Prepared:
        pair.segmenter.entered.release()
        assert pair.segmenter.gate.wait(TIMEOUT_SECONDS)
        raise BadParameter("no matter")

    monkeypatch.setattr(pair.segmenter, "prepare", prepare)
    ticket = pair.submit()
    assert pair.segmenter.entered.acquire(timeout=TIMEOUT_SECONDS)

    pair.channel.shut_down()

    assert isinstance(ticket.exception(TIMEOUT_SECONDS), EngineLost)


def read_marks(pair: Pair) -> list[int]:
    """Return the marks of the images that the engine has not replied about, in the order of their submission."""
    pending = list(pair.batches._pending.values())
    return [pair.allocator.pool.read(Slab(one.request.mark_offset, 1), 1)[0] for one in pending]


def test_an_image_is_marked_on_the_device_and_not_while_it_waits_or_its_result_is_sent(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    # An engine that is killed does not withdraw its images, so the marks count as they are.
    sending = threading.Event()
    build_reply = HostConnection._build_any_reply
    monkeypatch.setattr(HostConnection, "_build_any_reply", lambda *args: sending.wait(10) and build_reply(*args))
    tickets = [pair.submit()]
    assert pair.segmenter.entered.acquire(timeout=TIMEOUT_SECONDS)
    tickets.append(pair.submit())
    wait_until(lambda: pair.scheduler.queue_length == 1)
    assert read_marks(pair) == [1, 0]

    pair.segmenter.gate.set()

    wait_until(lambda: pair.scheduler.batch_count == 2)
    wait_until(lambda: read_marks(pair) == [0, 0])
    assert not any(ticket.done() for ticket in tickets)
    sending.set()
    for ticket in tickets:
        ticket.result(TIMEOUT_SECONDS)


def test_an_image_is_not_suspected_for_what_its_memory_held_before(pair: Pair) -> None:
    pool = pair.allocator.pool
    pool.write(Slab(0, pool.size_bytes), b"\xff" * pool.size_bytes)
    pair.channel.shut_down()
    wait_until(lambda: pair.lost)

    assert isinstance(pair.submit().exception(TIMEOUT_SECONDS), ModelNotReady)
    assert not isinstance(pair.submit().exception(TIMEOUT_SECONDS), EngineLost)


def test_an_image_that_is_alone_is_alone_on_the_device(pair: Pair) -> None:
    sizes: list[int] = []
    segment = pair.segmenter.segment
    pair.segmenter.segment = lambda batch: sizes.append(len(batch)) or segment(batch)  # type: ignore[method-assign, func-returns-value]
    first = pair.submit()
    assert pair.segmenter.entered.acquire(timeout=TIMEOUT_SECONDS)
    tickets = [pair.submit(is_alone=number == 1) for number in range(3)]
    wait_until(lambda: pair.scheduler.queue_length == 3)

    pair.segmenter.gate.set()

    for ticket in (first, *tickets):
        ticket.result(TIMEOUT_SECONDS)
    assert sizes == [1, 1, 1, 1]


def test_the_images_of_a_host_that_ended_leave_the_queue(pair: Pair) -> None:
    with pair.batches.announce():
        pair.submit()
        assert pair.segmenter.entered.acquire(timeout=TIMEOUT_SECONDS)
        pair.submit()
        wait_until(lambda: pair.scheduler.queue_length == 1)

        pair.channel.shut_down()

        pair.segmenter.gate.set()
        pair.engine.join(TIMEOUT_SECONDS)
        wait_until(lambda: pair.scheduler.queue_length == 0)
        assert pair.scheduler._announced == 0


def test_an_announced_image_is_waited_for(pair: Pair) -> None:
    with pair.batches.announce():
        wait_until(lambda: pair.scheduler._announced == 1)

    wait_until(lambda: pair.scheduler._announced == 0)


def test_a_place_outside_of_the_pool_fails_one_image(host: Channel) -> None:
    host.send(Submit(1, POOL_BYTES - 10, 2, 4, 0, 0, 3, 5, SegmentParameters(), Priority.NORMAL, None))

    assert host.receive(timeout_seconds=TIMEOUT_SECONDS) == Failed(
        1, EngineFailed.code, "The model could not prepare this image"
    )


def test_what_happens_to_jobs_reaches_the_engine(pair: Pair) -> None:
    observer = RemoteObserver(pair.channel)

    observer.report_ready(True)
    observer.job_completed(Priority.LOW, JobState.FAILED, "not_an_image", {"fetch": 1.5})
    observer.job_dropped("canceled")
    observer.report_alive()

    wait_until(lambda: len(pair.messages) == 4)
    assert pair.messages == [
        ReadinessChanged(True),
        JobCompleted(Priority.LOW, JobState.FAILED, "not_an_image", {"fetch": 1.5}),
        JobDropped("canceled"),
        Alive(),
    ]


def test_a_silent_host_is_hung() -> None:
    ours, theirs = open_channel()
    pool = SlabPool.create(POOL_BYTES)
    batches: Any = None
    connection = HostConnection(ours, pool, batches, preparing=None, handle=lambda _: None, timeout_seconds=0.05)

    with theirs, pytest.raises(TimeoutError):
        connection.serve(MODEL)
    pool.close()


def test_tickets_fail_as_retryable_when_the_engine_is_silent() -> None:
    engine, theirs = open_channel()
    pool = SlabPool.create(POOL_BYTES)
    host, allocator = Channel.from_fd(theirs.detach()), SlabAllocator(pool)
    batches = RemoteBatches(host, allocator, allocation_timeout_seconds=1, silence_timeout_seconds=0.05)
    ticket = batches.submit(
        ModelImage(build_pixels(1), 3, 5, SegmentParameters()), priority=Priority.NORMAL, deadline=None
    )

    with pytest.raises(TimeoutError):
        batches.receive()

    with pytest.raises(ModelNotReady):
        ticket.result(TIMEOUT_SECONDS)
    assert allocator.allocated_bytes == 0
    for one in (engine, host, pool):
        one.close()


def test_tickets_fail_as_retryable_when_a_reply_cannot_be_handled() -> None:
    engine, theirs = open_channel()
    pool = SlabPool.create(POOL_BYTES)
    host, allocator = Channel.from_fd(theirs.detach()), SlabAllocator(pool)
    batches = RemoteBatches(host, allocator, allocation_timeout_seconds=1)
    ticket = batches.submit(
        ModelImage(build_pixels(1), 3, 5, SegmentParameters()), priority=Priority.NORMAL, deadline=None
    )
    engine.send(Failed(10**6, EngineFailed.code, "of an image that was never submitted"))

    with pytest.raises(KeyError):
        batches.receive()

    with pytest.raises(ModelNotReady):
        ticket.result(TIMEOUT_SECONDS)
    for one in (engine, host, pool):
        one.close()


def test_an_idle_engine_says_that_it_is_alive(host: Channel) -> None:
    assert host.receive(timeout_seconds=TIMEOUT_SECONDS) == Alive()


def test_a_message_that_is_none_raises_an_error() -> None:
    ours, theirs = open_channel()
    with theirs:
        theirs.sendall(b"\x00\x00\x00\x05hello")
        with pytest.raises(ValueError, match="JSON"):
            ours.receive()
    with pytest.raises(ChannelClosed):
        ours.receive()
    ours.close()


def test_a_hung_host_whose_socket_is_full_does_not_hold_up_its_end() -> None:
    ours, theirs = open_channel()
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    pool = SlabPool.create(POOL_BYTES)
    batches: Any = None
    connection = HostConnection(ours, pool, batches, preparing=None, handle=print, timeout_seconds=0.5)
    for number in range(20_000):
        # More replies than the socket holds.
        connection._done.put((build_submit(number), fail(Ticket())))

    with theirs, pytest.raises(TimeoutError):
        connection.serve(MODEL)
    pool.close()


def build_submit(number: int) -> Submit:
    return Submit(number, 0, 2, 4, 0, 0, 3, 5, SegmentParameters(), Priority.NORMAL, None)


def fail(ticket: Ticket) -> Ticket:
    ticket.set_exception(EngineFailed("no"))
    return ticket


def test_kept_logits_cross_beside_the_label_map(pair: Pair) -> None:
    pair.segmenter.gate.set()

    result = pair.submit(build_pixels(7), keep=KeepRule(0.05, 100)).result(TIMEOUT_SECONDS)

    kept, expected = result.kept, keep_logits(7)
    assert (result.label_map == 7).all()
    assert kept.floor == 0.05
    for name in ("class_logits", "queries", "mask_logits"):
        assert np.array_equal(getattr(kept, name), getattr(expected, name))
    wait_until(lambda: pair.allocator.allocated_bytes == 0, seconds=TIMEOUT_SECONDS)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux returns pages of a shared file")
def test_room_for_logits_that_is_hardly_used_keeps_its_pages_for_the_next_image(pair: Pair) -> None:
    pair.segmenter.gate.set()

    pair.submit(build_pixels(7), keep=KeepRule(0.05, 3 * 2**20)).result(TIMEOUT_SECONDS)

    wait_until(lambda: pair.allocator.allocated_bytes == 0, seconds=TIMEOUT_SECONDS)
    assert os.fstat(pair.allocator.pool.fd).st_blocks > 0


@pytest.mark.parametrize("keep", [None, KeepRule(0.05, 96)], ids=["not_wanted", "too_many"])
def test_logits_that_are_not_wanted_or_do_not_fit_do_not_cross(pair: Pair, keep: KeepRule | None) -> None:
    pair.segmenter.gate.set()

    result = pair.submit(build_pixels(7), keep=keep).result(TIMEOUT_SECONDS)

    assert (result.label_map == 7).all()
    assert result.kept is None
