"""Purge of a job in every state, and what a worker, a steward and a client do at the same time."""

import itertools
import json
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import redis
from prometheus_client import CollectorRegistry

from deploy.local.processes import Process
from shared import redis_keys
from shared.errors import StorageUnavailable
from shared.jobs.completion import complete_job
from shared.jobs.model import JobRequest, JobState
from shared.jobs.purge import purge_job
from shared.jobs.result import JobResult
from shared.redis_client import connect
from shared.storage.bucket import Bucket, open_bucket
from shared.storage.keys import inbox_key, object_key, purged_key, result_key, results_prefix
from shared.worker_registry import WorkerRegistry, WorkerState, WorkerStatus
from tests.conftest import Storage
from tests.integration.test_pipeline import HookedScheduler
from tests.support.gated_worker import GATE, STARTED
from tests.support.gateway import GatewayUnderTest, list_queued_ids, open_gateway, run_job
from tests.support.jobs import MODEL, png
from tests.support.polling import wait_until
from tests.support.raw_gateway import RawGateway, build_environment
from tests.support.steward import build_steward
from tests.support.worker import build_worker
from worker.steward.metrics import StewardMetrics
from worker.steward.purges import PurgeCompletion

SHOP, LAB = {"Authorization": "Bearer s3cret"}, {"Authorization": "Bearer 0ther"}
PATHS = ["", "/input", "/result", "/labels.png", "/masks/1.png", "/masks.zip", "/overlay.png"]


@pytest.fixture
def gateway(clean_redis: str, storage_env: dict[str, str], new_bucket: str) -> GatewayUnderTest:
    env = {**storage_env, "MASKMILL_STORAGE_BUCKET": new_bucket}
    gateway = open_gateway(clean_redis, env, tokens="shop:s3cret,lab:0ther", sync_deadline_seconds=10)
    registry = WorkerRegistry(connect(gateway.settings))
    registry.report(WorkerStatus("w", MODEL, WorkerState.READY, revision="r1", since=time.time()))
    return gateway


def submit(gateway: GatewayUnderTest, **headers: str) -> str:
    sent = {**SHOP, **{name.replace("_", "-"): value for name, value in headers.items()}}
    return str(gateway.client.post("/v1/jobs", data=png(), headers=sent).json["id"])


def purge(gateway: GatewayUnderTest, job_id: str) -> None:
    client = gateway.client.application.test_client()
    assert client.delete(f"/v1/jobs/{job_id}?purge=1", headers=SHOP).status_code == 204


def list_stored(gateway: GatewayUnderTest) -> list[str]:
    """Return the keys of all objects of jobs, purges excepted."""
    return [
        found.key
        for prefix in ("inbox/", "inputs/", "dead-letters/", "results/")
        for found in gateway.stores.bucket.list_objects(prefix)
    ]


def open_client(gateway: GatewayUnderTest) -> redis.Redis:
    return redis.Redis.from_url(gateway.settings.redis_url, decode_responses=True)


def list_redis_keys(gateway: GatewayUnderTest, job_id: str) -> list[str]:
    """Return the keys that name a job, and those of lists and sets that contain it."""
    client = open_client(gateway)
    keys = [str(key) for key in client.keys("*")]
    named = [key for key in keys if job_id in key]
    sets = [key for key in keys if client.type(key) == "zset" and client.zscore(key, job_id) is not None]
    return [*named, *sets]


def assert_unknown(gateway: GatewayUnderTest, job_id: str) -> None:
    answers = [gateway.client.get(f"/v1/jobs/{job_id}{path}", headers=SHOP) for path in PATHS]
    assert {(answer.status_code, answer.json["error_type"]) for answer in answers} == {(404, "unknown_job")}
    assert job_id not in [job["id"] for job in gateway.client.get("/v1/jobs", headers=SHOP).json["jobs"]]
    assert gateway.client.delete(f"/v1/jobs/{job_id}?purge=1", headers=SHOP).status_code == 404


def build_completion(gateway: GatewayUnderTest, **changes: Any) -> PurgeCompletion:
    metrics = StewardMetrics(CollectorRegistry())
    return PurgeCompletion(gateway.stores.jobs, gateway.stores.bucket, metrics, **{"now": time.time, **changes})


def complete_purges(completion: PurgeCompletion) -> None:
    completion.complete_purges(completion.find_purges())


