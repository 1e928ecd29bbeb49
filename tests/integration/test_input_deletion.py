"""Inputs of completed jobs are deleted together, soon, and at the latest when the worker ends."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from uuid import uuid4

import pytest

from shared.errors import StorageUnavailable
from shared.settings import Settings
from shared.storage.bucket import Bucket, NoSuchObject, open_bucket
from tests.support.polling import wait_until
from worker.pipeline.input_deletion import InputDeletion


@pytest.fixture
def bucket(storage_env: Mapping[str, str]) -> Bucket:
    return open_bucket(
        Settings(**{name.removeprefix("MASKMILL_").lower(): value for name, value in storage_env.items()})
    )


@dataclass
class RecordingBucket:
    """Records each call; the first ones fail."""

    failures: int = 0
    calls: list[list[str]] = field(default_factory=list)

    def delete(self, keys: Sequence[str]) -> None:
        self.calls.append(list(keys))
        if len(self.calls) <= self.failures:
            raise StorageUnavailable("no")


def put(bucket: Bucket) -> str:
    key = f"inbox/{uuid4().hex}"
    bucket.put(key, b"image", content_type="image/png")
    return key


def is_stored(bucket: Bucket, key: str) -> bool:
    try:
        bucket.get(key)
    except NoSuchObject:
        return False
    return True


def test_inputs_are_deleted_soon(bucket: Bucket) -> None:
    keys = [put(bucket) for _ in range(5)]
    deletion = InputDeletion(bucket, interval_seconds=0.05)
    deletion.start()

    for key in keys:
        deletion.delete([key])

    wait_until(lambda: not any(is_stored(bucket, key) for key in keys))
    deletion.close()


def test_pending_inputs_are_deleted_when_it_is_closed(bucket: Bucket) -> None:
    key, deletion = put(bucket), InputDeletion(bucket, interval_seconds=60)
    deletion.start()

    deletion.delete([key])
    deletion.close()

    assert not is_stored(bucket, key)


def test_inputs_that_arrive_together_take_one_call() -> None:
    bucket = RecordingBucket()
    deletion = InputDeletion(bucket, interval_seconds=60)
    deletion.start()

    for number in range(100):
        deletion.delete([str(number)])
    deletion.close()

    assert bucket.calls == [[str(number) for number in range(100)]]


def test_an_unavailable_store_does_not_end_the_thread() -> None:
    bucket = RecordingBucket(failures=1)
    deletion = InputDeletion(bucket, interval_seconds=0.01)
    deletion.start()
    deletion.delete(["first"])
    wait_until(lambda: bucket.calls)

    deletion.delete(["second"])

    wait_until(lambda: ["second"] in bucket.calls)
    deletion.close()
