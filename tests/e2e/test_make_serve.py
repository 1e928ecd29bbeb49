"""`make serve` from start to stop: the first screen, restarts, refusals, persistence, and no process left behind."""

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

import pytest

from deploy.local.gateway_client import GatewayClient
from deploy.local.sample_job import SAMPLE_IMAGE, SUBMIT_PATH, run_sample
from deploy.local.servers import free_ports
from tests.support.doors import OPEN_QUESTIONS, ask, find_listeners
from tests.support.environment import copy_environment
from tests.support.polling import wait_until

ROOT = Path(__file__).resolve().parents[2]
READY_TEXT = "(Ctrl-C stops it)"
TOKEN = "open-sesame-2f9c"
# More jobs than a worker completes while the service starts.
BACKLOG = 120


class Launcher:
    """`python -m deploy.local`, the command of `make serve`, and its output."""

    def __init__(self, folder: Path, port: int, data: Path, *options: str, **settings: str) -> None:
        self.port = port
        self.data = data
        self._out = folder / f"{data.name}-{time.monotonic_ns()}.out"
        self._err = self._out.with_suffix(".err")
        with self._out.open("w") as out, self._err.open("w") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "deploy.local", "--port", str(port), "--data", str(data), *options],
                cwd=ROOT,
                env=copy_environment() | settings,
                stdout=out,
                stderr=err,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def out(self) -> str:
        return self._out.read_text()

    @property
    def err(self) -> str:
        return self._err.read_text()

    def wait_for(self, text: str, *, seconds: float = 90.0) -> Self:
        wait_until(lambda: text in self.out or self.process.poll() is not None, seconds=seconds)
        assert text in self.out, f"{self.out}\n{self.err}"
        return self

    def refusal(self) -> str:
        """Wait until it exits with code 1, and return its error, which is one line."""
        assert self.process.wait(60) == 1
        assert len(self.err.splitlines()) == 1, self.err
        return self.err

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(30)


def descendants(pid: int) -> dict[int, str]:
    """Return the command line of every descendant of a process, by process id."""
    found: dict[int, str] = {}
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, children.read_text().split()):
            command = Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ").decode()
            found |= {child: command, **descendants(child)}
    return found


def have_exited(pids: dict[int, str]) -> bool:
    return not any(is_running(pid) for pid in pids)


