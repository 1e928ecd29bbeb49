"""Parts of the launcher that need no server: checks, files kept between runs, the table, processes, the supervisor."""

import json
import os
import signal
import socket
import stat
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.dev.install import CannotInstall, Progress, check_python
from deploy.local.environment import find_setting, names_proxy, select_service_variables
from deploy.local.gateway_client import GatewayClient
from deploy.local.launcher import (
    CannotStart,
    lock_data_folder,
    main,
    parse_port,
    resolve_data,
    resolve_model,
    show_sample,
)
from deploy.local.processes import NotReady, Process
from deploy.local.sample_job import curl_commands, format_segments
from deploy.local.servers import free_ports, is_free
from deploy.local.stack import InternalPorts, Stack, StackKeys
from deploy.local.supervision import MAX_CONSECUTIVE_EXITS, RestartLimitReached, Supervisor
from tests.support.credentials import CREDENTIALS
from tests.support.polling import wait_until

# The environment of a child process that imports this project.
PROJECT_ENV = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}


@pytest.fixture
def port_in_use() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def python_process(code: str, folder: Path) -> Process:
    return Process("The child", [sys.executable, "-c", code], log=folder / "child.log")


def test_a_port_in_use_is_refused_in_one_line(
    port_in_use: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["--port", str(port_in_use), "--data", str(tmp_path / "data")])

    assert code == 1
    assert capsys.readouterr().err.splitlines() == [
        f"maskmill: port {port_in_use} is taken; choose another one, as in: make serve PORT=8001"
    ]


@pytest.mark.parametrize("port", ["0", "-1", "65536", "abc", "", " ", "80.5", "\u0661", "9" * 5000])
def test_a_port_that_does_not_exist_is_refused(port: str) -> None:
    with pytest.raises(CannotStart, match="no port"):
        parse_port(port)


@pytest.mark.parametrize("model", ["/no/such", "", "  ", "~nobody-here/model", f"/{'x' * 5000}"])
def test_a_missing_model_folder_is_refused(model: str) -> None:
    with pytest.raises(CannotStart, match=r"there is no model in|no model is named|can be no folder|cannot be read"):
        resolve_model(model)


@pytest.mark.parametrize("data", ["", " ", "~nobody-here/data"])
def test_a_data_folder_that_cannot_be_is_refused(data: str) -> None:
    with pytest.raises(CannotStart, match=r"no folder for data is named|can be no folder"):
        resolve_data(data)


@pytest.mark.parametrize(
    "arguments", [("--port", "abc"), ("--model", "./no-such"), ("--data", "/proc/ro"), ("--data", __file__)]
)
def test_a_wrong_variable_of_make_is_one_line(
    arguments: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["--port", str(*free_ports(1)), "--data", str(tmp_path / "data"), *arguments])

    [line] = capsys.readouterr().err.splitlines()
    assert code == 1
    assert line.startswith("maskmill: ")


def test_a_model_folder_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "roads").mkdir()
    (tmp_path / "roads" / "config.json").touch()
    monkeypatch.chdir(tmp_path)

    assert resolve_model("./roads") == str(tmp_path / "roads")


@pytest.mark.parametrize("model", ["embedded", "facebook/mask2former-swin-large-coco-panoptic", "s3://models/roads"])
def test_a_model_that_is_not_a_folder_is_passed_on_unchanged(model: str) -> None:
    assert resolve_model(model) == model


def test_a_data_folder_serves_one_stack_at_a_time(tmp_path: Path) -> None:
    with (
        lock_data_folder(tmp_path),
        pytest.raises(CannotStart, match=f"in use by another Maskmill .process {os.getpid()}"),
        lock_data_folder(tmp_path),
    ):
        pass

    with lock_data_folder(tmp_path):
        pass


