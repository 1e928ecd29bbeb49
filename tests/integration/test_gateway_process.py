"""The gateway as the process that is deployed: gunicorn, its forks, its log, and how it starts and ends."""

import http.client
import json
import os
import re
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

from deploy.local.processes import Process
from deploy.local.servers import LOOPBACK, free_ports
from tests.conftest import Storage
from tests.support.jobs import png
from tests.support.polling import wait_until

TOKEN = "s3cret-t0ken"
MOST_BYTES = 20_000


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class GatewayProcess(Process):
    """`python -m api.wsgi` on a free port."""

    def __init__(self, folder: Path, env: Mapping[str, str]) -> None:
        (self.port,) = free_ports(1)
        bind = {"MASKMILL_BIND": f"{LOOPBACK}:{self.port}"}
        super().__init__(
            "The gateway", [sys.executable, "-m", "api.wsgi"], log=folder / "gateway.log", env={**env, **bind}
        )

    def is_ready(self) -> bool:
        try:
            return self.ask("GET", "/healthz").status == 200
        except OSError:
            return False

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        connection = http.client.HTTPConnection(LOOPBACK, self.port, timeout=20)
        sent = {
            "Authorization": f"Bearer {TOKEN}",
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        with closing(connection):
            connection.request(method, path, body=body, headers=sent)
            response = connection.getresponse()
            return Answer(response.status, dict(response.getheaders()), response.read())

    def events(self, name: str) -> list[dict[str, Any]]:
        """Return the log lines of one event."""
        # The last line may be on its way to the disk.
        whole = [line for line in self.log.read_text().splitlines(keepends=True) if line.endswith("\n")]
        lines = [json.loads(line) for line in whole]
        return [line for line in lines if line["event"] == name]


@pytest.fixture(scope="module")
def env(redis_url: str, storage: Storage, bucket_name: str) -> dict[str, str]:
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("MASKMILL_", "PROMETHEUS_"))}
    return {
        **plain,
        "MASKMILL_REDIS_URL": redis_url,
        "MASKMILL_STORAGE_ENDPOINT": storage.endpoint,
        "MASKMILL_STORAGE_BUCKET": bucket_name,
        "MASKMILL_STORAGE_ACCESS_KEY": storage.access_key,
        "MASKMILL_STORAGE_SECRET_KEY": storage.secret_key,
        "MASKMILL_TOKENS": f"shop:{TOKEN}",
        "MASKMILL_MAX_UPLOAD_BYTES": str(MOST_BYTES),
    }


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, env: dict[str, str]) -> Iterator[GatewayProcess]:
    with GatewayProcess(tmp_path_factory.mktemp("gateway"), env) as process:
        yield process.wait_ready()


def started(env: Mapping[str, str], **changes: str) -> "subprocess.CompletedProcess[str]":
    """Run a gateway that is expected to end by itself."""
    command = [sys.executable, "-m", "api.wsgi"]
    return subprocess.run(command, env={**env, **changes}, capture_output=True, text=True, timeout=30)


def test_an_image_becomes_a_queued_job(running: GatewayProcess) -> None:
    answer = running.ask("POST", "/v1/jobs", png())

    assert answer.status == 202
    assert running.ask("GET", answer.headers["Location"]).json["state"] == "queued"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"MASKMILL_THREADS": "0"}, "MASKMILL_THREADS"),
        ({"MASKMILL_SYNC_DEADLINE_SECONDS": "300"}, "MASKMILL_SYNC_DEADLINE_SECONDS"),
        ({"MASKMILL_BIND": "0.0.0.0:8000", "MASKMILL_TOKENS": ""}, "MASKMILL_TOKENS"),
        ({"MASKMILL_BIND": "here"}, "MASKMILL_BIND"),
        ({"MASKMILL_BIND": "127.0.0.1:99999"}, "127.0.0.1:99999"),
        ({"MASKMILL_TOKENS_FILE": "/nowhere"}, "MASKMILL_TOKENS_FILE"),
    ],
)
def test_invalid_settings_are_reported_in_one_line(env: dict[str, str], changes: dict[str, str], told: str) -> None:
    ended = started(env, **changes)

    assert ended.returncode == 1
    assert told in ended.stderr
    assert ended.stderr.count("\n") == 1
    assert TOKEN not in ended.stderr


def test_a_port_in_use_is_reported_in_one_line(running: GatewayProcess, env: dict[str, str]) -> None:
    ended = started(env, MASKMILL_BIND=f"{LOOPBACK}:{running.port}")

    assert ended.returncode == 1
    assert re.fullmatch(rf"The gateway cannot start: .*:{running.port} .*in use\n", ended.stderr)


