"""A process finds out whether its Redis and its bucket belong together, and tells a lost Redis from another stack's."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import takewhile
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import pytest
import redis

from deploy.local.processes import Process
from shared.errors import ForeignStack, StackUnconfirmed, StoreUnavailable, Unavailable, WrongStores
from shared.redis_client import connect
from shared.settings import Settings
from shared.stack import LEASE_SECONDS, StackIdentity, StackMark, locate_bucket
from shared.storage.bucket import Bucket, NoSuchObject, open_bucket
from shared.storage.keys import LAYOUT_OBJECT, STACK_OBJECT
from shared.store_check import StoreCheck
from tests.conftest import Storage
from tests.support.environment import get_fields
from tests.support.forwarder import LateForwarder
from tests.support.gateway import open_gateway
from tests.support.jobs import png
from tests.support.polling import wait_until
from tests.support.raw_gateway import RawGateway, build_environment
from tests.support.start import build_storage_environment, run_refused
from worker.steward.stack_guard import StackGuard

Open = Callable[..., StackIdentity]
SUBMISSION = b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (
    len(png()),
    png(),
)


Act = Callable[[], object]


def do_nothing() -> None:
    pass


class Clock:
    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def config(clean_redis: str, storage: Storage, new_bucket: str) -> Settings:
    storage.server.wait_writable(new_bucket)
    return Settings(
        redis_url=clean_redis,
        **get_fields(storage.get_env(new_bucket)),
        # The object store lets conditional puts of one key wait for each other, in steps of a second.
        storage_timeout_seconds=30,
    )


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def open_identity(config: Settings, clock: Clock) -> Open:
    """Opens the stores as a process with some other settings does."""

    def build(**settings: str) -> StackIdentity:
        changed = config.model_copy(update=settings)
        return StackIdentity(connect(changed), open_bucket(changed), locate_bucket(changed), now=clock)

    return build


@pytest.fixture
def another_redis(config: Settings) -> dict[str, str]:
    return {"redis_url": config.redis_url.removesuffix("/0") + "/1"}


def read_mark(config: Settings) -> StackMark:
    return StackMark.from_bytes(open_bucket(config).get(STACK_OBJECT))


def test_processes_that_start_at_once_on_empty_stores_agree(config: Settings, open_identity: Open) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: open_identity().check(), range(8)))

    location = f"{urlsplit(config.storage_endpoint).netloc}/{config.storage_bucket}"
    assert connect(config).get("mm:stack") == f"{read_mark(config).id} {location}"
    assert not read_mark(config).renewal


def test_a_redis_with_another_bucket_is_refused(
    config: Settings, make_bucket: Callable[[], str], open_identity: Open
) -> None:
    open_identity().check()
    other = make_bucket()

    for _ in range(2):
        with pytest.raises(
            ForeignStack,
            match=rf"is .*/{config.storage_bucket}\. .*MASKMILL_REDIS_PREFIX .* delete the key mm:stack in Redis",
        ):
            open_identity(storage_bucket=other).check()

    open_identity(storage_bucket=other, redis_prefix="other").check()
    with pytest.raises(ForeignStack, match="delete the key other:mm:stack in Redis"):
        open_identity(redis_prefix="other").check()
    connect(config).delete("mm:stack")
    open_identity(storage_bucket=other).check()


def test_a_bucket_that_lost_its_objects_gets_the_id_from_redis(config: Settings, open_identity: Open) -> None:
    open_identity().check()
    before = read_mark(config)
    open_bucket(config).delete([STACK_OBJECT])

    open_identity().check()

    assert read_mark(config) == before


def test_a_bucket_emptied_under_a_steward_with_another_name_for_it_gets_the_id_again(
    config: Settings, open_identity: Open
) -> None:
    open_identity().check()
    alias = {"storage_endpoint": config.storage_endpoint.replace("127.0.0.1", "localhost")}
    assert alias["storage_endpoint"] != config.storage_endpoint
    steward = open_identity(**alias)
    steward.renew()
    before = read_mark(config)
    open_bucket(config).delete([STACK_OBJECT])

    with pytest.raises(ForeignStack):
        open_identity(**alias).check()
    steward.renew()

    assert read_mark(config).id == before.id
    open_identity(**alias).check()


def test_a_bucket_that_another_steward_renews_is_refused(another_redis: dict[str, str], open_identity: Open) -> None:
    steward, newcomer = open_identity(), open_identity(**another_redis)
    steward.renew()

    with pytest.raises(StackUnconfirmed):
        newcomer.check()
    steward.renew()

    with pytest.raises(ForeignStack, match=r"in use by a stack with another Redis.* MASKMILL_STORAGE_PREFIX"):
        newcomer.check()
    open_identity(**another_redis, storage_prefix="other").check()


def test_an_orderly_end_of_the_steward_releases_the_bucket(another_redis: dict[str, str], open_identity: Open) -> None:
    steward = open_identity()
    steward.renew()
    steward.release()

    open_identity(**another_redis).check()


def test_a_bucket_whose_steward_was_killed_is_released_after_the_lease(
    another_redis: dict[str, str], open_identity: Open, clock: Clock
) -> None:
    open_identity().renew()
    newcomer = open_identity(**another_redis)
    for clock.seconds in (0, LEASE_SECONDS - 1):
        with pytest.raises(StackUnconfirmed):
            newcomer.check()

    clock.seconds = LEASE_SECONDS
    newcomer.check()


def test_a_redis_that_lost_its_data_gets_the_id_from_a_running_steward(
    config: Settings, redis_client: "redis.Redis", open_identity: Open
) -> None:
    stewards, newcomer = [open_identity(), open_identity()], open_identity()
    for steward in stewards:
        steward.renew()
    redis_client.flushall()

    with pytest.raises(StackUnconfirmed):
        newcomer.check()
    for steward in stewards:
        steward.renew()

    newcomer.check()
    assert str(connect(config).get("mm:stack")).startswith(f"{read_mark(config).id} ")


class RacedBucket:
    """A bucket at whose first reading another process acts, right before or right after it."""

    def __init__(self, bucket: Bucket, *, before: Act = do_nothing, after: Act = do_nothing) -> None:
        self._bucket = bucket
        self._before = before
        self._after = after

    def get_dated(self, key: str) -> tuple[bytes, float]:
        before, after, self._before, self._after = self._before, self._after, do_nothing, do_nothing
        before()
        try:
            return self._bucket.get_dated(key)
        finally:
            after()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._bucket, name)


def test_a_steward_that_renews_while_a_process_reads_is_no_other_stack(
    config: Settings, redis_client: "redis.Redis", open_identity: Open
) -> None:
    """It writes the id to Redis before it renews, so the bucket must be read before Redis."""
    steward = open_identity()
    steward.renew()
    redis_client.flushall()
    raced = cast(Bucket, RacedBucket(open_bucket(config), before=steward.renew))

    newcomer = StackIdentity(connect(config), raced, locate_bucket(config))
    newcomer.check()


def test_a_process_that_reads_while_the_first_one_starts_by_another_name_is_no_other_stack(
    config: Settings, open_identity: Open
) -> None:
    raced = cast(Bucket, RacedBucket(open_bucket(config), after=open_identity().check))

    StackIdentity(connect(config), raced, "another-name/for-it").check()


def test_a_process_starts_while_redis_is_out_of_memory(
    config: Settings, redis_client: "redis.Redis", open_identity: Open
) -> None:
    redis_client.config_set("maxmemory", 1)
    try:
        open_identity().check()
    finally:
        redis_client.config_set("maxmemory", 0)

    assert connect(config).get("mm:stack")


def test_a_steward_that_started_before_its_stores_ends_if_they_are_of_another_stack(
    config: Settings, another_redis: dict[str, str], open_identity: Open
) -> None:
    """Until then it does nothing in the bucket."""
    open_identity().renew()
    open_identity(**another_redis, storage_prefix="other").renew()
    foreign = config.model_copy(update=another_redis)
    client, bucket = connect(foreign), open_bucket(foreign)
    calls: list[str] = []
    identity = StackIdentity(client, bucket, locate_bucket(foreign))
    guard = StackGuard(StoreCheck(client, bucket, identity), identity, end=lambda: calls.append("end"))
    duty = guard.require(lambda: calls.append("duty"))

    with pytest.raises(StackUnconfirmed):
        duty()
    guard.renew()

    assert calls == ["end"]
    assert guard.has_failed


def test_a_steward_that_lost_its_bucket_to_another_stack_leaves_its_mark(config: Settings) -> None:
    client, bucket = connect(config), open_bucket(config)
    identity = StackIdentity(client, bucket, locate_bucket(config))
    guard = StackGuard(StoreCheck(client, bucket, identity), identity, end=lambda: None)
    guard.renew()
    other = StackMark("other", "renewal")
    bucket.put(STACK_OBJECT, other.to_bytes(), content_type="text/plain")

    guard.renew()
    guard.release()

    assert read_mark(config) == other


def test_a_steward_that_ends_before_it_knows_its_stack_leaves_the_mark(config: Settings, open_identity: Open) -> None:
    mark = StackMark("other", "renewal")
    open_bucket(config).put(STACK_OBJECT, mark.to_bytes(), content_type="text/plain")

    open_identity().release()

    assert read_mark(config) == mark


@pytest.fixture
def foreign(config: Settings, make_bucket: Callable[[], str], open_identity: Open) -> Settings:
    """Settings with the Redis of a stack that has another bucket."""
    open_identity(storage_bucket=make_bucket()).check()
    return config


def test_a_gateway_that_finds_stores_of_another_stack_refuses_work_and_names_no_host(foreign: Settings) -> None:
    gateway = open_gateway(foreign.redis_url, build_storage_environment(foreign), ready_timeout_seconds=10)

    ready = gateway.client.get("/readyz")
    refused = [gateway.client.post(path, data=png()) for path in ("/v1/jobs", "/")]

    assert [response.status_code for response in (ready, *refused)] == [503] * 3
    assert "in use by another stack" in ready.json["checks"]["stack"]
    for response in refused:
        assert response.json["error_type"] == "wrong_stores"
        assert response.json["error"] == ready.json["checks"]["stack"]
    assert foreign.storage_bucket not in ready.text
    assert gateway.stores.lists.list_newest("public", limit=1)[0] == []


def test_a_gateway_takes_work_again_once_its_stores_are_its_own(foreign: Settings) -> None:
    gateway = open_gateway(foreign.redis_url, build_storage_environment(foreign))
    with pytest.raises(WrongStores):
        gateway.stores.guard.check()

    connect(foreign).delete("mm:stack")
    with pytest.raises(WrongStores):
        gateway.stores.guard.require()
    gateway.stores.guard.check()

    assert gateway.client.post("/v1/jobs", data=png()).status_code == 202


def test_a_gateway_that_started_without_redis_says_so(foreign: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    gateway = open_gateway("redis://127.0.0.1:9/0", build_storage_environment(foreign))
    gateway.stores.guard.start()

    def is_named() -> bool:
        with pytest.raises(Unavailable) as caught:
            gateway.stores.guard.require()
        return isinstance(caught.value, StoreUnavailable)

    wait_until(is_named, seconds=10)
    response = gateway.client.post("/v1/jobs", data=png())
    assert (response.status_code, response.json["error_type"]) == (503, "store_unavailable")
    monkeypatch.setattr(StoreCheck, "run", lambda _: None)  # the thread ends
    wait_until(lambda: "store-check" not in {thread.name for thread in threading.enumerate()})


def test_processes_that_started_before_their_bucket_end_or_refuse_work_if_it_is_of_another_stack(
    foreign: Settings, storage: Storage, tmp_path: Path
) -> None:
    """Without a request for /readyz, which makes the checks too."""
    late = LateForwarder(urlsplit(storage.endpoint).port or 0)
    env = build_environment(foreign.redis_url, storage, foreign.storage_bucket)
    env |= {"MASKMILL_STORAGE_ENDPOINT": late.url, "MASKMILL_PROCESSES": "1", "MASKMILL_HOST_PROCESSES": "1"}
    command = [sys.executable, "-m", "tests.bench.instant_worker"]
    worker = Process("The worker", command, log=tmp_path / "worker.log", env=env)
    with late, worker, RawGateway(tmp_path, {**env, "MASKMILL_METRICS_BIND": "off"}) as gateway:
        gateway.wait_ready()
        late.start()

        answers = list(takewhile(lambda answer: answer != (503, "wrong_stores"), send_repeatedly(gateway)))
        assert set(answers) <= {(503, "stack_unconfirmed"), (503, "storage_unavailable")}
        wait_until(lambda: worker.exit_code is not None, "the end of the worker", seconds=20)
    assert worker.exit_code == 1
    assert worker.tail(1)[0].startswith("The worker cannot start: Redis has the data of a stack whose bucket is ")


def send_repeatedly(gateway: RawGateway) -> Iterator[tuple[int, str]]:
    """Yield the answers to submissions, for some seconds."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        yield gateway.send(SUBMISSION)
    pytest.fail("the gateway came to no verdict")


