"""What a worker counts, for Prometheus."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from shared.jobs.model import JobState, Priority
from worker.batching.scheduler import BatchReport

SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)


class WorkerMetrics:
    """Fills pipeline.Observer and engine.BatchObserver."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._ended = Counter(
            "maskmill_jobs_ended_total", "Jobs brought to an end.", ["priority", "state", "code"], registry=registry
        )
        self._dropped = Counter(
            "maskmill_jobs_dropped_total", "Messages and attempts that led to nothing.", ["reason"], registry=registry
        )
        self._stages = Histogram(
            "maskmill_stage_seconds", "Time in each stage of a job.", ["stage"], registry=registry, buckets=SECONDS
        )
        self._batch_images = Histogram(
            "maskmill_batch_images", "Images in a batch.", registry=registry, buckets=(1, 2, 4, 8, 16, 32, 64)
        )
        self._batches = Counter(
            "maskmill_batches_total", "Batches, by the reason they were sent.", ["reason"], registry=registry
        )
        self._batch_wait = Histogram(
            "maskmill_batch_wait_seconds", "Time an image waited for its batch.", registry=registry, buckets=SECONDS
        )
        self._device = Histogram(
            "maskmill_batch_device_seconds", "Time a batch took on the device.", registry=registry, buckets=SECONDS
        )
        self._ready = Gauge("maskmill_worker_ready", "1 while the worker takes jobs.", registry=registry)

    def job_ended(self, priority: Priority, state: JobState, code: str, timings_ms: dict[str, float]) -> None:
        """One attempt brought its job to an end."""
        self._ended.labels(priority, state, code).inc()
        for stage, elapsed_ms in timings_ms.items():
            self._stages.labels(stage).observe(elapsed_ms / 1000)

    def job_dropped(self, reason: str) -> None:
        """A message or an attempt led to nothing."""
        self._dropped.labels(reason).inc()

    def batch_done(self, report: BatchReport) -> None:
        """A batch is over."""
        self._batch_images.observe(report.size)
        self._batches.labels(report.reason).inc()
        self._device.observe(report.device_ms / 1000)
        for wait_ms in report.wait_ms:
            self._batch_wait.observe(wait_ms / 1000)

    def images_dropped(self, *, canceled: int, late: int) -> None:
        """Images left the queue of the device without any of its time."""
        self._dropped.labels("canceled").inc(canceled)
        self._dropped.labels("late").inc(late)

    def ready(self, is_ready: bool) -> None:
        """Say whether the worker takes jobs."""
        self._ready.set(int(is_ready))
