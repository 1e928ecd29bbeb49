"""The job store against a real Valkey: what may happen to a job, in any order, and what may not."""

import time
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.errors import IdempotencyConflict, QueueFull, UnknownJob
from shared.jobs.model import NEXT, Failure, JobState, Priority
from shared.jobs.store import Admission, Claim, How, Idempotency, JobStore, Work
from shared.redis_client import connect
from shared.settings import Settings
from tests.support.jobs import MODEL, request
from tests.support.polling import wait_until

QUEUE = f"segment.{MODEL}.normal"


@pytest.fixture
def jobs(clean_redis: str) -> JobStore:
    return store(clean_redis, lease_seconds=60)


def store(redis_url: str, *, lease_seconds: float) -> JobStore:
    client = connect(Settings(redis_url=redis_url))
    return JobStore(client, lease_seconds=lease_seconds, max_attempts=3, result_ttl_seconds=3600)


def claimed(jobs: JobStore, job_id: str) -> Claim:
    claim = jobs.claim(job_id, worker="w")
    assert isinstance(claim, Claim)
    return claim


def test_a_new_job_is_read_back_as_it_was_asked_for(jobs: JobStore) -> None:
    asked = request(deadline_at=time.time() + 100)

    jobs.create(asked)

    job = jobs.get(asked.id)
    assert job.request == asked
    assert job.state is JobState.QUEUED
    assert jobs.backlog(QUEUE) == 1


def test_a_job_is_claimed_once(jobs: JobStore) -> None:
    asked = request()
    jobs.create(asked)

    first, second = jobs.claim(asked.id, worker="a"), jobs.claim(asked.id, worker="b")

    assert first == Claim(asked, 1)
    assert second == "running"
    assert jobs.get(asked.id).worker == "a"
    assert jobs.backlog(QUEUE) == 0


def test_a_job_past_its_deadline_is_not_claimed(jobs: JobStore) -> None:
    asked = request(deadline_at=time.time() - 1)
    jobs.create(asked)

    assert jobs.claim(asked.id, worker="a") == "late"


def test_a_message_of_a_job_that_nobody_knows_is_refused(jobs: JobStore) -> None:
    assert jobs.claim("0" * 32, worker="a") == "unknown"


def test_a_job_ends_once(jobs: JobStore) -> None:
    asked = request()
    jobs.create(asked)

    first = jobs.finish(
        asked, JobState.FAILED, failure=Failure("engine_failed", "It broke."), timings_ms={"decode": 1.5}
    )
    second = jobs.finish(asked, JobState.SUCCEEDED)

    assert (first, second) == (True, False)
    assert jobs.get(asked.id).state is JobState.FAILED
    assert jobs.get(asked.id).failure == Failure("engine_failed", "It broke.")
    assert jobs.get(asked.id).timings_ms == {"decode": 1.5}


def test_a_lease_that_is_not_renewed_lapses_and_the_job_is_queued_again(clean_redis: str) -> None:
    jobs = store(clean_redis, lease_seconds=0.2)
    asked = request()
    jobs.create(asked)
    claimed(jobs, asked.id)

    wait_until(lambda: jobs.lapsed() == [asked.id])

    assert jobs.requeue_stalled(asked.id) == "queued"
    assert not jobs.renew(asked.id, 1)
    assert jobs.get(asked.id).lapses == 1
    assert jobs.get(asked.id).state is JobState.QUEUED


def test_a_renewed_lease_is_left_alone(jobs: JobStore) -> None:
    asked = request()
    jobs.create(asked)
    claimed(jobs, asked.id)

    assert jobs.renew(asked.id, 1)
    assert jobs.lapsed() == []
    assert jobs.requeue_stalled(asked.id) == "alive"


def test_a_job_that_lost_its_last_worker_is_exhausted_until_it_is_ended(clean_redis: str) -> None:
    jobs = store(clean_redis, lease_seconds=0.01)
    asked = request()
    jobs.create(asked)
    outcomes = []

    for _ in range(3):
        claimed(jobs, asked.id)
        wait_until(jobs.lapsed)
        outcomes.append(jobs.requeue_stalled(asked.id))

    assert outcomes == ["queued", "queued", "exhausted"]
    assert jobs.lapsed() == [asked.id]


