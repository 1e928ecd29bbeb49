"""Prometheus metrics of the steward."""

from collections.abc import Callable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from shared.errors import Unavailable
from shared.jobs.survey import JobAges
from shared.webhooks.delivery import WebhookLoad
from shared.webhooks.outcomes import DeliveryState


class StewardMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self._jobs = Counter(
            "maskmill_steward_jobs_total", "Jobs that the steward reconciled.", ["reason"], registry=registry
        )
        self._duty_seconds = Gauge(
            "maskmill_steward_duty_duration_seconds",
            "How long the last run of a duty by this steward took.",
            ["duty"],
            registry=registry,
        )

    def jobs_reconciled(self, reason: str, count: int = 1) -> None:
        """Count jobs by what was done: `stalled`, `recovered`, `deleted` and so on; see deploy/README.md."""
        self._jobs.labels(reason).inc(count)

    def duty_completed(self, duty: str, seconds: float) -> None:
        self._duty_seconds.labels(duty).set(seconds)


class WebhookMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self._attempts = Counter(
            "maskmill_steward_webhook_attempts_total",
            "Attempts to deliver a message of a webhook, by what became of the message.",
            ["state"],
            registry=registry,
        )
        self._disabled = Counter(
            "maskmill_steward_webhooks_disabled_total",
            "Webhooks that were disabled because their receivers are gone.",
            registry=registry,
        )
        self._seconds = Histogram(
            "maskmill_steward_webhook_delay_seconds",
            "From the end of a job until a receiver has taken the message.",
            buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60, 300, 3600, 86400),
            registry=registry,
        )

    def attempt_ended(self, state: DeliveryState, seconds: float) -> None:
        """Count an attempt by the state of its delivery after it, some seconds after the event."""
        self._attempts.labels(state).inc()
        if state is DeliveryState.DELIVERED:
            self._seconds.observe(max(0.0, seconds))

    def delivery_dropped(self) -> None:
        """Count a delivery that was never attempted."""
        self._attempts.labels(DeliveryState.DROPPED).inc()

    def endpoint_disabled(self) -> None:
        self._disabled.inc()


class WebhookCollector(Collector):
    """Gauges of what waits, read from Redis when they are asked for; there are none while it does not answer."""

    def __init__(self, measure: Callable[[], WebhookLoad]) -> None:
        self._measure = measure

    def describe(self) -> Iterator[Metric]:
        """Return no names, so that Redis is not asked when the collector is registered."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        try:
            load = self._measure()
        except Unavailable:
            return
        yield GaugeMetricFamily(
            "maskmill_webhook_outbox_age_seconds",
            "Since the end of the first job whose webhooks are not looked up yet; 0 without one.",
            load.outbox_age_seconds,
        )
        yield GaugeMetricFamily(
            "maskmill_webhook_due_age_seconds",
            "Since the message that waits longest could have been sent; 0 without one.",
            load.due_age_seconds,
        )
        yield GaugeMetricFamily("maskmill_webhook_running", "Messages that are being sent.", load.running)


class StoreCollector(Collector):
    """Gauges that are read from Redis when they are asked for; there are none while it does not answer."""

    def __init__(self, read_runs: Callable[[], Mapping[str, float]], measure_ages: Callable[[], JobAges]) -> None:
        self._read_runs = read_runs
        self._measure_ages = measure_ages

    def describe(self) -> Iterator[Metric]:
        """Return no names, so that Redis is not asked when the collector is registered."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        runs = GaugeMetricFamily(
            "maskmill_steward_duty_last_run_timestamp_seconds",
            "When any steward has completed a duty last, by the clock of Redis.",
            labels=["duty"],
        )
        ages = GaugeMetricFamily(
            "maskmill_oldest_job_age_seconds",
            "Of the oldest job: since it was created (queued), since it was claimed (running), since its lease expired "
            "(stalled); 0 without one.",
            labels=["state"],
        )
        try:
            for duty, at in self._read_runs().items():
                runs.add_metric([duty], at)
            measured = self._measure_ages()
        except Unavailable:
            return
        for state in ("queued", "running", "stalled"):
            ages.add_metric([state], getattr(measured, state))
        yield runs
        yield ages
