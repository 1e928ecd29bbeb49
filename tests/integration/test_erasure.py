"""Deletion of all data of a tenant: in any state, resumed after an interruption, and nothing of anybody else."""

import time
from collections.abc import Callable
from typing import Any

import pytest
import redis
from prometheus_client import CollectorRegistry

from api.http.tokens import Scope, Token, compute_digest, format_line
from shared.errors import DutyLeaseLost, EngineFailed
from shared.jobs.completion import complete_job
from shared.jobs.erasure import Erasures
from shared.jobs.lists import JobLists
from shared.jobs.result import failed_result
from shared.redis_client import connect
from shared.rfc3339 import parse_timestamp
from shared.storage.keys import ERASURES_PREFIX, WEBHOOKS_PREFIX, uploads_prefix
from shared.webhooks.delivery import Target
from shared.worker_registry import WorkerRegistry, WorkerState, WorkerStatus
from tests.support.gateway import GatewayUnderTest, open_gateway, run_job
from tests.support.jobs import MODEL, build_request, png, store_input
from tests.support.steward import follow_store
from worker.steward import erasures as steward_erasures
from worker.steward.erasures import DataErasure
from worker.steward.metrics import StewardMetrics
from worker.steward.webhook_erasure import WebhookErasure

SHOP, LAB, ADMIN = ({"Authorization": f"Bearer {token}"} for token in ("shop", "lab", "admin"))
PREFIXES = ("inbox/", "inputs/", "dead-letters/", "results/", "kept/", "uploads/")


@pytest.fixture
def gateway(clean_redis: str, storage_env: dict[str, str], new_bucket: str, tmp_path: Any) -> GatewayUnderTest:
    file = tmp_path / "tokens"
    tokens = [("shop", "shop", Scope.SUBMIT), ("lab", "lab", Scope.SUBMIT), ("shop", "admin", Scope.ADMIN)]
    lines = [Token(name, compute_digest(text), frozenset({scope, Scope.READ})) for name, text, scope in tokens]
    file.write_text("".join(f"{format_line(line)}\n" for line in lines))
    env = {**storage_env, "MASKMILL_STORAGE_BUCKET": new_bucket}
    gateway = open_gateway(clean_redis, env, tokens_file=str(file))
    registry = WorkerRegistry(connect(gateway.settings))
    registry.report(WorkerStatus("w", MODEL, WorkerState.READY, revision="r1", since=time.time()))
    return gateway


def build_duty(
    gateway: GatewayUnderTest, *, check: Callable[[], object] = lambda: None, settling_seconds: float = 0.0
) -> DataErasure:
    bucket, client = gateway.stores.bucket, connect(gateway.settings)
    return DataErasure(
        gateway.stores.jobs,
        JobLists(client),
        bucket,
        Erasures(bucket),
        WebhookErasure(gateway.stores.endpoints, gateway.stores.deliveries),
        StewardMetrics(CollectorRegistry()),
        follow_store(bucket),
        check,
        settling_seconds=settling_seconds,
        pause=lambda _: None,
    )


def erase(duty: DataErasure) -> None:
    duty.continue_erasures(duty.find_erasures())


def submit(gateway: GatewayUnderTest, headers: dict[str, str] = SHOP) -> str:
    return str(gateway.client.post("/v1/jobs", data=png(), headers=headers).json["id"])


def request_deletion(gateway: GatewayUnderTest) -> Any:
    # Ids of the same millisecond belong to it.
    time.sleep(0.005)
    answer = gateway.client.delete("/v1/data", headers=ADMIN)
    time.sleep(0.005)
    return answer


def fill(gateway: GatewayUnderTest, headers: dict[str, str], tenant: str) -> list[str]:
    """Make a job in each state, a synchronous one without a record, and a kept one."""
    jobs, bucket = gateway.stores.jobs, gateway.stores.bucket
    queued, running, succeeded, canceled = (submit(gateway, headers) for _ in range(4))
    run_job(gateway, succeeded)
    gateway.client.post(f"/v1/jobs/{succeeded}/keep", json={"seconds": 1000}, headers=headers)
    gateway.client.delete(f"/v1/jobs/{canceled}", headers=headers)
    forgotten, failed = build_request(tenant=tenant), build_request(tenant=tenant)
    for request in (forgotten, failed):
        store_input(bucket, request)
    jobs.create(failed)
    for request in (forgotten, failed):
        complete_job(failed_result(request, EngineFailed("a bug")), jobs=jobs, bucket=bucket)
    jobs.attempts.claim(MODEL, worker="w")
    bucket.put(f"{uploads_prefix(tenant)}{build_request().id}", b"an image", content_type="image/png")
    return [queued, running, succeeded, canceled, forgotten.id, failed.id]


def list_stored(gateway: GatewayUnderTest) -> list[str]:
    return [found.key for prefix in PREFIXES for found in gateway.stores.bucket.list_objects(prefix)]


