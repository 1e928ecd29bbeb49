"""A message as it is stored in Redis: Celery's task message in the envelope of kombu's Redis transport."""

import base64
import uuid
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import orjson

from shared.jobs.messages import SEGMENT_TASK, SegmentMessage
from shared.jobs.render_calls import RENDER_QUEUE, RENDER_TASK

_NO_FOLLOW_UP = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
_TASK_ID, _DELIVERY_TAG = "{task id}", "{delivery tag}"


def encode_message(queue: str) -> str:
    """Return a task message (Celery's protocol 2) for a queue, as an entry of its list, with ids of its own.

    A test compares it with the message of Celery.  It is encoded here because the encoding by Celery and kombu takes
    much of a short job's time, and because the scripts that queue a job can push a list entry themselves.
    """
    return _add_ids(_encode_template(queue))


def encode_render_message() -> str:
    """Return a message that wakes a renderer, as encode_message() does for a queue of jobs."""
    return _add_ids(_encode_render_template())


def _add_ids(template: str) -> str:
    return template.replace(_TASK_ID, str(uuid.uuid4())).replace(_DELIVERY_TAG, str(uuid.uuid4()))


@lru_cache
def _encode_template(queue: str) -> str:
    """Return the messages of a queue without their ids."""
    return _encode(SEGMENT_TASK, queue, SegmentMessage(queue).to_wire())


@lru_cache
def _encode_render_template() -> str:
    return _encode(RENDER_TASK, RENDER_QUEUE, {})


def _encode(task: str, queue: str, argument: Mapping[str, Any]) -> str:
    """Return a message without its ids."""
    body = orjson.dumps([[argument], {}, _NO_FOLLOW_UP])
    envelope = {
        "body": base64.b64encode(body).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": _headers(task),
        "properties": {
            "correlation_id": _TASK_ID,
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": queue},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": _DELIVERY_TAG,
        },
    }
    return orjson.dumps(envelope).decode()


def _headers(task: str) -> dict[str, object]:
    return {
        "lang": "py",
        "task": task,
        "id": _TASK_ID,
        "root_id": _TASK_ID,
        "retries": 0,
        "timelimit": [None, None],
        # Celery would only log the arguments, and our log events have them already.
        "argsrepr": "",
        "kwargsrepr": "",
        "ignore_result": True,
    }
