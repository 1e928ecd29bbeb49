"""Duties of several stewards over real stores: leases, recovery, slow stores, outages, and clocks."""

import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import redis
from prometheus_client import CollectorRegistry, generate_latest

from deploy.local.servers import ValkeyServer, free_ports
from shared import redis_keys
from shared.errors import DutyLeaseLost, StoreUnavailable
from shared.jobs import survey as survey_module
from shared.jobs.completion import read_result
from shared.jobs.model import JobRequest, JobState
from shared.jobs.result import JobResult
from shared.jobs.store import JobStore, open_job_store
from shared.jobs.survey import JobSurvey
from shared.redis_client import connect
from shared.settings import Settings
from shared.stack import StackIdentity
from shared.storage.bucket import Bucket, open_bucket
from shared.storage.clock import StoreClock
from shared.storage.keys import derived_key, inbox_key, result_key, results_prefix
from tests.conftest import Storage
from tests.support.environment import get_fields
from tests.support.jobs import build_request, store_input
from tests.support.polling import wait_until
from tests.support.steward import Steward, build_steward, follow_store
from tests.support.storage_proxy import Exchange, open_storage_proxy
from tests.support.survey import find_stalled
from tests.support.worker import build_worker, claim_job
from worker.steward import retention
from worker.steward.duties import Duty, DutyScheduler
from worker.steward.duty_runs import DutyRuns
from worker.steward.leases import LEASE_SECONDS as LEASE_SECONDS_OF_DUTIES
from worker.steward.leases import DutyLeases
from worker.steward.metrics import StoreCollector

LEASE_SECONDS = 0.5
RECOVERED_INPUTS = 500


@pytest.fixture
def settings(clean_redis: str, storage: Storage, new_bucket: str) -> Settings:
    return Settings(
        redis_url=clean_redis,
        **get_fields(storage.get_env(new_bucket)),
        lease_seconds=LEASE_SECONDS,
    )


@pytest.fixture
def jobs(settings: Settings) -> JobStore:
    return open_job_store(connect(settings), settings)


@pytest.fixture
def survey(settings: Settings) -> JobSurvey:
    return JobSurvey(connect(settings))


@pytest.fixture
def bucket(settings: Settings) -> Bucket:
    return open_bucket(settings)


@pytest.fixture
def steward(settings: Settings, jobs: JobStore, bucket: Bucket) -> Steward:
    return build_steward(settings, jobs, bucket)


def put_input(bucket: Bucket) -> JobRequest:
    """Store the input of a job that Redis does not know."""
    request = build_request()
    store_input(bucket, request)
    return request


def put_inputs(bucket: Bucket, count: int) -> list[str]:
    with ThreadPoolExecutor(16) as pool:
        return [request.id for request in pool.map(lambda _: put_input(bucket), range(count))]


def submit(jobs: JobStore, bucket: Bucket) -> JobRequest:
    request = put_input(bucket)
    jobs.create(request)
    return request


def count_recovered(steward: Steward) -> int:
    counter = steward.recovery.metrics._jobs.labels("recovered")
    return int(counter._value.get())


class SlowBucket(Bucket):
    """A bucket whose reads take long until it is told to be quick."""

    def __init__(self, bucket: Bucket) -> None:
        super().__init__(bucket._store, bucket._slow)
        self.quick = threading.Event()

    def get(self, key: str, etag: str | None = None) -> bytes:
        self.quick.wait(10)
        return super().get(key, etag)


def test_a_duty_is_run_by_one_steward_at_a_time_and_by_each_of_them(settings: Settings) -> None:
    running, most, runs = 0, 0, [0, 0]
    lock = threading.Lock()

    def build(number: int) -> Duty:
        def run() -> None:
            nonlocal running, most
            with lock:
                running += 1
                most = max(most, running)
                runs[number] += 1
            time.sleep(0.02)
            with lock:
                running -= 1

        return Duty("work", 0.001, run)

    schedulers = [
        DutyScheduler(
            [build(number)],
            DutyLeases(connect(settings)),
            DutyRuns(connect(settings), observe=lambda _duty, _seconds: None),
        )
        for number in range(2)
    ]
    for scheduler in schedulers:
        scheduler.start()
    wait_until(lambda: min(runs) >= 3, seconds=20)
    for scheduler in schedulers:
        scheduler.stop()
        scheduler.join(5)

    assert most == 1


