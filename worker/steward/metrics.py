"""Prometheus metrics of the steward."""

from prometheus_client import CollectorRegistry, Counter


class StewardMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self._jobs = Counter(
            "maskmill_steward_jobs_total", "Jobs that the steward reconciled.", ["reason"], registry=registry
        )

    def jobs_reconciled(self, reason: str, count: int = 1) -> None:
        """Count jobs: stalled, orphaned, recovered, synced, exhausted, deleted or purged."""
        self._jobs.labels(reason).inc(count)