def test_a_job_given_back_by_its_worker_has_not_lost_one(jobs: JobStore) -> None:
    asked = request()
    jobs.create(asked)

    for attempt in range(1, 6):
        claimed(jobs, asked.id)
        jobs.give_back(asked.id, attempt)

    assert jobs.get(asked.id).lapses == 0
    assert jobs.get(asked.id).state is JobState.QUEUED


def test_a_canceled_job_loses_its_lease_and_cannot_be_claimed(jobs: JobStore) -> None:
    asked = request()
    jobs.create(asked)
    claimed(jobs, asked.id)

    jobs.finish(asked, JobState.CANCELED)

    assert not jobs.renew(asked.id, 1)
    assert jobs.claim(asked.id, worker="b") == "canceled"
    assert jobs.running() == 0


def test_a_full_queue_refuses_and_keeps_nothing(jobs: JobStore) -> None:
    jobs.create(request(), max_queued=1)
    refused = request()

    with pytest.raises(QueueFull):
        jobs.create(refused, max_queued=1)

    assert not jobs.is_known(refused.id)


def test_an_idempotency_key_stands_for_the_first_job(jobs: JobStore) -> None:
    first, second = request(), request()

    created = jobs.create(first, idempotency=Idempotency("k", "same"))
    repeated = jobs.create(second, idempotency=Idempotency("k", "same"))

    assert created == Admission(first.id, How.CREATED)
    assert repeated == Admission(first.id, How.REPEATED)
    assert not jobs.is_known(second.id)


def test_an_idempotency_key_cannot_be_used_for_something_else(jobs: JobStore) -> None:
    jobs.create(request(), idempotency=Idempotency("k", "one"))

    with pytest.raises(IdempotencyConflict):
        jobs.create(request(), idempotency=Idempotency("k", "another"))


def test_an_idempotency_key_belongs_to_its_tenant(jobs: JobStore) -> None:
    jobs.create(request(tenant="a"), idempotency=Idempotency("k", "one"))

    other = jobs.create(request(tenant="b"), idempotency=Idempotency("k", "another"))

    assert other.how is How.CREATED


def test_a_discarded_job_leaves_nothing(jobs: JobStore, redis_client: Any) -> None:
    asked, key = request(), Idempotency("k", "one")
    jobs.create(asked, idempotency=key)

    jobs.discard(asked, idempotency=key)

    with pytest.raises(UnknownJob):
        jobs.get(asked.id)
    assert jobs.newest("public", limit=10) == ([], None)
    assert jobs.create(request(), idempotency=key).how is How.CREATED


def test_the_same_work_is_joined_while_it_is_under_way_and_known_once_it_is_done(jobs: JobStore) -> None:
    first, work = request(), Work("same")
    jobs.create(first, work=work)

    joined = jobs.create(request(), work=work)
    jobs.finish(first, JobState.SUCCEEDED)
    known = jobs.create(request(), work=work)

    assert joined == Admission(first.id, How.JOINED)
    assert known == Admission(first.id, How.KNOWN)


@pytest.mark.parametrize("state", [JobState.FAILED, JobState.CANCELED, JobState.EXPIRED])
def test_work_that_did_not_succeed_is_done_anew(jobs: JobStore, state: JobState) -> None:
    first, second = request(), request()
    jobs.create(first, work=Work("same"))
    jobs.finish(first, state)

    assert jobs.create(second, work=Work("same")) == Admission(second.id, How.CREATED)


def test_work_that_was_discarded_is_done_anew(jobs: JobStore) -> None:
    first, second = request(), request()
    jobs.create(first, work=Work("same"))
    jobs.discard(first)

    assert jobs.create(second, work=Work("same")) == Admission(second.id, How.CREATED)


