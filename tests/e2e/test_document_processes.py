"""The processes of the how-tos, each started by its documented command over stores of one's own, and replaced."""

import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis

from deploy.local.gateway_client import GatewayClient, GatewayRefused
from deploy.local.processes import Process
from deploy.local.sample_job import SAMPLE_IMAGE
from deploy.local.servers import LOOPBACK, free_ports
from shared.layout import LAYOUT_VERSION
from tests.conftest import Storage
from tests.support.document_folder import find_block, make_document_folder, write_settings
from tests.support.environment import copy_environment
from tests.support.polling import wait_until
from tests.support.tables import ROOT

OWN_STORAGE = "deploy/docs/how-to/own-storage.md"
SCALING_OUT = "deploy/docs/how-to/scaling-out.md"
UPGRADING = "deploy/docs/how-to/upgrading.md"
# In the order of the how-to for upgrades.
MODULES = ("worker.steward", "worker.main", "worker.renderer", "api.wsgi")
SETTINGS = "set -a; . ./maskmill.env; set +a"
START_SECONDS = 60.0
OLD_LAYOUT = "1000"


class DocumentedProcess(Process):
    """A process of the service, started by a command of a document in its folder, with a port for probes."""

    def __init__(self, folder: Path, script: str, **settings: str) -> None:
        port, bind = free_ports(2)
        ports = {"MASKMILL_PROBE_PORT": str(port), "MASKMILL_BIND": f"{LOOPBACK}:{bind}"}
        ports |= {"MASKMILL_METRICS_BIND": f"{LOOPBACK}:{port}"}
        *before, command = script.strip().splitlines()
        self.module = command.split()[-1]
        shell = "\n".join(["set -e", f"cd {folder}", *before, f"exec {command}"])
        log = folder / f"{self.module}-{port}.log"
        super().__init__(self.module, ["bash", "-c", shell], log=log, env={**copy_environment(), **ports, **settings})
        self.client = GatewayClient(bind)
        self._probes = GatewayClient(port)

    def is_ready(self) -> bool:
        try:
            return self._probes.get("/readyz").json()["status"] == "ok"
        except GatewayRefused:
            return False


class Service:
    """The processes of the how-to for stores of one's own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.commands = find_block(OWN_STORAGE, "-m worker.renderer").text.splitlines()
        self.processes = [DocumentedProcess(folder, f"{SETTINGS}\n{command}") for command in self.commands]

    @property
    def gateway(self) -> GatewayClient:
        (client,) = (process.client for process in self.processes if process.module == "api.wsgi")
        return client

    def submit(self) -> str:
        return str(self.gateway.request("POST", "/v1/jobs", SAMPLE_IMAGE.read_bytes()).raise_for_status().json()["id"])

    def wait_for(self, job_id: str) -> Any:
        return self.gateway.get(f"/v1/jobs/{job_id}?wait=30").raise_for_status().json()

    def list_workers(self) -> list[str]:
        """Return the states of the workers."""
        models = self.gateway.get("/v1/models").raise_for_status().json()["models"]
        return [worker["state"] for model in models for worker in model["workers"]]


def build_settings(redis_url: str, storage: Storage, bucket: str) -> Mapping[str, str]:
    url = urlsplit(redis_url)
    return {
        **storage.get_env(bucket),
        "MASKMILL_REDIS_URL": f"redis://{url.hostname}:{url.port}{url.path}",
        "MASKMILL_REDIS_PASSWORD": url.password or "",
    }


@pytest.fixture(scope="module")
def redis_client(redis_url: str) -> Iterator[redis.Redis]:
    """The tests of this file share what they put into it."""
    with redis.Redis.from_url(redis_url) as client:
        client.flushall()
        yield client
        client.flushall()


@pytest.fixture(scope="module")
def folder(redis_url: str, storage: Storage, bucket_name: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the commands, with the settings that the how-to names."""
    made = make_document_folder(tmp_path_factory.mktemp("documents"))
    write_settings(find_block(OWN_STORAGE, "cat > maskmill.env"), made, build_settings(redis_url, storage, bucket_name))
    return made


@pytest.fixture(scope="module")
def service(redis_client: redis.Redis, folder: Path) -> Iterator[Service]:
    running = Service(folder)
    with ExitStack() as stack:
        for process in running.processes:
            stack.enter_context(process)
        for process in running.processes:
            process.wait_ready(START_SECONDS)
        yield running


def test_the_commands_of_the_how_to_make_a_service(service: Service) -> None:
    assert tuple(process.module for process in service.processes) == MODULES

    job = service.wait_for(service.submit())

    assert job["state"] == "succeeded"
    assert service.gateway.get("/readyz").json()["status"] == "ok"
    # Rendered later, which takes a renderer.
    assert service.gateway.get(f"/v1/jobs/{job['id']}/coco.json").is_ok


def test_a_worker_joins_that_knows_the_stores_alone(service: Service) -> None:
    assert service.list_workers() == ["ready"]

    with DocumentedProcess(service.folder, find_block(SCALING_OUT, "-m worker.main").text) as worker:
        worker.wait_ready(START_SECONDS)
        wait_until(lambda: service.list_workers() == ["ready"] * 2, "the second worker", seconds=20)
        worker.terminate()
        wait_until(lambda: worker.exit_code is not None, "its end", seconds=30)

    assert worker.exit_code == 0


def test_the_processes_are_replaced_while_jobs_wait_and_run(service: Service) -> None:
    script = find_block(UPGRADING, "kill -TERM").text
    jobs = [service.submit() for _ in range(8)]

    for process in service.processes:
        replace(process, script)
        jobs.append(service.submit())

    assert [service.wait_for(job)["state"] for job in jobs] == ["succeeded"] * len(jobs)
    assert service.list_workers() == ["ready"]


def replace(process: Process, script: str) -> None:
    """End a process as the how-to says, and start it again."""
    with subprocess.Popen(["bash", "-euc", script], env={**copy_environment(), "PID": str(process.pid)}) as waiting:
        # Its parent, this process, has to ask for its exit code before its id is free.
        wait_until(lambda: process.exit_code is not None and waiting.poll() is not None, process.name, seconds=45)
    assert (process.exit_code, waiting.returncode) == (0, 0)
    process.start().wait_ready(START_SECONDS)


def test_data_of_another_layout_is_left_alone_and_other_prefixes_begin_anew(
    service: Service, redis_client: redis.Redis
) -> None:
    names = re.findall(r"MASKMILL_\w+_PREFIX", (ROOT / UPGRADING).read_text())
    old, new = (dict.fromkeys(names, prefix) for prefix in ("old", "new"))
    redis_client.set("old:mm:layout", OLD_LAYOUT)

    for command in service.commands:
        with DocumentedProcess(service.folder, f"{SETTINGS}\n{command}", **old) as refused:
            wait_until(lambda: refused.exit_code is not None, "its end", seconds=START_SECONDS)
        assert refused.exit_code == 1
        (line,) = refused.tail(5)
        assert f"layout {OLD_LAYOUT}, and this version needs layout {LAYOUT_VERSION}" in line
    assert redis_client.keys("old:*") == [b"old:mm:layout"]
    assert redis_client.get("old:mm:layout") == OLD_LAYOUT.encode()

    with DocumentedProcess(service.folder, f"{SETTINGS}\n{service.commands[0]}", **new) as steward:
        steward.wait_ready(START_SECONDS)
