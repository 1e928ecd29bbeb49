"""One job through the pipeline, over a real Valkey and a real object store; only the model is a stand-in."""

import io
import json
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
import redis
from PIL import Image
from prometheus_client import CollectorRegistry

from shared.broker.queues import JobQueue
from shared.errors import EngineFailed, NotAnImage, StorageUnavailable
from shared.jobs.completion import complete_job, read_result
from shared.jobs.model import Failure, JobRequest, JobState, Priority
from shared.jobs.payloads import PayloadStore
from shared.jobs.result import JobResult
from shared.jobs.store import Claim, JobStore, image_key
from shared.redis_client import connect
from shared.settings import Settings
from shared.storage.bucket import Bucket, NoSuchObject, open_bucket
from shared.storage.keys import inbox_key, object_key
from tests.support.jobs import FakeSegmenter, ImmediateScheduler, png, request
from tests.support.polling import wait_until
from worker.pipeline.job import Services, run_job
from worker.pipeline.leases import LeaseKeeper
from worker.runtime.metrics import WorkerMetrics
from worker.segmenter import Prepared
from worker.steward.metrics import StewardMetrics
from worker.steward.reconciler import StewardServices, expire, recover, sweep


@pytest.fixture
def config(clean_redis: str, storage_env: dict[str, str]) -> Settings:
    return Settings(
        redis_url=clean_redis,
        storage_endpoint=storage_env["MASKMILL_STORAGE_ENDPOINT"],
        storage_bucket=storage_env["MASKMILL_STORAGE_BUCKET"],
        storage_access_key=storage_env["MASKMILL_STORAGE_ACCESS_KEY"],
        storage_secret_key=storage_env["MASKMILL_STORAGE_SECRET_KEY"],
    )


@pytest.fixture
def services(config: Settings) -> Iterator[Services]:
    jobs = JobStore(connect(config), lease_seconds=0.5, max_attempts=3, result_ttl_seconds=3600)
    leases = LeaseKeeper(jobs, lease_seconds=0.5)
    leases.start()
    yield Services(
        jobs=jobs,
        bucket=open_bucket(config),
        payloads=PayloadStore(connect(config, decode=False)),
        leases=leases,
        segmenter=FakeSegmenter(),
        batches=ImmediateScheduler(FakeSegmenter()),
        observer=WorkerMetrics(CollectorRegistry()),
        worker_id="w",
        max_pixels=10**6,
    )
    leases.stop()


@pytest.fixture
def steward(config: Settings, services: Services) -> StewardServices:
    return StewardServices(
        jobs=services.jobs,
        bucket=services.bucket,
        queue=JobQueue(connect(config)),
        metrics=StewardMetrics(CollectorRegistry()),
        orphaned_after_seconds=0.05,
        result_ttl_seconds=3600,
        inbox_grace_seconds=60,
    )


def submitted(services: Services, image: bytes = b"", **changes: object) -> JobRequest:
    """Store an input and record its job, as the gateway does; nobody is told of it."""
    asked = request(**changes)
    metadata = {"request": asked.to_json()}
    services.bucket.put(inbox_key(asked.id), image or png(), content_type="image/png", metadata=metadata)
    services.jobs.create(asked)
    return asked


def asked_now(services: Services, config: Settings, **changes: object) -> JobRequest:
    """Record an interactive job and keep its image, as the gateway does; nobody is told of it."""
    asked = request(priority=Priority.INTERACTIVE, **changes)
    services.jobs.create(asked)
    connect(config).set(image_key(asked.id), png())
    return asked


class Interrupted(ImmediateScheduler):
    """Batches during which something else happens first."""

    def __init__(self, meanwhile: Callable[[], object]) -> None:
        super().__init__(FakeSegmenter())
        self._meanwhile = meanwhile

    def submit(self, prepared: Prepared, **kwargs: object):  # type: ignore[no-untyped-def]
        self._meanwhile()
        return super().submit(prepared, **kwargs)


def test_a_photo_goes_in_and_masks_come_out(services: Services) -> None:
    asked = submitted(services)

    run_job(asked.id, services)

    end = read_result(asked.id, bucket=services.bucket)
    assert end is not None
    assert (end.state, end.attempt, end.model_revision) == (JobState.SUCCEEDED, 1, "halves")
    assert [(segment.label, segment.area) for segment in end.segments] == [("cat", 12), ("dog", 12)]
    labels = np.asarray(Image.open(io.BytesIO(services.bucket.get(object_key(asked.id, 1, "labels.png")))))
    assert labels.tolist() == [[1, 1, 1, 2, 2, 2]] * 4
    job = services.jobs.get(asked.id)
    assert job.state is JobState.SUCCEEDED
    assert {"fetch", "decode", "batch", "device", "render", "store"} <= set(job.timings_ms)


