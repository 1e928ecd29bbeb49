"""A job that kills each process that runs it fails alone: the jobs beside it succeed."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from deploy.local.gateway_client import GatewayClient
from deploy.local.processes import Process
from deploy.local.supervision import Supervisor
from shared.errors import AttemptsExhausted
from tests.support.jobs import png
from tests.support.poisoned_worker import KILLS_ENGINE, KILLS_HOST
from tests.support.polling import wait_until
from tests.support.service import get_port, is_ready, start_service

INNOCENTS = 20
# The poison is claimed together with innocents before and behind it.
POISON_PLACE = 5
# Each loss of a process costs a lease, and a start that takes long on a busy machine.
MAX_SECONDS = 240.0


class Service:
    """A gateway, a steward and workers that images can kill; what ends is started again, as by a supervisor."""

    def __init__(self, processes: Mapping[str, Process], workers: list[Process]) -> None:
        self.client = GatewayClient(get_port(processes["gateway"]))
        self.workers = workers
        self._supervisor = Supervisor([*processes.values(), *workers[1:]], report=print)

    def submit(self, size: tuple[int, int]) -> str:
        return str(self.client.post("/v1/jobs?formats=labels", png(*size)).json()["id"])

    def wait_for_end(self, ids: list[str]) -> dict[str, tuple[str, str | None, int]]:
        """Return state, error and attempt of each job, once all are final."""
        jobs = {}

        def are_final() -> bool:
            self._supervisor.check()
            jobs.update({job_id: self.client.get(f"/v1/jobs/{job_id}").json() for job_id in ids if job_id not in ended})
            ended.update(job_id for job_id in ids if jobs[job_id]["ended_at"])
            return len(ended) == len(ids)

        ended: set[str] = set()
        wait_until(are_final, "the end of all jobs", seconds=MAX_SECONDS, poll_interval_seconds=0.2)
        return {job_id: (job["state"], job["error_type"], job["attempt"]) for job_id, job in jobs.items()}


@contextmanager
def start_poisoned_service(folder: Path, env: Mapping[str, str], worker_count: int) -> Iterator[Service]:
    with start_service(folder, env, worker="tests.support.poisoned_worker") as processes:
        first = processes["worker"]
        seconds = [
            Process(f"The worker {number}", first.command, log=folder / f"worker-{number}.log", env=first.env)
            for number in range(2, worker_count + 1)
        ]
        wait_until(lambda: is_ready(processes["gateway"]), seconds=60)
        service = Service(processes, [first, *seconds])
        for worker in seconds:
            worker.start()
        try:
            yield service
        finally:
            for worker in service.workers:
                worker.kill()


@pytest.mark.timeout(360)
# Each kind of loss and each number of workers once: tests/integration/test_poison.py has the engines of two workers.
@pytest.mark.parametrize(
    ("poison", "worker_count"), [(KILLS_ENGINE, 1), (KILLS_HOST, 2)], ids=["kills the engine", "kills its host"]
)
def test_only_the_poison_fails_beside_twenty_innocents(
    clean_redis: str,
    storage_env: dict[str, str],
    new_bucket: str,
    tmp_path: Path,
    poison: tuple[int, int],
    worker_count: int,
) -> None:
    env = {
        **storage_env,
        "MASKMILL_STORAGE_BUCKET": new_bucket,
        "MASKMILL_REDIS_URL": clean_redis,
        "MASKMILL_LEASE_SECONDS": "3",
    }
    with start_poisoned_service(tmp_path, env, worker_count) as service:
        sizes = [(6, 4)] * INNOCENTS
        sizes.insert(POISON_PLACE, poison)
        ids = [service.submit(size) for size in sizes]

        ends = service.wait_for_end(ids)

    culprit = ends.pop(ids[POISON_PLACE])
    assert culprit[:2] == ("failed", AttemptsExhausted.code)
    assert [end for end in ends.values() if end[:2] != ("succeeded", None)] == []
