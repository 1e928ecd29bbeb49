"""The pipeline and the steward over a real Valkey and a real object store; only the segmenter is a fake."""

import io
import json
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import redis
from PIL import Image

from shared import redis_keys
from shared.broker.envelope import encode_message
from shared.errors import EngineFailed, NotAnImage, StorageUnavailable
from shared.jobs.completion import complete_job, read_result
from shared.jobs.messages import job_queue
from shared.jobs.model import Failure, JobRequest, JobState
from shared.jobs.outcomes import ClaimOutcome
from shared.jobs.result import JobResult
from shared.jobs.store import JobStore
from shared.redis_client import connect
from shared.settings import Settings
from shared.storage.bucket import Bucket, NoSuchObject, open_bucket
from shared.storage.keys import inbox_key, object_key, result_key
from tests.support.environment import get_fields
from tests.support.jobs import FakeSegmenter, ImmediateScheduler, build_request, build_sync_request, png, store_input
from tests.support.polling import wait_until
from tests.support.steward import Steward, build_steward
from tests.support.survey import find_delayed, find_stalled
from tests.support.worker import InProcessWorker, build_worker, claim_job
from worker.batching.scheduler import Ticket
from worker.pipeline.slots import Slots
from worker.segmenter import ModelImage


@pytest.fixture
def config(clean_redis: str, storage_env: dict[str, str]) -> Settings:
    return Settings(
        redis_url=clean_redis,
        **get_fields(storage_env),
        lease_seconds=0.5,
    )


@pytest.fixture
def worker(config: Settings) -> Iterator[InProcessWorker]:
    worker = build_worker(
        config, jobs=JobStore(connect(config), lease_seconds=0.5, max_attempts=3, retry_delay_seconds=0.4)
    )
    worker.leases.start()
    yield worker
    worker.leases.stop()


@pytest.fixture
def steward(config: Settings, worker: InProcessWorker) -> Steward:
    return build_steward(config, worker.jobs, worker.bucket)


def submit(worker: InProcessWorker, image: bytes | None = None, **changes: object) -> JobRequest:
    """Store an input and record its job as the gateway does, but enqueue no message."""
    request = build_request(**changes)
    store_input(worker.bucket, request, image)
    worker.jobs.create(request)
    return request


def submit_sync(worker: InProcessWorker, config: Settings, **changes: object) -> JobRequest:
    """Record a synchronous job and its input payload as the gateway does, but enqueue no message."""
    request = build_sync_request(**changes)
    worker.jobs.create(request)
    connect(config).set(redis_keys.input_payload(request.id), png())
    return request


def count_messages(steward: Steward, request: JobRequest) -> int:
    return int(steward.queue._redis.llen(job_queue(request)))


class HookedScheduler(ImmediateScheduler):
    """A batch scheduler that calls a function before each batch."""

    def __init__(self, hook: Callable[[], object]) -> None:
        super().__init__(FakeSegmenter())
        self._hook = hook

    def submit(self, image: ModelImage, **kwargs: Any) -> Ticket:
        self._hook()
        return super().submit(image, **kwargs)


def test_a_job_produces_labels_masks_and_timings(worker: InProcessWorker) -> None:
    request = submit(worker)

    worker.run(request.id)

    result = read_result(request.id, bucket=worker.bucket)
    assert result is not None
    assert (result.state, result.attempt, result.model_revision) == (JobState.SUCCEEDED, 1, "halves")
    assert [(segment.label, segment.area) for segment in result.segments] == [("cat", 12), ("dog", 12)]
    labels = np.asarray(
        Image.open(io.BytesIO(worker.bucket.get(object_key(request.id, result.attempt_name, "labels.png"))))
    )
    assert labels.tolist() == [[1, 1, 1, 2, 2, 2]] * 4
    job = worker.jobs.get(request.id)
    assert job.state is JobState.SUCCEEDED
    assert {"fetch", "decode", "batch", "device", "masks", "store"} <= set(job.timings_ms)


def test_one_mask_is_read_by_its_byte_range(worker: InProcessWorker) -> None:
    request = submit(worker)
    worker.run(request.id)
    result = read_result(request.id, bucket=worker.bucket)
    assert result is not None
    key, place = object_key(request.id, result.attempt_name, "masks.zip"), result.masks[2]

    mask = worker.bucket.get_range(key, offset=place.offset, length=place.length)

    assert zipfile.ZipFile(io.BytesIO(worker.bucket.get(key))).read("2.png") == mask
    assert np.asarray(Image.open(io.BytesIO(mask))).tolist() == [[0, 0, 0, 255, 255, 255]] * 4


