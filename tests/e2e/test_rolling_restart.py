"""Every process is restarted, one after the other, while clients of two gateways behind nginx see no error."""

from __future__ import annotations

import itertools
import json
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
import redis

from deploy.local.gateway_client import GatewayClient, GatewayRefused
from deploy.local.processes import Process, stop_all
from deploy.local.servers import LOOPBACK, free_ports
from shared import redis_keys
from tests.conftest import Storage
from tests.support.jobs import FakeSegmenter, png
from tests.support.nginx import PREFIX, PROGRAM, Answer, Nginx
from tests.support.polling import wait_until
from tests.support.raw_gateway import RawGateway, build_environment

pytestmark = pytest.mark.skipif(PROGRAM is None and "CI" not in os.environ, reason="nginx is not installed")

# So long that some requests are in flight at each restart.
BATCH_SECONDS = "0.1"
CLIENTS = 2
REFUSED = (429, 503)


class ProbedProcess(Process):
    """A worker or a steward with a port for probes."""

    def __init__(self, name: str, folder: Path, arguments: list[str], env: Mapping[str, str]) -> None:
        (port,) = free_ports(1)
        command = [sys.executable, "-m", *arguments]
        super().__init__(name, command, log=folder / f"{name}.log", env={**env, "MASKMILL_PROBE_PORT": str(port)})
        self._client = GatewayClient(port)

    def is_ready(self) -> bool:
        try:
            return self._client.request("GET", "/readyz").is_ok
        except GatewayRefused:
            return False


class Service:
    """Two gateways behind nginx, two workers and a steward."""

    def __init__(self, folder: Path, env: Mapping[str, str]) -> None:
        self.gateways = [RawGateway(folder / str(number), env) for number in range(2)]
        self.others = [
            *(
                ProbedProcess(f"worker-{number}", folder, ["tests.bench.instant_worker", BATCH_SECONDS], env)
                for number in range(2)
            ),
            ProbedProcess("steward", folder, ["worker.steward"], env),
        ]
        first, second = (f"server {LOOPBACK}:{gateway.port} max_fails=0;" for gateway in self.gateways)
        self.nginx = Nginx(folder, self.gateways[0].port, {first: f"{first} {second}"})

    @property
    def all(self) -> list[Process]:
        return [*self.gateways, *self.others]


@pytest.fixture
def service(tmp_path: Path, clean_redis: str, storage: Storage, new_bucket: str) -> Iterator[Service]:
    storage.server.wait_writable(new_bucket)
    env = {
        **build_environment(clean_redis, storage, new_bucket),
        "MASKMILL_MODEL": FakeSegmenter.model,
        "MASKMILL_TRUSTED_PROXIES": LOOPBACK,
        "MASKMILL_PROCESSES": "1",
        "MASKMILL_HOST_PROCESSES": "1",
        "MASKMILL_METRICS_BIND": "off",
        "MASKMILL_LOG_FORMAT": "json",
    }
    running = Service(tmp_path, env)
    with ExitStack() as stack:
        for process in [*running.all, running.nginx]:
            stack.enter_context(process)
        for process in [*running.all, running.nginx]:
            process.wait_ready()
        yield running
        stop_all(running.all, grace_seconds=10)


class Load:
    """Clients that send further requests until they are stopped, and do what Retry-After asks for."""

    def __init__(self, nginx: Nginx) -> None:
        self._nginx = nginx
        self._is_stopped = threading.Event()
        self._widths = itertools.count(4)
        self.counts: Counter[str] = Counter()
        self.job_ids: list[str] = []

    def stop(self) -> None:
        self._is_stopped.set()

    def run(self, send: Callable[[], None]) -> None:
        try:
            while not self._is_stopped.is_set():
                send()
        except BaseException:
            self.stop()
            raise

    def submit_job(self) -> None:
        """Submit a job, and poll until it is final."""
        job_id = json.loads(self._ask("submit", "/v1/jobs", 202, body=self._draw()).body)["id"]
        self.job_ids.append(job_id)
        while True:
            job = json.loads(self._ask("poll", f"/v1/jobs/{job_id}?wait=5", 200).body)
            if job["state"] not in ("queued", "running"):
                break
        assert job["state"] == "succeeded"

    def call(self) -> None:
        assert len(json.loads(self._ask("call", "/", 200, body=self._draw()).body)) == 2

    def _draw(self) -> bytes:
        """Return an image that is like no other."""
        return png(next(self._widths))

    def _ask(self, kind: str, path: str, expected: int, *, body: bytes | None = None) -> Answer:
        while True:
            answer = self._nginx.ask(f"{PREFIX}{path}", method="POST" if body else "GET", body=body)
            if answer.status not in REFUSED:
                break
            self.counts[f"{kind} again"] += 1
            time.sleep(float(answer.headers["retry-after"]))
        assert answer.status == expected, (kind, answer)
        self.counts[kind] += 1
        return answer


def restart(process: Process) -> None:
    process.terminate()
    wait_until(lambda: process.exit_code is not None, f"the end of {process.name}", seconds=30)
    assert process.exit_code == 0
    process.start().wait_ready()


def test_a_rolling_restart_is_not_noticed(service: Service, redis_client: redis.Redis) -> None:
    load = Load(service.nginx)
    with ThreadPoolExecutor(2 * CLIENTS) as pool:
        clients = [pool.submit(load.run, send) for send in [load.submit_job, load.call] * CLIENTS]
        try:
            wait_until(lambda: load.counts["submit"] and load.counts["call"], "the first answers", seconds=20)
            for process in service.all:
                restart(process)
        finally:
            load.stop()
        for client in clients:
            client.result(timeout=60)

    print(f"answers: {dict(load.counts)}")
    states = Counter(redis_client.hget(redis_keys.job(job_id), "state") for job_id in load.job_ids)
    assert states == {b"succeeded": load.counts["submit"]}
    # Every job is one that a client knows, and was run once.
    completed = int(redis_client.hget(redis_keys.COMPLETED, FakeSegmenter.model) or 0)
    assert redis_client.zcard(redis_keys.tenant_jobs("public")) == load.counts["submit"]
    assert completed == load.counts["submit"] + load.counts["call"]
