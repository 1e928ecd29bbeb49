"""An accepted job succeeds although its worker is killed or Redis loses all its data."""

import io
import json
import os
import shutil
import signal
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import skimage
from PIL import Image

from deploy.local.processes import Process
from deploy.local.stack import Stack
from tests.support.environment import copy_environment
from tests.support.polling import wait_until

SHORT_INTERVALS = {"MASKMILL_RECOVERY_INTERVAL_SECONDS": "2", "MASKMILL_INBOX_GRACE_SECONDS": "2"}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A whole service of its own, because these tests kill its processes."""
    environ = copy_environment()
    with Stack(tmp_path_factory.mktemp("losses"), environ=environ | SHORT_INTERVALS) as stack:
        yield stack.start()


@pytest.fixture(scope="module")
def second_worker(service: Stack) -> Process:
    """A second worker of the same service, ready."""
    worker = service.start_worker()
    wait_until(lambda: "worker_ready" in worker.log.read_text(), seconds=60)
    return worker


def make_jpeg(width: int, height: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(skimage.data.astronaut()).resize((width, height)).save(buffer, "JPEG")
    return buffer.getvalue()


def submit(service: Stack, image: bytes) -> str:
    response = service.client.request("POST", "/v1/jobs", image)
    assert response.status == 202, response
    return str(response.json()["id"])


def get_job(service: Stack, job_id: str) -> dict[str, Any]:
    job: dict[str, Any] = service.client.request("GET", f"/v1/jobs/{job_id}").json()
    return job


def have_succeeded(service: Stack, ids: Sequence[str]) -> bool:
    # Redis that has lost its data does not know a job until the steward has recovered it.
    return all(get_job(service, job_id).get("state") == "succeeded" for job_id in ids)


def count_events(event: str, worker: Process) -> Counter[str]:
    """Count an event in a worker's log, by job id."""
    counts: Counter[str] = Counter()
    for line in worker.log.read_text().splitlines():
        fields = json.loads(line) if line.startswith("{") else {}
        if fields.get("event") == event:
            counts[fields["job_id"]] += 1
    return counts


def test_two_workers_share_the_jobs_and_run_each_once(service: Stack, second_worker: Process) -> None:
    image = make_jpeg(640, 480)

    ids = [submit(service, image) for _ in range(40)]
    wait_until(lambda: have_succeeded(service, ids), seconds=90)

    def count_shares() -> list[Counter[str]]:
        return [count_events("job_completed", worker) for worker in (service.worker, second_worker)]

    # A worker logs the end of a job after the new state can be read.
    wait_until(lambda: sum(share.total() for share in count_shares()) >= len(ids))
    shares = count_shares()
    assert all(share.total() > 0 for share in shares)
    assert sorted((shares[0] + shares[1]).elements()) == sorted(ids)
    assert {get_job(service, job_id)["attempt"] for job_id in ids} == {1}


def test_a_job_whose_worker_is_killed_succeeds_once_on_another_worker(service: Stack, second_worker: Process) -> None:
    def count_running() -> Counter[str]:
        return count_events("job_started", service.worker) - count_events("job_completed", service.worker)

    # With the second worker stopped, the first one claims all jobs.
    os.killpg(second_worker.pid, signal.SIGSTOP)
    ids = [submit(service, make_jpeg(5000, 4000)) for _ in range(4)]
    wait_until(count_running, seconds=30)

    service.worker.kill()
    os.killpg(second_worker.pid, signal.SIGCONT)
    interrupted = list(count_running())
    wait_until(lambda: have_succeeded(service, ids), seconds=60)

    assert interrupted
    assert all(get_job(service, job_id)["attempt"] == 2 for job_id in interrupted)
    wait_until(lambda: count_events("job_completed", second_worker) >= Counter(interrupted))
    assert all(count_events("job_completed", second_worker)[job_id] == 1 for job_id in interrupted)


def test_accepted_jobs_survive_the_loss_of_redis_with_all_its_data(service: Stack, second_worker: Process) -> None:
    os.killpg(second_worker.pid, signal.SIGSTOP)
    ids = [submit(service, make_jpeg(640, 480)) for _ in range(5)]

    service.valkey.kill()
    wipe(service.data / "valkey")
    service.valkey.start().wait_ready()
    # The worker resumes with dead connections; the steward was never stopped.
    os.killpg(second_worker.pid, signal.SIGCONT)

    wait_until(lambda: have_succeeded(service, ids), seconds=60)
    results = [service.client.request("GET", f"/v1/jobs/{job_id}/result").json() for job_id in ids]
    assert all(result["segments"] for result in results)


def wipe(folder: Path) -> None:
    for entry in folder.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry)
        else:
            entry.unlink()
