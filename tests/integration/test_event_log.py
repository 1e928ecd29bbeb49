"""The log of a job's events, written by the scripts that change the job; and the place of a queued job."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import redis

from shared import redis_keys
from shared.jobs.event_log import EventLog, WatchedJob
from shared.jobs.model import ImageFacts, JobRequest, JobState, Priority, QueuePlace
from shared.jobs.script import MAX_LOG_BYTES
from shared.jobs.store import Claim, JobStore
from shared.redis_client import connect
from shared.settings import Settings
from tests.support.jobs import MODEL, build_request
from tests.support.redis_memory import fill
from tests.support.survey import find_stalled


@pytest.fixture
def jobs(clean_redis: str) -> JobStore:
    return JobStore(connect(Settings(redis_url=clean_redis)), lease_seconds=60, max_attempts=3, retry_delay_seconds=0)


@pytest.fixture
def log(clean_redis: str) -> EventLog:
    return EventLog(connect(Settings(redis_url=clean_redis)))


def watch(log: EventLog, job_id: str) -> WatchedJob:
    (found,) = log.watch([job_id])
    assert found is not None
    return found


def list_names(log: EventLog, job_id: str) -> list[str]:
    return [event.name for event in watch(log, job_id).events]


def claim(jobs: JobStore) -> Claim:
    found = jobs.attempts.claim(MODEL, worker="w", may_isolate=True)
    assert isinstance(found, Claim)
    return found


def build_sized_request(megapixels: int, priority: Priority = Priority.NORMAL) -> JobRequest:
    return build_request(image=ImageFacts("jpeg", 1000 * megapixels, 1000, 0, "00" * 32), priority=priority)


@contextmanager
def listen(client: redis.Redis) -> Iterator[list[str]]:
    """Yield the events that are published while the block runs, once it has ended."""
    published: list[str] = []
    with client.pubsub(ignore_subscribe_messages=True) as subscription:
        subscription.subscribe(redis_keys.EVENTS)
        subscription.get_message(timeout=5)
        yield published
        while (message := subscription.get_message(timeout=0.2)) is not None:
            published.append(message["data"].decode())


def test_each_change_of_a_job_is_one_event_in_the_order_of_their_numbers(jobs: JobStore, log: EventLog) -> None:
    request = build_request()

    jobs.create(request)
    first = claim(jobs)
    jobs.attempts.postpone(request.id, first.attempt_name, jitter=0, is_counted=True)
    jobs.attempts.requeue_delayed(request.id, f"segment.{MODEL}.normal", message="m")
    second = claim(jobs)
    jobs.attempts.abandon(request.id, second.attempt_name)
    jobs.attempts.requeue_stalled(find_stalled(jobs)[0], message="m")
    claim(jobs)
    jobs.finish(request, JobState.SUCCEEDED)

    events = watch(log, request.id).events
    assert [(event.name, event.data) for event in events] == [
        ("queued", {}),
        ("running", {"attempt": 1}),
        ("requeued", {"reason": "delayed"}),
        ("requeued", {"reason": "delay_over"}),
        ("running", {"attempt": 2}),
        ("requeued", {"reason": "stalled"}),
        ("running", {"attempt": 3}),
        ("succeeded", {}),
    ]
    assert [event.number for event in events] == sorted({event.number for event in events})


def test_a_repeated_claim_and_a_second_end_are_no_events(jobs: JobStore, log: EventLog) -> None:
    request = build_request()
    jobs.create(request)
    claim(jobs)

    jobs.finish(request, JobState.FAILED)
    jobs.finish(request, JobState.SUCCEEDED)

    assert list_names(log, request.id) == ["queued", "running", "failed"]


def test_a_discarded_or_purged_job_has_no_log(jobs: JobStore, log: EventLog, redis_client: redis.Redis) -> None:
    discarded, purged = build_request(), build_request()
    jobs.create(discarded)
    jobs.create(purged)

    jobs.discard(discarded)
    jobs.purge(purged.id)

    assert log.watch([discarded.id, purged.id]) == [None, None]
    assert redis_client.exists(redis_keys.job(discarded.id), redis_keys.job(purged.id)) == 0


def test_the_log_is_bounded_and_keeps_the_newest_events(
    jobs: JobStore, log: EventLog, redis_client: redis.Redis
) -> None:
    request = build_request()
    jobs.create(request)
    attempt = claim(jobs).attempt_name

    for number in range(200):
        jobs.attempts.log_stage(request.id, attempt, f"stage-{number}")

    events = watch(log, request.id).events
    text = redis_client.hget(redis_keys.job(request.id), "events")
    assert text is not None
    assert len(text) <= MAX_LOG_BYTES
    assert [event.data["stage"] for event in events] == [f"stage-{number}" for number in range(200 - len(events), 200)]
    assert len(events) > 40


def test_a_stage_of_an_earlier_attempt_is_not_logged(jobs: JobStore, log: EventLog) -> None:
    request = build_request()
    jobs.create(request)
    earlier = claim(jobs)
    jobs.attempts.release(request.id, earlier.attempt_name, message="m")
    claim(jobs)

    jobs.attempts.log_stage(request.id, earlier.attempt_name, "fetch")

    assert "stage" not in list_names(log, request.id)


def test_changes_are_published_once_somebody_watches_the_job(
    jobs: JobStore, log: EventLog, redis_client: redis.Redis
) -> None:
    watched, other = build_request(), build_request()
    jobs.create(watched)
    jobs.create(other)
    watch(log, watched.id)

    with listen(redis_client) as published:
        claims = [claim(jobs), claim(jobs)]

    assert published == [watched.id]
    assert {one.request.id: one.is_watched for one in claims} == {watched.id: True, other.id: False}


def test_a_renewal_tells_whether_the_job_is_watched_by_now(jobs: JobStore, log: EventLog) -> None:
    request = build_request()
    jobs.create(request)
    attempt = claim(jobs).attempt_name

    before = jobs.attempts.renew(request.id, attempt)
    watch(log, request.id)
    after = jobs.attempts.renew(request.id, attempt)

    assert before is not None
    assert after is not None
    assert (before.is_watched, after.is_watched) == (False, True)


def test_a_job_that_redis_does_not_know_gets_no_record_by_being_watched(
    log: EventLog, redis_client: redis.Redis
) -> None:
    assert log.watch(["0" * 32]) == [None]
    assert redis_client.keys("*job*") == []


def test_a_log_expires_with_the_record(jobs: JobStore, log: EventLog, redis_client: redis.Redis) -> None:
    request = build_request()
    jobs.create(request)
    claim(jobs)
    jobs.finish(request, JobState.SUCCEEDED)

    watch(log, request.id)

    assert redis_client.ttl(redis_keys.job(request.id)) > 0


def test_events_are_logged_while_redis_is_out_of_memory(
    jobs: JobStore, log: EventLog, redis_client: redis.Redis
) -> None:
    request = build_request()
    jobs.create(request)

    with fill(redis_client, share=1.1):
        attempt = claim(jobs)
        jobs.attempts.log_stage(request.id, attempt.attempt_name, "fetch")
        jobs.finish(request, JobState.SUCCEEDED)
        assert list_names(log, request.id) == ["queued", "running", "stage", "succeeded"]


def test_a_log_of_a_record_of_an_earlier_version_begins_with_its_next_event(
    jobs: JobStore, log: EventLog, redis_client: redis.Redis
) -> None:
    request = build_request()
    jobs.create(request)
    redis_client.hdel(redis_keys.job(request.id), "events", "pixels")

    claim(jobs)

    assert list_names(log, request.id) == ["running"]


def test_a_place_counts_the_jobs_before_it_and_their_pixels_by_the_mean(jobs: JobStore) -> None:
    first, second, third = (build_sized_request(megapixels) for megapixels in (4, 2, 1))
    for one in (first, second, third):
        jobs.create(one)

    assert [jobs.queues.find_place(one.id) for one in (first, second, third)] == [
        QueuePlace(1, 4_000_000),
        QueuePlace(2, 2_000_000 + 2_500_000),
        QueuePlace(3, 7_000_000),
    ]
    claim(jobs)
    assert [jobs.queues.find_place(one.id) for one in (first, second, third)] == [
        None,
        QueuePlace(1, 2_000_000),
        QueuePlace(2, 3_000_000),
    ]


def test_a_place_is_that_in_the_fair_order(jobs: JobStore) -> None:
    long_backlog = [build_request(tenant="lab") for _ in range(5)]
    for one in long_backlog:
        jobs.create(one)
    other = build_request(tenant="shop")
    jobs.create(other)
    requests = {one.id: one for one in (*long_backlog, other)}
    places = {job_id: place.position for job_id in requests if (place := jobs.queues.find_place(job_id))}

    claimed = [claim(jobs).request.id for _ in requests]

    assert places[other.id] <= 2
    assert sorted(places, key=places.__getitem__) == claimed


@pytest.mark.parametrize("leave", ["finish", "discard", "purge", "postpone", "claim"])
def test_a_job_that_left_the_queue_counts_no_pixels(jobs: JobStore, leave: str, redis_client: redis.Redis) -> None:
    left, other = build_sized_request(8), build_sized_request(1)
    jobs.create(left)
    jobs.create(other)
    if leave == "finish":
        jobs.finish(left, JobState.CANCELED)
    elif leave == "discard":
        jobs.discard(left)
    elif leave == "purge":
        jobs.purge(left.id)
    else:
        attempt = claim(jobs).attempt_name
        if leave == "postpone":
            jobs.attempts.postpone(left.id, attempt, jitter=0, is_counted=True)
    sums = redis_client.hvals(redis_keys.QUEUED_PIXELS)

    assert sums == [b"1000000"]
    if leave == "postpone":
        jobs.attempts.requeue_delayed(left.id, f"segment.{MODEL}.normal", message="m")
        assert redis_client.hvals(redis_keys.QUEUED_PIXELS) == [b"9000000"]
        claim(jobs)
    claim(jobs)
    assert redis_client.hvals(redis_keys.QUEUED_PIXELS) == []


def test_jobs_of_higher_priorities_come_before_it(jobs: JobStore) -> None:
    low, normal, interactive = (build_sized_request(n, priority) for n, priority in enumerate(reversed(Priority), 1))
    for one in (low, normal, interactive):
        jobs.create(one)

    places = [jobs.queues.find_place(one.id) for one in (low, normal, interactive)]

    assert places == [QueuePlace(3, 6_000_000), QueuePlace(2, 5_000_000), QueuePlace(1, 3_000_000)]


def test_canceled_jobs_are_no_work_for_those_that_come_when_the_queue_is_empty(jobs: JobStore) -> None:
    canceled, later = build_sized_request(8), build_sized_request(1)
    jobs.create(canceled)
    jobs.finish(canceled, JobState.CANCELED)

    jobs.create(later)

    assert jobs.queues.find_place(later.id) == QueuePlace(1, 1_000_000)


def test_a_job_that_cannot_be_claimed_yet_has_no_place(jobs: JobStore) -> None:
    request = build_request()
    jobs.create(request)
    jobs.attempts.postpone(request.id, claim(jobs).attempt_name, jitter=0, is_counted=True)

    assert jobs.get(request.id).state is JobState.QUEUED
    assert jobs.queues.find_place(request.id) is None


def test_the_time_of_jobs_is_measured_by_their_pixels(jobs: JobStore) -> None:
    for megapixels in (1, 2, 4) * 10:
        request = build_sized_request(megapixels)
        jobs.create(request)
        claim(jobs)
        jobs.finish(request, JobState.SUCCEEDED, timings_ms={"queue": 900.0, "device": 20.0 + 30.0 * megapixels})

    times = jobs.queues.measure_service(MODEL)

    assert times.fixed_ms == pytest.approx(20, abs=0.1)
    assert times.ms_per_megapixel == pytest.approx(30, abs=0.1)
    # No job was queued while another ended, so nothing tells how much the workers can do.
    assert times.rate is None


def test_memory_of_a_queued_job(jobs: JobStore, redis_client: redis.Redis, capsys: pytest.CaptureFixture[str]) -> None:
    request = build_request()
    jobs.create(request)
    key = redis_keys.job(request.id)
    before = redis_client.memory_usage(key, samples=0)

    redis_client.hdel(key, "events", "pixels")

    without = redis_client.memory_usage(key, samples=0)
    assert before is not None
    assert without is not None
    with capsys.disabled():
        print(json.dumps({"record_bytes": before, "without_events_and_pixels": without}))
    # A stream of its own would take 4.4 kB.
    assert before - without < 400
