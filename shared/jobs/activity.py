"""The queues of a model at this moment, and its last hour by minute."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from shared import redis_keys
from shared.jobs.ids import read_creation_time
from shared.jobs.messages import queue_name
from shared.jobs.model import JobState, Priority
from shared.redis_client import RedisClient, translate_redis_errors
from shared.redis_clock import RedisClock

MINUTES = 60
# The oldest job of each tenant is among the first of its queue.
_FIRST = 100
_ERROR = "error:"


@dataclass(frozen=True, slots=True)
class QueueDepth:
    """The jobs of one queue.

    queued: that can be claimed now.  suspects: of these, those that are run alone.  delayed: that cannot be yet.
    oldest_at: when the oldest of the first jobs in line was created, unix seconds; None without a job.
    """

    priority: Priority
    queued: int
    suspects: int
    delayed: int
    oldest_at: float | None


@dataclass(frozen=True, slots=True)
class Minute:
    """The jobs of a model that ended in one minute.

    at: its begin, unix seconds.  ended: jobs by final state.  errors: failed jobs by code.
    images: that were on a device; device_ms: their shares of its time.
    mean_batch_size: over these images; None without one.
    """

    at: int
    ended: Mapping[JobState, int]
    errors: Mapping[str, int]
    images: int
    device_ms: int
    mean_batch_size: float | None


class ModelActivity:
    """Thread-safe.  Every method may raise StoreUnavailable."""

    def __init__(self, client: RedisClient, clock: RedisClock) -> None:
        self._redis = client
        self._clock = clock

    @translate_redis_errors
    def measure_queues(self, model: str) -> Sequence[QueueDepth]:
        """Return the queues of a model, the highest priority first."""
        with self._redis.pipeline(transaction=False) as batch:
            for priority in Priority:
                queue = queue_name(model, priority)
                batch.zcard(redis_keys.queued_jobs(queue))
                batch.zcard(redis_keys.suspected_jobs(queue))
                batch.zcard(redis_keys.delayed_jobs(queue))
                batch.zrange(redis_keys.queued_jobs(queue), 0, _FIRST - 1)
                batch.zrange(redis_keys.suspected_jobs(queue), 0, _FIRST - 1)
            found = batch.execute()
        parts = [found[index : index + 5] for index in range(0, len(found), 5)]
        return [_build_depth(priority, *part) for priority, part in zip(Priority, parts, strict=True)]

    @translate_redis_errors
    def read_minutes(self, model: str) -> Sequence[Minute]:
        """Return the last hour by minute, the present one last."""
        last = int(self._clock.now() // 60)
        numbers = range(last - MINUTES + 1, last + 1)
        with self._redis.pipeline(transaction=False) as batch:
            for number in numbers:
                batch.hgetall(redis_keys.ended_jobs(model, number))
            found = batch.execute()
        return [_build_minute(60 * number, counts) for number, counts in zip(numbers, found, strict=True)]


def _build_depth(
    priority: Priority, queued: int, suspects: int, delayed: int, first: Sequence[str], first_suspects: Sequence[str]
) -> QueueDepth:
    oldest = min((read_creation_time(job_id) for job_id in (*first, *first_suspects)), default=None)
    return QueueDepth(priority, queued + suspects, suspects, delayed, oldest)


def _build_minute(at: int, counts: Mapping[str, str]) -> Minute:
    images = int(counts.get("images", 0))
    return Minute(
        at,
        ended={state: int(counts.get(state, 0)) for state in JobState if state.is_final},
        errors={name.removeprefix(_ERROR): int(count) for name, count in counts.items() if name.startswith(_ERROR)},
        images=images,
        device_ms=int(counts.get("device_ms", 0)),
        mean_batch_size=round(int(counts["batch_sizes"]) / images, 2) if images else None,
    )
