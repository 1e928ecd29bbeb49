"""The checks behind /readyz."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from shared.errors import StoreUnavailable
from shared.readiness import FRESH_SECONDS, Readiness, ReadinessChecks
from tests.support.polling import wait_until


def test_a_verdict_is_ok_or_the_reason_or_that_there_is_none_in_time() -> None:
    released = threading.Event()

    def fail() -> None:
        raise StoreUnavailable("away")

    verdicts = ReadinessChecks({"a": lambda: None, "b": fail, "c": released.wait}, timeout_seconds=0.1).run().checks
    released.set()

    assert verdicts == {"a": "ok", "b": "away", "c": "unreachable"}


def test_requests_that_come_together_share_one_run() -> None:
    calls: list[int] = []
    released = threading.Event()

    def check() -> None:
        calls.append(1)
        released.wait(10)

    checks = ReadinessChecks({"store": check}, timeout_seconds=10)
    with ThreadPoolExecutor(8) as pool:
        running = [pool.submit(checks.run) for _ in range(8)]
        wait_until(lambda: calls)
        released.set()
        verdicts = [future.result().checks for future in running]

    assert verdicts == [{"store": "ok"}] * 8
    assert len(calls) == 1


def test_a_later_request_runs_the_checks_again() -> None:
    calls: list[int] = []
    checks = ReadinessChecks({"store": lambda: calls.append(1)}, timeout_seconds=1)

    checks.run()

    wait_until(lambda: checks.run() and len(calls) == 2, seconds=20 * FRESH_SECONDS)


def test_a_check_that_needs_every_store_waits_until_all_others_pass() -> None:
    calls: list[str] = []
    is_down = True

    def check() -> None:
        if is_down:
            raise StoreUnavailable("away")

    checks = ReadinessChecks({"a": check}, timeout_seconds=10, then={"both": lambda: calls.append("both")})

    assert checks.run().checks == {"a": "away"}
    is_down = False
    wait_until(lambda: checks.run().checks == {"a": "ok", "both": "ok"})
    assert calls[0] == "both"


@pytest.mark.parametrize(
    ("checks", "status"),
    [
        ({}, "ok"),
        ({"redis": "ok", "storage": "ok", "steward": "ok"}, "ok"),
        ({"redis": "full", "storage": "ok"}, "degraded"),
        ({"redis": "ok", "storage": "read_only", "steward": "missing"}, "degraded"),
        ({"redis": "full", "storage": "unreachable"}, "unavailable"),
        ({"redis": "ok", "stack": "The stores have not been checked yet."}, "unavailable"),
        ({"worker": "loading", "redis": "ok"}, "unavailable"),
    ],
)
def test_results_can_be_read_unless_a_store_is_unreachable(checks: dict[str, str], status: str) -> None:
    assert Readiness(checks).status == status


def test_a_check_that_needs_every_store_runs_while_one_is_full() -> None:
    checks = ReadinessChecks({"a": lambda: "full"}, timeout_seconds=10, then={"both": lambda: "missing"})

    assert checks.run().checks == {"a": "full", "both": "missing"}