@pytest.mark.parametrize("state", ["queued", "running", "succeeded", "failed", "canceled"])
def test_nothing_is_left_of_a_purged_job(gateway: GatewayUnderTest, state: str) -> None:
    job_id, other = submit(gateway), submit(gateway)
    match state:
        case "running":
            assert build_worker(gateway.settings).claim(job_id)
        case "succeeded":
            run_job(gateway, job_id)
        case "failed":
            gateway.stores.bucket.put(inbox_key(job_id), b"no image", content_type="image/png")
            run_job(gateway, job_id)
        case "canceled":
            gateway.client.delete(f"/v1/jobs/{job_id}", headers=SHOP)
    assert gateway.client.get(f"/v1/jobs/{job_id}", headers=SHOP).json["state"] == state

    purge(gateway, job_id)

    assert list_stored(gateway) == [inbox_key(other)]
    assert list_redis_keys(gateway, job_id) == [redis_keys.purge_mark(job_id)]
    assert_unknown(gateway, job_id)
    run_job(gateway, other)
    assert gateway.client.get(f"/v1/jobs/{other}/result", headers=SHOP).status_code == 200


def test_a_job_that_redis_does_not_know_is_purged(gateway: GatewayUnderTest) -> None:
    job_id = submit(gateway)
    run_job(gateway, job_id)
    open_client(gateway).flushall()

    purge(gateway, job_id)

    assert list_stored(gateway) == []
    assert_unknown(gateway, job_id)


def test_an_ended_job_is_a_409_without_purge(gateway: GatewayUnderTest) -> None:
    job_id = submit(gateway)
    run_job(gateway, job_id)

    for query in ("", "?purge=0", "?purge=false"):
        assert gateway.client.delete(f"/v1/jobs/{job_id}{query}", headers=SHOP).status_code == 409
    for query in ("?purge=perhaps", "?purg=1"):
        assert gateway.client.delete(f"/v1/jobs/{job_id}{query}", headers=SHOP).status_code == 400
    assert gateway.client.get(f"/v1/jobs/{job_id}/result", headers=SHOP).status_code == 200


def test_a_job_of_another_tenant_is_unknown(gateway: GatewayUnderTest) -> None:
    job_id = submit(gateway)
    run_job(gateway, job_id)
    before = list_stored(gateway)

    assert gateway.client.delete(f"/v1/jobs/{job_id}?purge=1", headers=LAB).status_code == 404
    assert gateway.client.delete("/v1/jobs/..%2F..?purge=1", headers=LAB).status_code == 404
    assert list_stored(gateway) == before


def test_an_idempotency_key_is_free_again(gateway: GatewayUnderTest) -> None:
    first = submit(gateway, Idempotency_Key="k")
    assert submit(gateway, Idempotency_Key="k") == first

    purge(gateway, first)

    second = submit(gateway, Idempotency_Key="k")
    assert second != first
    assert gateway.client.get(f"/v1/jobs/{second}", headers=SHOP).json["state"] == "queued"


def post_image(gateway: GatewayUnderTest) -> Any:
    return gateway.client.application.test_client().post("/", data=png(), headers=SHOP)


def wait_queued(gateway: GatewayUnderTest, *, waiters: int = 1) -> str:
    def has_waiters() -> bool:
        ids = list_queued_ids(gateway)
        return len(ids) == 1 and connect(gateway.settings).hget(redis_keys.job(ids[0]), "waiters") == str(waiters)

    wait_until(has_waiters)
    return list_queued_ids(gateway)[0]


@pytest.mark.parametrize("has_record", [True, False])
def test_a_purged_result_is_not_a_cache_hit(gateway: GatewayUnderTest, has_record: bool) -> None:
    with ThreadPoolExecutor() as pool:
        first = pool.submit(post_image, gateway)
        job_id = wait_queued(gateway)
        run_job(gateway, job_id)
        assert first.result().status_code == 200
        if not has_record:
            connect(gateway.settings).delete(redis_keys.job(job_id))
        purge(gateway, job_id)
        second = pool.submit(post_image, gateway)
        run_job(gateway, wait_queued(gateway))

    assert second.result().headers["x-maskmill-cache"] == "miss"
    assert second.result().headers["x-maskmill-job-id"] != job_id


def test_a_coalesced_caller_is_to_send_again_and_the_first_one_is_told(gateway: GatewayUnderTest) -> None:
    with ThreadPoolExecutor() as pool:
        first = pool.submit(post_image, gateway)
        job_id = wait_queued(gateway)
        second = pool.submit(post_image, gateway)
        wait_queued(gateway, waiters=2)
        purge(gateway, job_id)

    assert (first.result().status_code, first.result().json["error_type"]) == (409, "canceled")
    assert (second.result().status_code, second.result().json["error_type"]) == (503, "shared_job_ended")


