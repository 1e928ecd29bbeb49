"""A real Celery worker with one thread takes its next message as soon as the thread is free."""

import sys
import time
from pathlib import Path

from deploy.local.processes import Process
from shared.broker.envelope import encode_message
from shared.jobs.messages import job_queue
from shared.jobs.store import open_job_store
from shared.redis_client import connect
from shared.settings import Settings
from tests.support.environment import copy_environment
from tests.support.jobs import build_request
from tests.support.polling import wait_until

JOBS = 20
# Without a wake-up, Celery polls for the next message once a second.
MAX_SECONDS = JOBS / 4


def test_the_next_message_is_taken_when_a_task_ends(clean_redis: str, tmp_path: Path) -> None:
    settings = Settings(redis_url=clean_redis)
    jobs = open_job_store(connect(settings), settings)
    environment = copy_environment()
    env = environment | {"MASKMILL_REDIS_URL": clean_redis, "MASKMILL_WORKER_THREADS": "1"}
    command = [sys.executable, "-m", "tests.bench.transport_worker"]

    def is_final(job_id: str) -> bool:
        return jobs.get(job_id).state.is_final

    with Process("The worker", command, log=tmp_path / "worker.log", env=env) as worker:
        first = build_request()
        jobs.create(first, message=encode_message(job_queue(first)))
        wait_until(lambda: is_final(first.id), seconds=60)
        requests = [build_request() for _ in range(JOBS)]
        started = time.monotonic()
        for one in requests:
            jobs.create(one, message=encode_message(job_queue(one)))
        wait_until(lambda: all(is_final(one.id) for one in requests), seconds=60)
        elapsed = time.monotonic() - started
        worker.kill()

    assert elapsed < MAX_SECONDS