def test_a_lease_is_renewed_while_a_duty_runs_and_free_after_it(settings: Settings) -> None:
    client = connect(settings)
    mine, other = (DutyLeases(client, lease_seconds=0.3) for _ in range(2))

    with mine.hold("work") as is_held:
        assert is_held
        until = time.monotonic() + 0.8
        while time.monotonic() < until:
            with other.hold("work") as is_taken:
                assert not is_taken
            time.sleep(0.02)
        mine.check("work")
    with other.hold("work") as is_held:
        assert is_held


def test_a_steward_that_died_leaves_its_duty_for_a_bounded_time(settings: Settings) -> None:
    client = connect(settings)
    client.set(redis_keys.duty_lease("work"), "of a dead one", ex=1)

    def can_run() -> bool:
        with DutyLeases(client).hold("work") as is_held:
            return is_held

    assert not can_run()
    wait_until(can_run)


def test_a_lost_lease_is_seen(settings: Settings) -> None:
    client, leases = connect(settings), DutyLeases(connect(settings), lease_seconds=0.1)

    def is_lost() -> bool:
        try:
            leases.check("work")
        except DutyLeaseLost:
            return True
        return False

    with leases.hold("work"):
        client.set(redis_keys.duty_lease("work"), "of another one")
        wait_until(is_lost)
    assert client.get(redis_keys.duty_lease("work")) == "of another one"


def test_a_lease_that_was_not_renewed_in_time_is_lost_before_redis_says_so(settings: Settings) -> None:
    """As after a pause of the steward: another one may have run the duty meanwhile."""
    now = 0.0
    leases = DutyLeases(connect(settings), monotonic=lambda: now)

    with leases.hold("work"):
        now = LEASE_SECONDS_OF_DUTIES - 0.1
        leases.check("work")
        now = LEASE_SECONDS_OF_DUTIES
        with pytest.raises(DutyLeaseLost):
            leases.check("work")


def test_a_steward_that_ends_interrupts_its_duty(settings: Settings) -> None:
    leases = DutyLeases(connect(settings))

    with leases.hold("work"):
        leases.give_up()
        with pytest.raises(DutyLeaseLost):
            leases.check("work")


def test_runs_are_recorded_by_the_clock_of_redis(settings: Settings, survey: JobSurvey) -> None:
    client, local = connect(settings), 100.0
    runs = DutyRuns(client, observe=lambda _duty, _seconds: None, now=lambda: local)
    runs.duty_completed("old", 0.1)
    local += 50
    runs.duty_completed("new", 0.1)

    runs.record()
    now = survey.find_stalled().now

    ages = {duty: now - at for duty, at in runs.read().items()}
    assert ages == {"old": pytest.approx(50, abs=2), "new": pytest.approx(0, abs=2)}


def test_runs_of_removed_duties_and_of_a_clock_that_was_set_back_are_forgotten(
    settings: Settings, survey: JobSurvey, redis_client: "redis.Redis"
) -> None:
    now = survey.find_stalled().now
    written = {"removed": now - 8 * 86400, "kept": now - 86400, "work": now + 86400}
    redis_client.hset(redis_keys.DUTY_RUNS, mapping=written)
    runs = DutyRuns(connect(settings), observe=lambda _duty, _seconds: None)
    runs.duty_completed("work", 0.1)

    runs.record()

    assert runs.read() == {"kept": pytest.approx(now - 86400), "work": pytest.approx(now, abs=5)}


def test_metrics_show_runs_and_the_oldest_jobs(
    settings: Settings, jobs: JobStore, survey: JobSurvey, bucket: Bucket
) -> None:
    runs = DutyRuns(connect(settings), observe=lambda _duty, _seconds: None)
    runs.duty_completed("recover_jobs", 0.1)
    runs.record()
    registry = CollectorRegistry()
    registry.register(StoreCollector(runs.read, survey.measure_ages))

    def read() -> dict[str, float]:
        lines = generate_latest(registry).decode().splitlines()
        return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if line[0] != "#")}

    age = 'maskmill_oldest_job_age_seconds{{state="{}"}}'.format
    assert {read()[age(state)] for state in ("queued", "running", "stalled")} == {0}
    first = submit(jobs, bucket)
    submit(jobs, bucket)
    assert claim_job(jobs, first.id)
    wait_until(lambda: read()[age("queued")] > 0.1 and read()[age("running")] > 0.1)
    assert read()[age("stalled")] == 0
    wait_until(lambda: read()[age("stalled")] > 0.1)
    assert read()[age("running")] == 0
    last_run = read()['maskmill_steward_duty_last_run_timestamp_seconds{duty="recover_jobs"}']
    assert last_run == pytest.approx(survey.find_stalled().now, abs=10)


