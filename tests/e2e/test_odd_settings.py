"""Every setting with three wrong values: one line, an exit code, no traceback.  And right values that are unusual."""

import contextlib
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest

from api import wsgi
from api.settings import ApiSettings
from deploy.local.gateway_client import GatewayClient, GatewayRefused
from deploy.local.sample_job import run_sample
from deploy.local.servers import ValkeyServer, free_ports
from deploy.local.stack import Stack
from shared.setting_names import NAMES
from shared.settings import Settings, read_settings
from tests.conftest import Storage
from tests.support.polling import wait_until
from tests.support.proxy import serve_proxy, use_proxy
from tests.support.service import get_port, is_ready, start_service
from tests.support.tls import serve_tls, write_certificate
from tests.support.wrong_settings import CONTRADICTIONS, FREE, SECRET, WRONG
from worker.settings import RendererSettings, StewardSettings, WorkerSettings

ROOT = Path(__file__).resolve().parents[2]
PREFIX = "MASKMILL_"
# What ends a part of a URL, of a configuration file or of a shell's word, and what a careless decoder decodes twice.
ODD_PASSWORD = "p@ss/w:o#r?d&=%41+ \"'\\\u00fc{}"
READERS: Mapping[type[Settings], Callable[[], object]] = {
    ApiSettings: lambda: wsgi.main([wsgi.CHECK]),
    WorkerSettings: lambda: read_settings(WorkerSettings),
    RendererSettings: lambda: read_settings(RendererSettings),
    StewardSettings: lambda: read_settings(StewardSettings),
}


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove settings of another service on this machine."""
    for name in os.environ:
        if name.startswith(PREFIX):
            monkeypatch.delenv(name)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Paths for the table: a folder with a text, a certificate with its key, and the key of another one."""
    folder = tmp_path_factory.mktemp("files")
    (folder / "text").write_text("no certificate and no token\n")
    certificate, key = write_certificate(folder, "one", "127.0.0.1")
    _, other_key = write_certificate(folder, "other", "127.0.0.1")
    return {"folder": str(folder), "certificate": str(certificate), "key": str(key), "other_key": str(other_key)}


def fill(value: str, files: Mapping[str, str]) -> str:
    return re.sub(r"\{(\w+)\}", lambda found: files[found[1]], value)


def list_readers(name: str) -> list[type[Settings]]:
    return [kind for kind in READERS if name.lower() in kind.model_fields]


def read_refusal(kind: type[Settings]) -> str:
    """Return the line with which a process of this kind refuses the settings of this environment."""
    with pytest.raises(SystemExit) as exited:
        READERS[kind]()
    # Python prints such a value as a line on stderr, and exits with 1.
    assert isinstance(exited.value.code, str)
    return exited.value.code


def test_the_names_are_those_of_the_classes() -> None:
    fields = {name.upper() for kind in READERS for name in kind.model_fields}

    assert fields == NAMES


def test_the_table_has_every_setting() -> None:
    assert {*WRONG, *FREE} == NAMES
    assert not {*WRONG} & {*FREE}
    assert all(len({*values}) == 3 for values in WRONG.values())


@pytest.mark.parametrize("name", sorted(WRONG))
def test_three_wrong_values_are_one_line_each(
    name: str, files: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for value in WRONG[name]:
        monkeypatch.setenv(PREFIX + name, fill(value, files))
        for kind in list_readers(name):
            check_line(read_refusal(kind), name)


def check_line(line: str, name: str) -> None:
    """Check that a line names a setting, says what is wrong with it, and holds no secret."""
    assert re.fullmatch(rf"(Wrong settings|The \w+ cannot start): {PREFIX}{name}: .{{10,}}", line), line
    assert "Value error" not in line
    assert SECRET not in line


@pytest.mark.parametrize(("name", "environment"), CONTRADICTIONS)
def test_values_that_contradict_each_other_are_one_line(
    name: str, environment: Mapping[str, str], files: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for other, value in environment.items():
        monkeypatch.setenv(PREFIX + other, fill(value, files))

    line = read_refusal(list_readers(name)[0])

    assert f"{PREFIX}{name}" in line
    assert "\n" not in line
    assert SECRET not in line


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("REDIS_ULR", "write MASKMILL_REDIS_URL"),
        ("TOKEN", "write MASKMILL_TOKENS"),
        ("STORAGE_ENDPOIN", "write MASKMILL_STORAGE_ENDPOINT"),
        ("LOGLEVEL", "write MASKMILL_LOG_LEVEL"),
        ("redis_pasword", "write MASKMILL_REDIS_PASSWORD"),
    ],
)
def test_a_slip_in_a_name_is_one_line(name: str, advice: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PREFIX + name, SECRET)

    for kind in READERS:
        assert read_refusal(kind) == f"Wrong settings: {PREFIX}{name.upper()}: there is no such setting; {advice}"