def test_one_mask_is_had_by_its_byte_range(services: Services) -> None:
    asked = submitted(services)
    run_job(asked.id, services)
    end = read_result(asked.id, bucket=services.bucket)
    assert end is not None
    key, place = object_key(asked.id, 1, "masks.zip"), end.masks[2]

    mask = services.bucket.get_range(key, offset=place.offset, length=place.length)

    assert zipfile.ZipFile(io.BytesIO(services.bucket.get(key))).read("2.png") == mask
    assert np.asarray(Image.open(io.BytesIO(mask))).tolist() == [[0, 0, 0, 255, 255, 255]] * 4


def test_the_input_goes_once_the_job_has_ended(services: Services) -> None:
    asked = submitted(services)

    run_job(asked.id, services)

    with pytest.raises(NoSuchObject):
        services.bucket.get(inbox_key(asked.id))


def test_a_second_message_of_a_job_does_nothing(services: Services) -> None:
    asked = submitted(services)

    run_job(asked.id, services)
    run_job(asked.id, services)

    assert services.jobs.get(asked.id).attempt == 1


def test_what_is_no_image_fails_with_the_reason(services: Services) -> None:
    asked = submitted(services, image=b"certainly not an image")

    run_job(asked.id, services)

    job = services.jobs.get(asked.id)
    assert job.state is JobState.FAILED
    assert job.failure is not None
    assert job.failure.code == NotAnImage.code


def test_an_error_of_the_engine_ends_the_job(services: Services) -> None:
    class Broken(FakeSegmenter):
        def segment(self, batch):  # type: ignore[no-untyped-def]
            return [EngineFailed("The model broke on this image.")]

    asked = submitted(services)

    run_job(asked.id, replace(services, batches=ImmediateScheduler(Broken())))

    assert services.jobs.get(asked.id).failure == Failure("engine_failed", "The model broke on this image.")


def test_a_bug_ends_the_job_without_telling_the_caller_its_trace(services: Services) -> None:
    def bug() -> None:
        raise ZeroDivisionError("secret details")

    asked = submitted(services)

    run_job(asked.id, replace(services, batches=Interrupted(bug)))

    failure = services.jobs.get(asked.id).failure
    assert failure is not None
    assert failure.code == "internal"
    assert "secret" not in failure.message


def test_a_job_canceled_while_it_runs_stays_canceled(services: Services) -> None:
    asked = submitted(services)
    canceled = JobResult(asked, JobState.CANCELED)

    def cancel() -> None:
        complete_job(canceled, jobs=services.jobs, bucket=services.bucket)

    run_job(asked.id, replace(services, batches=Interrupted(cancel)))

    assert services.jobs.get(asked.id).state is JobState.CANCELED
    assert read_result(asked.id, bucket=services.bucket) == canceled


def test_a_late_duplicate_cannot_overwrite_the_end(services: Services) -> None:
    asked = submitted(services)

    def another_worker_is_faster() -> None:
        services.jobs.give_back(asked.id, 1)
        run_job(asked.id, services)

    run_job(asked.id, replace(services, batches=Interrupted(another_worker_is_faster)))

    end = read_result(asked.id, bucket=services.bucket)
    assert end is not None
    assert end.attempt == 2
    assert services.jobs.get(asked.id).state is JobState.SUCCEEDED


def test_an_end_that_only_the_bucket_knows_of_is_the_one_that_holds(services: Services) -> None:
    asked = submitted(services)
    done = JobResult(asked, JobState.SUCCEEDED, 1)
    services.bucket.put_first(f"results/{asked.id}/result.json", done.to_json(), content_type="application/json")

    holds = complete_job(JobResult(asked, JobState.CANCELED), jobs=services.jobs, bucket=services.bucket)

    assert holds == done
    assert services.jobs.get(asked.id).state is JobState.SUCCEEDED


def test_an_interactive_job_leaves_the_reply_of_the_hugging_face_api(services: Services, config: Settings) -> None:
    asked = asked_now(services, config)

    run_job(asked.id, services)

    reply = json.loads(services.payloads.get_reply(asked.id) or b"")
    assert [list(found) for found in reply] == [["score", "label", "mask"]] * 2
    assert services.payloads.collect(asked.id) is None
    assert services.jobs.get(asked.id).state is JobState.SUCCEEDED


