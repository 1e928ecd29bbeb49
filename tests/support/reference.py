"""The tables of deploy/docs/reference, made from the code: errors, options of jobs, files of formats, metrics."""

import re
from collections.abc import Iterable, Iterator, Mapping
from types import SimpleNamespace
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.registry import Collector

from api.errors import http_status
from api.http.job_options import JOB_MEMBERS
from api.http.openapi_jobs import MODEL, OPTIONS
from api.metrics import FleetCollector, GatewayMetrics
from shared import errors
from shared.formats import registry
from shared.jobs.survey import JobAges
from shared.webhooks.delivery import WebhookLoad
from tests.support.tables import Marks, build_table
from worker.renderer.metrics import RendererMetrics
from worker.runtime.metrics import WorkerMetrics
from worker.steward.metrics import StewardMetrics, StoreCollector, WebhookCollector, WebhookMetrics

ERRORS = Marks.of("errors", "deploy/docs/reference/errors.md")
FILES = Marks.of("files", "deploy/docs/reference/formats.md")
METRICS = Marks.of("metrics", "deploy/docs/reference/metrics.md")

# A line of the tree in the docstring of shared/errors/__init__.py.
_LINE = re.compile(r"^ *[-x] (\w+) +(.+)$", re.MULTILINE)


def errors_table() -> str:
    """Return the table of all errors with a code, in the order of the tree."""
    meanings = dict(_LINE.findall(str(errors.__doc__)))
    rows = (
        (f"`{kind.code}`", *_describe_answer(kind), meanings[kind.__name__])
        for kind in _list_errors(errors.MaskmillError)
    )
    return build_table(("`error_type`", "status", "`Retry-After`", "meaning"), rows)


def files_table() -> str:
    """Return the table of the file of each format, and what it depends on."""
    rows = (
        (
            f"`{one.name}`",
            f"`{one.file}`",
            ", ".join(f"`{kind}`" for kind in (one.media_type, one.other_media_type) if kind),
            "yes" if one.needs_image else "",
            ", ".join(f"`{option}`" for option in one.options),
            one.description,
        )
        for one in registry.FORMATS
    )
    return build_table(("format", "file", "media type", "from the photo", "options", "content"), rows)


def options_table() -> str:
    """Return the table of the options of a submission."""
    described = {"model": MODEL, **OPTIONS}
    rows = ((f"`{name}`", describe_values(described[name]), described[name]["description"]) for name in JOB_MEMBERS)
    return build_table(("option", "values", "meaning"), rows)


def describe_values(schema: Mapping[str, Any]) -> str:
    """Return the values of an option, by its JSON schema."""
    match schema:
        case {"enum": values}:
            return ", ".join(f"`{value}`" for value in values)
        case {"type": "boolean"}:
            return "`true`, `false`"
        case {"minimum": low, "maximum": high}:
            return f"{low:g} to {high:g}"
        case {"type": "number", "exclusiveMinimum": low}:
            return f"more than {low:g}"
        case {"type": "array"}:
            return "a list of texts, or texts by commas"
        case {"type": "object"}:
            return "a JSON object"
    return "a text"


def metrics_table() -> str:
    """Return the table of all metrics, each with the processes that have it."""
    rows = (
        (f"`{name}`", process, ", ".join(f"`{label}`" for label in labels), text)
        for process, name, labels, text in _list_metrics()
    )
    return build_table(("metric", "process", "labels", "meaning"), rows)


def _list_errors(kind: type[errors.MaskmillError]) -> Iterator[type[errors.MaskmillError]]:
    for child in kind.__subclasses__():
        # Tests have errors of their own.
        if child.__module__.startswith(f"{errors.__name__}."):
            if "code" in vars(child):
                yield child
            yield from _list_errors(child)


def _describe_answer(kind: type[errors.MaskmillError]) -> tuple[str, str]:
    seconds = kind.retry_after_seconds if issubclass(kind, errors.Unavailable) else None
    return str(http_status(kind).value), "" if seconds is None else f"{seconds} s"


def _list_metrics() -> Iterator[tuple[str, str, tuple[str, ...], str]]:
    for process, metric in _list_own_metrics():
        suffix = {"counter": "_total"}.get(metric._type, "")
        yield process, f"{metric._name}{suffix}", tuple(metric._labelnames), metric._documentation
    for process, collector in _build_collectors():
        for family in collector.collect():
            yield process, family.name, tuple(family._labelnames), family.documentation  # type: ignore[attr-defined]


def _list_own_metrics() -> Iterator[tuple[str, MetricWrapperBase]]:
    gateway = vars(GatewayMetrics()).values()
    yield from (("gateway", one) for one in gateway if isinstance(one, MetricWrapperBase))
    for process, kind in _KINDS:
        parts = vars(kind(CollectorRegistry())).values()
        yield from ((process, one) for one in parts if isinstance(one, MetricWrapperBase))


_KINDS: Iterable[tuple[str, Any]] = (
    ("worker", WorkerMetrics),
    ("renderer", RendererMetrics),
    ("steward", StewardMetrics),
    ("steward", WebhookMetrics),
)


def _build_collectors() -> Iterator[tuple[str, Collector]]:
    """Yield those that read from Redis, with nothing to read."""
    jobs = SimpleNamespace(queues=SimpleNamespace(list_names=list, running_count=int))
    workers = SimpleNamespace(snapshot=lambda: SimpleNamespace(workers=()))
    yield "gateway", FleetCollector(jobs, workers)
    yield "steward", StoreCollector(dict, lambda: JobAges(0, 0, 0))
    yield "steward", WebhookCollector(lambda: WebhookLoad(0, 0, 0, 0))