def test_a_token_is_never_logged(running: GatewayProcess) -> None:
    running.ask("GET", f"/v1/jobs?token={TOKEN}")
    running.ask("GET", "/v1/jobs", Authorization="Bearer gu3ssed")
    running.ask("POST", "/", b"", X_Api_Key=TOKEN)

    assert TOKEN not in running.log.read_text()
    assert "gu3ssed" not in running.log.read_text()


def test_a_request_is_logged_in_one_line_with_its_id(running: GatewayProcess) -> None:
    answer = running.ask("GET", "/v1/jobs?limit=7", X_Request_ID="from-the-proxy")

    # An answer is booked after it has been sent.
    wait_until(lambda: logged(running, "request_answered", "from-the-proxy"))
    (line,) = logged(running, "request_answered", "from-the-proxy")
    assert answer.headers["X-Request-ID"] == "from-the-proxy"
    assert (line["method"], line["route"], line["status"]) == ("GET", "/v1/jobs", 200)
    assert line["tenant"] == "shop"


@pytest.mark.parametrize("size", [MOST_BYTES, MOST_BYTES + 1, 50 * MOST_BYTES])
def test_a_chunked_body_over_the_limit_is_rejected_and_not_cut(running: GatewayProcess, size: int) -> None:
    answer = running.ask("POST", "/v1/jobs", iter([png(), b"\0" * (size - len(png()))]))

    assert (answer.status, answer.json["error_type"]) == (413, "body_too_large")


@pytest.mark.parametrize(
    ("path", "token", "status"), [("/v1/jobs", TOKEN, 413), ("/v1/jobs", "wrong", 401), ("/nowhere", TOKEN, 404)]
)
def test_the_error_for_a_large_body_reaches_the_client(
    running: GatewayProcess, path: str, token: str, status: int
) -> None:
    answer = running.ask("POST", path, bytes(30_000_000), Authorization=f"Bearer {token}")

    assert answer.status == status


def test_a_chunked_body_is_accepted(running: GatewayProcess) -> None:
    assert running.ask("POST", "/v1/jobs", iter([png()[:20], png()[20:]])).status == 202


def test_an_aborted_upload_creates_no_job(running: GatewayProcess) -> None:
    before = running.ask("GET", "/v1/jobs").json["jobs"]
    head = f"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: 5000\r\n\r\n"

    with socket.create_connection((LOOPBACK, running.port), timeout=5) as connection:
        connection.sendall(head.encode() + png())
        connection.shutdown(socket.SHUT_WR)
        answer = connection.recv(4096)

    assert b" 400 " in answer.splitlines()[0] or answer == b""
    assert running.ask("GET", "/v1/jobs").json["jobs"] == before


def test_a_disconnect_cancels_the_synchronous_job(running: GatewayProcess) -> None:
    head = f"POST / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: {len(png())}\r\n"

    with socket.create_connection((LOOPBACK, running.port), timeout=5) as connection:
        connection.sendall(f"{head}X-Request-ID: hangs-up\r\n\r\n".encode() + png())
        wait_until(lambda: logged(running, "job_submitted", "hangs-up"))
    job_id = logged(running, "job_submitted", "hangs-up")[0]["job_id"]

    wait_until(lambda: running.ask("GET", f"/v1/jobs/{job_id}").json["state"] == "canceled", seconds=10)


def test_one_scrape_covers_all_processes(running: GatewayProcess) -> None:
    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(lambda _: running.ask("GET", "/v1/models").status, range(60)))

    assert set(statuses) == {200}
    wait_until(lambda: answers_counted(running, "/v1/models") >= 60)


def test_a_graceful_stop_completes_open_requests(tmp_path: Path, env: dict[str, str]) -> None:
    with GatewayProcess(tmp_path, {**env, "MASKMILL_PROCESSES": "1"}) as ending, ThreadPoolExecutor(1) as pool:
        ending.wait_ready()
        job_id = ending.ask("POST", "/v1/jobs", png()).json["id"]
        waiting = pool.submit(ending.ask, "GET", f"/v1/jobs/{job_id}?wait=3", X_Request_ID="waiting")
        time_to_arrive = time.monotonic() + 1
        wait_until(lambda: time.monotonic() > time_to_arrive)

        ending.terminate()

        assert waiting.result(timeout=15).status == 200
        wait_until(lambda: ending.exit_code is not None, seconds=15)
        assert ending.exit_code == 0


def logged(running: GatewayProcess, event: str, request_id: str) -> list[dict[str, Any]]:
    return [line for line in running.events(event) if line["request_id"] == request_id]


def answers_counted(running: GatewayProcess, route: str) -> float:
    lines = running.ask("GET", "/metrics").body.decode().splitlines()
    counted = [line for line in lines if line.startswith("maskmill_requests_total{") and f'"{route}"' in line]
    return sum(float(line.split()[-1]) for line in counted)
