"""The message of a job as it stands in Redis: what Celery itself would have put there."""

import base64
import json
from typing import Any

import pytest
import redis
from celery.utils.imports import instantiate

from shared.broker.app import make_celery
from shared.broker.queues import JobQueue
from shared.jobs.messages import SEGMENT_TASK, SegmentMessage, queue_name
from shared.jobs.model import Priority
from shared.jobs.store import Admission, Handover, How, JobStore, Work
from shared.settings import Settings
from tests.support.jobs import request

ASKED = request(priority=Priority.INTERACTIVE)
QUEUE = queue_name(ASKED.model, ASKED.priority)
# Each of these is drawn anew for every message, or tells which process sent it.
PASSING = {"id", "root_id", "correlation_id", "delivery_tag", "origin", "reply_to"}


@pytest.fixture
def client(clean_redis: str) -> redis.Redis:
    return redis.Redis.from_url(clean_redis, decode_responses=True)


def test_celery_would_write_the_same(clean_redis: str, client: redis.Redis) -> None:
    message = SegmentMessage.about(ASKED)
    with make_celery(Settings(redis_url=clean_redis)) as app:
        app.send_task(
            SEGMENT_TASK, args=[message.to_wire()], queue=QUEUE, argsrepr="", kwargsrepr="", ignore_result=True
        )
    JobQueue(client).publish(ASKED)

    ours, theirs = (json.loads(taken) for taken in client.lrange(QUEUE, 0, 1))

    assert body_of(ours) == body_of(theirs)
    assert ours.keys() == theirs.keys()
    for part in ("headers", "properties"):
        # What we leave out is what Celery takes for nothing.
        assert ours[part].keys() <= theirs[part].keys()
        said = {name: value for name, value in theirs[part].items() if name in ours[part]}
        assert lasting(ours[part]) == lasting(said)
        assert not any(theirs[part][name] for name in theirs[part].keys() - ours[part].keys() - PASSING)


def test_a_job_is_recorded_and_handed_over_once_however_often_the_client_sends_it(client: redis.Redis) -> None:
    jobs = JobStore(client, lease_seconds=1, max_attempts=1, result_ttl_seconds=60)
    handover = Handover(SegmentMessage.about(ASKED), b"the image", 30)

    # As if the connection broke before the first answer: redis-py sends the command again.
    answers = [jobs.create(ASKED, handover=handover, work=Work("the same")) for _ in range(2)]

    assert answers == [Admission(ASKED.id, How.CREATED)] * 2
    (taken,) = client.lrange(QUEUE, 0, -1)
    assert body_of(json.loads(taken))[0] == [{"job_id": ASKED.id, "request_id": ASKED.request_id}]
    assert client.get(f"mm:image:{ASKED.id}") == "the image"
    assert 0 < client.ttl(f"mm:image:{ASKED.id}") <= 30
    assert jobs.leave(ASKED.id) == 0


def body_of(message: dict[str, Any]) -> Any:
    return json.loads(base64.b64decode(message["body"]))


def lasting(part: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in part.items() if name not in PASSING}


def test_a_message_is_begun_although_the_connection_it_came_by_is_closed(clean_redis: str, client: redis.Redis) -> None:
    def segment(wire: dict[str, str]) -> None:
        pass

    app = make_celery(Settings(redis_url=clean_redis))
    task = app.task(name=SEGMENT_TASK)(segment)
    JobQueue(client).publish(ASKED)
    with app.connection() as connection:
        message = connection.channel().basic_get(QUEUE, no_ack=True)

    taken = instantiate(task.Request, message, on_ack=message.ack_log_error, app=app, task=task)
    taken.on_accepted(pid=1, time_accepted=0)

    assert taken.acknowledged
