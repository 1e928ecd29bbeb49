"""Work that follows a reply runs in the background, bounded and in the log context of its request."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import structlog

from worker.pipeline.follow_up import MAX_PENDING, NICENESS, FollowUp

SECONDS = 5.0
ROOT = Path(__file__).parents[3]


def test_work_runs_on_another_thread_with_the_log_context() -> None:
    seen: list[tuple[str, object]] = []

    def work() -> None:
        seen.append((threading.current_thread().name, structlog.contextvars.get_contextvars().get("request_id")))

    follow_up = FollowUp()
    with structlog.contextvars.bound_contextvars(request_id="r1"):
        follow_up.submit(work)
    follow_up.close()

    [(thread, request_id)] = seen
    assert thread.startswith("follow-up")
    assert request_id == "r1"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has priorities of threads")
def test_work_has_a_lower_priority_than_the_threads_that_answer() -> None:
    own = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    seen: list[int] = []

    follow_up = FollowUp()
    follow_up.submit(lambda: seen.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id())))
    follow_up.close()

    assert seen == [max(own, NICENESS)]
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == own


def test_closing_waits_for_pending_work() -> None:
    done: list[int] = []
    follow_up = FollowUp()

    for number in range(10):
        follow_up.submit(done.append, number)
    follow_up.close()

    assert sorted(done) == list(range(10))


def test_a_full_backlog_makes_the_caller_do_the_work() -> None:
    released = threading.Event()
    follow_up = FollowUp()
    for _ in range(MAX_PENDING):
        follow_up.submit(released.wait, SECONDS)
    names: list[str] = []

    follow_up.submit(lambda: names.append(threading.current_thread().name))
    released.set()
    follow_up.close()

    assert names == [threading.current_thread().name]


def test_an_error_is_logged_and_the_next_work_runs() -> None:
    def fail() -> None:
        raise ZeroDivisionError("a bug")

    done: list[int] = []
    follow_up = FollowUp()
    with structlog.testing.capture_logs() as events:
        follow_up.submit(fail)
        follow_up.submit(done.append, 1)
        follow_up.close()

    assert [event["event"] for event in events] == ["follow_up_failed"]
    assert done == [1]


def test_work_runs_in_a_process_of_lower_priority_without_privileges() -> None:
    code = (
        "import os\n"
        "from worker.pipeline.follow_up import FollowUp\n"
        "os.nice(10)\n"
        "if os.getuid() == 0: os.setuid(65534)\n"
        "follow_up = FollowUp()\n"
        "follow_up.submit(print, 'done')\n"
        "follow_up.close()"
    )

    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, cwd=ROOT)

    assert (ended.stdout, ended.returncode) == ("done\n", 0)