def is_running(pid: int) -> bool:
    """Return whether there is such a process that is not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture(scope="module")
def launcher(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launcher]:
    """A running service; the last test of this file stops it."""
    folder = tmp_path_factory.mktemp("serve")
    with Launcher(folder, free_ports(1)[0], folder / "my data") as launcher:
        yield launcher.wait_for(READY_TEXT)


def printed_commands(launcher: Launcher) -> list[str]:
    return [line.strip() for line in launcher.out.splitlines() if line.strip().startswith("curl ")]


def run(command: str) -> str:
    assert shutil.which("curl"), "the commands that are printed need curl"
    return subprocess.run(command, shell=True, cwd="/", check=True, capture_output=True, text=True, timeout=60).stdout


def test_the_first_screen_shows_the_segments_of_the_sample(launcher: Launcher) -> None:
    heading, *rows = launcher.out.partition("\n\n")[2].partition("\n\n")[0].splitlines()

    assert heading.split()[:3] == ["segment", "score", "share"]
    assert all("%" in row for row in rows)
    assert {"person", "grass-merged", "sky-other-merged", "building-other-merged"} <= {row.split()[0] for row in rows}
    assert f"at http://127.0.0.1:{launcher.port} " in launcher.out
    assert (launcher.data / "sample-overlay.png").read_bytes().startswith(b"\x89PNG")
    assert str(launcher.data / "sample-overlay.png") in launcher.out
    assert launcher.err == ""


def test_the_address_of_the_page_is_printed_first_and_shows_it(launcher: Launcher) -> None:
    after_start = launcher.out.partition("Segmenting a sample photo")[0].splitlines()

    assert after_start[-1] == f"Open http://127.0.0.1:{launcher.port}/ in a browser"
    assert "<!doctype html>" in run(f"curl -s -H 'Accept: text/html' http://127.0.0.1:{launcher.port}/")


def test_the_printed_commands_run_unchanged(launcher: Launcher) -> None:
    submit, poll, synchronous = printed_commands(launcher)

    assert json.loads(run(submit))["state"] == "queued"
    assert json.loads(run(poll))["state"] == "succeeded"
    assert run(synchronous).startswith('[{"')


def test_everything_listens_on_loopback_only(launcher: Launcher) -> None:
    listeners = find_listeners(descendants(launcher.process.pid))

    assert {listener.address for listener in listeners if listener.kind != "unix"} == {"127.0.0.1"}


def test_a_foreign_page_is_served_nothing_without_tokens(launcher: Launcher) -> None:
    answers = ask("127.0.0.1", launcher.port)

    assert {answer.question for answer in answers if answer.is_served} <= OPEN_QUESTIONS


@pytest.fixture(scope="module")
def launcher_with_token(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launcher]:
    """A service that asks for a token, in the data folder of an earlier version."""
    folder = tmp_path_factory.mktemp("guarded")
    data = folder / "data"
    data.mkdir(mode=0o755)
    (data / "keys.json").write_text(json.dumps({"access": "earlier-4d1b", "secret": "kept-77c0"}))
    with Launcher(
        folder, free_ports(1)[0], data, MASKMILL_TOKENS=f"me:{TOKEN}", GITHUB_TOKEN="of-another-service"
    ) as launcher:
        yield launcher.wait_for(READY_TEXT)


@pytest.mark.timeout(400)
def test_no_port_serves_data_without_credentials(launcher_with_token: Launcher) -> None:
    client = GatewayClient(launcher_with_token.port, token=TOKEN)
    job_id = run_sample(client).job_id
    result = client.get(f"/v1/jobs/{job_id}/result").body
    listeners = find_listeners([launcher_with_token.process.pid, *descendants(launcher_with_token.process.pid)])
    ports = [listener for listener in listeners if listener.kind in ("tcp", "tcp6")]

    with ThreadPoolExecutor(len(ports)) as pool:
        answers = dict(zip(ports, pool.map(lambda port: ask(port.address, port.port), ports), strict=True))

    # The gateway, Valkey, the worker's health server, S3, and the other ports of the object store, gRPC included.
    assert len(answers) >= 13
    served = {answer.question for found in answers.values() for answer in found if answer.is_served}
    assert served <= OPEN_QUESTIONS
    content = "".join(answer.content for found in answers.values() for answer in found)
    for secret in (job_id, TOKEN, str(launcher_with_token.data), *read_keys(launcher_with_token).values()):
        assert secret not in content
    assert client.get(f"/v1/jobs/{job_id}/result").body == result


def test_no_socket_is_open_to_other_users(launcher_with_token: Launcher) -> None:
    listeners = find_listeners([launcher_with_token.process.pid, *descendants(launcher_with_token.process.pid)])

    sockets = [listener.address for listener in listeners if listener.kind == "unix"]

    assert [path for path in sockets if not is_private(Path(path))] == []
    assert not any(listener.kind.startswith("udp") for listener in listeners)


def is_private(path: Path) -> bool:
    """Return whether others are kept out by the permissions of the path or of a folder above it."""
    return path.is_absolute() and any(
        not stat.S_IMODE(part.stat().st_mode) & 0o077 for part in (path, *path.parents) if part != Path("/")
    )


def test_each_process_has_only_the_secrets_that_it_uses(launcher_with_token: Launcher) -> None:
    keys = read_keys(launcher_with_token)
    secrets = {TOKEN, "of-another-service", *keys.values()}

    found = {
        command: {secret for secret in secrets if secret in Path(f"/proc/{pid}/environ").read_bytes().decode()}
        for pid, command in descendants(launcher_with_token.process.pid).items()
    }

    stores = {keys["access"], keys["secret"], keys["valkey"]}
    for command, held in found.items():
        if "api.wsgi" in command:
            assert held == stores | {TOKEN}
        elif any(module in command for module in ("worker.main", "worker.host", "worker.renderer", "worker.steward")):
            assert held == stores
        else:
            assert held == set(), command
    assert not any(secret in command for command in found for secret in secrets)


def test_no_secret_is_printed_or_readable_by_others(launcher_with_token: Launcher) -> None:
    files = [path for path in launcher_with_token.data.rglob("*") if path.is_file() and path.name != "keys.json"]
    logs = "".join(path.read_text(errors="replace") for path in files if path.suffix == ".log")

    assert stat.S_IMODE(launcher_with_token.data.stat().st_mode) == 0o700
    assert '-H "Authorization: Bearer $TOKEN"' in launcher_with_token.out
    for secret in (TOKEN, *read_keys(launcher_with_token).values()):
        assert secret not in launcher_with_token.out
        assert secret not in logs


def read_keys(launcher: Launcher) -> dict[str, str]:
    keys: dict[str, str] = json.loads((launcher.data / "keys.json").read_text())
    return keys


def test_a_process_that_dies_is_reported_and_restarted(launcher: Launcher) -> None:
    steward = next(pid for pid, command in descendants(launcher.process.pid).items() if "worker.steward" in command)

    os.kill(steward, signal.SIGKILL)

    launcher.wait_for("The steward ended with exit code -9").wait_for("The steward runs again.")


def test_a_second_service_on_the_same_data_is_refused(launcher: Launcher, tmp_path: Path) -> None:
    second = Launcher(tmp_path, free_ports(1)[0], launcher.data)

    assert f"in use by another Maskmill (process {launcher.process.pid})" in second.refusal()


def test_a_port_in_use_is_refused(launcher: Launcher, tmp_path: Path) -> None:
    second = Launcher(tmp_path, launcher.port, tmp_path / "data")

    assert f"port {launcher.port} is taken" in second.refusal()


def test_a_missing_model_folder_is_refused(tmp_path: Path) -> None:
    launcher = Launcher(tmp_path, free_ports(1)[0], tmp_path / "data", "--model", "./no-such-model")

    assert "there is no model in" in launcher.refusal()


def test_a_model_that_cannot_be_loaded_is_refused_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text("{}")
    launcher = Launcher(tmp_path, free_ports(1)[0], tmp_path / "data", "--model", str(tmp_path / "broken"))

    assert "cannot be used" in launcher.refusal()


@pytest.fixture
def running_launcher(launcher: Launcher, tmp_path: Path) -> Iterator[Launcher]:
    """The service of this file, started again if the test that stops it is repeated."""
    if launcher.process.poll() is None:
        yield launcher
        return
    with Launcher(tmp_path, launcher.port, launcher.data) as again:
        yield again.wait_for(READY_TEXT)


def test_it_stops_in_time_and_has_its_jobs_after_a_restart(running_launcher: Launcher, tmp_path: Path) -> None:
    job_id = json.loads(run(printed_commands(running_launcher)[1]))["id"]
    client = GatewayClient(running_launcher.port)
    image = SAMPLE_IMAGE.read_bytes()
    backlog = [client.post(SUBMIT_PATH, image).json()["id"] for _ in range(BACKLOG)]
    first_run = descendants(running_launcher.process.pid)

    running_launcher.process.terminate()
    exit_code = running_launcher.process.wait(15)
    left = [command for pid, command in first_run.items() if is_running(pid)]

    assert (exit_code, left) == (0, []), running_launcher.err

    with Launcher(tmp_path, running_launcher.port, running_launcher.data) as restarted:
        restarted.wait_for(READY_TEXT)
        # The sample did not wait for the jobs of the earlier run.
        sample, last = json.loads(run(printed_commands(restarted)[1])), client.get(f"/v1/jobs/{backlog[-1]}").json()
        assert sample["id"] != job_id
        assert last["ended_at"] is None or sample["ended_at"] < last["ended_at"]
        assert restarted.err == ""
        result = client.get(f"/v1/jobs/{job_id}/result").json()
        assert result["segments"]
        assert client.get(f"/v1/jobs/{job_id}/masks/1.png").body.startswith(b"\x89PNG")

        # A launcher that is killed leaves no process behind either.
        second_run = descendants(restarted.process.pid)
        restarted.process.kill()
        restarted.process.wait()
        wait_until(lambda: have_exited(second_run), seconds=10)
