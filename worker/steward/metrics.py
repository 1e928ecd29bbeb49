"""What the steward counts, for Prometheus.  Apart from the worker's, so that the steward needs no arrays."""

from prometheus_client import CollectorRegistry, Counter


class StewardMetrics:
    """What the steward put right."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._mended = Counter(
            "maskmill_steward_jobs_total", "Jobs that the steward had to look after.", ["what"], registry=registry
        )

    def mended(self, what: str, count: int = 1) -> None:
        """Count jobs: lapsed, forgotten, rebuilt, exhausted, late, expired."""
        self._mended.labels(what).inc(count)