def test_the_input_is_deleted_once_the_job_is_complete(worker: InProcessWorker) -> None:
    request = submit(worker)

    worker.run(request.id)

    with pytest.raises(NoSuchObject):
        worker.bucket.get(inbox_key(request.id))


def test_a_message_too_many_starts_no_second_attempt(worker: InProcessWorker) -> None:
    request = submit(worker)

    for _ in range(2):
        worker.run_jobs(job_queue(request))

    assert worker.jobs.get(request.id).attempt == 1


def test_one_message_runs_all_jobs(worker: InProcessWorker) -> None:
    requests = [submit(worker) for _ in range(3)]

    worker.run_jobs(job_queue(requests[0]))

    assert {worker.jobs.get(request.id).state for request in requests} == {JobState.SUCCEEDED}


def test_a_worker_without_a_free_slot_gives_its_message_back(worker: InProcessWorker, steward: Steward) -> None:
    request = submit(worker)

    replace(worker, slots=Slots(0, 0)).run_jobs(job_queue(request))

    assert worker.jobs.get(request.id).attempt == 0
    assert count_messages(steward, request) == 1


def test_a_worker_that_drains_runs_no_further_job(worker: InProcessWorker) -> None:
    first, second = submit(worker), submit(worker)
    slots = Slots(1, 0)

    replace(worker, slots=slots, batches=HookedScheduler(slots.close)).run_jobs(job_queue(first))

    assert [worker.jobs.get(request.id).attempt for request in (first, second)] == [1, 0]


def test_an_input_that_is_not_an_image_fails_the_job(worker: InProcessWorker) -> None:
    request = submit(worker, image=b"certainly not an image")

    worker.run(request.id)

    job = worker.jobs.get(request.id)
    assert job.state is JobState.FAILED
    assert job.failure is not None
    assert job.failure.code == NotAnImage.code


def test_an_engine_error_fails_the_job(worker: InProcessWorker) -> None:
    class FailingSegmenter(FakeSegmenter):
        def segment(self, batch):  # type: ignore[no-untyped-def]
            return [EngineFailed("The model broke on this image.")]

    request = submit(worker)

    replace(worker, batches=ImmediateScheduler(FailingSegmenter())).run(request.id)

    assert worker.jobs.get(request.id).failure == Failure("engine_failed", "The model broke on this image.")


def test_an_unexpected_exception_fails_the_job_without_its_details(worker: InProcessWorker) -> None:
    def bug() -> None:
        raise ZeroDivisionError("secret details")

    request = submit(worker)

    replace(worker, batches=HookedScheduler(bug)).run(request.id)

    failure = worker.jobs.get(request.id).failure
    assert failure is not None
    assert failure.code == "internal"
    assert "secret" not in failure.message


def test_a_job_canceled_while_it_runs_stays_canceled(worker: InProcessWorker) -> None:
    request = submit(worker)
    canceled = JobResult(request, JobState.CANCELED)

    def cancel() -> None:
        complete_job(canceled, jobs=worker.jobs, bucket=worker.bucket)

    replace(worker, batches=HookedScheduler(cancel)).run(request.id)

    assert worker.jobs.get(request.id).state is JobState.CANCELED
    assert read_result(request.id, bucket=worker.bucket) == canceled


def test_a_duplicate_attempt_cannot_overwrite_the_result(worker: InProcessWorker) -> None:
    request = submit(worker)

    def run_elsewhere() -> None:
        worker.jobs.attempts.release(
            request.id, worker.jobs.get(request.id).attempt_name, message=encode_message(job_queue(request))
        )
        worker.run(request.id)

    replace(worker, batches=HookedScheduler(run_elsewhere)).run(request.id)

    result = read_result(request.id, bucket=worker.bucket)
    assert result is not None
    assert result.attempt == 2
    assert worker.jobs.get(request.id).state is JobState.SUCCEEDED


def test_a_result_in_the_bucket_overrides_a_cancellation(worker: InProcessWorker) -> None:
    request = submit(worker)
    finished = JobResult(request, JobState.SUCCEEDED, 1)
    worker.bucket.put_first(result_key(request.id), finished.to_json(), content_type="application/json")

    stored = complete_job(JobResult(request, JobState.CANCELED), jobs=worker.jobs, bucket=worker.bucket)

    assert stored == finished
    assert worker.jobs.get(request.id).state is JobState.SUCCEEDED


