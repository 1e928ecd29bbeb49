"""A gateway inside the test's process, over real servers, and a worker that runs its jobs on demand."""

import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import redis
from flask.testing import FlaskClient

from api.app import create_app
from api.composition import build_gateway
from api.operations import create_operations_app
from api.settings import ApiSettings
from api.stores import Stores, connect_stores
from shared import redis_keys
from shared.redis_client import connect
from tests.support.environment import get_fields
from tests.support.periodic import run_periodically
from tests.support.worker import InProcessWorker, build_worker


@dataclass(frozen=True)
class GatewayUnderTest:
    """A gateway, a client that sends it requests, one of its port for operators, and its connections."""

    client: FlaskClient
    operators_client: FlaskClient
    stores: Stores
    settings: ApiSettings


def open_gateway(redis_url: str, storage_env: Mapping[str, str], **settings: Any) -> GatewayUnderTest:
    """Return a gateway, built as in api/wsgi.py; `settings` override the defaults."""
    api_settings = ApiSettings(redis_url=redis_url, **{**get_fields(storage_env), **settings})
    return open_gateway_with_stores(api_settings, connect_stores(api_settings))


def open_gateway_with_stores(settings: ApiSettings, stores: Stores) -> GatewayUnderTest:
    """Return a gateway over connections that exist already."""
    gateway = build_gateway(settings, stores)
    client, operators_client = (
        create_app(settings, gateway).test_client(),
        create_operations_app(gateway, bind=settings.metrics_bind).test_client(),
    )
    return GatewayUnderTest(client, operators_client, stores, settings)


def open_shared_gateway(redis_url: str, storage_env: Mapping[str, str], *, tokens: str = "") -> GatewayUnderTest:
    """Return the gateway that tests share, because building one is slow; all but the tokens has its default."""
    return _open_shared_gateway(redis_url, tuple(sorted(storage_env.items())), tokens)


@functools.cache
def _open_shared_gateway(redis_url: str, storage_env: tuple[tuple[str, str], ...], tokens: str) -> GatewayUnderTest:
    return open_gateway(redis_url, dict(storage_env), tokens=tokens)


def run_job(gateway: GatewayUnderTest, job_id: str) -> None:
    """Run a job on this thread with FakeSegmenter: its left half is a cat, its right half a dog."""
    _get_worker(gateway.settings).run(job_id)


def run_queue(gateway: GatewayUnderTest, queue: str) -> None:
    """Run the jobs of a queue on this thread, as with a message of it; no test command writes to Redis."""
    _get_worker(gateway.settings).run_jobs(queue)


@functools.cache
def _get_worker(settings: ApiSettings) -> InProcessWorker:
    return build_worker(settings)


@contextmanager
def consume_messages(gateway: GatewayUnderTest, run: Callable[[str], object]) -> Iterator[None]:
    """While the block runs, take messages from the broker on a thread, and call run() with the id of each job."""

    def consume() -> None:
        for job_id in take_messages(gateway):
            run(job_id)

    with run_periodically(consume, interval_seconds=0.01):
        yield


def take_messages(gateway: GatewayUnderTest) -> Iterator[str]:
    """Take the messages in the broker, and yield for each the id of the first job of its queue."""
    with redis.Redis.from_url(gateway.settings.redis_url, decode_responses=True) as client:
        for queue in gateway.stores.jobs.queues.list_names():
            while client.rpop(queue):
                yield from client.zrange(redis_keys.queued_jobs(queue), 0, 0)


def list_queued_ids(gateway: GatewayUnderTest) -> list[str]:
    """Return the ids of all queued jobs in the job store."""
    client = connect(gateway.settings)
    queues = gateway.stores.jobs.queues.list_names()
    return [job_id for queue in queues for job_id in client.zrange(redis_keys.queued_jobs(queue), 0, -1)]