@pytest.mark.parametrize("module", ["api.wsgi", "worker.steward"])
def test_a_second_stack_on_the_same_redis_is_refused_in_one_line(
    config: Settings, make_bucket: Callable[[], str], open_identity: Open, module: str
) -> None:
    open_identity().check()
    other = config.model_copy(update={"storage_bucket": make_bucket()})

    line = run_refused(module, config.redis_url, other)

    assert "cannot start: Redis has the data of a stack whose bucket is " in line


@pytest.mark.parametrize(("module", "number"), [("worker.steward", signal.SIGTERM), ("worker.main", signal.SIGINT)])
def test_a_signal_ends_a_process_that_waits_for_a_mark_at_once(
    config: Settings, storage: Storage, tmp_path: Path, module: str, number: signal.Signals
) -> None:
    open_bucket(config).put(STACK_OBJECT, StackMark("stack", "renewal").to_bytes(), content_type="text/plain")
    env = build_environment(config.redis_url, storage, config.storage_bucket)
    with Process(module, [sys.executable, "-m", module], log=tmp_path / "log", env=env) as process:
        wait_until(lambda: connect(config).get("mm:layout"), "the check", seconds=30)
        wait_until(lambda: has_object(config, LAYOUT_OBJECT), "the check of the bucket")

        os.kill(process.pid, number)

        wait_until(lambda: process.exit_code is not None, "the end", seconds=4)
    assert process.exit_code == 0
    assert process.log.read_text() == ""


def has_object(config: Settings, key: str) -> bool:
    with suppress(NoSuchObject):
        return bool(open_bucket(config).get(key))
    return False
