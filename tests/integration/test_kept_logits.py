"""The logits of a job: stored beside its result, deleted before it, and never a reason to fail."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from shared.errors import StorageUnavailable
from shared.jobs.completion import read_result
from shared.jobs.model import JobRequest, JobState
from shared.jobs.purge import purge_job
from shared.jobs.recut import RecutState
from shared.jobs.result import JobRecut, JobResult
from shared.settings import Settings
from shared.storage.bucket import Bucket
from shared.storage.keys import RECUTS_PREFIX, recut_key, recuts_prefix
from tests.support.environment import get_fields
from tests.support.jobs import ImmediateScheduler, build_request, build_sync_request, png, store_input
from tests.support.keeping import MODEL, RULE, KeepingSegmenter
from tests.support.polling import wait_until
from tests.support.steward import build_steward
from tests.support.worker import InProcessWorker, build_worker
from worker.pipeline.recut import RecutKeeper
from worker.recut.file import RecutData


@pytest.fixture
def config(clean_redis: str, storage_env: dict[str, str]) -> Settings:
    return Settings(redis_url=clean_redis, **get_fields(storage_env))


@pytest.fixture
def worker(config: Settings) -> Iterator[InProcessWorker]:
    scheduler = ImmediateScheduler(KeepingSegmenter())
    worker = replace(build_worker(config), batches=scheduler, recuts=RecutKeeper(MODEL, RULE))
    worker.leases.start()
    yield worker
    worker.leases.stop()


def run(worker: InProcessWorker, **changes: object) -> JobResult:
    request = build_request(**changes)
    store_input(worker.bucket, request, png())
    worker.jobs.create(request)
    worker.run(request.id)
    result = read_result(request.id, bucket=worker.bucket)
    assert result is not None and result.state is JobState.SUCCEEDED
    return result


def list_recuts(bucket: Bucket, request: JobRequest) -> list[str]:
    return [found.key for found in bucket.list_objects(recuts_prefix(request.id))]


def test_the_logits_of_a_job_are_stored(worker: InProcessWorker) -> None:
    result = run(worker)

    recut = result.recut
    assert recut is not None and recut.file is not None
    assert (recut.state, recut.floor, recut.has_all_queries) == (RecutState.STORED, 0.05, False)
    data = RecutData.from_bytes(worker.bucket.get(recut_key(result.request.id, result.attempt_name), recut.file.etag))
    assert (data.model, data.revision, data.width, data.height) == (result.request.model, "halves", 6, 4)
    assert data.logits.queries.tolist() == [0, 1]
    assert data.classes == MODEL
    assert "recut" in result.timings_ms


def test_a_job_can_keep_all_queries(worker: InProcessWorker) -> None:
    result = run(worker, keeps_all_queries=True)

    assert result.recut is not None and result.recut.has_all_queries


@pytest.mark.parametrize(
    ("recuts", "state"),
    [(RecutKeeper(MODEL, None), RecutState.OFF), (RecutKeeper(None, RULE), RecutState.UNSUPPORTED)],
)
def test_a_result_says_why_there_are_no_logits(worker: InProcessWorker, recuts: RecutKeeper, state: RecutState) -> None:
    result = run(replace(worker, recuts=recuts))

    assert result.recut == JobRecut(state)
    assert not list_recuts(worker.bucket, result.request)


def test_a_synchronous_request_keeps_no_logits(worker: InProcessWorker) -> None:
    recuts = RecutKeeper(MODEL, RULE)

    assert recuts.choose_rule(build_sync_request()) is None


class FullBucket(Bucket):
    """A bucket that takes everything but logits."""

    def put(self, key: str, content: bytes, **options: object) -> str:  # type: ignore[override]
        if key.startswith(RECUTS_PREFIX):
            raise StorageUnavailable("full")
        return super().put(key, content, **options)  # type: ignore[arg-type]


def test_a_job_succeeds_if_its_logits_cannot_be_stored(worker: InProcessWorker) -> None:
    bucket = FullBucket(worker.bucket._store, worker.bucket._slow)

    result = run(replace(worker, bucket=bucket))

    assert result.recut == JobRecut(RecutState.NOT_STORED)


def test_a_purge_deletes_the_logits(worker: InProcessWorker) -> None:
    result = run(worker)
    assert list_recuts(worker.bucket, result.request)

    purge_job(result.request.id, jobs=worker.jobs, bucket=worker.bucket)

    assert not list_recuts(worker.bucket, result.request)


def test_the_steward_deletes_logits_before_results(worker: InProcessWorker, config: Settings) -> None:
    result = run(worker)
    steward = build_steward(
        config.model_copy(update={"recut_ttl_seconds": 1}), worker.jobs, worker.bucket, result_ttl_seconds=60
    )

    def is_deleted() -> bool:
        steward.retention.delete_expired()
        return not list_recuts(worker.bucket, result.request)

    wait_until(is_deleted, seconds=10)
    assert read_result(result.request.id, bucket=worker.bucket) is not None
