"""What may happen to a job once it was accepted: its worker is killed, Redis loses all its data.  The job succeeds."""

import io
import json
import os
import shutil
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import skimage
from PIL import Image

from deploy.local.processes import Process
from deploy.local.stack import Stack
from tests.support.polling import wait_until

PATIENCE = {"MASKMILL_RECOVERY_INTERVAL_SECONDS": "2", "MASKMILL_INBOX_GRACE_SECONDS": "2"}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A whole service that these tests may break, one after the other."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("MASKMILL_")}
    with Stack(tmp_path_factory.mktemp("losses"), environ=environ | PATIENCE) as running:
        yield running.start()


def photo(width: int, height: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(skimage.data.astronaut()).resize((width, height)).save(buffer, "JPEG")
    return buffer.getvalue()


def submit(service: Stack, image: bytes) -> str:
    answer = service.client.request("POST", "/v1/jobs", image)
    assert answer.status == 202, answer
    return str(answer.json()["id"])


def job(service: Stack, job_id: str) -> dict[str, Any]:
    found: dict[str, Any] = service.client.request("GET", f"/v1/jobs/{job_id}").json()
    return found


def noted(event: str, worker: Process) -> Counter[str]:
    """Count, by job, how often a worker's log tells of an event."""
    found: Counter[str] = Counter()
    for line in worker.log.read_text().splitlines():
        told = json.loads(line) if line.startswith("{") else {}
        if told.get("event") == event:
            found[told["job_id"]] += 1
    return found


@pytest.fixture(scope="module")
def second(service: Stack) -> Process:
    """Another worker of the same service, ready."""
    worker = service.start_worker()
    wait_until(lambda: "worker_ready" in worker.log.read_text(), seconds=60)
    return worker


def test_two_workers_share_the_jobs_and_nothing_is_done_twice(service: Stack, second: Process) -> None:
    image = photo(640, 480)

    ids = [submit(service, image) for _ in range(40)]
    wait_until(lambda: all(job(service, job_id)["state"] == "succeeded" for job_id in ids), seconds=90)

    def shared() -> list[Counter[str]]:
        return [noted("job_ended", worker) for worker in (service.worker, second)]

    # A worker notes the end after everyone else can see it.
    wait_until(lambda: sum(share.total() for share in shared()) >= len(ids))
    shares = shared()
    assert all(share.total() > 0 for share in shares)
    assert sorted((shares[0] + shares[1]).elements()) == sorted(ids)
    assert {job(service, job_id)["attempt"] for job_id in ids} == {1}


def test_a_job_whose_worker_is_killed_succeeds_once_on_another(service: Stack, second: Process) -> None:
    def interruptible() -> Counter[str]:
        return noted("job_started", service.worker) - noted("job_ended", service.worker)

    # So that it is the first worker that has them in hand.
    os.kill(second.pid, signal.SIGSTOP)
    ids = [submit(service, photo(5000, 4000)) for _ in range(4)]
    wait_until(interruptible, seconds=30)

    service.worker.kill()
    os.kill(second.pid, signal.SIGCONT)
    interrupted = list(interruptible())
    wait_until(lambda: all(job(service, job_id)["state"] == "succeeded" for job_id in ids), seconds=30)

    assert interrupted
    assert all(job(service, job_id)["attempt"] == 2 for job_id in interrupted)
    wait_until(lambda: noted("job_ended", second) >= Counter(interrupted))
    assert all(noted("job_ended", second)[job_id] == 1 for job_id in interrupted)


def test_accepted_jobs_survive_the_loss_of_redis_with_all_its_data(service: Stack, second: Process) -> None:
    os.kill(second.pid, signal.SIGSTOP)
    ids = [submit(service, photo(640, 480)) for _ in range(5)]

    service.valkey.kill()
    wipe(service.data / "valkey")
    service.valkey.start().wait_ready()
    # The worker comes back to find its connections dead, and the steward has never been away.
    os.kill(second.pid, signal.SIGCONT)

    wait_until(lambda: all(job(service, job_id).get("state") == "succeeded" for job_id in ids), seconds=60)
    results = [service.client.request("GET", f"/v1/jobs/{job_id}/result").json() for job_id in ids]
    assert all(result["segments"] for result in results)


def wipe(folder: Path) -> None:
    for entry in folder.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry)
        else:
            entry.unlink()
