"""Logging of every process: structlog events, rendered as columns on a terminal and as JSON lines otherwise."""

import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any

import structlog

from shared.settings import Settings

# Loggers of libraries whose info records repeat for every message, request or image.
VERBOSE_LOGGERS = (
    "botocore",
    "boto3",
    "urllib3",
    "s3transfer",
    "PIL",
    "httpcore2",
    "kombu",
    "celery.beat",
    "celery.worker.strategy",
    "celery.app.trace",
)
SECRET_NAME = re.compile(r"token|authorization|secret|password|api_key", re.IGNORECASE)
SECRET_TEXT = re.compile(r"(?i)(bearer\s+)[^\s'\",]+")


def configure_logging(settings: Settings, **context: str) -> None:
    """Log structlog events and the records of logging to stderr in one format.  For composition roots.

    Args:
        context: fields of every line of this process, on every thread: process="worker", worker="...".
    """
    use_columns = settings.log_format == "console" or (settings.log_format == "auto" and sys.stderr.isatty())
    shared_processors: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _add_context(context),
        hide_secrets,
    ]
    renderers: list[structlog.typing.Processor] = (
        [structlog.dev.ConsoleRenderer()]
        if use_columns
        else [structlog.processors.format_exc_info, hide_secrets, structlog.processors.JSONRenderer()]
    )
    # structlog writes directly, not through logging: that round trip is most of the cost of a line.
    structlog.configure(
        processors=[*shared_processors, *renderers],
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        wrapper_class=structlog.make_filtering_bound_logger(settings.log_level),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared_processors,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers],
        )
    )
    logging.captureWarnings(True)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level.upper())
    for name in VERBOSE_LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)


def hide_secrets(_logger: Any, _name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Replace values whose name looks like a secret, and tokens that follow the word bearer in a text."""
    for name, value in event.items():
        if SECRET_NAME.search(name):
            event[name] = "***"
        elif isinstance(value, str) and "earer" in value.lower():
            event[name] = SECRET_TEXT.sub(r"\1***", value)
    return event


def _add_context(context: Mapping[str, str]) -> structlog.typing.Processor:
    def add_context(_logger: Any, _name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event.update(context)
        return event

    return add_context
