"""Keys and channels of one prefix in a real Valkey: events reach the waiters of their own stack at once."""

import threading

import pytest

from shared.jobs.events import POLL_INTERVAL_SECONDS, JobEvents
from shared.jobs.payloads import PayloadStore
from shared.redis_client import connect
from shared.settings import Settings
from tests.support.polling import wait_until


@pytest.fixture
def config(clean_redis: str) -> Settings:
    return Settings(redis_url=clean_redis, redis_prefix="roads")


def test_an_event_wakes_the_waiters_of_its_own_stack_only(config: Settings) -> None:
    other = config.model_copy(update={"redis_prefix": "rivers"})
    mine, theirs = (PayloadStore(connect(one, decode=False)) for one in (config, other))
    events = JobEvents(connect(config))
    polls: list[bytes | None] = []

    def poll() -> bytes | None:
        polls.append(mine.get_reply("job"))
        return polls[-1]

    thread = threading.Thread(target=lambda: events.wait_for("job", poll, seconds=20))
    thread.start()
    # Once at the start, and once because there is a subscription now.
    wait_until(lambda: len(polls) >= 2)
    before = len(polls)
    theirs.put_reply("job", b"theirs")
    mine.put_reply("job", b"mine")
    thread.join(POLL_INTERVAL_SECONDS / 2)

    assert not thread.is_alive()
    assert polls[before:] == [b"mine"]
    assert theirs.get_reply("job") == b"theirs"
    events.close()


def test_a_pipeline_adds_the_prefix(config: Settings, clean_redis: str) -> None:
    with connect(config) as client, client.pipeline() as batch:
        batch.zadd("mm:leases", {"job": 1}).zcard("mm:leases")

        assert batch.execute() == [1, 1]

    with connect(Settings(redis_url=clean_redis)) as client:
        assert client.exists("roads:mm:leases", "mm:leases") == 1
