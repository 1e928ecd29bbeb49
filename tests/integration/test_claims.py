"""The job store and its messages on a real Valkey as a state machine: claims, requeues and losses in any order.

No job is lost, none runs twice at a time, each claim takes the job that is due, a worker runs one suspect at a time,
and every job that can be claimed has a message, unless one was lost.
"""

import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

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
from shared.jobs.messages import job_queue, queue_name
from shared.jobs.model import MAX_PASSED_OVER, JobRequest, JobState, Priority
from shared.jobs.outcomes import ClaimOutcome, CreateOutcome
from shared.jobs.store import Claim, JobStore, TakenMessage
from shared.redis_client import connect
from shared.settings import Settings
from tests.support.jobs import build_request
from tests.support.survey import find_delayed

PRIORITIES = st.sampled_from(Priority)
WORKERS = st.sampled_from(["a", "b"])
# A regular slot, and one for interactive jobs only.
SLOTS = st.sampled_from([tuple(Priority), (Priority.INTERACTIVE,)])


@dataclass
class ExpectedJob:
    request: JobRequest
    attempt: int = 0
    attempt_name: str = ""
    state: JobState = JobState.QUEUED
    is_delayed: bool = False
    worker: str = ""
    stalls: int = 0
    is_exposed: bool = False

    @property
    def can_be_claimed(self) -> bool:
        return self.state is JobState.QUEUED and not self.is_delayed