def test_the_lock_of_a_killed_process_is_released(tmp_path: Path) -> None:
    code = (
        "import time, pathlib; from deploy.local.launcher import lock_data_folder;"
        f"lock = lock_data_folder(pathlib.Path({str(tmp_path / 'data')!r})); lock.__enter__();"
        "print('locked', flush=True); time.sleep(60)"
    )
    holder = Process("The holder", [sys.executable, "-c", code], log=tmp_path / "holder.log", env=PROJECT_ENV).start()
    wait_until(lambda: holder.tail() == ["locked"])

    with pytest.raises(CannotStart, match=f"process {holder.pid}"), lock_data_folder(tmp_path / "data"):
        pass
    holder.kill()

    with lock_data_folder(tmp_path / "data"):
        pass


def test_a_data_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").touch()

    with pytest.raises(CannotStart, match="cannot be used"), lock_data_folder(tmp_path / "data"):
        pass


@dataclass(frozen=True)
class GatewayAlone:
    """Of a stack what the sample needs."""

    client: GatewayClient
    data: Path
    url: str = "http://127.0.0.1"


@contextmanager
def serve_refusals(released: threading.Event) -> Iterator[int]:
    """Answer each request with a 504, once released; yield the port."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            released.wait(10)
            body = b'{"error": "The job was not finished in time."}'
            self.send_response(504)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def test_a_sample_that_fails_ends_in_one_line_and_stops_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    released, checks = threading.Event(), []

    def check() -> None:
        checks.append(1)
        if len(checks) == 2:
            released.set()

    with serve_refusals(released) as port:
        show_sample(GatewayAlone(GatewayClient(port), tmp_path), check)  # type: ignore[arg-type]

    # The processes are supervised while the sample takes its time.
    assert len(checks) >= 2
    assert capsys.readouterr().out.splitlines() == [
        "Segmenting a sample photo ... ",
        "The service is up, but the sample photo was not shown: the gateway answered 504: "
        "The job was not finished in time.",
    ]


def test_internal_ports_are_the_same_on_the_next_run(tmp_path: Path) -> None:
    file = tmp_path / "ports.json"

    assert InternalPorts.load_or_create(file) == InternalPorts.load_or_create(file)


def test_internal_ports_are_replaced_when_one_is_in_use(tmp_path: Path, port_in_use: int) -> None:
    file = tmp_path / "ports.json"
    InternalPorts.load_or_create(file)
    wire = json.loads(file.read_text())
    file.write_text(json.dumps({**wire, "valkey": port_in_use}))

    replaced = InternalPorts.load_or_create(file)

    assert replaced.valkey != port_in_use
    assert replaced == InternalPorts.load_or_create(file)


@given(st.text(max_size=40))
def test_a_damaged_port_file_is_replaced(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    file = tmp_path_factory.mktemp("run") / "ports.json"
    file.write_text(text)

    assert InternalPorts.load_or_create(file).are_free()


def test_free_ports_are_free_for_grpc_too() -> None:
    ports = free_ports(5)

    assert len(set(ports)) == 5
    assert all(is_free(port) and is_free(port + 10_000) and port + 10_000 < 65_536 for port in ports)


def test_keys_are_generated_once_and_readable_by_the_owner_only(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"

    first, second = StackKeys.load_or_create(file), StackKeys.load_or_create(file)

    assert first == second
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert first.secret != StackKeys.load_or_create(tmp_path / "other.json").secret
    assert len({first.access, first.secret, first.valkey}) == 3


def test_the_keys_of_an_earlier_version_are_kept_and_completed(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    file.write_text(json.dumps({"access": "before", "secret": "kept"}))

    keys = StackKeys.load_or_create(file)

    assert (keys.access, keys.secret) == ("before", "kept")
    assert keys.valkey
    assert keys == StackKeys.load_or_create(file)


@given(st.text(max_size=40) | st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=3)).map(json.dumps))
def test_a_damaged_file_of_keys_is_replaced(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    file = tmp_path_factory.mktemp("keys") / "keys.json"
    file.write_text(text)

    assert all(astuple(StackKeys.load_or_create(file)))


def test_the_data_folder_of_an_earlier_version_is_closed_to_others(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir(mode=0o755)

    with lock_data_folder(data):
        assert stat.S_IMODE(data.stat().st_mode) == 0o700


def test_a_data_folder_that_all_users_share_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)

    with pytest.raises(CannotStart, match="is not yours alone"), lock_data_folder(tmp_path):
        pass

    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o1777


def test_what_a_child_writes_is_readable_by_its_user_only(tmp_path: Path) -> None:
    child = python_process(f"open({str(tmp_path / 'written')!r}, 'w')", tmp_path).start()
    wait_until(lambda: not child.is_alive)

    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("written", "child.log")]

    assert modes == [0o600, 0o600]


def test_each_process_gets_only_the_credentials_that_it_uses(tmp_path: Path) -> None:
    used = ["MASKMILL_TOKENS", "MASKMILL_TOKENS_FILE", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"]
    made = ["MASKMILL_REDIS_URL", "MASKMILL_REDIS_PASSWORD", "MASKMILL_STORAGE_SECRET_KEY"]
    environ = dict.fromkeys([*used, *made, *CREDENTIALS], "hidden")
    harmless = {"TOKENIZERS_PARALLELISM": "false", "HTTP_PROXY": "http://127.0.0.1:1", "CUDA_VISIBLE_DEVICES": "1"}

    stack = Stack(tmp_path, environ=environ | harmless)

    found = {
        process.name: {name for name, value in process.env.items() if value == "hidden"} for process in stack.processes
    }
    assert found == {
        "Valkey": set(),
        "The object store": set(),
        "The worker": {"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"},
        "The renderer": set(),
        "The steward": set(),
        "The gateway": {"MASKMILL_TOKENS", "MASKMILL_TOKENS_FILE"},
    }
    assert harmless.items() <= stack.worker.env.items()


def test_settings_of_the_user_reach_the_processes_unless_the_stack_sets_them(tmp_path: Path) -> None:
    environ = {"MASKMILL_LEASE_SECONDS": "3", "MASKMILL_REDIS_URL": "redis://elsewhere/0", "MASKMILL_MODEL": "other"}

    stack = Stack(tmp_path, port=8123, environ=environ)

    assert stack.worker.env["MASKMILL_LEASE_SECONDS"] == "3"
    assert stack.worker.env["MASKMILL_REDIS_URL"] == stack.valkey.url
    assert stack.worker.env["MASKMILL_MODEL"] == "embedded"
    assert stack.gateway.env["MASKMILL_BIND"] == "127.0.0.1:8123"


@pytest.mark.parametrize("tokens", ["me:s3cret", "s3cret", "me:s3cret, other:x", "me:s3cret\nother:x"])
def test_the_launcher_uses_the_first_token(tmp_path: Path, tokens: str) -> None:
    assert Stack(tmp_path, environ={"MASKMILL_TOKENS": tokens}).client.token == "s3cret"


def test_the_addresses_of_metrics_are_those_that_the_user_names(tmp_path: Path) -> None:
    own = Stack(tmp_path, environ={"MASKMILL_METRICS_BIND": ""})
    named = Stack(tmp_path, environ={"MASKMILL_METRICS_BIND": "unix:/run/metrics", "MASKMILL_PROBE_PORT": "8123"})

    kept = json.loads((tmp_path / "run" / "ports.json").read_text())
    assert own.gateway.env["MASKMILL_METRICS_BIND"] == f"127.0.0.1:{kept['metrics']}"
    assert own.worker.env["MASKMILL_PROBE_PORT"] == str(kept["probe"])
    assert named.gateway.env["MASKMILL_METRICS_BIND"] == "unix:/run/metrics"
    assert named.worker.env["MASKMILL_PROBE_PORT"] == "8123"
    # It would be the worker's port.
    assert named.steward.env["MASKMILL_PROBE_PORT"] == named.renderer.env["MASKMILL_PROBE_PORT"] == "0"


def test_settings_in_files_reach_all_processes_and_the_launcher(tmp_path: Path) -> None:
    folder = tmp_path / "settings"
    folder.mkdir()
    (folder / "maskmill_tokens").write_text("me:s3cret, other:x\n")

    stack = Stack(tmp_path / "data", environ={"MASKMILL_SECRETS_DIR": str(folder)})
    named = Stack(tmp_path / "data", environ={"MASKMILL_SECRETS_DIR": str(folder), "MASKMILL_TOKENS": "me:first"})

    assert stack.client.token == "s3cret"
    assert named.client.token == "first"
    modules = (stack.worker, stack.renderer, stack.steward, stack.gateway)
    assert {process.env["MASKMILL_SECRETS_DIR"] for process in modules} == {str(folder)}


@pytest.mark.parametrize("name", ["absent", "file", "unreadable", "binary"])
def test_the_launcher_leaves_it_to_the_processes_to_report_a_wrong_folder_of_settings(
    tmp_path: Path, name: str
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "unreadable" / "maskmill_tokens").mkdir(parents=True)
    (tmp_path / "binary").mkdir()
    (tmp_path / "binary" / "maskmill_tokens").write_bytes(b"\xff")

    assert find_setting({"MASKMILL_SECRETS_DIR": str(tmp_path / name)}, "MASKMILL_TOKENS") == ""


def test_the_table_shows_the_largest_segment_first_in_columns() -> None:
    result: dict[str, Any] = {
        "image": {"width": 100, "height": 10},
        "segments": [
            {"label": "cat", "score": 0.987, "area": 250, "bbox": [1, 2, 30, 8]},
            {"label": "wall-other", "score": None, "area": 700, "bbox": [0, 0, 100, 10]},
        ],
    }

    assert format_segments(result).splitlines() == [
        "  segment     score  share  box (x, y, width, height)",
        "  wall-other      -  70.0%  0, 0, 100, 10",
        "  cat          0.99  25.0%  1, 2, 30, 8",
    ]


def test_the_printed_commands_take_the_token_from_a_variable() -> None:
    with_token = curl_commands("http://127.0.0.1:1", "j1", requires_token=True)
    without = curl_commands("http://127.0.0.1:1", "j1")

    assert all('-H "Authorization: Bearer $TOKEN"' in line for line in with_token)
    assert not any("Authorization" in line for line in without)


@pytest.mark.parametrize("line", ["no such colour: blue", '{"event": "no such colour: blue", "level": "error"}'])
def test_the_error_of_a_process_that_ended_holds_its_last_log_line(tmp_path: Path, line: str) -> None:
    child = python_process(f"import sys; sys.exit({line!r})", tmp_path).start()

    with pytest.raises(NotReady, match=r"The child ended with exit code 1 \(no such colour: blue\)"):
        while True:
            child.check_alive()


def test_a_process_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    code = "import signal, time; signal.signal(15, signal.SIG_IGN); print('started', flush=True); time.sleep(60)"
    child = python_process(code, tmp_path).start()
    wait_until(lambda: child.tail() == ["started"])

    child.stop(grace_seconds=0.2)

    assert child.exit_code == -signal.SIGKILL


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_priority_of_a_process_and_of_its_session_can_be_lowered(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)"]
    with Process("The child", command, log=tmp_path / "child.log", niceness=7) as child:
        wait_until(lambda: "up" in child.tail())

        assert os.getpriority(os.PRIO_PROCESS, child.pid) == os.getpriority(os.PRIO_PROCESS, 0) + 7
        autogroup = Path(f"/proc/{child.pid}/autogroup")
        assert not autogroup.exists() or autogroup.read_text().split()[-1] == "7"
        child.kill()


def test_a_process_dies_with_its_parent(tmp_path: Path) -> None:
    log = tmp_path / "grandchild.log"
    parent_code = (
        "import sys, time, pathlib; from deploy.local.processes import Process;"
        f"p = Process('x', ['sh', '-c', 'echo up; exec sleep 60'], log=pathlib.Path({str(log)!r})).start();"
        "print(p.pid, flush=True); time.sleep(60)"
    )
    parent = Process(
        "The parent",
        [sys.executable, "-c", parent_code],
        log=tmp_path / "child.log",
        env=PROJECT_ENV,
    ).start()
    wait_until(lambda: bool(parent.tail()) and log.read_text() == "up\n")
    grandchild = int(parent.tail()[0])

    parent.kill()

    wait_until(lambda: not _is_running(grandchild))


def _is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


def test_the_supervisor_reports_an_exit_and_restarts_the_process(tmp_path: Path) -> None:
    child = python_process("import time; print('hello', flush=True); time.sleep(60)", tmp_path).start()
    reports: list[str] = []
    clock = iter(range(0, 1000, 100))
    supervisor = Supervisor([child], report=reports.append, clock=lambda: float(next(clock)))
    wait_until(lambda: child.tail() == ["hello"])
    first = child.pid

    child.kill()
    supervisor.check()
    supervisor.check()

    assert "The child ended with exit code -9" in reports[0]
    assert "    hello" in reports[0]
    assert child.is_alive
    assert child.pid != first
    child.kill()


def test_the_supervisor_stops_restarting_a_process_that_exits_at_once(tmp_path: Path) -> None:
    child = python_process("import sys; sys.exit('broken')", tmp_path).start()
    reports: list[str] = []
    now = 0.0
    supervisor = Supervisor([child], report=reports.append, clock=lambda: now)

    with pytest.raises(RestartLimitReached, match=f"died {MAX_CONSECUTIVE_EXITS} times in a row"):
        while True:
            wait_until(lambda: not child.is_alive)
            supervisor.check()
            now += 11.0

    exits = [report for report in reports if "exit code 1" in report]
    assert len(exits) == MAX_CONSECUTIVE_EXITS - 1
    assert [report.partition("again in ")[2].partition(" s.")[0] for report in exits] == ["0.5", "1.0", "2.0", "4.0"]


def test_an_old_python_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 9, 2))

    with pytest.raises(CannotInstall, match=r"this is Python 3\.9\.2, and 3\.11 or newer is needed"):
        check_python()


def test_the_installation_shows_its_current_package(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress(total=3)

    progress.parse("Collecting amqp==5.4.2 (from -r /srv/maskmill/requirements.lock (line 2))")
    progress.show()
    progress.parse("  Downloading torch-2.13.0-cp311-cp311-manylinux_2_28_x86_64.whl (888.1 MB)")
    progress.parse("ERROR: No matching distribution found for amqp==5.4.2")
    progress.show()

    # The second show() came too soon after the first for another line.
    assert capsys.readouterr().out.splitlines() == ["Installing: 1 of 3 packages (amqp) 0 s"]
    assert progress.problem == "No matching distribution found for amqp==5.4.2"


def test_proxies_are_for_the_worker_alone() -> None:
    environ = {"https_proxy": "http://proxy", "ALL_PROXY": "http://proxy", "NO_PROXY": "host", "SSL_CERT_FILE": "file"}

    assert select_service_variables(environ, "worker.main") == environ
    for module in ("api.wsgi", "worker.renderer", "worker.steward"):
        assert select_service_variables(environ, module) == {"SSL_CERT_FILE": "file"}


def test_the_printed_commands_ask_no_proxy() -> None:
    assert names_proxy({"ALL_PROXY": "http://proxy"})
    assert not names_proxy({"http_proxy": "", "no_proxy": "*"})
    assert all("curl -s --noproxy '*' " in line for line in curl_commands("http://127.0.0.1:1", "j1", names_proxy=True))
