"""The stack that other tests use: it is ready, and workers can join and leave."""

import time

from deploy.local.sample_job import SAMPLE_IMAGE
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


def test_a_format_that_was_not_asked_for_is_rendered_and_its_worker_is_named(stack: Stack) -> None:
    wait_for_ready_workers(stack, 1)
    submitted = stack.client.post("/v1/jobs?formats=labels", SAMPLE_IMAGE.read_bytes()).json()
    path = f"/v1/jobs/{submitted['id']}"
    assert stack.client.get(f"{path}?wait=30").json()["state"] == "succeeded"

    files = [stack.client.get(f"{path}/{name}") for name in ("masks.zip", "overlay.png", "rle.json", "masks/1.png")]

    assert all(file.is_ok for file in files)
    provenance = stack.client.get(f"{path}/result").json()["provenance"]
    [worker] = stack.client.get("/v1/models/maskmill/embedded").json()["workers"]
    assert (provenance["worker"], provenance["forward"]) == (worker["id"], worker["forward"])
    assert {"torch", "transformers", "pillow", "maskmill"} <= provenance["libraries"].keys()