def test_metrics_are_served_without_redis() -> None:
    settings = Settings(redis_url="redis://127.0.0.1:1")
    registry = CollectorRegistry()
    survey = JobSurvey(connect(settings))
    registry.register(StoreCollector(DutyRuns(connect(settings), observe=print).read, survey.measure_ages))

    assert generate_latest(registry) == b""


def test_each_lost_job_is_recovered_once_from_one_read_by_two_stewards_at_once(
    settings: Settings, jobs: JobStore, bucket: Bucket, storage: Storage
) -> None:
    ids = put_inputs(bucket, RECOVERED_INPUTS)
    reads: list[str] = []

    def count(exchange: Exchange) -> None:
        if not exchange.status and exchange.method in ("GET", "HEAD") and "list-type=" not in exchange.path:
            reads.append(exchange.path)

    with open_storage_proxy(storage, count) as url, ExitStack() as stack:
        seen = open_bucket(settings.model_copy(update={"storage_endpoint": url}))
        stewards = [build_steward(settings, jobs, seen) for _ in range(2)]
        reads.clear()
        leases = [DutyLeases(connect(settings)) for _ in stewards]
        pool = stack.enter_context(ThreadPoolExecutor())

        def recover(number: int) -> None:
            with leases[number].hold("recover_jobs") as is_held:
                if is_held:
                    stewards[number].recovery.recover_jobs()

        list(pool.map(recover, (0, 1)))
        list(pool.map(recover, (0, 1)))

    assert sorted(reads) == sorted(f"/{settings.storage_bucket}/{inbox_key(job_id)}" for job_id in ids)
    assert sum(map(count_recovered, stewards)) == RECOVERED_INPUTS
    assert {jobs.get(job_id).state for job_id in ids} == {JobState.QUEUED}


def test_a_recovered_job_whose_result_is_stored_is_not_run_again(
    settings: Settings, jobs: JobStore, bucket: Bucket, steward: Steward
) -> None:
    ended, waiting = put_input(bucket), put_input(bucket)
    result = JobResult(ended, JobState.SUCCEEDED, 1, "1-before")
    bucket.put_first(result_key(ended.id), result.to_json(), content_type="application/json")

    steward.recovery.recover_jobs()
    worker = build_worker(settings)
    for request in (ended, waiting):
        worker.run(request.id)

    assert read_result(ended.id, bucket=bucket) == result
    assert len(list(bucket.list_objects(f"results/{ended.id}/"))) == 1
    assert {jobs.get(request.id).state for request in (ended, waiting)} == {JobState.SUCCEEDED}
    assert bucket.is_empty("inbox/")


def test_a_slow_bucket_does_not_hold_up_stalled_jobs(settings: Settings, jobs: JobStore, bucket: Bucket) -> None:
    slow = SlowBucket(bucket)
    steward = build_steward(settings, jobs, slow)
    requests = [submit(jobs, bucket) for _ in range(20)]
    for request in requests:
        assert claim_job(jobs, request.id)
    ended = JobResult(requests[0], JobState.SUCCEEDED, 1, jobs.get(requests[0].id).attempt_name)
    bucket.put_first(result_key(ended.request.id), ended.to_json(), content_type="application/json")
    wait_until(lambda: len(find_stalled(jobs)) == len(requests))

    start = time.monotonic()
    steward.reconciler.requeue_stalled(steward.reconciler.find_stalled())
    elapsed = time.monotonic() - start
    slow.quick.set()

    assert elapsed < 3
    assert {jobs.get(request.id).state for request in requests} == {JobState.QUEUED}
    # Its worker looks for the result first.
    build_worker(settings).run(ended.request.id)
    assert jobs.get(ended.request.id).state is JobState.SUCCEEDED
    assert read_result(ended.request.id, bucket=bucket) == ended