def test_the_image_of_a_purged_request_leaves_the_accounts(gateway: GatewayUnderTest) -> None:
    client = open_client(gateway)
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(post_image, gateway)
        job_id = wait_queued(gateway)
        held = client.hgetall(redis_keys.PAYLOAD_BYTES), client.zcard(redis_keys.PAYLOADS)
        purge(gateway, job_id)

    assert waiting.result().status_code == 409
    assert held == ({"*": str(len(png())), "shop": str(len(png()))}, 1)
    assert (client.hgetall(redis_keys.PAYLOAD_BYTES), client.zcard(redis_keys.PAYLOADS)) == ({}, 0)


def run_and_purge_meanwhile(gateway: GatewayUnderTest, job_id: str) -> None:
    """Purge a job when its image is about to reach the device; its worker stores the result nevertheless."""
    worker = replace(
        build_worker(gateway.settings), batches=HookedScheduler(lambda: purge(gateway, job_id))
    )  # whose leases are not renewed, so that it does not notice
    worker.run(job_id)


@pytest.mark.parametrize("is_redis_lost", [False, True])
def test_what_a_worker_stores_after_the_purge_is_hidden_and_deleted(
    gateway: GatewayUnderTest, is_redis_lost: bool
) -> None:
    job_id = submit(gateway)
    run_and_purge_meanwhile(gateway, job_id)
    assert result_key(job_id) in list_stored(gateway)

    assert_unknown(gateway, job_id)
    if is_redis_lost:
        open_client(gateway).flushall()
    complete_purges(build_completion(gateway))

    assert list_stored(gateway) == []
    assert_unknown(gateway, job_id)
    assert gateway.stores.bucket.get(purged_key(job_id)) == b""


def test_a_purge_is_repeated_at_growing_intervals_until_it_is_old(gateway: GatewayUnderTest) -> None:
    job_id = submit(gateway)
    purge(gateway, job_id)
    bucket, late = gateway.stores.bucket, object_key(job_id, "1-late", "labels.png")
    start = time.time()
    seconds = 0.0
    completion = build_completion(gateway, settling_seconds=100, now=lambda: start + seconds)
    looked = []
    while not bucket.is_empty("purged/"):
        bucket.put(late, b"late", content_type="image/png")
        complete_purges(completion)
        if bucket.is_empty(results_prefix(job_id)):
            looked.append(seconds)
        seconds += 1.0
        assert seconds < 200

    gaps = [later - earlier for earlier, later in itertools.pairwise(looked)]
    assert 5 <= len(looked) <= 12
    assert gaps[:-1] == sorted(gaps[:-1])
    assert looked[-1] >= 99
    assert list_stored(gateway) == []


def test_a_purge_that_was_interrupted_is_completed(gateway: GatewayUnderTest) -> None:
    job_id = submit(gateway)
    gateway.stores.bucket.put(purged_key(job_id), b"", content_type="application/octet-stream")

    complete_purges(build_completion(gateway))

    assert list_stored(gateway) == []
    assert list_queued_ids(gateway) == []
    assert_unknown(gateway, job_id)


class BucketWithoutDeletion(Bucket):
    """The gateway's bucket, as long as its server refuses to delete."""

    def __init__(self, bucket: Bucket) -> None:
        super().__init__(bucket._store, bucket._slow)

    def delete(self, keys: Iterable[str]) -> None:
        raise StorageUnavailable("It does not delete at present.")


def test_a_purge_whose_objects_cannot_be_deleted_now_is_hidden_and_completed(gateway: GatewayUnderTest) -> None:
    job_id = submit(gateway)
    run_job(gateway, job_id)

    purge_job(job_id, jobs=gateway.stores.jobs, bucket=BucketWithoutDeletion(gateway.stores.bucket))

    assert list_stored(gateway) != []
    assert_unknown(gateway, job_id)
    complete_purges(build_completion(gateway))
    assert list_stored(gateway) == []


def test_a_purge_without_a_bucket_changes_nothing(gateway: GatewayUnderTest) -> None:
    job_id = submit(gateway)
    nowhere = open_bucket(gateway.settings.model_copy(update={"storage_endpoint": "http://127.0.0.1:1"}))

    with pytest.raises(StorageUnavailable):
        purge_job(job_id, jobs=gateway.stores.jobs, bucket=nowhere)

    assert gateway.client.get(f"/v1/jobs/{job_id}", headers=SHOP).json["state"] == "queued"