def test_an_interactive_job_is_answered_although_the_bucket_is_away(services: Services, config: Settings) -> None:
    away = open_bucket(Settings(storage_endpoint="http://127.0.0.1:9", storage_access_key="a", storage_secret_key="b"))
    asked = asked_now(services, config)

    run_job(asked.id, replace(services, bucket=away))

    assert services.payloads.get_reply(asked.id)
    assert services.jobs.get(asked.id).state.is_final


def test_an_interactive_job_past_its_deadline_expires_without_work(services: Services, config: Settings) -> None:
    asked = asked_now(services, config, deadline_at=time.time() - 1)

    run_job(asked.id, services)

    assert services.jobs.get(asked.id).state is JobState.EXPIRED
    assert services.payloads.get_reply(asked.id) is None


def test_a_job_goes_back_to_its_queue_while_the_bucket_is_away(services: Services) -> None:
    class Away(Bucket):
        def put(self, *_: object, **__: object) -> None:
            raise StorageUnavailable("away")

    asked = submitted(services)
    away = Away(services.bucket._store, services.bucket._patient)

    run_job(asked.id, replace(services, bucket=away))

    job = services.jobs.get(asked.id)
    assert (job.state, job.lapses) == (JobState.QUEUED, 0)


def test_the_steward_publishes_a_job_whose_worker_was_lost(services: Services, steward: StewardServices) -> None:
    asked = submitted(services)
    assert isinstance(services.jobs.claim(asked.id, worker="lost"), Claim)
    wait_until(services.jobs.lapsed)

    sweep(steward)

    assert services.jobs.get(asked.id).state is JobState.QUEUED
    assert steward.queue.waiting(f"segment.{asked.model}.normal") == 1


def test_the_steward_does_not_repeat_a_job_that_was_stored_but_not_noted(
    services: Services, steward: StewardServices
) -> None:
    asked = submitted(services)
    assert isinstance(services.jobs.claim(asked.id, worker="lost"), Claim)
    done = JobResult(asked, JobState.SUCCEEDED, 1)
    services.bucket.put_first(f"results/{asked.id}/result.json", done.to_json(), content_type="application/json")
    wait_until(services.jobs.lapsed)

    sweep(steward)

    assert services.jobs.get(asked.id).state is JobState.SUCCEEDED
    assert steward.queue.waiting(f"segment.{asked.model}.normal") == 0


def test_a_job_that_kills_every_worker_is_given_up_with_the_reason(
    services: Services, steward: StewardServices
) -> None:
    asked = submitted(services)

    for _ in range(3):
        assert isinstance(services.jobs.claim(asked.id, worker="lost"), Claim)
        wait_until(services.jobs.lapsed)
        sweep(steward)

    job = services.jobs.get(asked.id)
    assert job.state is JobState.FAILED
    assert job.failure is not None
    assert job.failure.code == "attempts_exhausted"
    assert "3 workers" in job.failure.message


def test_the_steward_publishes_a_job_whose_message_was_lost(services: Services, steward: StewardServices) -> None:
    asked = submitted(services)

    def swept() -> bool:
        sweep(steward)
        return steward.queue.waiting(f"segment.{asked.model}.normal") == 1

    wait_until(swept)


def test_jobs_survive_the_loss_of_redis_with_all_its_data(
    services: Services, steward: StewardServices, new_bucket: str, config: Settings, redis_client: "redis.Redis"
) -> None:
    bucket = open_bucket(config, name=new_bucket)
    services, steward = replace(services, bucket=bucket), replace(steward, bucket=bucket, inbox_grace_seconds=-1)
    waiting, done = submitted(services), submitted(services)
    run_job(done.id, services)
    redis_client.flushall()

    recover(steward)
    recover(steward)

    assert services.jobs.get(waiting.id).request == waiting
    assert not services.jobs.is_known(done.id)
    assert steward.queue.waiting(f"segment.{waiting.model}.normal") == 1
    run_job(waiting.id, services)
    assert services.jobs.get(waiting.id).state is JobState.SUCCEEDED


def test_results_are_deleted_when_they_are_old(
    services: Services, steward: StewardServices, new_bucket: str, config: Settings
) -> None:
    bucket = open_bucket(config, name=new_bucket)
    services = replace(services, bucket=bucket)
    steward = replace(steward, bucket=bucket, result_ttl_seconds=2)
    old = submitted(services, id="0" * 12 + "a" * 20)
    run_job(old.id, services)

    def kept() -> set[str]:
        expire(steward)
        return {found.key.split("/")[1] for found in bucket.listing("results/")}

    assert kept() == {old.id}
    wait_until(lambda: not kept())
    young = submitted(services)
    run_job(young.id, services)
    assert kept() == {young.id}
