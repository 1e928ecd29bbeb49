"""The steward as the process that is deployed: its duties, and its end on the first signal, however many follow."""

import os
import signal
import sys
import threading
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path

import pytest

from deploy.local.processes import Process
from deploy.local.servers import free_ports
from shared import redis_keys
from shared.jobs.store import open_job_store
from shared.layout import LAYOUT_VERSION
from shared.redis_client import connect
from shared.settings import Settings
from shared.storage.bucket import open_bucket
from shared.storage.keys import LAYOUT_OBJECT
from tests.conftest import Storage
from tests.support.environment import get_fields
from tests.support.jobs import build_request, store_input
from tests.support.polling import wait_until
from tests.support.start import build_storage_environment
from tests.support.storage_proxy import Exchange, open_storage_proxy

DUTIES = {
    *("renew_stack", "record_runs", "requeue_stalled", "fail_exhausted", "requeue_delayed", "republish_orphaned"),
    *("recover_jobs", "delete_expired", "delete_hidden", "complete_purges"),
    *("restore_webhooks", "plan_webhooks", "send_webhooks"),
}


@pytest.fixture
def settings(clean_redis: str, storage: Storage, new_bucket: str) -> Settings:
    return Settings(
        redis_url=clean_redis,
        **get_fields(storage.get_env(new_bucket)),
    )


@pytest.mark.parametrize("signals", [[signal.SIGTERM], [signal.SIGINT], [signal.SIGTERM, signal.SIGINT] * 3])
def test_the_steward_ends_in_order(
    clean_redis: str, storage_env: Mapping[str, str], tmp_path: Path, signals: list[signal.Signals]
) -> None:
    env = {**storage_env, "MASKMILL_REDIS_URL": clean_redis, "PYTHONUNBUFFERED": "1"}
    with Process(
        "The steward", [sys.executable, "-m", "worker.steward"], log=tmp_path / "steward.log", env=env
    ) as steward:
        wait_until(lambda: "steward_ready" in steward.log.read_text(), seconds=30)

        for number in signals:
            os.kill(steward.pid, number)

        wait_until(lambda: steward.exit_code is not None, seconds=15)
        assert steward.exit_code == 0


def test_the_steward_ends_soon_while_it_recovers_from_a_slow_store(
    settings: Settings, storage: Storage, tmp_path: Path
) -> None:
    bucket, log = open_bucket(settings), tmp_path / "steward.log"
    bucket.put(LAYOUT_OBJECT, LAYOUT_VERSION.encode(), content_type="text/plain")
    for request in (build_request() for _ in range(250)):
        store_input(bucket, request, b"")
    has_begun = threading.Event()

    def delay(exchange: Exchange) -> None:
        if exchange.method == "HEAD" and not exchange.status:
            has_begun.set()
            time.sleep(1)

    with open_storage_proxy(storage, delay) as url:
        env = {
            **build_storage_environment(settings.model_copy(update={"storage_endpoint": url})),
            "MASKMILL_REDIS_URL": settings.redis_url,
            "MASKMILL_INBOX_GRACE_SECONDS": "0.1",
        }
        with Process("The steward", [sys.executable, "-m", "worker.steward"], log=log, env=env) as steward:
            wait_until(has_begun.is_set, seconds=30)
            os.kill(steward.pid, signal.SIGTERM)

            wait_until(lambda: steward.exit_code is not None, seconds=8)
            assert steward.exit_code == 0


def test_a_steward_recovers_a_lost_job_and_records_the_runs_of_its_duties(settings: Settings, tmp_path: Path) -> None:
    jobs, bucket, request = open_job_store(connect(settings), settings), open_bucket(settings), build_request()
    store_input(bucket, request)
    (port,) = free_ports(1)
    env = {
        **build_storage_environment(settings),
        "MASKMILL_REDIS_URL": settings.redis_url,
        "MASKMILL_PROBE_PORT": str(port),
        "MASKMILL_INBOX_GRACE_SECONDS": "0.5",
        "MASKMILL_RECOVERY_INTERVAL_SECONDS": "0.5",
    }
    log = tmp_path / "steward.log"
    with Process("The steward", [sys.executable, "-m", "worker.steward"], log=log, env=env):
        wait_until(lambda: jobs.is_known(request.id), seconds=30)
        wait_until(lambda: connect(settings).hgetall(redis_keys.DUTY_RUNS).keys() >= DUTIES, seconds=30)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as response:
            metrics = response.read().decode()

    assert all(f'maskmill_steward_duty_last_run_timestamp_seconds{{duty="{duty}"}}' in metrics for duty in DUTIES)
    assert all(f'maskmill_steward_duty_duration_seconds{{duty="{duty}"}}' in metrics for duty in DUTIES)
    assert 'maskmill_oldest_job_age_seconds{state="queued"}' in metrics
    assert 'maskmill_steward_jobs_total{reason="recovered"} 1.0' in metrics
