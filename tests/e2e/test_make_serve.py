"""`make serve` as a person meets it: it starts, shows that it works, keeps its promises, and goes without a trace."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest

from deploy.local.gateway_client import GatewayClient
from deploy.local.servers import free_ports
from tests.support.polling import wait_until

ROOT = Path(__file__).resolve().parents[2]
SERVES = "(Ctrl-C stops it)"


class Launcher:
    """`python -m deploy.local`, the very command of `make serve`, with what it prints."""

    def __init__(self, folder: Path, port: int, data: Path, *options: str) -> None:
        self.port = port
        self.data = data
        self._out = folder / f"{data.name}-{time.monotonic_ns()}.out"
        self._err = self._out.with_suffix(".err")
        with self._out.open("w") as out, self._err.open("w") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "deploy.local", "--port", str(port), "--data", str(data), *options],
                cwd=ROOT,
                env={name: value for name, value in os.environ.items() if not name.startswith("MASKMILL_")},
                stdout=out,
                stderr=err,
            )

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
        """Wait until it ends, and return the one line that says why."""
        assert self.process.wait(60) == 1
        assert len(self.err.splitlines()) == 1, self.err
        return self.err

    def end(self) -> None:
        self.process.terminate()
        self.process.wait(30)


def descendants(pid: int) -> dict[int, str]:
    """Return the command lines of every process that this one, or one of its children, has started."""
    found: dict[int, str] = {}
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, children.read_text().split()):
            command = Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ").decode()
            found |= {child: command, **descendants(child)}
    return found


def are_gone(pids: dict[int, str]) -> bool:
    return not any(runs(pid) for pid in pids)


def runs(pid: int) -> bool:
    """Tell whether there is such a process; one that has ended and was not asked how does not count."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launcher]:
    """A service that was started as a newcomer would; the last test of this file ends it."""
    folder = tmp_path_factory.mktemp("serve")
    launcher = Launcher(folder, free_ports(1)[0], folder / "my data")
    yield launcher.wait_for(SERVES)
    launcher.end()


def commands(launcher: Launcher) -> list[str]:
    return [line.strip() for line in launcher.out.splitlines() if line.strip().startswith("curl ")]


def run(command: str) -> str:
    assert shutil.which("curl"), "the commands that are printed need curl"
    return subprocess.run(command, shell=True, cwd="/", check=True, capture_output=True, text=True, timeout=60).stdout


def test_it_shows_on_a_photo_that_it_works(served: Launcher) -> None:
    heading, *rows = served.out.partition("\n\n")[2].partition("\n\n")[0].splitlines()

    assert heading.split()[:3] == ["segment", "score", "share"]
    assert all("%" in row for row in rows)
    assert {"person", "grass-merged", "sky-other-merged", "building-other-merged"} <= {row.split()[0] for row in rows}
    assert f"at http://127.0.0.1:{served.port} " in served.out
    assert (served.data / "sample-overlay.png").read_bytes().startswith(b"\x89PNG")
    assert str(served.data / "sample-overlay.png") in served.out
    assert served.err == ""


def test_the_commands_that_it_prints_run_as_they_stand(served: Launcher) -> None:
    submit, poll, synchronous = commands(served)

    assert json.loads(run(submit))["state"] == "queued"
    assert json.loads(run(poll))["state"] == "succeeded"
    assert run(synchronous).startswith('[{"')


def test_everything_listens_on_loopback_only(served: Launcher) -> None:
    reachable_from_outside = listening_inodes(but_not="0100007F")

    assert not reachable_from_outside & {inode for pid in descendants(served.process.pid) for inode in sockets_of(pid)}


def sockets_of(pid: int) -> set[str]:
    """Return the inodes of the sockets that a process has open."""
    found = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        # What is closed meanwhile does not listen.
        with contextlib.suppress(FileNotFoundError):
            found.add(str(link.readlink()).removeprefix("socket:[").removesuffix("]"))
    return found


def listening_inodes(*, but_not: str) -> set[str]:
    """Return the sockets that listen on another IPv4 address than this one, or on any of IPv6."""
    listening = "0A"
    rows = [
        line.split() for table in ("tcp", "tcp6") for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]
    ]
    return {row[9] for row in rows if row[3] == listening and row[1].partition(":")[0] != but_not}


def test_what_dies_is_reported_and_started_again(served: Launcher) -> None:
    steward = next(pid for pid, command in descendants(served.process.pid).items() if "worker.steward" in command)

    os.kill(steward, signal.SIGKILL)

    served.wait_for("The steward ended with exit code -9").wait_for("The steward runs again.")


def test_a_second_service_on_the_same_data_is_refused(served: Launcher, tmp_path: Path) -> None:
    second = Launcher(tmp_path, free_ports(1)[0], served.data)

    assert f"in use by another Maskmill (process {served.process.pid})" in second.refusal()


def test_a_taken_port_is_refused(served: Launcher, tmp_path: Path) -> None:
    second = Launcher(tmp_path, served.port, tmp_path / "data")

    assert f"port {served.port} is taken" in second.refusal()


def test_a_model_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    launcher = Launcher(tmp_path, free_ports(1)[0], tmp_path / "data", "--model", "./no-such-model")

    assert "there is no model in" in launcher.refusal()


def test_a_model_that_cannot_be_loaded_ends_it_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text("{}")
    launcher = Launcher(tmp_path, free_ports(1)[0], tmp_path / "data", "--model", str(tmp_path / "broken"))

    assert "cannot be used" in launcher.refusal()


def test_it_ends_in_time_and_finds_its_jobs_again_when_it_is_started_anew(served: Launcher, tmp_path: Path) -> None:
    job_id = json.loads(run(commands(served)[1]))["id"]
    first_run = descendants(served.process.pid)

    served.process.terminate()
    exit_code = served.process.wait(15)

    assert exit_code == 0
    assert are_gone(first_run)

    again = Launcher(tmp_path, served.port, served.data).wait_for(SERVES)
    client = GatewayClient(served.port)
    result = client.get(f"/v1/jobs/{job_id}/result").json()
    assert result["segments"]
    assert client.get(f"/v1/jobs/{job_id}/masks/1.png").body.startswith(b"\x89PNG")

    # Even a launcher that is killed leaves nothing behind.
    second_run = descendants(again.process.pid)
    again.process.kill()
    again.process.wait()
    wait_until(lambda: are_gone(second_run), seconds=10)