def test_a_slip_in_the_name_of_a_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "maskmill_redis_pasword").write_text(SECRET)

    with pytest.raises(SystemExit, match="there is no such setting; write MASKMILL_REDIS_PASSWORD"):
        read_settings(Settings, {"MASKMILL_SECRETS_DIR": str(tmp_path)})


def test_one_file_of_variables_serves_all_processes(files: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES - {"REDIS_URL", "TOKENS", "AUTH"}:
        default = next(kind.model_fields[name.lower()].default for kind in list_readers(name))
        if isinstance(default, str | int | float):
            monkeypatch.setenv(PREFIX + name, f" {default}\n")
    # Kubernetes sets these for a service called maskmill-gateway.
    monkeypatch.setenv("MASKMILL_GATEWAY_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("MASKMILL_GATEWAY_PORT", "tcp://10.0.0.1:8000")
    monkeypatch.setenv("MASKMILL_SECRETS_DIR", files["folder"])

    for read in READERS.values():
        read()


@dataclass(frozen=True)
class Refusal:
    """A program that is to refuse its settings."""

    module: str
    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    line: str


NO_CREDENTIALS = "STORAGE_ACCESS_KEY: is not set, and this machine has no credentials of its own"
REFUSALS = (
    Refusal("api.wsgi", (), {"REDIS_URL": "localhost:6379"}, "REDIS_URL: begins with none of redis://"),
    Refusal("api.wsgi", (), {"STORAGE_ENDPOINT": "s3.example:9000"}, "STORAGE_ENDPOINT: begins with neither"),
    Refusal("api.wsgi", (), {"THREADS": "abc"}, "THREADS: should be a valid integer"),
    Refusal("api.wsgi", (), {"TOKENS_FILE": "/absent"}, "TOKENS_FILE: the file /absent cannot be read"),
    Refusal("api.wsgi", (), {"BIND": "192.0.2.1:8000", "AUTH": "off"}, "BIND: 192.0.2.1:8000 cannot be listened on"),
    Refusal("worker.renderer", (), {"RENDER_SECONDS": "nan"}, "RENDER_SECONDS: should be"),
    Refusal("worker.renderer", (), {}, NO_CREDENTIALS),
    Refusal("worker.steward", (), {"LEASE_SECONDS": "nan"}, "LEASE_SECONDS: should be"),
    Refusal("worker.steward", (), {"PROBE_HOST": "192.0.2.1", "PROBE_PORT": "8001"}, "PROBE_HOST and MASKMILL_PROBE"),
    Refusal("api.wsgi", (), {}, NO_CREDENTIALS),
    Refusal("worker.steward", (), {}, NO_CREDENTIALS),
    Refusal("worker.main", (), {"REDIS_ULR": "x"}, "REDIS_ULR: there is no such setting"),
    Refusal("worker.host", ("w", *"0000"), {"DEVICE": "gpu"}, "DEVICE: is no device"),
    Refusal("deploy.local", ("--port", "@", "--data", "@"), {"MAX_QUEUED": "-1"}, "MAX_QUEUED: should be greater"),
    Refusal("deploy.local", ("--port", "@", "--data", "@"), {"MAX_BATCH_IMAGES": "0"}, "MAX_BATCH_IMAGES: should"),
)


def run_refusal(refusal: Refusal, data: Path) -> "subprocess.CompletedProcess[str]":
    replaced = {"--port": str(*free_ports(1)), "--data": str(data)}
    pairs = zip(("", *refusal.arguments), refusal.arguments, strict=False)
    arguments = [replaced[option] if word == "@" else word for option, word in pairs]
    plain = {name: value for name, value in os.environ.items() if not name.startswith((PREFIX, "AWS_"))}
    # A port at which nothing listens: the stores are not needed to refuse a setting.
    stores = {"REDIS_URL": "redis://127.0.0.1:1", "STORAGE_ENDPOINT": "http://127.0.0.1:1", "METRICS_BIND": "off"}
    if refusal.line != NO_CREDENTIALS:
        stores |= {"STORAGE_ACCESS_KEY": "a", "STORAGE_SECRET_KEY": "b"}
    settings = {PREFIX + name: value for name, value in {**stores, **refusal.environment}.items()}
    return subprocess.run(
        [sys.executable, "-m", refusal.module, *arguments],
        cwd=ROOT,
        env={**plain, **settings, "AWS_EC2_METADATA_DISABLED": "true", "HOME": str(data)},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_processes_refuse_with_one_line_and_an_exit_code(tmp_path: Path) -> None:
    folders = [tmp_path / f"{number}" for number in range(len(REFUSALS))]
    with ThreadPoolExecutor(2) as threads:
        ended = [*threads.map(run_refusal, REFUSALS, folders)]

    for refusal, process in zip(REFUSALS, ended, strict=True):
        # A steward warns of its stores before it listens for health checks.
        lines = [line for line in process.stderr.splitlines() if not line.startswith('{"')]
        assert (process.returncode, len(lines), process.stdout) == (1, 1, ""), (refusal, process.stderr)
        assert f"{PREFIX}{refusal.line}" in lines[0]
    # The launcher starts nothing before the settings are right.
    assert not [*tmp_path.glob("*/logs/*")]


@pytest.fixture(scope="module")
def odd_valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator["OddValkey"]:
    """A Valkey with an odd password that listens on loopback and at a Unix socket."""
    with (
        # A path of a socket is shorter than those of pytest's folders can be.
        tempfile.TemporaryDirectory() as short,
        OddValkey(tmp_path_factory.mktemp("odd"), Path(short) / "valkey.sock") as server,
    ):
        yield server.wait_ready()


class OddValkey(ValkeyServer):
    def __init__(self, folder: Path, path: Path) -> None:
        super().__init__(folder, *free_ports(1), password=ODD_PASSWORD)
        self.path = path
        self.command += ["--unixsocket", str(path)]


@pytest.fixture(params=["tls", "tcp", "socket"])
def redis_environment(
    request: pytest.FixtureRequest, odd_valkey: OddValkey, tmp_path: Path
) -> Iterator[dict[str, str]]:
    """Settings for one Redis: by TLS with the password in the URL, by TCP in a variable, by socket in a file."""
    if request.param == "tls":
        certificate, key = write_certificate(tmp_path, "redis", "127.0.0.1")
        with serve_tls(("127.0.0.1", odd_valkey.port), certificate, key) as port:
            url = f"rediss://:{quote(ODD_PASSWORD, safe='')}@127.0.0.1:{port}/0"
            yield {"MASKMILL_REDIS_URL": url, "MASKMILL_REDIS_CA_FILE": str(certificate)}
    elif request.param == "tcp":
        url = f"redis://127.0.0.1:{odd_valkey.port}/1"
        yield {"MASKMILL_REDIS_URL": url, "MASKMILL_REDIS_PASSWORD": ODD_PASSWORD}
    else:
        (tmp_path / "secrets").mkdir()
        (tmp_path / "secrets" / "maskmill_redis_password").write_text(f"{ODD_PASSWORD}\n")
        url = f"unix://{odd_valkey.path}?db=2"
        yield {"MASKMILL_REDIS_URL": url, "MASKMILL_SECRETS_DIR": str(tmp_path / "secrets")}


def test_a_job_runs_over_each_way_to_redis(
    redis_environment: dict[str, str], storage: Storage, storage_env: dict[str, str], new_bucket: str, tmp_path: Path
) -> None:
    env = {**storage_env, **redis_environment, "MASKMILL_STORAGE_BUCKET": new_bucket}
    with start_service(tmp_path, env, worker="worker.main") as processes:
        client = GatewayClient(get_port(processes["gateway"]))
        wait_until(lambda: is_ready(processes["gateway"]) and has_model(client), "the model is ready", seconds=60)
        wait_until(lambda: is_ready(processes["steward"]), "the steward is ready", seconds=30)

        sample = run_sample(client)

        assert sample.result["segments"]
        logs = "".join((tmp_path / f"{name}.log").read_text() for name in processes)
        assert ODD_PASSWORD not in logs
        assert quote(ODD_PASSWORD, safe="") not in logs


def has_model(client: GatewayClient) -> bool:
    with contextlib.suppress(GatewayRefused):
        models = client.get("/v1/models").json()["models"]
        return any(model["state"] == "ready" for model in models)
    return False


def test_only_the_hub_is_asked_through_a_proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_ENDPOINT", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    with contextlib.ExitStack() as running:
        proxy = running.enter_context(serve_proxy())
        use_proxy(monkeypatch, proxy.url)
        stack = running.enter_context(Stack(tmp_path / "data", environ=os.environ))
        sample = run_sample(stack.start().client)

        assert sample.result["segments"]
        assert proxy.requests == []
        stack.start_worker(MASKMILL_MODEL="an-organisation/a-model")
        wait_until(lambda: bool(proxy.requests), "the worker asks the Hub", seconds=60)

    assert {tuple(line.split()[:2]) for line in proxy.requests} == {("CONNECT", "huggingface.co:443")}
