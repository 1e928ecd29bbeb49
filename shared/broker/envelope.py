"""A job's message as it is stored in Redis: Celery's task message in the envelope of kombu's Redis transport."""

import base64
import uuid

import orjson

from shared.jobs.messages import SEGMENT_TASK, SegmentMessage, queue_name
from shared.jobs.model import JobRequest

_NO_FOLLOW_UP = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}


def encode_message(request: JobRequest) -> str:
    """Return the task message (Celery's protocol 2) of a job, as an entry of its queue's list.

    A test compares it with the message of Celery.  It is encoded here because the encoding by Celery and kombu takes
    much of a short job's time, and because the script that records the job can push a list entry itself.
    """
    queue = queue_name(request.model, request.priority)
    task_id = str(uuid.uuid4())
    body = orjson.dumps([[SegmentMessage.about(request).to_wire()], {}, _NO_FOLLOW_UP])
    envelope = {
        "body": base64.b64encode(body).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": _headers(task_id),
        "properties": {
            "correlation_id": task_id,
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": queue},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": str(uuid.uuid4()),
        },
    }
    return orjson.dumps(envelope).decode()


def _headers(task_id: str) -> dict[str, object]:
    return {
        "lang": "py",
        "task": SEGMENT_TASK,
        "id": task_id,
        "root_id": task_id,
        "retries": 0,
        "timelimit": [None, None],
        # Celery would only log the arguments, and our log events have them already.
        "argsrepr": "",
        "kwargsrepr": "",
        "ignore_result": True,
    }
