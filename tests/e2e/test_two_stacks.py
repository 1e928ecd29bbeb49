"""Two whole stacks on one Redis and one bucket, of which the second has prefixes: each does its own jobs only."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import redis

from deploy.local.gateway_client import GatewayClient, GatewayRefused
from deploy.local.processes import Process
from deploy.local.servers import LOOPBACK, free_ports
from deploy.local.stack import BUCKET, Stack
from shared.prefixes import OBJECT_NAMES
from shared.settings import Settings
from tests.support.environment import copy_environment, get_fields
from tests.support.jobs import png
from tests.support.polling import wait_until
from tests.support.start import run_refused

PREFIX = "second"
# A user of Redis who may use no key and no channel without this prefix.
USER, PASSWORD = "second-user", "second-password"
FOLDER = "teams/second"
SHORT_INTERVALS = {
    "MASKMILL_RECOVERY_INTERVAL_SECONDS": "0.5",
    "MASKMILL_INBOX_GRACE_SECONDS": "0.5",
    "MASKMILL_PURGE_INTERVAL_SECONDS": "0.5",
    "MASKMILL_RETENTION_INTERVAL_SECONDS": "0.5",
}


class SecondStack:
    """Gateway, worker and steward on the servers of another stack."""

    def __init__(self, first: Stack, folder: Path) -> None:
        self._folder = folder
        port, probe = free_ports(2, exclude=[*first.ports.all, first.port])
        self.client = GatewayClient(port)
        url = f"redis://{USER}:{PASSWORD}@{LOOPBACK}:{first.ports.valkey}/0"
        self._env = copy_environment() | first.env | SHORT_INTERVALS
        self._env |= {
            "MASKMILL_REDIS_URL": url,
            "MASKMILL_REDIS_PREFIX": PREFIX,
            "MASKMILL_STORAGE_PREFIX": FOLDER,
            "MASKMILL_BIND": f"{LOOPBACK}:{port}",
            "MASKMILL_METRICS_BIND": f"{LOOPBACK}:{probe}",
            "MASKMILL_PROCESSES": "1",
            "MASKMILL_HOST_PROCESSES": "1",
            "OMP_WAIT_POLICY": "PASSIVE",
            "PYTHONUNBUFFERED": "1",
        }
        self.gateway = self.build("api.wsgi")
        self.worker = self.build("worker.main")

    def build(self, module: str, **settings: str) -> Process:
        return Process(
            module, [sys.executable, "-m", module], log=self._folder / f"{module}.log", env=self._env | settings
        )

    @property
    def logs(self) -> str:
        return "".join(path.read_text() for path in self._folder.glob("*.log"))


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("first"), environ=copy_environment() | SHORT_INTERVALS) as running:
        yield running.start()


@pytest.fixture(scope="module")
def store(first: Stack) -> Iterator["redis.Redis"]:
    with redis.Redis.from_url(first.valkey.url, decode_responses=True) as client:
        yield client


@pytest.fixture(scope="module")
def second(first: Stack, store: "redis.Redis", tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecondStack]:
    """The second stack, ready; its steward is started by the tests."""
    store.acl_setuser(
        USER,
        enabled=True,
        passwords=[f"+{PASSWORD}"],
        categories=["+@all"],
        keys=[f"{PREFIX}:*"],
        channels=[f"{PREFIX}:*"],
        reset=True,
    )
    made = SecondStack(first, tmp_path_factory.mktemp("second"))
    with ExitStack() as stack:
        for process in (made.worker, made.gateway):
            stack.callback(process.kill)
            process.start()
        wait_until(lambda: has_ready_worker(made.client), seconds=60)
        yield made


def has_ready_worker(client: GatewayClient) -> bool:
    try:
        [model] = client.get("/v1/models").json()["models"]
    except (GatewayRefused, ValueError):
        return False
    return bool(model["state"] == "ready" and client.request("GET", "/readyz").is_ok)


def submit(client: GatewayClient) -> str:
    return str(client.post("/v1/jobs", png()).json()["id"])


def complete(client: GatewayClient) -> str:
    """Submit a job, wait until it has succeeded, and return its id."""
    job_id = submit(client)
    assert client.get(f"/v1/jobs/{job_id}?wait=20").json()["state"] == "succeeded"
    return job_id


def is_unknown(client: GatewayClient, job_id: str) -> bool:
    return client.request("GET", f"/v1/jobs/{job_id}").status == 404


def list_objects(first: Stack, prefix: str = "") -> list[str]:
    with first.objects.client() as client:
        found: dict[str, Any] = client.list_objects_v2(Bucket=BUCKET, Prefix=prefix)
    return [entry["Key"] for entry in found.get("Contents", [])]


def test_each_stack_does_its_own_jobs_and_has_its_own_results(first: Stack, second: SecondStack) -> None:
    ids = {client: complete(client) for client in (first.client, second.client)}

    of_first, of_second = ids.values()
    assert is_unknown(first.client, of_second)
    assert is_unknown(second.client, of_first)
    assert second.client.request("POST", "/", png()).is_ok
    assert f"results/{of_first}/result.json" in list_objects(first)
    assert f"{FOLDER}/results/{of_second}/result.json" in list_objects(first)


def test_every_key_of_the_second_stack_begins_with_its_prefix(
    first: Stack, second: SecondStack, store: "redis.Redis"
) -> None:
    complete(second.client)

    names = {key.partition(":")[0].partition(".")[0] for key in store.scan_iter(count=1000)}
    assert names <= {"mm", "segment", "_kombu", "unacked_mutex", PREFIX}
    # Its user may use no other key, in a script either, and no other channel.
    assert "permission" not in second.logs.lower()
    assert {key.partition("/")[0] for key in list_objects(first)} <= OBJECT_NAMES | {FOLDER.partition("/")[0]}


def test_a_third_stack_without_a_prefix_is_refused_in_one_line(first: Stack) -> None:
    """Its Redis is another database, which is empty, and its bucket that of a running stack."""
    settings = Settings(**get_fields(first.env))

    line = run_refused("worker.steward", settings.redis_url.removesuffix("/0") + "/1", settings)

    assert "cannot start: The bucket is in use by a stack with another Redis." in line


def test_neither_steward_touches_what_the_other_stack_has(first: Stack, second: SecondStack) -> None:
    """The second steward deletes every result within seconds; the first one looks for lost jobs all the time."""
    kept, purged, expired = complete(first.client), complete(second.client), complete(second.client)
    second.worker.stop()
    waiting = submit(second.client)
    assert second.client.request("DELETE", f"/v1/jobs/{purged}?purge=1").status == 204
    assert list_objects(first, f"{FOLDER}/results/{purged}") == []

    with second.build("worker.steward", MASKMILL_RESULT_TTL_SECONDS="1"):
        wait_until(lambda: not list_objects(first, f"{FOLDER}/results/{expired}"), seconds=20)

    assert first.client.get(f"/v1/jobs/{kept}/result").is_ok
    assert second.client.get(f"/v1/jobs/{waiting}").json()["state"] == "queued"
    assert list_objects(first, f"{FOLDER}/inbox/") == [f"{FOLDER}/inbox/{waiting}"]
    assert is_unknown(first.client, waiting)
    assert not [
        line for line in first.steward.log.read_text().splitlines() if FOLDER in line or "job_recovered" in line
    ]
