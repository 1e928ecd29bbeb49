"""Tenants share a queue fairly, by the cost of their jobs, on a real Valkey."""

import uuid
from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import combinations

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared import redis_keys
from shared.jobs.fairness import compute_cost
from shared.jobs.messages import job_queue
from shared.jobs.model import ImageFacts, JobRequest, JobState
from shared.jobs.outcomes import ReleaseOutcome
from shared.jobs.store import Claim, JobStore
from shared.redis_client import connect
from shared.settings import Settings
from tests.support.jobs import build_request

# A device's largest batch by default.
BATCH = 16
MEGAPIXELS = st.sampled_from([0.3, 2, 12, 60])
JOBS = st.lists(st.tuples(st.sampled_from(["alice", "bob", "carol"]), MEGAPIXELS), min_size=2, max_size=40)


@pytest.fixture
def jobs(clean_redis: str) -> JobStore:
    return JobStore(connect(Settings(redis_url=clean_redis)), lease_seconds=60, max_attempts=3)


class Queue:
    """The queue of a model of its own."""

    def __init__(self, jobs: JobStore) -> None:
        self.jobs = jobs
        self.model = f"acme/{uuid.uuid4().hex}"

    def submit(self, tenant: str, megapixels: float = 0.3) -> JobRequest:
        image = ImageFacts("png", 1000, int(1000 * megapixels), 100, "00" * 32)
        request = build_request(model=self.model, tenant=tenant, image=image)
        self.jobs.create(request)
        return request

    def claim(self) -> Claim:
        claim = self.jobs.attempts.claim(self.model, worker="w")
        assert isinstance(claim, Claim)
        return claim

    def finish(self, request: JobRequest) -> None:
        self.jobs.finish(request, JobState.SUCCEEDED)


@pytest.fixture
def queue(jobs: JobStore) -> Queue:
    return Queue(jobs)


@given(submitted=JOBS)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_tenants_with_waiting_jobs_get_the_same_work(jobs: JobStore, submitted: Sequence[tuple[str, float]]) -> None:
    """The bound is that of start-time fair queuing: their work differs by the cost of one job of each."""
    queue = Queue(jobs)
    requests = [queue.submit(tenant, size) for tenant, size in submitted]
    waiting = Counter(request.tenant for request in requests)
    most = {
        tenant: max(compute_cost(request.image) for request in requests if request.tenant == tenant)
        for tenant in waiting
    }
    work: defaultdict[str, float] = defaultdict(float)
    order: defaultdict[str, list[str]] = defaultdict(list)

    for _ in requests:
        request = queue.claim().request
        work[request.tenant] += compute_cost(request.image)
        order[request.tenant].append(request.id)
        waiting[request.tenant] -= 1
        for one, other in combinations((tenant for tenant, count in waiting.items() if count), 2):
            assert abs(work[one] - work[other]) <= most[one] + most[other]

    for tenant in waiting:
        assert order[tenant] == [request.id for request in requests if request.tenant == tenant]


def test_a_backlog_of_500_does_not_delay_the_job_of_another_tenant(queue: Queue) -> None:
    for _ in range(500):
        queue.submit("alice")
    in_hand = [queue.claim() for _ in range(2 * BATCH)]

    bob = queue.submit("bob")

    next_claims = [queue.claim().request for _ in range(2)]
    assert {claim.request.tenant for claim in in_hand} == {"alice"}
    assert bob.id in {request.id for request in next_claims}


def test_a_tenant_that_returns_neither_saved_nor_owes_work(queue: Queue) -> None:
    """Alice's 50 jobs have cost no other tenant, and Bob's pause has given him no advance."""
    for _ in range(50):
        queue.submit("alice")
        queue.finish(queue.claim().request)
    for _ in range(10):
        queue.submit("alice")
        queue.submit("bob")

    first = [queue.claim().request.tenant for _ in range(10)]

    assert Counter(first) == {"alice": 5, "bob": 5}


def test_canceled_jobs_count_for_nothing(jobs: JobStore, queue: Queue) -> None:
    bob = [queue.submit("bob") for _ in range(20)]
    for request in [queue.submit("alice") for _ in range(100)]:
        jobs.finish(request, JobState.CANCELED)

    alice = queue.submit("alice")

    assert alice.id in {queue.claim().request.id for _ in range(2)}
    assert bob


def test_large_images_of_one_tenant_do_not_delay_small_ones_of_another(queue: Queue) -> None:
    for _ in range(20):
        queue.submit("alice", 60)
    for _ in range(20):
        queue.submit("bob")

    first = [queue.claim().request.tenant for _ in range(16)]

    # 60 megapixels cost seven times as much.
    assert Counter(first)["bob"] >= 13


def test_a_job_that_is_given_back_is_the_next(jobs: JobStore, queue: Queue) -> None:
    queue.submit("alice")
    for _ in range(5):
        queue.submit("alice")
        queue.submit("bob")
    claim = queue.claim()
    queue.claim()

    outcome = jobs.attempts.release(claim.request.id, claim.attempt_name, message="{}")

    assert outcome is ReleaseOutcome.QUEUED
    assert queue.claim().request.id == claim.request.id


def test_places_of_an_earlier_version_come_first(jobs: JobStore, queue: Queue, clean_redis: str) -> None:
    """They are times of creation, which no virtual time precedes that begins with the present."""
    client = redis.Redis.from_url(clean_redis)
    earlier = queue.submit("alice")
    client.zadd(redis_keys.queued_jobs(job_queue(earlier)), {earlier.id: jobs.clock.now() - 5})
    client.delete(redis_keys.VIRTUAL_TIMES)

    queue.submit("bob")

    assert queue.claim().request.id == earlier.id