def test_a_purged_job_is_not_recovered_from_its_input(gateway: GatewayUnderTest) -> None:
    job_id = submit(gateway)
    request = gateway.stores.jobs.get(job_id).request
    purge(gateway, job_id)
    # A write that had timed out takes effect.
    metadata = {"request": request.to_json()}
    gateway.stores.bucket.put(inbox_key(job_id), png(), content_type="image/png", metadata=metadata)

    build_steward(gateway.settings, gateway.stores.jobs, gateway.stores.bucket).recovery.recover_jobs()

    assert list_queued_ids(gateway) == []
    assert list_stored(gateway) == []


def test_a_completion_after_the_purge_changes_nothing_in_redis(gateway: GatewayUnderTest) -> None:
    job_id = submit(gateway)
    request = gateway.stores.jobs.get(job_id).request
    purge(gateway, job_id)

    complete_job(JobResult(request, JobState.SUCCEEDED, 1), jobs=gateway.stores.jobs, bucket=gateway.stores.bucket)

    assert list_redis_keys(gateway, job_id) == [redis_keys.purge_mark(job_id)]
    assert_unknown(gateway, job_id)


@dataclass(frozen=True)
class Processes:
    """A worker process whose jobs wait for a key in Redis, and a steward process."""

    worker: Process
    steward: Process
    client: redis.Redis

    def wait_started(self, request: JobRequest) -> None:
        wait_until(lambda: self.client.exists(STARTED + request.id), seconds=60)

    def open_gate(self, request: JobRequest) -> None:
        self.client.set(GATE + request.id, "")


@pytest.fixture
def processes(gateway: GatewayUnderTest, storage: Storage, tmp_path: Path) -> Iterator[Processes]:
    settings = gateway.settings
    env = {
        **build_environment(settings.redis_url, storage, settings.storage_bucket),
        "MASKMILL_WORKER_THREADS": "1",
        "MASKMILL_PURGE_INTERVAL_SECONDS": "0.2",
        "MASKMILL_LOG_FORMAT": "json",
        "PYTHONUNBUFFERED": "1",
    }
    worker = [sys.executable, "-m", "tests.support.gated_worker"]
    steward = [sys.executable, "-m", "worker.steward"]
    with (
        Process("The worker", worker, log=tmp_path / "worker.log", env=env) as running,
        Process("The steward", steward, log=tmp_path / "steward.log", env=env) as reconciling,
    ):
        yield Processes(running, reconciling, redis.Redis.from_url(settings.redis_url, decode_responses=True))
        running.kill()


def test_a_real_worker_that_completes_a_purged_job_leaves_nothing(
    gateway: GatewayUnderTest, processes: Processes
) -> None:
    job_id = submit(gateway)
    request = gateway.stores.jobs.get(job_id).request
    processes.wait_started(request)

    purge(gateway, job_id)
    processes.open_gate(request)

    wait_until(lambda: "purge_completed" in processes.steward.log.read_text(), seconds=30)
    lines = [json.loads(line) for line in processes.worker.log.read_text().splitlines()]
    assert [line["state"] for line in lines if line["event"] == "job_completed"] == ["succeeded"]
    assert list_stored(gateway) == []
    assert_unknown(gateway, job_id)
    following = submit(gateway)
    processes.open_gate(gateway.stores.jobs.get(following).request)
    wait_until(lambda: gateway.stores.jobs.get(following).state is JobState.SUCCEEDED, seconds=30)


def test_submissions_and_deletions_are_logged_with_tenant_and_peer(
    redis_url: str, storage: Storage, bucket_name: str, tmp_path: Path
) -> None:
    env = {**build_environment(redis_url, storage, bucket_name), "MASKMILL_TOKENS": "shop:s3cret-t0ken"}
    with RawGateway(tmp_path, env) as process:
        process.wait_ready()
        for query in ("", "?purge=1"):
            _, answer = send(process, "POST", "/v1/jobs", png())
            send(process, "DELETE", f"/v1/jobs/{answer['id']}{query}")
        log = process.log.read_text()

    lines = [json.loads(line) for line in log.splitlines()]
    audit = [line for line in lines if line["event"] in ("job_submitted", "job_canceled", "job_purged")]
    assert [line["event"] for line in audit] == ["job_submitted", "job_canceled", "job_submitted", "job_purged"]
    assert {(line["tenant"], line["peer"]) for line in audit} == {("shop", "127.0.0.1")}
    assert all(line["job_id"] and line["request_id"] for line in audit)
    assert "s3cret" not in log


def send(process: RawGateway, method: str, path: str, body: bytes = b"") -> tuple[int, Any]:
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer s3cret-t0ken\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return process.exchange(head.encode() + body)
