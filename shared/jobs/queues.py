"""The queues of the models: their bounds, how many jobs wait and run, how long jobs take, and where one stands."""

import time
from collections.abc import Sequence

from shared import redis_keys
from shared.jobs.creation import limit_arguments
from shared.jobs.messages import list_model_queues
from shared.jobs.model import Priority, QueuePlace
from shared.jobs.outcomes import (
    CheckQueueOutcome,
    CreateOutcome,
    FindPlaceOutcome,
    MeasureLoadOutcome,
    MeasureServiceOutcome,
)
from shared.jobs.records import read_place
from shared.jobs.refusals import build_refusal
from shared.jobs.script import Script
from shared.jobs.service_times import EndedJob, ServiceTimes
from shared.jobs.store_values import LoadSnapshot, QueueLimits
from shared.redis_client import RedisClient, translate_redis_errors
from shared.redis_clock import RedisClock


class JobQueues:
    """Thread-safe.  Every method may raise StoreUnavailable."""

    def __init__(self, client: RedisClient, clock: RedisClock) -> None:
        self._redis = client
        self._clock = clock
        self._check_queue = Script(client, "check_queue", CheckQueueOutcome)
        self._measure_load = Script(client, "measure_load", MeasureLoadOutcome)
        self._measure_service = Script(client, "measure_service", MeasureServiceOutcome)
        self._find_place = Script(client, "find_place", FindPlaceOutcome)

    @translate_redis_errors
    def check_bounds(
        self,
        queue: str,
        tenant: str,
        limits: QueueLimits,
        *,
        image_bytes: int = 0,
    ) -> None:
        """Check the bounds of a queue before anything is stored; JobStore.create() checks them again.

        Raises:
            QueueFull: one of them is reached.
        """
        outcome, _ = self._check_queue(
            {"unfinished": redis_keys.unfinished_jobs(queue, tenant)},
            queue=queue,
            tenant=tenant,
            bytes=image_bytes,
            pixels=0,
            **limit_arguments(limits),
        )
        if outcome is not CheckQueueOutcome.FREE:
            raise build_refusal(CreateOutcome(outcome), limits, self._clock.now())

    @translate_redis_errors
    def list_names(self) -> Sequence[str]:
        return sorted(self._redis.smembers(redis_keys.QUEUES))

    @translate_redis_errors
    def backlog(self, queue: str) -> int:
        """Return how many jobs are queued in a queue, whether or not they can be claimed yet."""
        with self._redis.pipeline(transaction=False) as batch:
            for key in (redis_keys.queued_jobs, redis_keys.suspected_jobs, redis_keys.delayed_jobs):
                batch.zcard(key(queue))
            return sum(batch.execute())

    @translate_redis_errors
    def running_count(self) -> int:
        return int(self._redis.zcard(redis_keys.LEASES))

    @translate_redis_errors
    def measure_load(self, model: str) -> LoadSnapshot:
        """Return the load of a model's workers, in one round trip: it is part of the latency of a request."""
        sent_at = time.monotonic()
        _, (completed, running, used_memory, max_memory, now, *queued) = self._measure_load(
            {"leases": redis_keys.LEASES, "completed": redis_keys.COMPLETED},
            model=model,
            queues=list_model_queues(model),
        )
        self._clock.observe(float(now), sent_at=sent_at)
        counts = {priority: int(count) for priority, count in zip(Priority, queued, strict=True)}
        return LoadSnapshot(counts, int(running), int(completed), int(used_memory), int(max_memory))

    @translate_redis_errors
    def measure_service(self, model: str) -> ServiceTimes:
        """Return what is known of the time that jobs of a model take."""
        keys = {"ended_work": redis_keys.ended_work(model), "leases": redis_keys.LEASES}
        sent_at = time.monotonic()
        _, (ended, running, now) = self._measure_service(keys)
        self._clock.observe(float(now), sent_at=sent_at)
        jobs = [EndedJob.from_json(text) for text in reversed(ended)]
        return ServiceTimes.measure(jobs, float(now), running=int(running))

    @translate_redis_errors
    def find_place(self, job_id: str) -> QueuePlace | None:
        """Return where a queued job stands; None if it is not queued, or cannot be claimed yet."""
        outcome, values = self._find_place({}, id=job_id)
        return read_place(values) if outcome is FindPlaceOutcome.PLACED else None
