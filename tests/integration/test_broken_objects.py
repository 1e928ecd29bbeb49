"""Objects that the object store cannot read or copy, as after the loss of a disk, hold up no others."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from uuid import uuid4

import pytest

from shared.errors import StorageUnavailable
from shared.jobs.completion import complete_job
from shared.jobs.inputs import EndedInput, InputMover
from shared.jobs.model import JobRequest, JobState
from shared.jobs.purge import purge_job
from shared.jobs.result import JobResult
from shared.jobs.store import JobStore, open_job_store
from shared.redis_client import connect
from shared.settings import Settings
from shared.storage.bucket import Bucket, open_bucket
from shared.storage.failures import Failures
from shared.storage.keys import inbox_key, input_key, results_prefix
from tests.conftest import Storage
from tests.support.environment import get_fields
from tests.support.jobs import build_request, store_input
from tests.support.steward import build_steward
from tests.support.storage_proxy import Exchange, open_storage_proxy
from worker.steward import recovery as recovery_module

# More than one page of a recovery, and more than its threads.
PAGE, INPUTS = 10, 30


@pytest.fixture
def settings(clean_redis: str, storage: Storage, new_bucket: str) -> Settings:
    return Settings(
        redis_url=clean_redis,
        **get_fields(storage.get_env(new_bucket)),
    )


@pytest.fixture
def bucket(settings: Settings) -> Bucket:
    return open_bucket(settings)


@pytest.fixture
def jobs(settings: Settings) -> JobStore:
    return open_job_store(connect(settings), settings)


Damage = Callable[[Callable[[Exchange], bool]], Bucket]


@pytest.fixture
def damage(settings: Settings, storage: Storage) -> Iterator[Damage]:
    """A function that returns the bucket as it is if the object store fails some requests for ever."""
    with ExitStack() as stack:

        def open_damaged(is_broken: Callable[[Exchange], bool]) -> Bucket:
            def change(exchange: Exchange) -> None:
                if not exchange.status and is_broken(exchange):
                    exchange.refuse(500, "InternalError")

            url = stack.enter_context(open_storage_proxy(storage, change))
            return open_bucket(settings.model_copy(update={"storage_endpoint": url}))

        yield open_damaged


def put_input(bucket: Bucket) -> JobRequest:
    request = build_request()
    store_input(bucket, request)
    return request


def test_an_input_that_cannot_be_read_holds_up_no_other_recovery(
    settings: Settings, jobs: JobStore, bucket: Bucket, damage: Damage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recovery_module, "PAGE", PAGE)
    broken, *lost = [put_input(bucket) for _ in range(INPUTS)]
    steward = build_steward(settings, jobs, damage(lambda exchange: exchange.path.endswith(broken.id)))

    with pytest.raises(StorageUnavailable):
        steward.recovery.recover_jobs()

    assert [request.id for request in lost if not jobs.is_known(request.id)] == []
    assert not jobs.is_known(broken.id)


def test_an_input_that_cannot_be_moved_holds_up_no_recovery_and_no_other_move(
    settings: Settings, jobs: JobStore, bucket: Bucket, damage: Damage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recovery_module, "PAGE", PAGE)
    broken, ended, *lost = [put_input(bucket) for _ in range(INPUTS)]
    for request in (broken, ended):
        jobs.create(request)
        complete_job(JobResult(request, JobState.SUCCEEDED), jobs=jobs, bucket=bucket)
    damaged = damage(lambda exchange: broken.id in exchange.headers.get("x-amz-copy-source", ""))

    with pytest.raises(StorageUnavailable):
        build_steward(settings, jobs, damaged).recovery.recover_jobs()

    assert [request.id for request in lost if not jobs.is_known(request.id)] == []
    assert [found.key for found in bucket.list_objects("inputs/")] == [input_key(ended.id)]
    in_inbox = {found.key for found in bucket.list_objects("inbox/")}
    assert in_inbox == {inbox_key(request.id) for request in (broken, *lost)}


def test_a_worker_moves_the_inputs_that_can_be_moved(bucket: Bucket, damage: Damage) -> None:
    broken, *others = [put_input(bucket).id for _ in range(3)]
    mover = InputMover(damage(lambda exchange: broken in exchange.headers.get("x-amz-copy-source", "")), 60)

    with pytest.raises(StorageUnavailable):
        mover.move([EndedInput(job_id, JobState.SUCCEEDED) for job_id in (broken, *others)])

    assert [found.key for found in bucket.list_objects("inbox/")] == [inbox_key(broken)]
    assert {found.key for found in bucket.list_objects("inputs/")} == {input_key(job_id) for job_id in others}


def test_a_purge_that_cannot_be_completed_holds_up_no_other_one(
    settings: Settings, jobs: JobStore, bucket: Bucket, damage: Damage
) -> None:
    broken, other = (put_input(bucket) for _ in range(2))
    for request in (broken, other):
        purge_job(request.id, jobs=jobs, bucket=bucket)
        bucket.put(f"{results_prefix(request.id)}late", b"", content_type="text/plain")
    damaged = damage(lambda exchange: "list-type=" in exchange.path and broken.id in exchange.path)

    with pytest.raises(StorageUnavailable):
        build_steward(settings, jobs, damaged).complete_purges()

    assert bucket.is_empty(results_prefix(other.id))
    assert not bucket.is_empty(results_prefix(broken.id))


def test_many_errors_in_a_row_are_an_outage_and_scattered_ones_are_not() -> None:
    def fail(failures: Failures) -> None:
        with failures.tolerate(uuid4().hex):
            raise StorageUnavailable("no")

    failures = Failures(max_in_a_row=3)
    for _ in range(5):
        fail(failures)
        fail(failures)
        with failures.tolerate("good"):
            pass
    fail(failures)
    fail(failures)
    with pytest.raises(StorageUnavailable):
        fail(failures)
    with pytest.raises(StorageUnavailable):
        failures.raise_first()
    Failures().raise_first()