def test_an_image_whose_result_cannot_be_written_fails_before_a_reply(
    worker: InProcessWorker, config: Settings
) -> None:
    request = submit_sync(worker, config)
    connect(config).set(redis_keys.input_payload(request.id), png(65_501, 1))

    worker.run(request.id)

    job = worker.jobs.get(request.id)
    assert (job.state, job.failure and job.failure.code) == (JobState.FAILED, "image_too_large")
    assert worker.payloads.get_reply(request.id) is None


@pytest.mark.parametrize("size", [(65_500, 1), (1, 65_500), (1, 1), (3, 40_000)])
def test_the_longest_images_have_all_formats(worker: InProcessWorker, size: tuple[int, int]) -> None:
    request = submit(worker, png(*size), formats=("labels", "overlay", "masks", "rle"))

    worker.run(request.id)

    job = worker.jobs.get(request.id)
    assert job.state is JobState.SUCCEEDED
    label_map = Image.open(io.BytesIO(worker.bucket.get(object_key(request.id, job.attempt_name, "labels.png"))))
    assert label_map.size == size


def test_a_synchronous_job_stores_the_reply_of_the_hugging_face_api(worker: InProcessWorker, config: Settings) -> None:
    request = submit_sync(worker, config)

    worker.run(request.id)

    reply = json.loads(worker.payloads.get_reply(request.id) or b"")
    assert [list(found) for found in reply] == [["score", "label", "mask"]] * 2
    assert worker.payloads.get_input(request.id) is None
    assert worker.jobs.get(request.id).state is JobState.SUCCEEDED


def test_a_synchronous_job_completes_while_the_bucket_is_unavailable(worker: InProcessWorker, config: Settings) -> None:
    unavailable = open_bucket(
        Settings(storage_endpoint="http://127.0.0.1:9", storage_access_key="a", storage_secret_key="b")
    )
    request = submit_sync(worker, config)

    replace(worker, bucket=unavailable).run(request.id)

    assert worker.payloads.get_reply(request.id)
    assert worker.jobs.get(request.id).state.is_final


def test_a_synchronous_job_past_its_deadline_expires_without_running(worker: InProcessWorker, config: Settings) -> None:
    request = submit_sync(worker, config, deadline_at=time.time() - 1)

    worker.run(request.id)

    assert worker.jobs.get(request.id).state is JobState.EXPIRED
    assert worker.payloads.get_reply(request.id) is None


def test_a_job_is_released_while_the_bucket_is_unavailable(worker: InProcessWorker) -> None:
    class UnavailableBucket(Bucket):
        def put(self, *_: object, **__: object) -> str:
            raise StorageUnavailable("away")

    request = submit(worker)
    unavailable = UnavailableBucket(worker.bucket._store, worker.bucket._slow)

    replace(worker, bucket=unavailable).run(request.id)

    job = worker.jobs.get(request.id)
    assert (job.state, job.stalls) == (JobState.QUEUED, 0)
    assert worker.jobs.attempts.claim(request.model, worker="w") is ClaimOutcome.EMPTY


def test_the_steward_requeues_a_released_job_after_its_delay(worker: InProcessWorker, steward: Steward) -> None:
    request = submit(worker)
    claim = worker.claim(request.id)
    assert claim
    worker.jobs.attempts.postpone(request.id, claim.attempt_name, jitter=0, is_counted=False)

    steward.reconcile()
    assert count_messages(steward, request) == 0
    wait_until(lambda: find_delayed(worker.jobs, job_queue(request)))
    steward.reconcile()

    assert count_messages(steward, request) == 1
    assert worker.claim(request.id)


def test_the_steward_requeues_a_job_whose_worker_was_lost(worker: InProcessWorker, steward: Steward) -> None:
    request = submit(worker)
    assert worker.claim(request.id)
    wait_until(lambda: find_stalled(worker.jobs))

    steward.reconcile()

    assert worker.jobs.get(request.id).state is JobState.QUEUED
    assert count_messages(steward, request) == 1