def test_stalled_jobs_are_requeued_while_a_recovery_hangs(
    settings: Settings, jobs: JobStore, bucket: Bucket, steward: Steward
) -> None:
    put_input(bucket)
    released = threading.Event()

    class HangingBucket(Bucket):
        def get_metadata(self, key: str) -> Mapping[str, str]:
            released.wait(20)
            return super().get_metadata(key)

    recovery = replace(steward.recovery, bucket=HangingBucket(bucket._store, bucket._slow))
    reconciler = steward.reconciler
    scheduler = DutyScheduler(
        [
            Duty("recover_jobs", 0.1, recovery.recover_jobs),
            Duty("requeue_stalled", 0.1, reconciler.requeue_stalled, reconciler.find_stalled),
        ],
        DutyLeases(connect(settings)),
        DutyRuns(connect(settings), observe=lambda _duty, _seconds: None),
    )
    scheduler.start()
    request = submit(jobs, bucket)
    assert claim_job(jobs, request.id)

    wait_until(lambda: jobs.get(request.id).stalls == 1)
    released.set()
    scheduler.stop()
    scheduler.join(5)


@dataclass(frozen=True)
class OwnRedis:
    """A Valkey that a test may stop."""

    server: ValkeyServer
    settings: Settings


@pytest.fixture
def own_redis(settings: Settings, tmp_path: Path) -> Iterator[OwnRedis]:
    with ValkeyServer(tmp_path / "valkey", *free_ports(1)) as server:
        server.wait_ready()
        yield OwnRedis(
            server,
            settings.model_copy(
                update={"redis_url": server.url, "redis_timeout_seconds": 0.3, "lease_seconds": 1.5, "max_attempts": 9}
            ),
        )


def wait_persisted(settings: Settings) -> None:
    """Return when all data are on disk; Redis loses those of the last second when it is killed."""
    with redis.Redis.from_url(settings.redis_url, single_connection_client=True) as client:
        client.set("last", "")
        assert client.execute_command("WAITAOF", 1, 0, 10_000)[0] == 1


@pytest.mark.parametrize("fault", ["frozen", "restarted"])
def test_an_outage_of_redis_stalls_no_job_of_a_healthy_worker(own_redis: OwnRedis, bucket: Bucket, fault: str) -> None:
    settings = own_redis.settings
    worker = build_worker(settings)
    steward = build_steward(settings, worker.jobs, bucket)
    healthy, lost = (submit(worker.jobs, bucket) for _ in range(2))
    claim = worker.claim(healthy.id)
    assert claim
    assert worker.claim(lost.id)
    assert not steward.reconciler.find_stalled()

    def is_requeued() -> bool:
        try:
            steward.reconcile()
            return worker.jobs.get(lost.id).stalls == 1
        except StoreUnavailable:
            return False

    worker.leases.start()
    with worker.leases.hold(claim) as lease:
        if fault == "frozen":
            os.kill(own_redis.server.pid, signal.SIGSTOP)
        else:
            wait_persisted(settings)
            own_redis.server.kill()
        until = time.monotonic() + 2.5
        while time.monotonic() < until:
            assert not is_requeued()
        if fault == "frozen":
            os.kill(own_redis.server.pid, signal.SIGCONT)
        else:
            own_redis.server.start().wait_ready()
        wait_until(is_requeued, seconds=15)
        assert worker.jobs.get(healthy.id).stalls == 0
        assert lease.is_held
    worker.leases.stop()


@pytest.mark.parametrize("error_seconds", [-7 * 86400.0, 7 * 86400.0])
def test_a_wrong_clock_of_the_steward_changes_no_age(
    settings: Settings, jobs: JobStore, bucket: Bucket, monkeypatch: pytest.MonkeyPatch, error_seconds: float
) -> None:
    right = time.time
    monkeypatch.setattr(time, "time", lambda: right() + error_seconds)
    request = put_input(bucket)
    patient = build_steward(settings, jobs, bucket, inbox_grace_seconds=60, result_ttl_seconds=60)
    bucket.put(result_key(request.id), b"{}", content_type="application/json")

    patient.recovery.recover_jobs()
    patient.retention.delete_expired()

    assert not jobs.is_known(request.id)
    assert not bucket.is_empty("results/")

    prompt = build_steward(settings, jobs, bucket, inbox_grace_seconds=1, result_ttl_seconds=1)

    def is_done() -> bool:
        prompt.recovery.recover_jobs()
        prompt.retention.delete_expired()
        return jobs.is_known(request.id) and bucket.is_empty("results/")

    wait_until(is_done)