def test_nothing_of_the_tenant_is_left_and_all_of_others(gateway: GatewayUnderTest, redis_client: redis.Redis) -> None:
    foreign = fill(gateway, LAB, "lab")
    stored = list_stored(gateway)
    own = fill(gateway, SHOP, "shop")
    answer = request_deletion(gateway)
    later = submit(gateway)

    erase(build_duty(gateway))

    assert answer.status_code == 202
    assert parse_timestamp(answer.json["deletion"]["requested_at"]) == pytest.approx(time.time(), abs=60)
    assert [key for key in list_stored(gateway) if key not in stored] == [f"inbox/{later}"]
    assert [key for key in stored if key not in list_stored(gateway)] == []
    listed = [job["id"] for job in gateway.client.get("/v1/jobs", headers=SHOP).json["jobs"]]
    assert listed == [later]
    statuses = [gateway.client.get(f"/v1/jobs/{job_id}", headers=SHOP).status_code for job_id in own]
    assert set(statuses) == {404}
    assert {gateway.client.get(f"/v1/jobs/{job_id}", headers=LAB).status_code for job_id in foreign} == {200}
    keys = [key.decode() for key in redis_client.keys("*")]
    named = [key for key in keys if any(job_id in key for job_id in own) and not key.startswith("mm:purged:")]
    assert named == []
    assert list(gateway.stores.bucket.list_objects(ERASURES_PREFIX)) == []
    assert gateway.client.get("/v1/data", headers=SHOP).json == {"deletion": None}


def test_a_deletion_outlives_the_loss_of_redis(gateway: GatewayUnderTest, redis_client: redis.Redis) -> None:
    fill(gateway, SHOP, "shop")
    request_deletion(gateway)
    redis_client.flushall()

    erase(build_duty(gateway))

    assert list_stored(gateway) == []
    assert gateway.client.get("/v1/data", headers=SHOP).json == {"deletion": None}


def test_an_interrupted_deletion_goes_on_where_it_was(
    gateway: GatewayUnderTest, monkeypatch: pytest.MonkeyPatch, redis_client: redis.Redis
) -> None:
    monkeypatch.setattr(steward_erasures, "PAGE", 2)
    jobs = [submit(gateway, headers) for headers in (SHOP, LAB) * 4]
    for job_id in jobs:
        run_job(gateway, job_id)
    redis_client.flushall()
    request_deletion(gateway)
    checks: list[int] = []

    def check() -> None:
        checks.append(1)
        if len(checks) == 3:
            raise DutyLeaseLost("another steward has taken over")

    reads: list[str] = []
    read = DataErasure._read_owner_of_result

    def read_counted(duty: DataErasure, job_id: str) -> str | None:
        reads.append(job_id)
        return read(duty, job_id)

    monkeypatch.setattr(DataErasure, "_read_owner_of_result", read_counted)

    with pytest.raises(DutyLeaseLost):
        erase(build_duty(gateway, check=check))
    shown = gateway.client.get("/v1/data", headers=SHOP).json["deletion"]
    erase(build_duty(gateway))

    assert 1 <= shown["deleted_jobs"] < 4
    # What was read before is not read again.
    assert sorted(reads) == sorted(jobs)
    left = {key.split("/")[1] for key in list_stored(gateway)}
    assert left == set(jobs[1::2])


def test_webhooks_are_deleted_with_their_secrets_and_deliveries(
    gateway: GatewayUnderTest, redis_client: redis.Redis
) -> None:
    own, foreign = (create_webhook(gateway, headers) for headers in (SHOP, LAB))
    for tenant, webhook in (("shop", own), ("lab", foreign)):
        gateway.stores.deliveries.plan(f"msg_{tenant}", "test", [Target(tenant, webhook)], occurred_at=time.time())
    request_deletion(gateway)
    later = create_webhook(gateway, SHOP)

    erase(build_duty(gateway))

    stored = [found.key for found in gateway.stores.bucket.list_objects(WEBHOOKS_PREFIX)]
    assert stored == [f"{WEBHOOKS_PREFIX}lab/{foreign}", f"{WEBHOOKS_PREFIX}shop/{later}"]
    keys = [key.decode() for key in redis_client.keys("*")]
    assert [key for key in keys if own in key] == []
    assert gateway.stores.deliveries.list_newest(Target("lab", foreign), limit=9)


def create_webhook(gateway: GatewayUnderTest, headers: dict[str, str]) -> str:
    body = {"url": "https://example.com/hook", "all_jobs": True}
    answer = gateway.client.post("/v1/webhooks", json=body, headers=headers)
    assert answer.status_code == 201, answer.json
    return str(answer.json["id"])


def test_a_submission_that_is_under_way_is_waited_for(gateway: GatewayUnderTest) -> None:
    started = build_request(tenant="shop")
    request_deletion(gateway)
    erase(build_duty(gateway, settling_seconds=60))
    store_input(gateway.stores.bucket, started)
    gateway.stores.jobs.create(started)

    assert gateway.client.get("/v1/data", headers=SHOP).json["deletion"] is not None
    erase(build_duty(gateway))

    assert list_stored(gateway) == []


def test_a_later_request_includes_what_was_stored_meanwhile(gateway: GatewayUnderTest) -> None:
    submit(gateway)
    first = request_deletion(gateway).json["deletion"]["requested_at"]
    submit(gateway)
    second = request_deletion(gateway).json["deletion"]["requested_at"]

    erase(build_duty(gateway))

    assert second > first
    assert list_stored(gateway) == []


def test_only_an_administrator_may_have_data_deleted(gateway: GatewayUnderTest) -> None:
    refused = gateway.client.delete("/v1/data", headers=SHOP)

    assert (refused.status_code, refused.json["error_type"]) == (403, "missing_scope")
    assert "scope admin" in refused.json["error"]
    assert list(gateway.stores.bucket.list_objects(ERASURES_PREFIX)) == []


def test_a_deletion_is_of_one_tenant(gateway: GatewayUnderTest) -> None:
    request_deletion(gateway)

    assert gateway.client.get("/v1/data", headers=SHOP).json["deletion"]["deleted_jobs"] == 0
    assert gateway.client.get("/v1/data", headers=LAB).json == {"deletion": None}
