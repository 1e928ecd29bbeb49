"""Prometheus metrics of a worker."""

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from shared.jobs.model import JobState, Priority
from worker.batching.scheduler import BatchReport

BUCKETS_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)


class WorkerMetrics:
    """Fills worker.batching.remote.JobObserver and worker.batching.scheduler.BatchObserver."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._ended = Counter(
            "maskmill_jobs_ended_total", "Completed jobs.", ["priority", "state", "code"], registry=registry
        )
        self._dropped = Counter(
            "maskmill_jobs_dropped_total",
            "Attempts and queued images that were discarded without a result.",
            ["reason"],
            registry=registry,
        )
        self._stages = build_histogram(
            registry, "maskmill_stage_seconds", "Duration of each stage of a job.", labels=["stage"]
        )
        self._batch_images = Histogram(
            "maskmill_batch_images", "Images in a batch.", registry=registry, buckets=(1, 2, 4, 8, 16, 32, 64)
        )
        self._batches = Counter(
            "maskmill_batches_total", "Batches by the reason of their dispatch.", ["reason"], registry=registry
        )
        self._batch_wait = build_histogram(
            registry, "maskmill_batch_wait_seconds", "Time of an image in the queue of the device."
        )
        self._device = build_histogram(registry, "maskmill_batch_device_seconds", "Duration of a batch on the device.")
        self._cost = Gauge(
            "maskmill_batch_cost_seconds",
            "Learned cost of a batch: of the batch as such, of each image, of each megapixel.",
            ["part"],
            registry=registry,
        )
        self._ready = Gauge("maskmill_worker_ready", "1 while the worker accepts jobs.", registry=registry)

    def job_completed(self, priority: Priority, state: JobState, code: str, timings_ms: dict[str, float]) -> None:
        """Count a completed job and the duration of its stages."""
        self._ended.labels(priority, state, code).inc()
        for stage, elapsed_ms in timings_ms.items():
            self._stages.labels(stage).observe(elapsed_ms / 1000)

    def job_dropped(self, reason: str) -> None:
        """Count a message or an attempt that was discarded."""
        self._dropped.labels(reason).inc()

    def batch_completed(self, report: BatchReport) -> None:
        """Record the size and the durations of a batch, and what batches are expected to cost."""
        self._batch_images.observe(report.size)
        self._batches.labels(report.reason).inc()
        self._device.observe(report.device_ms / 1000)
        for wait_ms in report.wait_ms:
            self._batch_wait.observe(wait_ms / 1000)
        for part, seconds in zip(("batch", "image", "megapixel"), report.cost.parts, strict=True):
            self._cost.labels(part).set(seconds)

    def images_dropped(self, *, canceled: int, expired: int) -> None:
        """Count images that were removed from the queue without using the device."""
        self._dropped.labels("canceled").inc(canceled)
        self._dropped.labels("expired").inc(expired)

    def set_ready(self, is_ready: bool) -> None:
        """Set whether the worker accepts jobs."""
        self._ready.set(int(is_ready))


def build_histogram(
    registry: CollectorRegistry, name: str, documentation: str, *, labels: Sequence[str] = ()
) -> Histogram:
    """Return a histogram of durations."""
    return Histogram(name, documentation, labels, registry=registry, buckets=BUCKETS_SECONDS)