def test_who_takes_no_earlier_result_offers_his_own(jobs: JobStore) -> None:
    first, second = request(), request()
    jobs.create(first, work=Work("same"))

    insisted = jobs.create(second, work=Work("same", take=False))
    joined = jobs.create(request(), work=Work("same"))

    assert insisted == Admission(second.id, How.CREATED)
    assert joined == Admission(second.id, How.JOINED)


def test_the_last_to_leave_is_told_so(jobs: JobStore) -> None:
    first = request()
    jobs.create(first, work=Work("same"))
    jobs.create(request(), work=Work("same"))

    assert [jobs.leave(first.id), jobs.leave(first.id)] == [1, 0]


def test_jobs_are_listed_newest_first_page_by_page(jobs: JobStore) -> None:
    ids = []
    for number in range(5):
        asked = request(id=f"{number:032x}")
        jobs.create(asked)
        ids.append(asked.id)
    jobs.create(request(tenant="other"))
    jobs.create(request(priority=Priority.INTERACTIVE))

    first, cursor = jobs.newest("public", limit=3)
    second, end = jobs.newest("public", limit=3, before=cursor)

    assert [job.id for job in [*first, *second]] == ids[::-1]
    assert end is None


def test_old_jobs_leave_the_lists(jobs: JobStore) -> None:
    old, young = request(id=f"{1:032x}"), request(id=f"{5:032x}")
    jobs.create(old)
    jobs.create(young)

    jobs.unlist_before(f"{3:032x}")

    listed, _ = jobs.newest("public", limit=9)
    assert [job.id for job in listed] == [young.id]


def test_a_queued_job_without_a_message_is_forgotten(jobs: JobStore) -> None:
    asked = request()
    jobs.create(asked)

    wait_until(lambda: jobs.forgotten(QUEUE, grace_seconds=0.05, waiting_messages=0) == [asked.id])

    assert jobs.forgotten(QUEUE, grace_seconds=0.05, waiting_messages=0) == []


def test_a_job_that_waits_its_turn_is_not_forgotten(jobs: JobStore) -> None:
    for _ in range(3):
        jobs.create(request())

    assert jobs.forgotten(QUEUE, grace_seconds=0, waiting_messages=3) == []


def test_a_job_that_was_passed_over_is_forgotten(jobs: JobStore) -> None:
    lost, taken = request(), request()
    jobs.create(lost)
    jobs.create(request())
    jobs.create(taken)

    claimed(jobs, taken.id)

    assert lost.id in jobs.forgotten(QUEUE, grace_seconds=0, waiting_messages=1)


STEPS = st.lists(
    st.sampled_from(["claim", "renew", "give back", "lapse", "succeed", "fail", "cancel", "expire"]), max_size=12
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_whatever_happens_a_job_only_takes_legal_steps(clean_redis: str, steps: list[str]) -> None:
    jobs = store(clean_redis, lease_seconds=1e-9)
    asked = request()
    jobs.create(asked)
    before = jobs.get(asked.id)

    for step in steps:
        attempt = before.attempt
        {
            "claim": lambda: jobs.claim(asked.id, worker="w"),
            "renew": lambda attempt=attempt: jobs.renew(asked.id, attempt),
            "give back": lambda attempt=attempt: jobs.give_back(asked.id, attempt),
            "lapse": lambda: jobs.requeue_stalled(asked.id),
            "succeed": lambda: jobs.finish(asked, JobState.SUCCEEDED),
            "fail": lambda: jobs.finish(asked, JobState.FAILED),
            "cancel": lambda: jobs.finish(asked, JobState.CANCELED),
            "expire": lambda: jobs.finish(asked, JobState.EXPIRED),
        }[step]()
        after = jobs.get(asked.id)
        assert after.state is before.state or after.state in NEXT[before.state]
        assert (after.state is JobState.QUEUED) == (jobs.backlog(QUEUE) == 1)
        assert (after.state is JobState.RUNNING) == (jobs.running() == 1)
        before = after
    jobs.finish(asked, JobState.CANCELED)
    assert jobs.backlog(QUEUE) == jobs.running() == 0
    connect(Settings(redis_url=clean_redis)).flushall()
