"""What callers see when Redis or the object store dies or hangs: a quick 503, and nothing half-made afterwards."""

import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from werkzeug.test import TestResponse

from api.app import create_app
from deploy.local.processes import Process
from deploy.local.servers import ObjectPorts, ObjectServer, ValkeyServer, free_ports
from shared.jobs.model import Job
from shared.storage.bucket import Bucket
from tests.support.gateway import GatewayUnderTest, do_job, gateway
from tests.support.jobs import png
from tests.support.polling import wait_until

QUICK_SECONDS = 3.0
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
def maskmill(own_valkey: ValkeyServer, own_storage: ObjectServer) -> GatewayUnderTest:
    storage_env = {
        "MASKMILL_STORAGE_ENDPOINT": own_storage.url,
        "MASKMILL_STORAGE_BUCKET": BUCKET,
        "MASKMILL_STORAGE_ACCESS_KEY": own_storage.access_key,
        "MASKMILL_STORAGE_SECRET_KEY": own_storage.secret_key,
    }
    built = gateway(own_valkey.url, storage_env)
    assert submit(built).status_code == 202
    for found in list(built.services.bucket.listing("inbox/")):
        built.services.bucket.delete([found.key])
    return built


@contextmanager
def frozen(process: Process) -> Iterator[None]:
    """Stop a server in its tracks: it accepts connections still, and answers nothing."""
    os.kill(process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process.pid, signal.SIGCONT)


def submit(maskmill: GatewayUnderTest) -> TestResponse:
    return maskmill.client.post("/v1/jobs", data=png())


def timed(call: Callable[[], TestResponse]) -> tuple[TestResponse, float]:
    started = time.monotonic()
    return call(), time.monotonic() - started


def inputs(maskmill: GatewayUnderTest) -> list[str]:
    return [found.key for found in maskmill.services.bucket.listing("inbox/")]


def listed(maskmill: GatewayUnderTest) -> list[Job]:
    return list(maskmill.services.jobs.newest("public", limit=100)[0])


def assert_unavailable(answer: TestResponse, seconds: float) -> None:
    assert answer.status_code == 503
    assert answer.json["error_type"] in {"store_unavailable", "storage_unavailable"}
    assert int(answer.headers["Retry-After"]) > 0
    assert seconds < QUICK_SECONDS


def test_a_dead_redis_is_a_quick_503(maskmill: GatewayUnderTest, own_valkey: ValkeyServer) -> None:
    own_valkey.kill()

    for call in (
        lambda: submit(maskmill),
        lambda: maskmill.client.get(f"/v1/jobs/{'0' * 32}"),
        lambda: maskmill.client.get("/v1/jobs"),
        lambda: maskmill.client.post("/", data=png()),
    ):
        assert_unavailable(*timed(call))
    assert inputs(maskmill) == []


def test_a_hanging_redis_is_a_quick_503(maskmill: GatewayUnderTest, own_valkey: ValkeyServer) -> None:
    with frozen(own_valkey):
        assert_unavailable(*timed(lambda: submit(maskmill)))
        assert_unavailable(*timed(lambda: maskmill.client.get("/v1/jobs")))
        assert_unavailable(*timed(lambda: maskmill.client.post("/", data=png())))

    wait_until(lambda: submit(maskmill).status_code == 202)


def test_a_hanging_object_store_is_a_quick_503(maskmill: GatewayUnderTest, own_storage: ObjectServer) -> None:
    before = len(listed(maskmill))

    with frozen(own_storage):
        assert_unavailable(*timed(lambda: submit(maskmill)))

    assert len(listed(maskmill)) == before
    settled = time.monotonic() + 4
    wait_until(lambda: time.monotonic() > settled and inputs(maskmill) == [], seconds=15)


def test_a_dead_object_store_is_a_quick_503(own_valkey: ValkeyServer) -> None:
    nowhere = {"MASKMILL_STORAGE_ENDPOINT": "http://127.0.0.1:9", "MASKMILL_STORAGE_BUCKET": BUCKET}
    keys = {"MASKMILL_STORAGE_ACCESS_KEY": "a", "MASKMILL_STORAGE_SECRET_KEY": "b"}
    maskmill = gateway(own_valkey.url, nowhere | keys)

    assert_unavailable(*timed(lambda: submit(maskmill)))
    assert listed(maskmill) == []


