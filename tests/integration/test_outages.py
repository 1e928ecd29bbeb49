"""Redis or the object store dies or hangs: the response is a prompt 503, and no partial submission remains."""

import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from werkzeug.test import TestResponse

from deploy.local.processes import Process
from deploy.local.servers import ObjectPorts, ObjectServer, ValkeyServer, free_ports
from shared.jobs.model import Job
from shared.storage.bucket import Bucket
from tests.support.gateway import GatewayUnderTest, open_gateway, open_gateway_with_stores, run_job
from tests.support.jobs import png
from tests.support.polling import wait_until

MAX_RESPONSE_SECONDS = 3.0
BUCKET = "outages"


@pytest.fixture
def own_valkey(tmp_path: Path) -> Iterator[ValkeyServer]:
    with ValkeyServer(tmp_path / "valkey", *free_ports(1)) as server:
        yield server.wait_ready()


@pytest.fixture(scope="module")
def own_storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectServer]:
    folder = tmp_path_factory.mktemp("objects")
    with ObjectServer(folder, ObjectPorts.allocate(), "test-access", "test-secret") as server:
        server.wait_ready()
        server.create_bucket(BUCKET)
        yield server
        server.kill()


@pytest.fixture
def gateway(own_valkey: ValkeyServer, own_storage: ObjectServer) -> GatewayUnderTest:
    storage_env = {
        "MASKMILL_STORAGE_ENDPOINT": own_storage.url,
        "MASKMILL_STORAGE_BUCKET": BUCKET,
        "MASKMILL_STORAGE_ACCESS_KEY": own_storage.access_key,
        "MASKMILL_STORAGE_SECRET_KEY": own_storage.secret_key,
    }
    gateway = open_gateway(own_valkey.url, storage_env)
    assert submit(gateway).status_code == 202
    for found in list(gateway.stores.bucket.list_objects("inbox/")):
        gateway.stores.bucket.delete([found.key])
    return gateway


@contextmanager
def pause_process(process: Process) -> Iterator[None]:
    """Stop a server with SIGSTOP: it still accepts connections, but does not respond."""
    os.kill(process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process.pid, signal.SIGCONT)


def submit(gateway: GatewayUnderTest) -> TestResponse:
    return gateway.client.post("/v1/jobs", data=png())


def measure(call: Callable[[], TestResponse]) -> tuple[TestResponse, float]:
    started = time.monotonic()
    return call(), time.monotonic() - started


def list_inputs(gateway: GatewayUnderTest) -> list[str]:
    return [found.key for found in gateway.stores.bucket.list_objects("inbox/")]


def list_jobs(gateway: GatewayUnderTest) -> list[Job]:
    return list(gateway.stores.lists.list_newest("public", limit=100)[0])


def assert_unavailable(response: TestResponse, seconds: float) -> None:
    assert response.status_code == 503
    assert response.json["error_type"] in {"store_unavailable", "storage_unavailable"}
    assert int(response.headers["Retry-After"]) > 0
    assert seconds < MAX_RESPONSE_SECONDS


def test_a_dead_redis_is_a_prompt_503(gateway: GatewayUnderTest, own_valkey: ValkeyServer) -> None:
    own_valkey.kill()

    for call in (
        lambda: submit(gateway),
        lambda: gateway.client.get(f"/v1/jobs/{'0' * 32}"),
        lambda: gateway.client.get("/v1/jobs"),
        lambda: gateway.client.post("/", data=png()),
    ):
        assert_unavailable(*measure(call))
    assert list_inputs(gateway) == []


def test_a_hanging_redis_is_a_prompt_503(gateway: GatewayUnderTest, own_valkey: ValkeyServer) -> None:
    with pause_process(own_valkey):
        assert_unavailable(*measure(lambda: submit(gateway)))
        assert_unavailable(*measure(lambda: gateway.client.get("/v1/jobs")))
        assert_unavailable(*measure(lambda: gateway.client.post("/", data=png())))

    wait_until(lambda: submit(gateway).status_code == 202)


def test_the_gateway_serves_within_two_seconds_of_the_return_of_redis(
    gateway: GatewayUnderTest, own_valkey: ValkeyServer
) -> None:
    own_valkey.kill()
    assert submit(gateway).status_code == 503
    assert gateway.client.get("/readyz").status_code == 503

    own_valkey.start().wait_ready()

    wait_until(lambda: submit(gateway).status_code == 202, seconds=2)
    wait_until(lambda: gateway.client.get("/readyz").status_code == 200, seconds=2)