class Claims(RuleBasedStateMachine):
    """Jobs of a model of its own, so that examples do not disturb each other.  Every lease expires at once."""

    def __init__(self, redis_url: str) -> None:
        super().__init__()
        self.client = redis.Redis.from_url(redis_url, decode_responses=True)
        own = connect(Settings(redis_url=redis_url))
        self.store = JobStore(own, lease_seconds=1e-9, max_attempts=10**6, retry_delay_seconds=0)
        self.queue = JobQueue(own)
        self.model = f"acme/{uuid.uuid4().hex}"
        # In the order of their places.
        self.jobs: list[ExpectedJob] = []
        self.passed_over: Counter[Priority] = Counter()
        self.taken: list[str] = []
        self.attempt_names: set[str] = set()
        self.lost: Counter[str] = Counter()

    def teardown(self) -> None:
        for job in self.jobs:
            self.store.finish(job.request, JobState.CANCELED)
        self.client.delete(*self.list_queues())
        assert self.client.hlen(redis_keys.ISOLATED) == 0
        self.client.close()

    def list_queues(self) -> list[str]:
        return [queue_name(self.model, priority) for priority in Priority]

    def list_claimable(self, priority: Priority) -> list[ExpectedJob]:
        return [job for job in self.jobs if job.can_be_claimed and job.request.priority is priority]

    def list_takeable(self, priority: Priority, takes_suspects: bool) -> list[ExpectedJob]:
        return [job for job in self.list_claimable(priority) if takes_suspects or not job.stalls]

    def list_suspects(self, worker: str) -> list[ExpectedJob]:
        """Return the suspects that a worker runs."""
        return [job for job in self.select(JobState.RUNNING) if job.stalls and job.worker == worker]

    def select(self, *states: JobState) -> list[ExpectedJob]:
        return [job for job in self.jobs if job.state in states]

    def expect_next(self, priorities: Sequence[Priority], takes_suspects: bool) -> ExpectedJob | None:
        waiting = [priority for priority in priorities if self.list_takeable(priority, takes_suspects)]
        due = [one for one in waiting if one in MAX_PASSED_OVER and self.passed_over[one] >= MAX_PASSED_OVER[one]]
        chosen = next(iter(due or waiting), None)
        if chosen is None:
            return None
        job = self.list_takeable(chosen, takes_suspects)[0]
        for priority in priorities:
            if priority is not chosen and self.list_claimable(priority):
                self.passed_over[priority] += 1
        self.passed_over[chosen] = 0
        return job

    @initialize()
    def create_backlog(self) -> None:
        """Enough jobs of the highest priority for one of a lower priority to be passed over as often as it may be."""
        for priority in [Priority.NORMAL] * 2 + [Priority.INTERACTIVE] * 6:
            self.create(priority)

    @rule(priority=PRIORITIES)
    def create(self, priority: Priority) -> None:
        request = build_request(model=self.model, priority=priority)
        self.store.create(request, message=encode_message(job_queue(request)))
        self.jobs.append(ExpectedJob(request))

    @rule(data=st.data())
    def take_message(self, data: st.DataObject) -> None:
        queue = data.draw(st.sampled_from(self.list_queues()))
        if self.client.rpop(queue):
            self.taken.append(queue)

    @precondition(lambda self: self.taken)
    @rule(data=st.data())
    def lose_message(self, data: st.DataObject) -> None:
        """A worker is killed between its message and its claim."""
        self.lost[self.pop_taken(data)] += 1

    @precondition(lambda self: self.taken)
    @rule(data=st.data(), priorities=SLOTS, worker=WORKERS, may_isolate=st.booleans())
    def claim_with_message(
        self, data: st.DataObject, priorities: Sequence[Priority], worker: str, may_isolate: bool
    ) -> None:
        queue = self.pop_taken(data)
        if not may_isolate or self.list_suspects(worker):
            # It is not put back for a suspect, which would wake the same worker again.
            self.lost[queue] += 1
        self.claim(priorities, TakenMessage(queue, encode_message(queue)), worker, may_isolate)

    @rule(priorities=SLOTS, worker=WORKERS, may_isolate=st.booleans())
    def claim_without_message(self, priorities: Sequence[Priority], worker: str, may_isolate: bool) -> None:
        self.claim(priorities, None, worker, may_isolate)

    def pop_taken(self, data: st.DataObject) -> str:
        return self.taken.pop(data.draw(st.integers(0, len(self.taken) - 1)))

    def claim(
        self, priorities: Sequence[Priority], message: TakenMessage | None, worker: str, may_isolate: bool
    ) -> None:
        expected = self.expect_next(priorities, takes_suspects=may_isolate and not self.list_suspects(worker))
        claim = self.store.attempts.claim(
            self.model, worker=worker, priorities=priorities, message=message, may_isolate=may_isolate
        )
        if expected is None:
            assert claim is ClaimOutcome.EMPTY
            return
        expected.attempt += 1
        expected.state, expected.worker, expected.is_exposed = JobState.RUNNING, worker, not expected.stalls
        assert isinstance(claim, Claim)
        assert claim == Claim(
            expected.request,
            expected.attempt,
            claim.attempt_name,
            is_isolated=expected.stalls > 0,
            is_recovered=expected.attempt > 1,
        )
        assert claim.attempt_name not in self.attempt_names
        self.attempt_names.add(claim.attempt_name)
        expected.attempt_name = claim.attempt_name
        queue = job_queue(expected.request)
        assert self.client.llen(queue) <= len(self.list_claimable(expected.request.priority))

    @precondition(lambda self: self.select(JobState.RUNNING, JobState.QUEUED))
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        job = data.draw(st.sampled_from(self.select(JobState.RUNNING, JobState.QUEUED)))
        state = JobState.SUCCEEDED if job.state is JobState.RUNNING else JobState.CANCELED
        assert self.store.finish(job.request, state)
        job.state, job.is_delayed = state, False

    @precondition(lambda self: self.jobs)
    @rule(data=st.data())
    def purge(self, data: st.DataObject) -> None:
        """A job of any state is deleted, and not created again by a steward that has just read its input."""
        job = data.draw(st.sampled_from(self.jobs))
        self.store.purge(job.request.id)
        self.jobs.remove(job)
        assert self.store.create(job.request).outcome is CreateOutcome.PURGED
        assert not self.store.is_known(job.request.id)

    @precondition(lambda self: self.select(JobState.RUNNING))
    @rule(data=st.data(), how=st.sampled_from(["stall", "release", "postpone"]))
    def requeue(self, data: st.DataObject, how: str) -> None:
        job = data.draw(st.sampled_from(self.select(JobState.RUNNING)))
        message = encode_message(job_queue(job.request))
        match how:
            case "stall":
                self.store.attempts.requeue_stalled(job.request.id, message=message)
                job.stalls += job.is_exposed
            case "release":
                self.store.attempts.release(job.request.id, job.attempt_name, message=message)
            case "postpone":
                self.store.attempts.postpone(job.request.id, job.attempt_name, jitter=0, is_counted=True)
        job.state, job.is_delayed = JobState.QUEUED, how == "postpone"

    @precondition(lambda self: self.select(JobState.RUNNING))
    @rule(data=st.data())
    def start_isolated(self, data: st.DataObject) -> None:
        job = data.draw(st.sampled_from(self.select(JobState.RUNNING)))
        assert self.store.attempts.start_isolated(Claim(job.request, job.attempt, job.attempt_name))
        job.is_exposed = True

    @precondition(lambda self: self.select(JobState.RUNNING, JobState.QUEUED))
    @rule(data=st.data())
    def release_with_an_old_attempt(self, data: st.DataObject) -> None:
        job = data.draw(st.sampled_from(self.select(JobState.RUNNING, JobState.QUEUED)))
        name = data.draw(st.sampled_from(sorted(self.attempt_names - {job.attempt_name}) or [""]))
        self.store.attempts.release(job.request.id, name, message=encode_message(job_queue(job.request)))

    @rule()
    def requeue_delayed(self) -> None:
        for queue in self.list_queues():
            for job_id in find_delayed(self.store, queue):
                self.store.attempts.requeue_delayed(job_id, queue, message=encode_message(queue))
        for job in self.jobs:
            job.is_delayed = False

    @rule()
    def republish(self) -> None:
        """Messages that were taken just now look like lost ones, so this may enqueue too many."""
        for queue in self.list_queues():
            if missing := self.queue.missing_count(queue):
                self.queue.publish(queue, missing)
        self.lost.clear()

    @invariant()
    def every_job_that_can_be_claimed_has_a_message(self) -> None:
        taken = Counter(self.taken)
        for priority in Priority:
            queue = queue_name(self.model, priority)
            messages = self.client.llen(queue) + taken[queue] + self.lost[queue]
            assert len(self.list_claimable(priority)) <= messages

    @invariant()
    def the_job_store_agrees(self) -> None:
        for priority in Priority:
            queued = [job for job in self.select(JobState.QUEUED) if job.request.priority is priority]
            assert self.store.queues.backlog(queue_name(self.model, priority)) == len(queued)
        for job in self.jobs[-3:]:
            found = self.store.get(job.request.id)
            assert (found.state, found.attempt, found.stalls) == (job.state, job.attempt, job.stalls)


def test_claims_follow_the_order_and_lose_nothing(clean_redis: str) -> None:
    run_state_machine_as_test(
        lambda: Claims(clean_redis), settings=settings(max_examples=60, stateful_step_count=40, deadline=None)
    )
