"""The files of an attempt: the record of each, and what becomes of a file that is stored too late."""

from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from typing import Any

import pytest
import redis

from shared.formats.registry import get_format
from shared.jobs.completion import read_result
from shared.jobs.model import JobRequest, JobState
from shared.jobs.result import JobResult
from shared.jobs.store import JobStore
from shared.redis_client import connect
from shared.settings import Settings
from shared.storage.bucket import Bucket, NoSuchObject, ObjectChanged, open_bucket
from shared.storage.keys import object_key, results_prefix
from tests.support.environment import get_fields
from tests.support.jobs import build_request, png, store_input
from tests.support.worker import InProcessWorker, build_worker


@pytest.fixture
def config(clean_redis: str, storage_env: dict[str, str]) -> Settings:
    return Settings(
        redis_url=clean_redis,
        **get_fields(storage_env),
    )


@pytest.fixture
def bucket(config: Settings) -> Bucket:
    return open_bucket(config)


@pytest.fixture
def worker(config: Settings) -> Iterator[InProcessWorker]:
    worker = build_worker(config, jobs=JobStore(connect(config), lease_seconds=0.5, max_attempts=3))
    worker.leases.start()
    yield worker
    worker.leases.stop()


class RecordingBucket(Bucket):
    """Keeps the arguments of each put of a result's file; a stalled PUT is sent again, later, as it was."""

    def __init__(self, bucket: Bucket) -> None:
        super().__init__(bucket._store, bucket._slow)
        self.sent: list[tuple[str, bytes]] = []

    def put(self, key: str, content: bytes, **kwargs: Any) -> str:
        self.sent.append((key, content))
        return super().put(key, content, **kwargs)


def submit(worker: InProcessWorker, formats: tuple[str, ...] = ("labels", "overlay", "masks")) -> JobRequest:
    request = build_request(formats=formats)
    store_input(worker.bucket, request)
    worker.jobs.create(request)
    return request


def read_final(request: JobRequest, bucket: Bucket) -> JobResult:
    result = read_result(request.id, bucket=bucket)
    assert result is not None
    return result


def test_an_object_is_read_by_its_etag(bucket: Bucket) -> None:
    key = object_key("0" * 32, "1-first", "a.txt")
    etag = bucket.put(key, b"0123456789", content_type="text/plain")

    assert bucket.get(key, etag) == b"0123456789"
    assert bucket.get_range(key, offset=3, length=4, etag=etag) == b"3456"

    other = bucket.put(key, b"9876543210", content_type="text/plain")
    assert other != etag
    assert bucket.get(key) == bucket.get(key, other) == b"9876543210"
    with pytest.raises(ObjectChanged):
        bucket.get(key, etag)
    with pytest.raises(ObjectChanged):
        bucket.get_range(key, offset=3, length=4, etag=etag)


def test_a_missing_object_is_missing_whatever_its_etag(bucket: Bucket) -> None:
    with pytest.raises(NoSuchObject):
        bucket.get(object_key("0" * 32, "1-none", "a.txt"), '"0"')


def test_a_result_has_size_etag_and_hash_of_each_file(worker: InProcessWorker, bucket: Bucket) -> None:
    request = submit(worker)

    worker.run(request.id)

    result = read_final(request, bucket)
    assert set(result.objects) == set(request.formats)
    for name, stored in result.objects.items():
        content = bucket.get(object_key(request.id, result.attempt_name, get_format(name).file), stored.etag)
        assert (stored.bytes, stored.sha256) == (len(content), sha256(content).hexdigest())


def test_a_put_of_an_earlier_attempt_that_lands_late_changes_nothing(
    worker: InProcessWorker, bucket: Bucket, redis_client: redis.Redis
) -> None:
    request = submit(worker)
    stalled = RecordingBucket(bucket)
    replace(worker, bucket=stalled).run(request.id)
    bucket.delete([found.key for found in bucket.list_objects(results_prefix(request.id))])
    # Redis loses its data, so that attempts are counted from the beginning.
    redis_client.flushall()
    store_input(bucket, request, png(12, 4))
    worker.jobs.create(request)
    worker.run(request.id)
    result = read_final(request, bucket)
    assert result.attempt == 1

    for key, content in stalled.sent:
        bucket.put(key, content, content_type="image/png")

    for name, stored in result.objects.items():
        content = bucket.get(object_key(request.id, result.attempt_name, get_format(name).file), stored.etag)
        assert sha256(content).hexdigest() == stored.sha256


@pytest.mark.parametrize("formats", [("labels",), ("labels", "overlay", "masks")])
def test_an_attempt_stores_nothing_further_once_its_lease_is_lost(
    worker: InProcessWorker, bucket: Bucket, formats: tuple[str, ...]
) -> None:
    request = submit(worker, formats)

    class LosingBucket(RecordingBucket):
        def put(self, key: str, content: bytes, **kwargs: Any) -> str:
            etag = super().put(key, content, **kwargs)
            for lease in list(worker.leases._leases):
                lease.lose()
            return etag

    losing = LosingBucket(bucket)

    replace(worker, bucket=losing).run(request.id)

    assert [key.rpartition("/")[2] for key, _ in losing.sent] == [get_format(request.formats[0]).file]
    assert read_result(request.id, bucket=bucket) is None
    assert worker.jobs.get(request.id).state is JobState.RUNNING