def test_a_client_that_tries_again_at_once_is_slowed_down(maskmill: GatewayUnderTest, own_valkey: ValkeyServer) -> None:
    own_valkey.kill()

    _, seconds = timed(lambda: maskmill.client.post("/models/embedded", data=png()))

    assert 1 <= seconds < QUICK_SECONDS


def test_redis_dying_between_input_and_record_leaves_no_input(
    maskmill: GatewayUnderTest, own_valkey: ValkeyServer
) -> None:
    broken = with_services(maskmill, bucket=Interrupted(maskmill, own_valkey.kill))

    assert_unavailable(*timed(lambda: submit(broken)))

    # Only Redis can tell whether the job was recorded, and then its input is needed.
    own_valkey.start().wait_ready()
    wait_until(lambda: inputs(maskmill) == [], seconds=15)


def test_redis_hanging_between_input_and_record_leaves_nothing(
    maskmill: GatewayUnderTest, own_valkey: ValkeyServer
) -> None:
    before = {job.id for job in listed(maskmill)}

    broken = with_services(maskmill, bucket=Interrupted(maskmill, lambda: os.kill(own_valkey.pid, signal.SIGSTOP)))

    assert_unavailable(*timed(lambda: submit(broken)))
    os.kill(own_valkey.pid, signal.SIGCONT)

    settled = time.monotonic() + 4
    wait_until(lambda: time.monotonic() > settled, seconds=15)
    assert inputs(maskmill) == []
    assert {job.id for job in listed(maskmill)} == before


def test_a_finished_result_can_be_had_without_redis(maskmill: GatewayUnderTest, own_valkey: ValkeyServer) -> None:
    job_id = submit(maskmill).json["id"]
    do_job(maskmill, job_id)

    own_valkey.kill()

    assert len(maskmill.client.get(f"/v1/jobs/{job_id}/result").json["segments"]) == 2
    assert maskmill.client.get(f"/v1/jobs/{job_id}/masks/1.png").status_code == 200


@pytest.mark.parametrize("which", ["redis", "storage"])
def test_readiness_is_refused_within_two_seconds(
    maskmill: GatewayUnderTest, own_valkey: ValkeyServer, own_storage: ObjectServer, which: str
) -> None:
    with frozen(own_valkey if which == "redis" else own_storage):
        answer, seconds = timed(lambda: maskmill.client.get("/readyz"))

    assert answer.status_code == 503
    assert seconds < 2
    assert {name for name, verdict in answer.json["checks"].items() if verdict != "ok"} == {which}
    wait_until(lambda: maskmill.client.get("/readyz").status_code == 200)


def test_liveness_needs_nobody(maskmill: GatewayUnderTest, own_valkey: ValkeyServer) -> None:
    own_valkey.kill()

    assert maskmill.client.get("/healthz").status_code == 200


def test_a_scrape_survives_a_dead_redis(maskmill: GatewayUnderTest, own_valkey: ValkeyServer) -> None:
    own_valkey.kill()

    assert "maskmill_store_up 0.0" in maskmill.client.get("/metrics").text.splitlines()


class Interrupted(Bucket):
    """A bucket behind whose back something happens as soon as an input is stored."""

    def __init__(self, maskmill: GatewayUnderTest, then: Callable[[], object]) -> None:
        whole = maskmill.services.bucket
        super().__init__(whole._store, whole._patient)
        self._then = then

    def put(self, key: str, content: bytes, *, content_type: str, metadata: Mapping[str, str] | None = None) -> None:
        super().put(key, content, content_type=content_type, metadata=metadata)
        self._then()


def with_services(maskmill: GatewayUnderTest, **changes: object) -> GatewayUnderTest:
    services = replace(maskmill.services, **changes)
    return GatewayUnderTest(create_app(maskmill.settings, services).test_client(), services, maskmill.settings)
