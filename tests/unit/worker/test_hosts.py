"""Host processes that cannot be started again."""

import ast
import sys
import threading
from pathlib import Path

import pytest

from tests.support.polling import wait_until
from worker.batching.messages import ModelLoaded
from worker.runtime.hosts import HostProcesses

MODEL = ModelLoaded("test/none", "1", "cpu", None)


class NoMetrics:
    def job_completed(self, *_: object) -> None:
        raise NotImplementedError

    def job_dropped(self, *_: object) -> None:
        raise NotImplementedError


def build_hosts(command: list[str], failing: threading.Event) -> HostProcesses:
    return HostProcesses(
        1,
        command,
        pool_bytes=4096,
        observer=NoMetrics(),
        report_ready=lambda _: None,
        report_failing=failing.set,
        backoff_seconds=0.01,
    )


def test_hosts_that_end_or_cannot_be_started_again_and_again_are_reported(tmp_path: Path) -> None:
    failing = threading.Event()
    program = tmp_path / "host"
    # It ends at once and cannot be started a second time.
    program.write_text(f"#!{sys.executable}\nimport os, sys\nos.unlink(sys.argv[0])\n")
    program.chmod(0o755)
    hosts = build_hosts([str(program)], failing)
    hosts.start()

    hosts.serve(MODEL, None)  # type: ignore[arg-type]

    wait_until(failing.is_set, seconds=30)
    assert not program.exists()
    assert hosts.drain(5)


def test_a_host_that_never_says_anything_ends_with_the_worker() -> None:
    failing = threading.Event()
    hosts = build_hosts([sys.executable, "-c", "import time; time.sleep(60)"], failing)
    hosts.start()
    hosts.serve(MODEL, None)  # type: ignore[arg-type]

    assert hosts.drain(10)

    assert not failing.is_set()


def test_a_host_gets_settings_but_no_token_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_TOKEN", "HF_TOKEN_PATH", "HUGGING_FACE_HUB_TOKEN", "MASKMILL_REDIS_PASSWORD", "AWS_PROFILE"):
        monkeypatch.setenv(name, "hidden")
    written = tmp_path / "environ"
    write = f"import os, pathlib; pathlib.Path({str(written)!r}).write_text(repr(dict(os.environ)))"
    hosts = build_hosts([sys.executable, "-c", write], threading.Event())

    hosts.start()
    wait_until(lambda: written.exists() and written.read_text().endswith("}"))
    hosts.kill()

    environ = ast.literal_eval(written.read_text())
    assert {name for name, value in environ.items() if value == "hidden"} == {"MASKMILL_REDIS_PASSWORD", "AWS_PROFILE"}
    assert "PATH" in environ
