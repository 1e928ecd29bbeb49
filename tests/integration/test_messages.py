"""The message of a job in Redis equals the one that Celery would write."""

import base64
import json
from typing import Any

import pytest
import redis
from celery.utils.imports import instantiate

from shared import redis_keys
from shared.broker.app import make_celery
from shared.broker.envelope import encode_message, encode_render_message
from shared.broker.queues import JobQueue
from shared.jobs.messages import SEGMENT_TASK, SegmentMessage, queue_name
from shared.jobs.outcomes import CreateOutcome
from shared.jobs.render_calls import RENDER_QUEUE, RENDER_TASK
from shared.jobs.store import Created, DedupKey, InputPayload, JobStore
from shared.redis_client import connect
from shared.settings import Settings
from tests.support.jobs import build_sync_request

REQUEST = build_sync_request()
QUEUE = queue_name(REQUEST.model, REQUEST.priority)
# These differ from message to message, or identify the sending process.
VOLATILE_FIELDS = {"id", "root_id", "correlation_id", "delivery_tag", "origin", "reply_to"}


@pytest.fixture
def client(clean_redis: str) -> redis.Redis:
    return redis.Redis.from_url(clean_redis, decode_responses=True)


@pytest.mark.parametrize(
    ("task", "queue", "argument", "message"),
    [
        (SEGMENT_TASK, QUEUE, SegmentMessage(QUEUE).to_wire(), encode_message(QUEUE)),
        (RENDER_TASK, RENDER_QUEUE, {}, encode_render_message()),
    ],
)
def test_the_message_equals_the_one_of_celery(
    clean_redis: str, client: redis.Redis, task: str, queue: str, argument: dict[str, Any], message: str
) -> None:
    with make_celery(Settings(redis_url=clean_redis)) as app:
        app.send_task(task, args=[argument], queue=queue, argsrepr="", kwargsrepr="", ignore_result=True)
    client.lpush(queue, message)

    ours, theirs = (json.loads(entry) for entry in client.lrange(queue, 0, 1))

    assert decode_body(ours) == decode_body(theirs)
    assert ours.keys() == theirs.keys()
    for part in ("headers", "properties"):
        # The fields left out are those that are empty in Celery's message.
        assert ours[part].keys() <= theirs[part].keys()
        common = {name: value for name, value in theirs[part].items() if name in ours[part]}
        assert drop_volatile(ours[part]) == drop_volatile(common)
        assert not any(theirs[part][name] for name in theirs[part].keys() - ours[part].keys() - VOLATILE_FIELDS)


def test_a_repeated_create_command_enqueues_one_message(clean_redis: str, client: redis.Redis) -> None:
    jobs = JobStore(connect(Settings(redis_url=clean_redis)), lease_seconds=1, max_attempts=1)
    payload = InputPayload(b"the image", 30)
    message = encode_message(QUEUE)

    # redis-py sends a command again if the connection breaks before the reply.
    outcomes = [jobs.create(REQUEST, message=message, payload=payload, dedup=DedupKey("same", 60)) for _ in range(2)]

    assert outcomes == [Created(REQUEST.id, CreateOutcome.CREATED)] * 2
    (entry,) = client.lrange(QUEUE, 0, -1)
    assert decode_body(json.loads(entry))[0] == [{"queue": QUEUE}]
    assert client.get(redis_keys.input_payload(REQUEST.id)) == "the image"
    assert 0 < client.ttl(redis_keys.input_payload(REQUEST.id)) <= 30
    assert jobs.remove_waiter(REQUEST.id) == 0


def decode_body(message: dict[str, Any]) -> Any:
    return json.loads(base64.b64decode(message["body"]))


def drop_volatile(part: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in part.items() if name not in VOLATILE_FIELDS}


def test_a_message_is_acknowledged_without_its_connection(clean_redis: str, client: redis.Redis) -> None:
    def segment(wire: dict[str, str]) -> None:
        pass

    app = make_celery(Settings(redis_url=clean_redis))
    task = app.task(name=SEGMENT_TASK)(segment)
    JobQueue(connect(Settings(redis_url=clean_redis))).publish(QUEUE)
    with app.connection() as connection:
        message = connection.channel().basic_get(QUEUE, no_ack=True)

    entry = instantiate(task.Request, message, on_ack=message.ack_log_error, app=app, task=task)
    entry.on_accepted(pid=1, time_accepted=0)

    assert entry.acknowledged