def test_a_hanging_object_store_is_a_prompt_503(gateway: GatewayUnderTest, own_storage: ObjectServer) -> None:
    before = len(list_jobs(gateway))

    with pause_process(own_storage):
        assert_unavailable(*measure(lambda: submit(gateway)))

    assert len(list_jobs(gateway)) == before
    settled_at = time.monotonic() + 4
    wait_until(lambda: time.monotonic() > settled_at and list_inputs(gateway) == [], seconds=15)


def test_a_dead_object_store_is_a_prompt_503(own_valkey: ValkeyServer) -> None:
    unreachable = {"MASKMILL_STORAGE_ENDPOINT": "http://127.0.0.1:9", "MASKMILL_STORAGE_BUCKET": BUCKET}
    keys = {"MASKMILL_STORAGE_ACCESS_KEY": "a", "MASKMILL_STORAGE_SECRET_KEY": "b"}
    gateway = open_gateway(own_valkey.url, unreachable | keys)

    assert_unavailable(*measure(lambda: submit(gateway)))
    assert list_jobs(gateway) == []


def test_a_503_to_a_hugging_face_client_is_delayed(gateway: GatewayUnderTest, own_valkey: ValkeyServer) -> None:
    own_valkey.kill()

    _, seconds = measure(lambda: gateway.client.post("/models/embedded", data=png()))

    assert 1 <= seconds < MAX_RESPONSE_SECONDS


def test_redis_dying_between_input_and_record_leaves_no_input(
    gateway: GatewayUnderTest, own_valkey: ValkeyServer
) -> None:
    interrupted = replace_stores(gateway, bucket=HookedBucket(gateway, own_valkey.kill))

    assert_unavailable(*measure(lambda: submit(interrupted)))

    # The input is deleted only after Redis has confirmed that the job was not recorded.
    own_valkey.start().wait_ready()
    wait_until(lambda: list_inputs(gateway) == [], seconds=15)


def test_redis_hanging_between_input_and_record_leaves_nothing(
    gateway: GatewayUnderTest, own_valkey: ValkeyServer
) -> None:
    before = {job.id for job in list_jobs(gateway)}

    interrupted = replace_stores(gateway, bucket=HookedBucket(gateway, lambda: os.kill(own_valkey.pid, signal.SIGSTOP)))

    assert_unavailable(*measure(lambda: submit(interrupted)))
    os.kill(own_valkey.pid, signal.SIGCONT)

    settled_at = time.monotonic() + 4
    wait_until(lambda: time.monotonic() > settled_at, seconds=15)
    assert list_inputs(gateway) == []
    assert {job.id for job in list_jobs(gateway)} == before


def test_a_result_is_readable_without_redis(gateway: GatewayUnderTest, own_valkey: ValkeyServer) -> None:
    job_id = submit(gateway).json["id"]
    run_job(gateway, job_id)

    own_valkey.kill()

    assert len(gateway.client.get(f"/v1/jobs/{job_id}/result").json["segments"]) == 2
    assert gateway.client.get(f"/v1/jobs/{job_id}/masks/1.png").status_code == 200


@pytest.mark.parametrize("store", ["redis", "storage"])
def test_readyz_is_a_503_within_two_seconds(
    gateway: GatewayUnderTest, own_valkey: ValkeyServer, own_storage: ObjectServer, store: str
) -> None:
    with pause_process(own_valkey if store == "redis" else own_storage):
        response, seconds = measure(lambda: gateway.client.get("/readyz"))

    assert response.status_code == 503
    assert seconds < 2
    assert {name for name, verdict in response.json["checks"].items() if verdict != "ok"} == {store}
    wait_until(lambda: gateway.client.get("/readyz").status_code == 200)


def test_healthz_does_not_depend_on_redis(gateway: GatewayUnderTest, own_valkey: ValkeyServer) -> None:
    own_valkey.kill()

    assert gateway.client.get("/healthz").status_code == 200


def test_metrics_report_a_dead_redis(gateway: GatewayUnderTest, own_valkey: ValkeyServer) -> None:
    own_valkey.kill()

    assert "maskmill_store_up 0.0" in gateway.operators_client.get("/metrics").text.splitlines()


class HookedBucket(Bucket):
    """A bucket that calls a function after each put()."""

    def __init__(self, gateway: GatewayUnderTest, hook: Callable[[], object]) -> None:
        bucket = gateway.stores.bucket
        super().__init__(bucket._store, bucket._slow)
        self._hook = hook

    def put(self, key: str, content: bytes, *, content_type: str, metadata: Mapping[str, str] | None = None) -> str:
        etag = super().put(key, content, content_type=content_type, metadata=metadata)
        self._hook()
        return etag


def replace_stores(gateway: GatewayUnderTest, **changes: object) -> GatewayUnderTest:
    return open_gateway_with_stores(gateway.settings, replace(gateway.stores, **changes))