def test_what_is_old_behind_a_page_of_younger_objects_is_deleted_too(
    settings: Settings, jobs: JobStore, bucket: Bucket, monkeypatch: pytest.MonkeyPatch, redis_client: "redis.Redis"
) -> None:
    """As behind jobs that were queued for long, or with ids by a clock that was fast."""
    monkeypatch.setattr(retention, "PAGE", 2)
    monkeypatch.setattr(survey_module, "PAGE", 2)
    prompt = build_steward(settings, jobs, bucket, result_ttl_seconds=3)
    hidden = result_key("f" * 32)
    bucket.put(hidden, b"{}", content_type="application/json")
    redis_client.sadd(redis_keys.TENANTS, "shop")
    queued = [submit(jobs, bucket).id for _ in range(3)]
    redis_client.zadd(redis_keys.tenant_jobs("shop"), dict.fromkeys(("0" * 32, *queued, "f" * 32), 0))

    def put_young() -> None:
        for number in range(3):
            bucket.put(result_key(f"{number:032}"), b"{}", content_type="application/json")

    def is_deleted() -> bool:
        put_young()
        prompt.retention.delete_expired()
        assert hidden in {found.key for found in bucket.list_objects("results/")}
        prompt.retention.delete_hidden()
        return hidden not in {found.key for found in bucket.list_objects("results/")}

    wait_until(is_deleted)
    assert len(list(bucket.list_objects("results/"))) == 3
    assert redis_client.zrange(redis_keys.tenant_jobs("shop"), 0, -1) == [job_id.encode() for job_id in queued]


def test_what_was_derived_later_is_deleted_with_its_result(settings: Settings, jobs: JobStore, bucket: Bucket) -> None:
    prompt = build_steward(settings, jobs, bucket, result_ttl_seconds=3)
    old, young = "0" * 32, "1" * 32
    bucket.put(result_key(old), b"{}", content_type="application/json")

    def is_deleted() -> bool:
        # As if it were rendered just before its result expires.
        if not bucket.is_empty(results_prefix(old)):
            bucket.put(derived_key(old, "1-a", "rle.json"), b"{}", content_type="application/json")
        bucket.put(derived_key(young, "1-a", "rle.json"), b"{}", content_type="application/json")
        prompt.retention.delete_expired()
        return bucket.is_empty(results_prefix(old))

    wait_until(is_deleted)
    assert not bucket.is_empty(results_prefix(young))


def test_the_clock_of_the_store_is_known_from_the_mark_of_the_stack(settings: Settings, bucket: Bucket) -> None:
    local = 0.0
    clock = StoreClock(lambda: time.monotonic() + local)
    identity = StackIdentity(connect(settings), bucket, "here", clock=clock, now=clock.monotonic)
    assert not clock.is_fresh

    identity.renew()
    assert abs(clock.now() - follow_store(bucket).now()) < 2

    # The mark of another steward says nothing of when it was written.
    before = clock.now()
    StackIdentity(connect(settings), bucket, "here").renew()
    identity.renew()
    assert 0 <= clock.now() - before < 2

    # But for a while at most nothing is known.
    local += 3600
    identity.renew()
    assert clock.is_fresh
    assert abs(clock.now() - follow_store(bucket).now()) < 2


def test_a_recovery_ends_when_another_steward_has_taken_over(
    settings: Settings, jobs: JobStore, bucket: Bucket
) -> None:
    ids = put_inputs(bucket, 100)
    steward = build_steward(settings, jobs, bucket)
    checks = iter(range(5))

    def check() -> None:
        """Fail within the first page."""
        if next(checks, None) is None:
            raise DutyLeaseLost("no")

    with pytest.raises(DutyLeaseLost):
        replace(steward.recovery, check=check).recover_jobs()

    assert sum(map(jobs.is_known, ids)) < 5
