"""The gateway's metrics: counters of its own processes, and gauges that each scrape reads from Redis."""

import os
from collections import Counter as Tally
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from api.server.options import DropReason
from shared.errors import Unavailable
from shared.jobs.model import Priority
from shared.jobs.store import JobStore
from shared.worker_registry import WorkerRegistry

# A client can invent methods, and each value of a label is kept for ever.
KNOWN_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"})
OTHER_METHOD = "other"

SECONDS_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class GatewayMetrics:
    """Counters of this process.  With PROMETHEUS_MULTIPROC_DIR set, a scrape of one process reports all of them."""

    def __init__(self) -> None:
        self._own = CollectorRegistry()
        self.requests = Counter(
            "maskmill_requests", "Requests answered.", ["route", "method", "status"], registry=self._own
        )
        self.request_seconds = Histogram(
            "maskmill_request_seconds",
            "Time from a request to its response.",
            ["route"],
            buckets=SECONDS_BUCKETS,
            registry=self._own,
        )
        self.submitted = Counter("maskmill_jobs_submitted", "Jobs submitted.", ["priority"], registry=self._own)
        self.refusals = Counter("maskmill_refusals", "Errors answered, by error_type.", ["code"], registry=self._own)
        self._dropped = Counter(
            "maskmill_connections_dropped",
            "Connections closed before their clients were done.",
            ["reason"],
            registry=self._own,
        )

    def count_request(self, route: str, method: str, status: int, *, seconds: float, error_type: str | None) -> None:
        """Count a request that was answered."""
        known_method = method if method in KNOWN_METHODS else OTHER_METHOD
        self.requests.labels(route, known_method, status).inc()
        self.request_seconds.labels(route).observe(seconds)
        if error_type:
            self.refusals.labels(error_type).inc()

    def count_drop(self, reason: DropReason) -> None:
        """Count a connection that the server dropped."""
        self._dropped.labels(reason.value).inc()

    def exposition(self, fleet: Collector) -> bytes:
        """Return all metrics in the text format of Prometheus."""
        registry = self._own
        if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        own: bytes = generate_latest(registry)
        shared = CollectorRegistry()
        shared.register(fleet)
        fleet_text: bytes = generate_latest(shared)
        return own + fleet_text


class FleetCollector(Collector):
    """Backlog, running jobs and workers, read from Redis at the time of the scrape."""

    def __init__(self, jobs: JobStore, registry: WorkerRegistry) -> None:
        self._jobs = jobs
        self._registry = registry

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Return no names in advance, so that registering does not query Redis."""
        return iter(())

    def collect(self) -> Iterator[GaugeMetricFamily]:
        up = GaugeMetricFamily("maskmill_store_up", "Whether Redis answered this scrape.")
        try:
            families = [self._backlog(), self._running_jobs(), self._workers()]
        except Unavailable:
            up.add_metric([], 0)
            yield up
            return
        up.add_metric([], 1)
        yield up
        yield from families

    def _backlog(self) -> GaugeMetricFamily:
        family = GaugeMetricFamily("maskmill_backlog_jobs", "Queued jobs.", labels=["model", "priority"])
        for queue in self._jobs.queues.list_names():
            model, _, priority = queue.removeprefix("segment.").rpartition(".")
            if priority in set(Priority):
                family.add_metric([model, priority], self._jobs.queues.backlog(queue))
        return family

    def _running_jobs(self) -> GaugeMetricFamily:
        family = GaugeMetricFamily("maskmill_running_jobs", "Running jobs.")
        family.add_metric([], self._jobs.queues.running_count())
        return family

    def _workers(self) -> GaugeMetricFamily:
        family = GaugeMetricFamily("maskmill_workers", "Workers with a recent heartbeat.", labels=["model", "state"])
        tally = Tally((worker.model, worker.state) for worker in self._registry.snapshot().workers)
        for (model, state), count in sorted(tally.items()):
            family.add_metric([model, state], count)
        return family
