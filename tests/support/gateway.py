"""A gateway inside the test's own process, over real servers, and a worker's hand that does its jobs when told to."""

import base64
import functools
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from flask.testing import FlaskClient
from prometheus_client import CollectorRegistry

from api.app import create_app
from api.services import Services
from api.settings import ApiSettings
from api.wsgi import build_services
from shared.jobs.payloads import PayloadStore
from shared.jobs.store import JobStore
from shared.redis_client import connect
from shared.storage.bucket import open_bucket
from tests.support.jobs import FakeSegmenter, ImmediateScheduler
from worker.pipeline import job as pipeline
from worker.pipeline.leases import LeaseKeeper
from worker.runtime.metrics import WorkerMetrics


@dataclass(frozen=True)
class GatewayUnderTest:
    """`client` talks to it, `services` are what it stands on."""

    client: FlaskClient
    services: Services
    settings: ApiSettings


def gateway(redis_url: str, storage_env: Mapping[str, str], **settings: Any) -> GatewayUnderTest:
    """Build a gateway as api/wsgi.py does, with these settings besides."""
    found = {name.removeprefix("MASKMILL_").lower(): value for name, value in storage_env.items()}
    read = ApiSettings(redis_url=redis_url, **{**found, **settings})
    services = build_services(read)
    return GatewayUnderTest(create_app(read, services).test_client(), services, read)


def shared_gateway(redis_url: str, storage_env: Mapping[str, str]) -> GatewayUnderTest:
    """Return a gateway of the default settings that other tests use too: building one takes a while."""
    return _shared_gateway(redis_url, tuple(sorted(storage_env.items())))


@functools.cache
def _shared_gateway(redis_url: str, storage_env: tuple[tuple[str, str], ...]) -> GatewayUnderTest:
    return gateway(redis_url, dict(storage_env))


def do_job(gateway: GatewayUnderTest, job_id: str) -> None:
    """Do what a worker does with a job, here and now; the left half is a cat, the right half a dog."""
    pipeline.run_job(job_id, _hand(gateway.settings))


@functools.cache
def _hand(settings: ApiSettings) -> pipeline.Services:
    jobs = JobStore(
        connect(settings),
        lease_seconds=settings.lease_seconds,
        max_attempts=settings.max_attempts,
        result_ttl_seconds=settings.result_ttl_seconds,
    )
    return pipeline.Services(
        jobs=jobs,
        bucket=open_bucket(settings),
        payloads=PayloadStore(connect(settings, decode=False)),
        leases=LeaseKeeper(jobs, lease_seconds=settings.lease_seconds),
        segmenter=FakeSegmenter(),
        batches=ImmediateScheduler(FakeSegmenter()),
        observer=WorkerMetrics(CollectorRegistry()),
        worker_id="hand",
        max_pixels=10**7,
    )


@contextmanager
def working(gateway: GatewayUnderTest, work: Callable[[str], object]) -> Iterator[None]:
    """Take every message that comes meanwhile and call work() with the id of its job, from a thread."""
    stop = threading.Event()

    def run() -> None:
        while not stop.wait(0.01):
            for job_id in taken_ids(gateway):
                work(job_id)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def taken_ids(gateway: GatewayUnderTest) -> Iterator[str]:
    """Take the messages that wait in the broker, oldest first, and yield the ids of their jobs."""
    client = connect(gateway.settings)
    for queue in gateway.services.jobs.queues():
        while message := client.rpop(queue):
            (arguments, *_) = json.loads(base64.b64decode(json.loads(message)["body"]))
            yield arguments[0]["job_id"]


def queued_ids(gateway: GatewayUnderTest) -> list[str]:
    """Return the ids of all queued jobs, as the job store has them."""
    client = connect(gateway.settings)
    return [job_id for queue in gateway.services.jobs.queues() for job_id in client.zrange(f"mm:queued:{queue}", 0, -1)]
