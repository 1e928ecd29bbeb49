"""The whole life of jobs on a real Valkey as a state machine, with a model of the bucket: submissions, claims, stalls,
requeues, ends, cancellations, lost messages and losses of all data of Redis, in any order.

A job has one final state, of one attempt; none is lost; attempts have unique names; and a job that does no harm is
never given up because of others.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace

import pytest
import redis
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from shared import redis_keys
from shared.broker.envelope import encode_message
from shared.broker.queues import JobQueue
from shared.errors import UnknownJob
from shared.jobs.messages import job_queue, queue_name
from shared.jobs.model import JobRequest, JobState, Priority
from shared.jobs.outcomes import ClaimOutcome, ReleaseOutcome, RequeueStalledOutcome
from shared.jobs.store import Claim, JobStore, TakenMessage
from shared.redis_client import connect
from shared.settings import Settings
from tests.support.jobs import MODEL, build_request
from tests.support.survey import find_delayed, find_stalled

QUEUES = [queue_name(MODEL, priority) for priority in Priority]
MAX_ATTEMPTS = 2
MAX_RETRIES = 1
# Processes by their worker.
HOSTS = {"a1": "a", "a2": "a", "b1": "b"}
HOST_NAMES = st.sampled_from(sorted(HOSTS))


@dataclass
class ExpectedJob:
    """A job that was accepted; `is_known` to Redis, `attempt_name` of the attempt that has its lease."""

    request: JobRequest
    is_poison: bool
    is_known: bool = False
    attempt_name: str = ""
    stalls: int = 0
    retries: int = 0


@dataclass(frozen=True)
class Attempt:
    job: ExpectedJob
    claim: Claim
    is_exposed: bool


@dataclass(frozen=True)
class Result:
    """What result.json says."""

    state: JobState
    attempt_name: str
    reason: str = ""


@dataclass
class Bucket:
    """The inputs, and the results, of which the first one stays."""

    inbox: set[str] = field(default_factory=set)
    results: dict[str, Result] = field(default_factory=dict)


class JobLife(RuleBasedStateMachine):
    """Leases last, and expire when their process ends or freezes."""

    def __init__(self, redis_url: str) -> None:
        super().__init__()
        self.client = redis.Redis.from_url(redis_url, decode_responses=True)
        self.client.flushall()
        own = connect(Settings(redis_url=redis_url))
        self.store = JobStore(
            own, lease_seconds=1000, max_attempts=MAX_ATTEMPTS, max_retries=MAX_RETRIES, retry_delay_seconds=0
        )
        self.queue = JobQueue(own)
        self.bucket = Bucket()
        self.jobs: dict[str, ExpectedJob] = {}
        # By their process; and those of a process that was frozen, or whose job Redis has lost.
        self.running: dict[str, list[Attempt]] = {host: [] for host in HOSTS}
        self.zombies: list[Attempt] = []
        self.attempt_names: set[str] = set()

    def is_open(self, job: ExpectedJob) -> bool:
        return job.is_known and not self.read_state(job).is_final

    def read_state(self, job: ExpectedJob) -> JobState:
        return self.store.get(job.request.id).state

    def list_attempts(self) -> list[Attempt]:
        return [*self.zombies, *(attempt for held in self.running.values() for attempt in held)]

    # Submission.

    @initialize()
    def create_backlog(self) -> None:
        for is_poison in (False, True, False, False):
            self.submit(Priority.NORMAL, is_poison, is_late=False, reach="message")

    @rule(
        priority=st.sampled_from(Priority),
        is_poison=st.booleans(),
        is_late=st.sampled_from([False, False, True]),
        reach=st.sampled_from(["bucket", "record", "message", "message"]),
    )
    def submit(self, priority: Priority, is_poison: bool, is_late: bool, reach: str) -> None:
        """Accept a job; its gateway may end before it has recorded it, or before it has sent the message."""
        deadline = time.time() - 1 if is_late else None
        request = build_request(priority=priority, deadline_at=deadline)
        job = self.jobs[request.id] = ExpectedJob(request, is_poison)
        self.bucket.inbox.add(request.id)
        if reach != "bucket":
            self.create(job, message=encode_message(job_queue(request)) if reach == "message" else None)

    def create(self, job: ExpectedJob, *, message: str | None, is_recovered: bool = False) -> None:
        self.store.create(job.request, message=message, is_recovered=is_recovered)
        job.is_known, job.attempt_name, job.stalls, job.retries = True, "", 0, 0

    @rule(queue=st.sampled_from(QUEUES), is_lost=st.booleans())
    def disturb_messages(self, queue: str, is_lost: bool) -> None:
        """Lose a message, or deliver one twice."""
        if is_lost:
            self.client.rpop(queue)
        else:
            self.client.lpush(queue, encode_message(queue))

    # Workers.

    @rule(
        host=HOST_NAMES,
        queue=st.sampled_from([None, *QUEUES]),
        may_isolate=st.sampled_from([True, True, False]),
        count=st.integers(1, 3),
    )
    def claim(self, host: str, queue: str | None, may_isolate: bool, count: int) -> None:
        for _ in range(count):
            self.try_claim(host, queue, may_isolate)

    def try_claim(self, host: str, queue: str | None, may_isolate: bool) -> bool:
        """Claim a job, with a message if there is one; False if there was none to claim."""
        if any(attempt.claim.is_isolated for attempt in self.running[host]):
            return False
        taken = queue is not None and self.client.rpop(queue) is not None
        message = TakenMessage(queue, encode_message(queue)) if taken and queue else None
        claim = self.store.attempts.claim(MODEL, worker=HOSTS[host], message=message, may_isolate=may_isolate)
        if not isinstance(claim, Claim):
            assert claim is ClaimOutcome.EMPTY
            return False
        self.take(host, claim, may_isolate)
        return True

    def take(self, host: str, claim: Claim, may_isolate: bool) -> None:
        job = self.jobs[claim.request.id]
        assert claim.attempt_name not in self.attempt_names
        self.attempt_names.add(claim.attempt_name)
        assert job.is_known
        assert not job.attempt_name  # without an attempt there is no lease
        assert claim.is_isolated == (job.stalls > 0)
        assert claim.is_late == (job.request.deadline_at is not None)
        if claim.is_isolated:
            assert may_isolate
            assert not self.list_suspects(HOSTS[host])
        job.attempt_name = claim.attempt_name
        attempt = Attempt(job, claim, is_exposed=not claim.is_isolated)
        if claim.is_late:
            self.end(attempt.job, Result(JobState.EXPIRED, claim.attempt_name))
        else:
            self.running[host].append(attempt)

    def list_suspects(self, worker: str) -> list[Attempt]:
        """Return the suspects of which a worker has the lease."""
        held = [attempt for host, held in self.running.items() if HOSTS[host] == worker for attempt in held]
        return [one for one in held if one.claim.is_isolated and one.job.attempt_name == one.claim.attempt_name]

    @precondition(lambda self: any(map(self.find_unstarted, HOSTS)))
    @rule(data=st.data())
    def start_isolated(self, data: st.DataObject) -> None:
        self.start(data.draw(st.sampled_from([host for host in HOSTS if self.find_unstarted(host)])))

    def find_unstarted(self, host: str) -> Attempt | None:
        """Return the suspect of a process that runs nothing else."""
        held = self.running[host]
        return held[0] if len(held) == 1 and not held[0].is_exposed else None

    def start(self, host: str) -> None:
        attempt = self.find_unstarted(host)
        assert attempt
        is_started = self.store.attempts.start_isolated(attempt.claim)
        assert is_started == self.has_lease(attempt)
        self.running[host] = [replace(attempt, is_exposed=True)] if is_started else []

    def has_lease(self, attempt: Attempt) -> bool:
        return attempt.job.is_known and attempt.job.attempt_name == attempt.claim.attempt_name

    @rule()
    def renew(self) -> None:
        for attempt in [one for held in self.running.values() for one in held]:
            renewal = self.store.attempts.renew(attempt.job.request.id, attempt.claim.attempt_name)
            assert (renewal is not None) == self.has_lease(attempt)

    @precondition(lambda self: self.list_ready())
    @rule(data=st.data(), state=st.sampled_from([JobState.SUCCEEDED, JobState.FAILED]), is_crash=st.booleans())
    def complete(self, data: st.DataObject, state: JobState, is_crash: bool) -> None:
        """End an attempt, also one whose lease is lost; its process may end once the result is stored."""
        attempt = data.draw(st.sampled_from(self.list_ready()))
        # Another attempt may have ended the job, and then this one has no effect.
        result = Result(state, attempt.claim.attempt_name)
        self.forget(attempt)
        if is_crash:
            self.bucket.results.setdefault(attempt.job.request.id, result)
            self.store.attempts.abandon(attempt.job.request.id, attempt.claim.attempt_name)
        else:
            self.end(attempt.job, result)

    def list_ready(self) -> list[Attempt]:
        """Return the attempts that can end: a poison job ends its process instead."""
        return [one for one in self.list_attempts() if one.is_exposed and not one.job.is_poison]

    def forget(self, attempt: Attempt) -> None:
        for held in (self.zombies, *self.running.values()):
            if attempt in held:
                held.remove(attempt)

    def end(self, job: ExpectedJob, result: Result) -> None:
        """The bucket decides how a job ended; then Redis is told, and the input is deleted."""
        final = self.bucket.results.setdefault(job.request.id, result)
        was_open = self.is_open(job)
        assert self.store.finish(job.request, final.state) == was_open
        job.attempt_name = ""
        self.bucket.inbox.discard(job.request.id)

    @precondition(lambda self: self.list_attempts())
    @rule(data=st.data(), how=st.sampled_from(["release", "postpone", "postpone counted", "postpone counted"]))
    def give_back(self, data: st.DataObject, how: str) -> None:
        attempt = data.draw(st.sampled_from(self.list_attempts()))
        job, name = attempt.job, attempt.claim.attempt_name
        is_counted = how == "postpone counted"
        self.forget(attempt)
        if how == "release":
            outcome = self.store.attempts.release(job.request.id, name, message=encode_message(job_queue(job.request)))
        else:
            outcome = self.store.attempts.postpone(job.request.id, name, jitter=0.5, is_counted=is_counted)
        if not self.has_lease(attempt):
            assert outcome is ReleaseOutcome.LOST
        elif is_counted and job.retries >= MAX_RETRIES:
            assert outcome is ReleaseOutcome.EXHAUSTED
            self.end(job, Result(JobState.FAILED, name, "retries"))
        else:
            assert outcome is ReleaseOutcome.QUEUED
            job.attempt_name = ""
            job.retries += is_counted
            self.reconcile()

    # Faults.

    @rule(host=HOST_NAMES, is_frozen=st.booleans(), is_noticed=st.sampled_from([True, True, False]))
    def lose_process(self, host: str, is_frozen: bool, is_noticed: bool) -> None:
        """A process ends, or it is frozen beyond its leases and goes on later.

        If it runs a suspect, then only because of it.
        """
        held = self.running[host]
        if any(one.claim.is_isolated and one.is_exposed and not one.job.is_poison for one in held):
            return
        self.running[host] = []
        for attempt in held:
            self.store.attempts.abandon(attempt.job.request.id, attempt.claim.attempt_name)
        if is_frozen:
            self.zombies += held
        if is_noticed:
            self.reconcile()

    @rule(is_noticed=st.booleans())
    def wipe_redis(self, is_noticed: bool) -> None:
        self.client.flushall()
        for job in self.jobs.values():
            job.is_known, job.attempt_name = False, ""
        if is_noticed:
            self.recover()

    # The gateway and the steward.

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        if found := [job for job in self.jobs.values() if self.is_open(job)]:
            self.end(data.draw(st.sampled_from(found)), Result(JobState.CANCELED, ""))

    @rule()
    def recover(self) -> None:
        for job_id in sorted(self.bucket.inbox):
            job = self.jobs[job_id]
            if job_id in self.bucket.results:
                self.end(job, self.bucket.results[job_id])
            elif not job.is_known:
                self.create(job, message=encode_message(job_queue(job.request)), is_recovered=True)

    @rule()
    def reconcile(self) -> None:
        for job_id in find_stalled(self.store):
            self.requeue_stalled(self.jobs[job_id])
        for queue in QUEUES:
            for job_id in find_delayed(self.store, queue):
                self.store.attempts.requeue_delayed(job_id, queue, message=encode_message(queue))
            if missing := self.queue.missing_count(queue):
                self.queue.publish(queue, missing)

    def requeue_stalled(self, job: ExpectedJob) -> None:
        if result := self.bucket.results.get(job.request.id):
            self.end(job, result)
            return
        before = self.store.get(job.request.id)
        message = encode_message(job_queue(job.request))
        match self.store.attempts.requeue_stalled(job.request.id, message=message):
            case RequeueStalledOutcome.QUEUED:
                job.stalls = self.store.get(job.request.id).stalls
                assert before.stalls <= job.stalls <= before.stalls + 1
                job.attempt_name = ""
            case RequeueStalledOutcome.EXHAUSTED:
                assert job.is_poison
                self.end(job, Result(JobState.FAILED, before.attempt_name, "attempts"))
            case outcome:
                pytest.fail(f"not to be requeued: {outcome}")

    # What holds at any time.

    @invariant()
    def redis_agrees_with_the_bucket(self) -> None:
        for job in list(self.jobs.values())[-6:]:
            result = self.bucket.results.get(job.request.id)
            try:
                found = self.store.get(job.request.id)
            except UnknownJob:
                assert not job.is_known
                assert result or job.request.id in self.bucket.inbox
                continue
            assert job.is_known
            assert (found.state is JobState.RUNNING) == bool(job.attempt_name)
            if found.state.is_final:
                assert result
                assert found.state is result.state
            elif job.attempt_name:
                assert found.attempt_name == job.attempt_name

    @invariant()
    def a_lost_lease_has_no_effect(self) -> None:
        """The job runs again, and the attempt of before goes on."""
        for attempt in self.zombies[-3:]:
            job_id, name = attempt.job.request.id, attempt.claim.attempt_name
            if attempt.job.attempt_name not in ("", name):
                assert not self.store.attempts.renew(job_id, name)
                assert not self.store.attempts.start_isolated(attempt.claim)
                assert self.store.attempts.release(job_id, name, message="m") is ReleaseOutcome.LOST

    @invariant()
    def every_open_job_is_in_one_place(self) -> None:
        queued = [job for job in self.jobs.values() if not job.attempt_name and self.is_open(job)]
        assert sum(map(self.store.queues.backlog, QUEUES)) == len(queued)
        assert self.store.queues.running_count() == len([job for job in self.jobs.values() if job.attempt_name])

    def teardown(self) -> None:
        """After any faults the jobs end, once the faults are over."""
        try:
            self.run_until_all_have_ended()
            self.check_end()
        finally:
            self.client.flushall()
            self.client.close()

    def run_until_all_have_ended(self) -> None:
        for host in HOSTS:
            self.end_all(host)
        for _ in range(3 * len(self.jobs) * (MAX_ATTEMPTS + 2) + 10):
            self.recover()
            self.reconcile()
            queues = [queue for queue in QUEUES if self.client.llen(queue)]
            if not self.bucket.inbox:
                return
            # A job that is not running has a message, with which a process begins.
            assert queues or self.store.queues.running_count()
            for host, queue in zip(HOSTS, queues * 3, strict=False):
                is_claimed = self.try_claim(host, queue, may_isolate=True)
                while is_claimed:
                    is_claimed = self.try_claim(host, None, may_isolate=True)
            for host in HOSTS:
                self.end_all(host)
        pytest.fail("some jobs are never run")

    def end_all(self, host: str) -> None:
        """Complete what a process runs, unless a poison job ends it; a suspect runs alone."""
        if any(attempt.is_exposed and attempt.job.is_poison for attempt in self.running[host]):
            self.lose_process(host, is_frozen=False, is_noticed=False)
        for attempt in [one for one in self.running[host] if one.is_exposed]:
            self.complete_attempt(attempt)
        if self.find_unstarted(host):
            self.start(host)
            self.end_all(host)

    def complete_attempt(self, attempt: Attempt) -> None:
        self.forget(attempt)
        self.end(attempt.job, Result(JobState.SUCCEEDED, attempt.claim.attempt_name))

    def check_end(self) -> None:
        assert set(self.bucket.results) == set(self.jobs)
        for job_id, job in self.jobs.items():
            result = self.bucket.results[job_id]
            assert not job.is_known or self.read_state(job) is result.state
            assert job.is_poison or result.reason != "attempts"
            assert not job.is_poison or result.state is not JobState.SUCCEEDED
        assert not any(self.store.queues.backlog(queue) for queue in QUEUES)
        assert not self.client.exists(redis_keys.LEASES, redis_keys.ISOLATED)


def test_every_job_ends_once_and_none_is_given_up_because_of_others(clean_redis: str) -> None:
    run_state_machine_as_test(
        lambda: JobLife(clean_redis), settings=settings(max_examples=50, stateful_step_count=50, deadline=None)
    )
