"""Host processes that cannot be started again."""

import sys
import threading
from pathlib import Path

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
