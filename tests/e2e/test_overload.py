"""The whole service under more load than it can take, and without memory in Redis."""

import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
import redis

from deploy.local.stack import Stack
from shared.worker_registry import HEARTBEAT_TIMEOUT_SECONDS
from tests.bench.load import PACED, SYNC_WAIT_SECONDS, measure, open_stack
from tests.bench.measurement import TINY_WORKLOAD
from tests.support.jobs import png
from tests.support.polling import wait_until

SLOW = replace(PACED, worker=("tests.bench.instant_worker", "0.5"), max_queued=100)
JOBS = 32


@pytest.fixture
def paced_stack(tmp_path: Path) -> Iterator[Stack]:
    with open_stack(tmp_path, PACED) as stack:
        yield stack.start()


@pytest.fixture
def slow_stack(tmp_path: Path) -> Iterator[Stack]:
    """A service that completes two images a second."""
    with open_stack(tmp_path, SLOW) as stack:
        yield stack.start()


def test_twice_the_capacity_is_refused_in_part_and_the_rest_is_completed(paced_stack: Stack, tmp_path: Path) -> None:
    figures = measure(paced_stack, PACED, tmp_path, replace(TINY_WORKLOAD, seconds=1.5))
    print(figures)

    assert figures["failed"] == {}
    assert set(figures["job_states"]) == {"succeeded"}
    assert set(figures["refused"]) <= {"queue_full", "wait_too_long"}
    # The workers had work; how much of it they complete depends on what else uses the processor.
    assert figures["backlog_share_of_time"] >= 0.9
    assert figures["completed_share_of_capacity"] >= 0.6
    assert figures["refused_median_ms"] < 100
    assert figures["refused_p99_ms"] < 1000
    # Beside the wait that is accepted: the time until the rate is measured, and the job itself.
    assert figures["sync_p99_ms"] < 1000 * (SYNC_WAIT_SECONDS + 4)
    assert figures["recovered_ms"] < 2 * figures["normal_ms"] + 200


def test_without_memory_in_redis_the_jobs_that_were_accepted_are_completed(slow_stack: Stack) -> None:
    """For longer than a heartbeat lasts, so that the worker's own writes count as well."""
    client = slow_stack.client
    ids = [client.post("/v1/jobs?formats=labels", png(16 + number, 16)).json()["id"] for number in range(JOBS)]
    with closing(redis.Redis.from_url(slow_stack.valkey.url)) as store:
        store.setrange("test:filler", 32 * 2**20, b"x")
        store.config_set("maxmemory", int(store.info("memory")["used_memory"] / 1.1))
        filled_at = time.monotonic()
        with pytest.raises(redis.OutOfMemoryError):
            store.set("test:more", b"x")

        refused = [client.request("POST", path, png()) for path in ("/v1/jobs", "/")]
        wait_until(lambda: time.monotonic() > filled_at + HEARTBEAT_TIMEOUT_SECONDS + 1, seconds=60)
        wait_until(lambda: all(get_state(slow_stack, job_id) == "succeeded" for job_id in ids), seconds=60)

        assert [(one.status, one.json()["error_type"]) for one in refused] == [(429, "store_full")] * 2
        assert client.get(f"/v1/jobs/{ids[-1]}/labels.png").is_ok
        assert client.get("/models/maskmill/embedded/health").is_ok
        store.config_set("maxmemory", 0)
    wait_until(lambda: client.request("POST", "/", png(40, 40)).status == 200, seconds=30)


def get_state(stack: Stack, job_id: str) -> str:
    return str(stack.client.get(f"/v1/jobs/{job_id}").json()["state"])