def test_the_steward_completes_a_stalled_job_whose_result_is_stored(worker: InProcessWorker, steward: Steward) -> None:
    request = submit(worker)
    assert worker.claim(request.id)
    finished = JobResult(request, JobState.SUCCEEDED, 1)
    worker.bucket.put_first(result_key(request.id), finished.to_json(), content_type="application/json")
    wait_until(lambda: find_stalled(worker.jobs))

    steward.reconcile()

    assert worker.jobs.get(request.id).state is JobState.SUCCEEDED
    assert count_messages(steward, request) == 0


def test_a_lease_without_a_record_does_not_hold_up_a_stalled_job(
    worker: InProcessWorker, steward: Steward, redis_client: "redis.Redis"
) -> None:
    gone, request = submit(worker), submit(worker)
    for one in (gone, request):
        assert worker.claim(one.id)
    redis_client.delete(redis_keys.job(gone.id))
    wait_until(lambda: len(find_stalled(worker.jobs)) == 2)

    steward.reconcile()

    assert worker.jobs.get(request.id).state is JobState.QUEUED
    assert worker.jobs.queues.running_count() == 0


def test_a_job_that_stalls_on_every_attempt_is_dead_lettered(worker: InProcessWorker, steward: Steward) -> None:
    request = submit(worker)

    for _ in range(3):
        claim = claim_job(worker.jobs, request.id, worker="gpu-7-4711")
        assert claim
        assert worker.jobs.attempts.start_isolated(claim)
        wait_until(lambda: find_stalled(worker.jobs))
        steward.reconcile()

    job = worker.jobs.get(request.id)
    assert job.state is JobState.FAILED
    assert job.failure is not None
    assert job.failure.code == "attempts_exhausted"
    assert "3 workers" in job.failure.message
    assert "gpu-7" not in job.failure.message


def test_a_job_whose_worker_wakes_before_it_is_given_up_goes_on(
    worker: InProcessWorker, steward: Steward, config: Settings
) -> None:
    request = submit(worker)
    for _ in range(3):
        claim = claim_job(worker.jobs, request.id)
        assert claim
        assert worker.jobs.attempts.start_isolated(claim)
        wait_until(lambda: find_stalled(worker.jobs))
        steward.reconciler.requeue_stalled(steward.reconciler.find_stalled())
    awake = JobStore(connect(config), lease_seconds=30, max_attempts=3)

    assert awake.attempts.renew(request.id, claim.attempt_name)
    exhausted = steward.reconciler.find_exhausted()
    steward.reconciler.fail_exhausted(exhausted)

    assert exhausted == [request.id]
    assert worker.jobs.get(request.id).state is JobState.RUNNING
    assert read_result(request.id, bucket=worker.bucket) is None


def test_the_steward_republishes_a_job_whose_message_was_lost(worker: InProcessWorker, steward: Steward) -> None:
    request = submit(worker)

    def is_republished() -> bool:
        steward.reconcile()
        return count_messages(steward, request) == 1

    wait_until(is_republished)


def test_jobs_are_recovered_after_redis_lost_its_data(
    worker: InProcessWorker, new_bucket: str, config: Settings, redis_client: "redis.Redis"
) -> None:
    bucket = open_bucket(config, name=new_bucket)
    worker = replace(worker, bucket=bucket)
    steward = build_steward(config, worker.jobs, bucket)
    waiting, finished = submit(worker), submit(worker)
    worker.run(finished.id)
    redis_client.flushall()

    steward.recovery.recover_jobs()
    steward.recovery.recover_jobs()

    assert worker.jobs.get(waiting.id).request == waiting
    assert not worker.jobs.is_known(finished.id)
    assert count_messages(steward, waiting) == 1
    worker.run(waiting.id)
    assert worker.jobs.get(waiting.id).state is JobState.SUCCEEDED


def test_results_are_deleted_after_their_retention(worker: InProcessWorker, new_bucket: str, config: Settings) -> None:
    bucket = open_bucket(config, name=new_bucket)
    worker = replace(worker, bucket=bucket)
    steward = build_steward(config, worker.jobs, bucket)
    old = submit(worker, id="0" * 12 + "a" * 20)
    worker.run(old.id)

    def list_kept() -> set[str]:
        steward.retention.delete_expired()
        return {found.key.split("/")[1] for found in bucket.list_objects("results/")}

    assert list_kept() == {old.id}
    wait_until(lambda: not list_kept())
    recent = submit(worker)
    worker.run(recent.id)
    assert list_kept() == {recent.id}
