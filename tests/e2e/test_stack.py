"""The stack that other tests use: it is ready, and workers can join and leave."""

import time

from deploy.local.stack import Stack


def count_ready_workers(stack: Stack) -> int:
    models = stack.client.get("/v1/models").json()["models"]
    return sum(worker["state"] == "ready" for model in models for worker in model["workers"])


def wait_for_ready_workers(stack: Stack, count: int) -> None:
    deadline = time.monotonic() + 60
    while count_ready_workers(stack) != count:
        assert time.monotonic() < deadline, f"there are {count_ready_workers(stack)} workers, not {count}"
        time.sleep(0.1)


def test_one_more_worker_joins_and_leaves(stack: Stack) -> None:
    worker = stack.start_worker(MASKMILL_WORKER_THREADS="1")
    wait_for_ready_workers(stack, 2)

    worker.stop()

    wait_for_ready_workers(stack, 1)
    assert worker.exit_code == 0


def test_the_worker_says_that_its_fast_path_agrees_with_the_exact_forward_pass(stack: Stack) -> None:
    wait_for_ready_workers(stack, 1)

    [worker] = stack.client.get("/v1/models/maskmill/embedded").json()["workers"]

    assert worker["forward"] == "fast"
    assert worker["agreement"] >= 0.999
