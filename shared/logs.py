"""One way of logging for every process: structlog events, as columns on a terminal and as JSON lines elsewhere."""

import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any

import structlog

from shared.settings import Settings

SECRET_NAME = re.compile(r"token|authorization|secret|password|api_key", re.IGNORECASE)
SECRET_TEXT = re.compile(r"(?i)(bearer\s+)[^\s'\",]+")


def configure_logging(settings: Settings, **facts: str) -> None:
    """Send everything, the libraries' records too, to stderr in the one form.  For composition roots.

    Args:
        facts: what stands in every line of this process, on whatever thread: process="worker", worker="...".
    """
    as_columns = settings.log_format == "console" or (settings.log_format == "auto" and sys.stderr.isatty())
    shared_steps: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _with_facts(facts),
        hide_secrets,
    ]
    rendering: list[structlog.typing.Processor] = (
        [structlog.dev.ConsoleRenderer()]
        if as_columns
        else [structlog.processors.format_exc_info, hide_secrets, structlog.processors.JSONRenderer()]
    )
    # Our own lines do not go through logging: the way there and back is most of what a line costs.
    structlog.configure(
        processors=[*shared_steps, *rendering],
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        wrapper_class=structlog.make_filtering_bound_logger(settings.log_level),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared_steps,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
        )
    )
    logging.captureWarnings(True)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level.upper())
    for noisy in (
        "botocore",
        "boto3",
        "urllib3",
        "s3transfer",
        "PIL",
        "kombu",
        "celery.beat",
        "celery.worker.strategy",
        "celery.app.trace",
    ):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def hide_secrets(_logger: Any, _name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Blank whatever is named like a secret, and whatever follows the word bearer."""
    for name, value in event.items():
        if SECRET_NAME.search(name):
            event[name] = "***"
        elif isinstance(value, str) and "earer" in value.lower():
            event[name] = SECRET_TEXT.sub(r"\1***", value)
    return event


def _with_facts(facts: Mapping[str, str]) -> structlog.typing.Processor:
    def add(_logger: Any, _name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event.update(facts)
        return event

    return add
