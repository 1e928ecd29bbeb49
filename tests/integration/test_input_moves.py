"""Inputs of completed jobs leave the inbox together, soon, and at the latest when the worker ends."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from uuid import uuid4

import pytest

from shared.errors import AttemptsExhausted, Canceled, DeadlineExceeded, NotAnImage, StorageUnavailable
from shared.jobs.inputs import EndedInput, InputMover
from shared.jobs.model import JobState
from shared.settings import Settings
from shared.storage.bucket import Bucket, NoSuchObject, open_bucket
from shared.storage.keys import dead_letter_key, inbox_key, input_key
from tests.support.environment import get_fields
from tests.support.polling import wait_until
from worker.pipeline.ended_inputs import InputMoves


@pytest.fixture
def bucket(storage_env: Mapping[str, str]) -> Bucket:
    return open_bucket(Settings(**get_fields(storage_env)))


@dataclass
class RecordingBucket:
    """Records each deletion; the first ones fail."""

    failures: int = 0
    calls: list[list[str]] = field(default_factory=list)

    def copy(self, source: str, target: str) -> None:
        pass

    def delete(self, keys: Sequence[str]) -> None:
        self.calls.append(list(keys))
        if len(self.calls) <= self.failures:
            raise StorageUnavailable("no")


def put(bucket: Bucket) -> str:
    """Store an input; return the id of its job."""
    job_id = uuid4().hex
    bucket.put(inbox_key(job_id), b"image", content_type="image/png", metadata={"request": "{}"})
    return job_id


def end(job_id: str, state: JobState = JobState.SUCCEEDED, failure_code: str = "") -> EndedInput:
    return EndedInput(job_id, state, failure_code)


def is_stored(bucket: Bucket, key: str) -> bool:
    try:
        bucket.get(key)
    except NoSuchObject:
        return False
    return True


def list_kept(bucket: Bucket, job_id: str) -> list[str]:
    return [name(job_id) for name in (inbox_key, input_key, dead_letter_key) if is_stored(bucket, name(job_id))]


def test_an_input_is_kept_with_its_metadata(bucket: Bucket) -> None:
    job_id = put(bucket)

    InputMover(bucket, input_ttl_seconds=60).move([end(job_id)])

    assert list_kept(bucket, job_id) == [input_key(job_id)]
    metadata = bucket.get_metadata(input_key(job_id))
    assert (metadata["request"], metadata["Content-Type"]) == ("{}", "image/png")


@pytest.mark.parametrize(
    ("state", "code", "ttl", "kept"),
    [
        (JobState.SUCCEEDED, "", 60, input_key),
        (JobState.FAILED, NotAnImage.code, 60, input_key),
        (JobState.EXPIRED, DeadlineExceeded.code, 60, input_key),
        (JobState.SUCCEEDED, "", 0, None),
        (JobState.FAILED, AttemptsExhausted.code, 60, dead_letter_key),
        (JobState.FAILED, AttemptsExhausted.code, 0, dead_letter_key),
        (JobState.CANCELED, Canceled.code, 60, None),
    ],
)
def test_where_an_input_is_kept(bucket: Bucket, state: JobState, code: str, ttl: int, kept: object) -> None:
    job_id = put(bucket)

    InputMover(bucket, ttl).move([end(job_id, state, code)])

    assert list_kept(bucket, job_id) == ([kept(job_id)] if callable(kept) else [])


def test_a_move_that_was_interrupted_is_repeated(bucket: Bucket) -> None:
    job_id, mover = put(bucket), InputMover(bucket, 60)
    bucket.copy(inbox_key(job_id), input_key(job_id))

    for _ in range(2):
        mover.move([end(job_id)])

    assert list_kept(bucket, job_id) == [input_key(job_id)]


def test_inputs_are_moved_soon(bucket: Bucket) -> None:
    ids = [put(bucket) for _ in range(5)]
    moves = InputMoves(bucket, input_ttl_seconds=60, interval_seconds=0.05)
    moves.start()

    for job_id in ids:
        moves.move([end(job_id)])

    wait_until(lambda: all(list_kept(bucket, job_id) == [input_key(job_id)] for job_id in ids))
    moves.close()


def test_pending_inputs_are_moved_when_it_is_closed(bucket: Bucket) -> None:
    job_id, moves = put(bucket), InputMoves(bucket, input_ttl_seconds=60, interval_seconds=60)
    moves.start()

    moves.move([end(job_id)])
    moves.close()

    assert list_kept(bucket, job_id) == [input_key(job_id)]


def test_inputs_that_arrive_together_are_deleted_in_one_call() -> None:
    bucket = RecordingBucket()
    moves = InputMoves(bucket, input_ttl_seconds=60, interval_seconds=60)  # type: ignore[arg-type]
    moves.start()

    for number in range(100):
        moves.move([end(str(number))])
    moves.close()

    assert bucket.calls == [[f"{folder}/{number}" for number in range(100) for folder in ("inbox", "requests")]]


def test_an_unavailable_store_does_not_end_the_thread() -> None:
    bucket = RecordingBucket(failures=1)
    moves = InputMoves(bucket, input_ttl_seconds=60, interval_seconds=0.01)  # type: ignore[arg-type]
    moves.start()
    moves.move([end("first")])
    wait_until(lambda: bucket.calls)

    moves.move([end("second")])

    wait_until(lambda: ["inbox/second", "requests/second"] in bucket.calls)
    moves.close()
