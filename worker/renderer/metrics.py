"""Prometheus metrics of a renderer."""

from prometheus_client import CollectorRegistry, Counter, Gauge

from shared.jobs.render_calls import RenderKind
from worker.runtime.metrics import build_histogram


class RendererMetrics:
    """Fills worker.renderer.calls.CallObserver."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._calls = Counter(
            "maskmill_render_calls_total", "Completed calls of the renderer.", ["kind", "code"], registry=registry
        )
        self._seconds = build_histogram(
            registry, "maskmill_render_call_seconds", "Duration of a call, without its transport.", labels=["kind"]
        )
        self._ready = Gauge("maskmill_renderer_ready", "Whether the renderer takes calls.", registry=registry)

    def call_completed(self, kind: RenderKind, code: str, seconds: float) -> None:
        self._calls.labels(kind, code).inc()
        self._seconds.labels(kind).observe(seconds)

    def set_ready(self, is_ready: bool) -> None:
        self._ready.set(int(is_ready))
