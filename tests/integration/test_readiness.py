"""What /readyz of gateway, worker and steward says of stores that are full, read-only or away, or of no steward."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from deploy.local.gateway_client import GatewayClient, GatewayRefused
from deploy.local.processes import Process
from deploy.local.servers import ValkeyServer
from shared import redis_keys
from tests.conftest import Storage
from tests.support import storage_proxy
from tests.support.gateway import GatewayUnderTest, open_gateway, run_job
from tests.support.jobs import FakeSegmenter, png
from tests.support.polling import wait_until
from tests.support.redis_memory import fill
from tests.support.service import get_port, start_service
from tests.support.storage_proxy import Change, Exchange, open_storage_proxy


def pass_on(_: Exchange) -> None:
    """Change nothing."""


class SwitchedStorage:
    """A proxy of the object store whose faults begin and end."""

    def __init__(self) -> None:
        self.url = ""
        self._change: Change = pass_on

    def __call__(self, exchange: Exchange) -> None:
        self._change(exchange)

    @contextmanager
    def switch(self, change: Change) -> Iterator[None]:
        self._change = change
        try:
            yield
        finally:
            self._change = pass_on


@pytest.fixture
def switched_storage(storage: Storage) -> Iterator[SwitchedStorage]:
    switched = SwitchedStorage()
    with open_storage_proxy(storage, switched) as url:
        switched.url = url
        yield switched


@pytest.fixture
def gateway(
    clean_redis: str, storage_env: dict[str, str], switched_storage: SwitchedStorage, redis_client: redis.Redis
) -> GatewayUnderTest:
    record_duty(redis_client, age_seconds=0)
    redis_client.set(redis_keys.RENDERER, "")
    opened = open_gateway(clean_redis, {**storage_env, "MASKMILL_STORAGE_ENDPOINT": switched_storage.url})
    # As a gateway does when it starts: the first check tries what the object store can do, with many requests.
    opened.stores.guard.check()
    return opened


def record_duty(client: redis.Redis, *, age_seconds: float) -> None:
    """Record a duty of a steward, as completed so long ago by the clock of Redis."""
    seconds, _ = client.time()
    client.hset(redis_keys.DUTY_RUNS, "requeue_stalled", str(seconds - age_seconds))


def read(gateway: GatewayUnderTest) -> tuple[int, str, dict[str, str]]:
    """Return status, word, and what is not ok."""
    response = gateway.client.get("/readyz")
    checks = {name: verdict for name, verdict in response.json["checks"].items() if verdict != "ok"}
    return response.status_code, response.json["status"], checks


def test_all_is_well(gateway: GatewayUnderTest) -> None:
    assert read(gateway) == (200, "ok", {})
    assert set(gateway.client.get("/readyz").json["checks"]) == {"redis", "storage", "stack", "steward", "renderer"}


@pytest.mark.parametrize("age_seconds", [None, 40.0])
def test_a_missing_steward_is_named(
    gateway: GatewayUnderTest, redis_client: redis.Redis, age_seconds: float | None
) -> None:
    redis_client.delete(redis_keys.DUTY_RUNS)
    if age_seconds:
        record_duty(redis_client, age_seconds=age_seconds)

    assert read(gateway) == (200, "degraded", {"steward": "missing"})


def test_a_missing_renderer_is_named(gateway: GatewayUnderTest, redis_client: redis.Redis) -> None:
    redis_client.delete(redis_keys.RENDERER)

    assert read(gateway) == (200, "degraded", {"renderer": "missing"})


def test_a_steward_that_worked_of_late_is_not_missing(gateway: GatewayUnderTest, redis_client: redis.Redis) -> None:
    record_duty(redis_client, age_seconds=20)

    assert read(gateway)[1] == "ok"


def test_redis_that_is_full_degrades_and_results_can_be_read(
    gateway: GatewayUnderTest, redis_client: redis.Redis
) -> None:
    job_id = gateway.client.post("/v1/jobs", data=png()).json["id"]
    run_job(gateway, job_id)

    with fill(redis_client, share=1.1):
        assert read(gateway) == (200, "degraded", {"redis": "full"})
        assert gateway.client.get(f"/v1/jobs/{job_id}/result").status_code == 200


def test_redis_is_full_when_only_the_reserve_is_left(gateway: GatewayUnderTest, redis_client: redis.Redis) -> None:
    with fill(redis_client, share=0.97):
        assert read(gateway) == (200, "degraded", {"redis": "full"})
        assert gateway.client.post("/v1/jobs", data=png()).json["error_type"] == "store_full"


@pytest.mark.parametrize(
    ("change", "answer"),
    [
        (storage_proxy.have_no_space, (200, "degraded", {"storage": "full"})),
        (storage_proxy.refuse_writes, (200, "degraded", {"storage": "read_only"})),
        (storage_proxy.be_overloaded, (503, "unavailable", {"storage": "unreachable"})),
    ],
)
def test_the_state_of_the_bucket_is_told(
    gateway: GatewayUnderTest, switched_storage: SwitchedStorage, change: Change, answer: tuple[Any, ...]
) -> None:
    with switched_storage.switch(change):
        assert read(gateway) == answer
    wait_until(lambda: read(gateway)[1] == "ok")


@pytest.fixture
def service(
    tmp_path: Path, clean_redis: str, storage_env: dict[str, str], switched_storage: SwitchedStorage
) -> Iterator[dict[str, Process]]:
    """Gateway, worker and steward, ready."""
    env = {
        **storage_env,
        "MASKMILL_STORAGE_ENDPOINT": switched_storage.url,
        "MASKMILL_REDIS_URL": clean_redis,
        "MASKMILL_MODEL": FakeSegmenter.model,
        "MASKMILL_METRICS_BIND": "off",
    }
    with start_service(tmp_path, env) as processes:
        for name, process in processes.items():
            wait_until(lambda process=process: ask(process)[0] == 200, f"{name} is ready", seconds=30)
        yield processes


def ask(process: Process) -> tuple[int, dict[str, Any]]:
    try:
        response = GatewayClient(get_port(process)).request("GET", "/readyz")
    except GatewayRefused:
        return 0, {}
    return response.status, response.json()


def test_every_process_tells_what_its_stores_can_do(
    service: dict[str, Process], redis_client: redis.Redis, valkey: ValkeyServer, switched_storage: SwitchedStorage
) -> None:
    def agree(status: int, word: str, store: str, state: str) -> Callable[[], bool]:
        return lambda: all(
            (code, body.get("status"), body.get("checks", {}).get(store)) == (status, word, state)
            for code, body in map(ask, service.values())
        )

    record_duty(redis_client, age_seconds=-1000)
    redis_client.set(redis_keys.RENDERER, "")
    wait_until(agree(200, "ok", "redis", "ok"), "all is well", seconds=10)
    with fill(redis_client, share=1.1):
        wait_until(agree(200, "degraded", "redis", "full"), "Redis is full", seconds=10)
    with switched_storage.switch(storage_proxy.have_no_space):
        wait_until(agree(200, "degraded", "storage", "full"), "the bucket is full", seconds=10)
    with switched_storage.switch(storage_proxy.be_overloaded):
        wait_until(agree(503, "unavailable", "storage", "unreachable"), "the bucket is away", seconds=10)
    is_away = agree(503, "unavailable", "redis", "unreachable")
    os.kill(valkey.pid, signal.SIGSTOP)
    try:
        wait_until(is_away, "Redis is away", seconds=15)
    finally:
        os.kill(valkey.pid, signal.SIGCONT)
    wait_until(agree(200, "ok", "redis", "ok"), "all is well again", seconds=15)
