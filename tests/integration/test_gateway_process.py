"""The gateway as it is deployed: gunicorn, its worker processes, its log, its start and its stop."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from api.settings import ApiSettings
from api.wsgi import listen_for_operators
from deploy.local.processes import Process
from deploy.local.servers import LOOPBACK, free_ports
from shared.settings import Settings, read_settings
from shared.stack import StackMark
from shared.storage.bucket import Bucket, open_bucket
from shared.storage.keys import STACK_OBJECT
from tests.conftest import Storage
from tests.support.jobs import png
from tests.support.polling import wait_until
from tests.support.process_memory import list_descendants, read_memory
from tests.support.raw_gateway import build_environment

TOKEN = "s3cret-t0ken"
MAX_BYTES = 20_000
# It is 310 where each imports the modules itself.
MAX_FOUR_PROCESSES_MEGABYTES = 250
OPERATORS_PATHS = ("/metrics", "/healthz", "/readyz")


@dataclass(frozen=True)
class Response:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class GatewayProcess(Process):
    """`python -m api.wsgi` on a free port."""

    def __init__(self, folder: Path, env: Mapping[str, str], *, has_metrics_port: bool = True) -> None:
        self.port, self.metrics_port = free_ports(2)
        bind = {"MASKMILL_BIND": f"{LOOPBACK}:{self.port}"}
        if has_metrics_port:
            bind["MASKMILL_METRICS_BIND"] = f"{LOOPBACK}:{self.metrics_port}"
        super().__init__(
            "The gateway", [sys.executable, "-m", "api.wsgi"], log=folder / "gateway.log", env={**env, **bind}
        )

    def is_ready(self) -> bool:
        try:
            return self.request("GET", "/healthz").status == 200
        except OSError:
            return False

    def request(self, method: str, path: str, body: Any = None, *, port: int | None = None, **headers: str) -> Response:
        connection = http.client.HTTPConnection(LOOPBACK, port or self.port, timeout=20)
        all_headers = {
            "Authorization": f"Bearer {TOKEN}",
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        with closing(connection):
            connection.request(method, path, body=body, headers=all_headers)
            reply = connection.getresponse()
            return Response(reply.status, dict(reply.getheaders()), reply.read())

    def events(self, name: str) -> list[dict[str, Any]]:
        """Return the log lines of one event."""
        # The last line may not be complete yet.
        whole = [line for line in self.log.read_text().splitlines(keepends=True) if line.endswith("\n")]
        lines = [json.loads(line) for line in whole]
        return [line for line in lines if line["event"] == name]


@pytest.fixture(scope="module")
def env(redis_url: str, storage: Storage, bucket_name: str) -> dict[str, str]:
    return {
        **build_environment(redis_url, storage, bucket_name),
        "MASKMILL_TOKENS": f"shop:{TOKEN}",
        "MASKMILL_MAX_UPLOAD_BYTES": str(MAX_BYTES),
    }


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, env: dict[str, str]) -> Iterator[GatewayProcess]:
    with GatewayProcess(tmp_path_factory.mktemp("gateway"), env) as process:
        yield process.wait_ready()


def run_gateway(env: Mapping[str, str], **changes: str) -> "subprocess.CompletedProcess[str]":
    """Run a gateway until it exits by itself."""
    command = [sys.executable, "-m", "api.wsgi"]
    return subprocess.run(command, env={**env, **changes}, capture_output=True, text=True, timeout=30)


def test_an_image_becomes_a_queued_job(gateway: GatewayProcess) -> None:
    response = gateway.request("POST", "/v1/jobs", png())

    assert response.status == 202
    assert gateway.request("GET", response.headers["Location"]).json["state"] == "queued"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"MASKMILL_THREADS": "0"}, "MASKMILL_THREADS"),
        ({"MASKMILL_SYNC_DEADLINE_SECONDS": "300"}, "MASKMILL_SYNC_DEADLINE_SECONDS"),
        ({"MASKMILL_BIND": "0.0.0.0:8000", "MASKMILL_TOKENS": ""}, "MASKMILL_TOKENS"),
        ({"MASKMILL_BIND": "here"}, "MASKMILL_BIND"),
        ({"MASKMILL_METRICS_BIND": "here"}, "MASKMILL_METRICS_BIND"),
        ({"MASKMILL_TRUSTED_PROXIES": "10.1/8"}, "MASKMILL_TRUSTED_PROXIES"),
        ({"MASKMILL_BIND": "127.0.0.1:99999"}, "MASKMILL_BIND"),
        ({"MASKMILL_TOKENS_FILE": "/nowhere"}, "MASKMILL_TOKENS_FILE"),
        ({"PROMETHEUS_MULTIPROC_DIR": "/dev/null/metrics"}, "PROMETHEUS_MULTIPROC_DIR"),
    ],
)
def test_invalid_settings_are_reported_in_one_line(env: dict[str, str], changes: dict[str, str], message: str) -> None:
    # A gateway of this machine may have the default port for operators, of which a second line would tell.
    process = run_gateway(env, **{"MASKMILL_METRICS_BIND": "off"} | changes)

    assert process.returncode == 1
    assert message in process.stderr
    assert process.stderr.count("\n") == 1
    assert TOKEN not in process.stderr


def test_a_port_in_use_is_reported_in_one_line(gateway: GatewayProcess, env: dict[str, str]) -> None:
    process = run_gateway(env, MASKMILL_BIND=f"{LOOPBACK}:{gateway.port}")

    assert process.returncode == 1
    assert re.fullmatch(rf"The gateway cannot start: .*:{gateway.port} .*in use\n", process.stderr)


def test_a_port_for_metrics_in_use_is_reported_if_it_was_chosen(gateway: GatewayProcess, env: dict[str, str]) -> None:
    process = run_gateway(
        env, MASKMILL_BIND=f"{LOOPBACK}:0", MASKMILL_METRICS_BIND=f"{LOOPBACK}:{gateway.metrics_port}"
    )

    assert process.returncode == 1
    assert f":{gateway.metrics_port} cannot be listened on" in process.stderr


def test_the_default_port_for_metrics_may_be_in_use(
    tmp_path_factory: pytest.TempPathFactory, env: dict[str, str]
) -> None:
    gateways = [
        GatewayProcess(tmp_path_factory.mktemp("two"), {**env, "MASKMILL_PROCESSES": "1"}, has_metrics_port=False)
        for _ in range(2)
    ]

    with gateways[0], gateways[1]:
        for gateway in gateways:
            gateway.wait_ready()

        wait_until(lambda: any(gateway.events("metrics_unavailable") for gateway in gateways))


def test_metrics_and_health_are_on_their_own_port(gateway: GatewayProcess) -> None:
    assert gateway.request("GET", "/metrics").status == 404
    statuses = {path: gateway.request("GET", path, port=gateway.metrics_port).status for path in OPERATORS_PATHS}
    assert statuses == dict.fromkeys(OPERATORS_PATHS, 200)
    assert gateway.request("GET", "/v1/jobs", port=gateway.metrics_port).status == 404


def test_a_token_is_never_log_lines(gateway: GatewayProcess) -> None:
    gateway.request("GET", f"/v1/jobs?token={TOKEN}")
    gateway.request("GET", "/v1/jobs", Authorization="Bearer gu3ssed")
    gateway.request("POST", "/", b"", X_Api_Key=TOKEN)

    assert TOKEN not in gateway.log.read_text()
    assert "gu3ssed" not in gateway.log.read_text()


def test_a_request_is_logged_in_one_line_with_its_id(gateway: GatewayProcess) -> None:
    response = gateway.request("GET", "/v1/jobs?limit=7", X_Request_ID="from-the-proxy")

    # A request is logged after its response has been sent.
    wait_until(lambda: log_lines(gateway, "request_answered", "from-the-proxy"))
    (line,) = log_lines(gateway, "request_answered", "from-the-proxy")
    assert response.headers["X-Request-ID"] == "from-the-proxy"
    assert (line["method"], line["route"], line["status"]) == ("GET", "/v1/jobs", 200)
    assert line["tenant"] == "shop"


@pytest.mark.parametrize("size", [MAX_BYTES + 1, 50 * MAX_BYTES])
def test_a_chunked_body_over_the_limit_is_rejected_and_not_cut(gateway: GatewayProcess, size: int) -> None:
    response = gateway.request("POST", "/v1/jobs", iter([png(), b"\0" * (size - len(png()))]))

    assert (response.status, response.json["error_type"]) == (413, "body_too_large")


@pytest.mark.parametrize(
    ("path", "token", "status"), [("/v1/jobs", TOKEN, 413), ("/v1/jobs", "wrong", 401), ("/nowhere", TOKEN, 404)]
)
def test_the_error_for_a_large_body_reaches_the_client(
    gateway: GatewayProcess, path: str, token: str, status: int
) -> None:
    response = gateway.request("POST", path, bytes(30_000_000), Authorization=f"Bearer {token}")

    assert response.status == status


def test_a_chunked_body_that_fills_the_limit_is_accepted(gateway: GatewayProcess) -> None:
    response = gateway.request("POST", "/v1/jobs", iter([png(), b"\0" * (MAX_BYTES - len(png()))]))

    assert response.status == 202


def test_a_chunked_body_is_accepted(gateway: GatewayProcess) -> None:
    assert gateway.request("POST", "/v1/jobs", iter([png()[:20], png()[20:]])).status == 202


def test_an_aborted_upload_creates_no_job(gateway: GatewayProcess) -> None:
    before = gateway.request("GET", "/v1/jobs").json["jobs"]
    head = f"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: 5000\r\n\r\n"

    with socket.create_connection((LOOPBACK, gateway.port), timeout=5) as connection:
        connection.sendall(head.encode() + png())
        connection.shutdown(socket.SHUT_WR)
        response = connection.recv(4096)

    assert response == b"" or b" 400 " in response.splitlines()[0]
    assert gateway.request("GET", "/v1/jobs").json["jobs"] == before


def test_a_disconnect_cancels_the_synchronous_job(gateway: GatewayProcess) -> None:
    head = f"POST / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: {len(png())}\r\n"

    with socket.create_connection((LOOPBACK, gateway.port), timeout=5) as connection:
        connection.sendall(f"{head}X-Request-ID: disconnects\r\n\r\n".encode() + png())
        wait_until(lambda: log_lines(gateway, "job_submitted", "disconnects"))
    job_id = log_lines(gateway, "job_submitted", "disconnects")[0]["job_id"]

    wait_until(lambda: gateway.request("GET", f"/v1/jobs/{job_id}").json["state"] == "canceled", seconds=10)


def test_one_scrape_covers_all_processes(gateway: GatewayProcess) -> None:
    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(lambda _: gateway.request("GET", "/v1/models").status, range(60)))

    assert set(statuses) == {200}
    wait_until(lambda: count_requests(gateway, "/v1/models") >= 60)


def test_processes_share_the_memory_of_their_modules(tmp_path: Path, env: dict[str, str]) -> None:
    with GatewayProcess(tmp_path, {**env, "MASKMILL_PROCESSES": "4"}) as gateway, ThreadPoolExecutor(16) as pool:
        gateway.wait_ready()

        def have_all_served() -> bool:
            list(pool.map(lambda _: gateway.request("GET", "/v1/models"), range(32)))
            # A process that has served a request has threads.
            return sum(count_threads(pid) > 1 for pid in list_descendants(gateway.pid)) == 4

        wait_until(have_all_served, seconds=30)
        nbytes = read_memory(gateway.pid)

    print(f"four processes of a gateway: {nbytes / 1e6:.0f} MB")
    assert nbytes < MAX_FOUR_PROCESSES_MEGABYTES * 1_000_000


def count_threads(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


def test_a_graceful_stop_completes_open_requests(tmp_path: Path, env: dict[str, str]) -> None:
    with GatewayProcess(tmp_path, {**env, "MASKMILL_PROCESSES": "1"}) as gateway, ThreadPoolExecutor(1) as pool:
        gateway.wait_ready()
        job_id = gateway.request("POST", "/v1/jobs", png()).json["id"]
        waiting = pool.submit(gateway.request, "GET", f"/v1/jobs/{job_id}?wait=3", X_Request_ID="waiting")
        time_to_arrive = time.monotonic() + 1
        wait_until(lambda: time.monotonic() > time_to_arrive)

        gateway.terminate()

        assert waiting.result(timeout=15).status == 200
        wait_until(lambda: gateway.exit_code is not None, seconds=15)
        assert gateway.exit_code == 0


def log_lines(gateway: GatewayProcess, event: str, request_id: str) -> list[dict[str, Any]]:
    return [line for line in gateway.events(event) if line["request_id"] == request_id]


def count_requests(gateway: GatewayProcess, route: str) -> float:
    lines = gateway.request("GET", "/metrics", port=gateway.metrics_port).body.decode().splitlines()
    samples = [line for line in lines if line.startswith("maskmill_requests_total{") and f'"{route}"' in line]
    return sum(float(sample.split()[-1]) for sample in samples)


def test_metrics_can_be_turned_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MASKMILL_METRICS_BIND", "off")

    assert listen_for_operators(read_settings(ApiSettings)) is None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_gateway_ended_while_it_checks_its_stores_leaves_no_process(
    clean_redis: str, storage: Storage, new_bucket: str, tmp_path: Path, number: signal.Signals
) -> None:
    env = build_environment(clean_redis, storage, new_bucket)
    storage.server.wait_writable(new_bucket)
    # The gateway waits whether it is renewed, because Redis is empty.
    open_storage(env).put(STACK_OBJECT, StackMark("stack", "renewal").to_bytes(), content_type="text/plain")
    with GatewayProcess(tmp_path, {**env, "MASKMILL_PROCESSES": "1"}) as gateway:
        wait_until(lambda: len(list_descendants(gateway.pid)) == 2, "the check", seconds=20)
        _, child = list_descendants(gateway.pid)

        os.kill(gateway.pid, number)

        wait_until(lambda: gateway.exit_code is not None, "the end of the gateway", seconds=3)
        wait_until(lambda: not Path(f"/proc/{child}").exists(), "the end of the check", seconds=3)
    assert gateway.exit_code == (-number if number == signal.SIGKILL else 0)
    assert gateway.log.read_text() == ""


def open_storage(env: Mapping[str, str]) -> Bucket:
    settings = {name.removeprefix("MASKMILL_").lower(): env[name] for name in env if name.startswith("MASKMILL_")}
    return open_bucket(Settings(**settings))
