"""Longer retention of single jobs: by seconds or a date, heeded by the steward, and safe against the loss of Redis."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pytest
import redis
from prometheus_client import CollectorRegistry

from shared.jobs.keeping import find_ends
from shared.jobs.survey import JobSurvey
from shared.redis_client import connect
from shared.rfc3339 import format_timestamp, parse_timestamp
from shared.storage.bucket import Bucket, StoredObject
from shared.storage.keys import (
    KEPT_PREFIX,
    RECUTS_PREFIX,
    derived_key,
    input_key,
    kept_prefix,
    recut_key,
    result_key,
    results_prefix,
)
from tests.support.gateway import GatewayUnderTest, open_gateway, run_job
from tests.support.jobs import png
from tests.support.polling import wait_until
from tests.support.steward import follow_store
from worker.steward import retention
from worker.steward.metrics import StewardMetrics
from worker.steward.retention import Retention

DAY = 86400


@pytest.fixture
def gateway(clean_redis: str, storage_env: dict[str, str], new_bucket: str) -> GatewayUnderTest:
    return open_gateway(clean_redis, {**storage_env, "MASKMILL_STORAGE_BUCKET": new_bucket})


def run(gateway: GatewayUnderTest) -> str:
    job_id = str(gateway.client.post("/v1/jobs", data=png()).json["id"])
    run_job(gateway, job_id)
    return job_id


def keep(gateway: GatewayUnderTest, job_id: str, body: Mapping[str, Any]) -> Any:
    return gateway.client.post(f"/v1/jobs/{job_id}/keep", json=body)


def expire(gateway: GatewayUnderTest, *, ttl_seconds: int = 1, bucket: Any = None) -> None:
    stores = gateway.stores
    survey, metrics = JobSurvey(connect(gateway.settings)), StewardMetrics(CollectorRegistry())
    ttls = ttl_seconds, ttl_seconds, ttl_seconds, ttl_seconds
    Retention(survey, bucket or stores.bucket, metrics, follow_store(stores.bucket), *ttls).delete_expired()


def has_result(gateway: GatewayUnderTest, job_id: str) -> bool:
    return bool(list(gateway.stores.bucket.list_objects(results_prefix(job_id))))


def is_deleted(gateway: GatewayUnderTest, job_id: str) -> bool:
    """Delete what has expired, and return whether the result of a job has."""
    expire(gateway)
    return not has_result(gateway, job_id)


def test_a_kept_job_outlives_the_others(gateway: GatewayUnderTest) -> None:
    kept, other, late = run(gateway), run(gateway), run(gateway)

    answer = keep(gateway, kept, {"seconds": 30 * DAY})

    now = gateway.stores.jobs.clock.now()
    assert answer.status_code == 200
    assert parse_timestamp(answer.json["expires_at"]) == pytest.approx(now + 30 * DAY, abs=5)
    # The others, which come after it in the listing, are deleted as before.
    wait_until(lambda: is_deleted(gateway, late), seconds=10)
    assert [has_result(gateway, job_id) for job_id in (kept, other)] == [True, False]
    assert gateway.client.get(f"/v1/jobs/{kept}/labels.png").status_code == 200
    assert gateway.client.get(f"/v1/jobs/{kept}/input").status_code == 200
    assert gateway.stores.bucket.get(input_key(kept)) == png()


def test_what_was_made_of_a_kept_job_is_kept_with_it(gateway: GatewayUnderTest) -> None:
    kept, other = run(gateway), run(gateway)
    bucket = gateway.stores.bucket
    keep(gateway, kept, {"seconds": DAY})
    made = {job_id: {derived_key(job_id, "1-a", "rle.json"), recut_key(job_id, "1-a")} for job_id in (kept, other)}
    for key in made[kept] | made[other]:
        bucket.put(key, b"x", content_type="text/plain")

    def list_made() -> set[str]:
        prefixes = (results_prefix(kept), results_prefix(other), RECUTS_PREFIX)
        return {found.key for prefix in prefixes for found in bucket.list_objects(prefix)} & (made[kept] | made[other])

    def are_others_deleted() -> bool:
        expire(gateway)
        return not list_made() & made[other]

    wait_until(are_others_deleted, seconds=10)
    assert list_made() == made[kept]

    assert gateway.client.delete(f"/v1/jobs/{kept}?purge=1").status_code == 204
    assert list_made() == set()


def test_a_job_that_is_kept_while_the_steward_deletes_is_not_deleted(gateway: GatewayUnderTest) -> None:
    early, late, other = run(gateway), run(gateway), run(gateway)
    answers = []

    class BucketOfSteward:
        """Has jobs kept after the steward has listed those that are kept, and while it deletes results."""

        def __init__(self, bucket: Bucket) -> None:
            self._bucket = bucket

        def __getattr__(self, name: str) -> Any:
            return getattr(self._bucket, name)

        def list_objects(self, prefix: str) -> Iterator[StoredObject]:
            found = list(self._bucket.list_objects(prefix))
            if prefix == KEPT_PREFIX:
                answers.append(keep(gateway, early, {"seconds": DAY}))
            return iter(found)

        def delete(self, keys: Iterable[str]) -> None:
            keys = list(keys)
            if any(key.startswith(results_prefix(late)) for key in keys):
                answers.append(keep(gateway, late, {"seconds": DAY}))
            self._bucket.delete(keys)

    # All results are old.
    expire(gateway, ttl_seconds=-60, bucket=BucketOfSteward(gateway.stores.bucket))

    assert [answer.status_code for answer in answers] == [200, 410]
    assert answers[1].json["kept_until"].endswith("Z")
    assert [has_result(gateway, job_id) for job_id in (early, late, other)] == [True, False, False]
    assert not list(gateway.stores.bucket.list_objects(kept_prefix(late)))


def test_a_job_can_be_kept_again_as_long(gateway: GatewayUnderTest) -> None:
    job_id = run(gateway)

    ends = [keep(gateway, job_id, {"seconds": DAY}).json["expires_at"] for _ in range(2)]

    assert ends == sorted(ends)
    assert len(list(gateway.stores.bucket.list_objects(kept_prefix(job_id)))) == 1


def test_kept_jobs_hide_no_old_ones_behind_them(gateway: GatewayUnderTest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "PAGE", 1)
    kept, other = run(gateway), run(gateway)

    keep(gateway, kept, {"seconds": DAY})

    wait_until(lambda: is_deleted(gateway, other), seconds=10)
    assert has_result(gateway, kept)


def test_the_record_is_kept_as_long(gateway: GatewayUnderTest, redis_client: redis.Redis) -> None:
    job_id = run(gateway)

    keep(gateway, job_id, {"seconds": 30 * DAY})

    assert redis_client.ttl(f"mm:job:{job_id}") == pytest.approx(30 * DAY, abs=5)


def test_a_date_is_as_good_and_nothing_shortens_it(gateway: GatewayUnderTest) -> None:
    job_id = run(gateway)
    first = gateway.client.get(f"/v1/jobs/{job_id}").json["expires_at"]
    until = format_timestamp(gateway.stores.jobs.clock.now() + 20 * DAY)

    shorter = keep(gateway, job_id, {"seconds": 60}).json["expires_at"]
    longer = keep(gateway, job_id, {"until": until}).json["expires_at"]
    again = keep(gateway, job_id, {"seconds": 60}).json["expires_at"]

    assert shorter == first
    assert parse_timestamp(longer) == pytest.approx(parse_timestamp(until), abs=2)
    assert again == longer
    (end,) = find_ends(gateway.stores.bucket.list_objects(kept_prefix(job_id))).values()
    assert end == pytest.approx(parse_timestamp(until), abs=5)


def test_it_outlives_the_loss_of_redis(gateway: GatewayUnderTest, redis_client: redis.Redis) -> None:
    job_id = run(gateway)
    before = keep(gateway, job_id, {"seconds": 30 * DAY}).json["expires_at"]
    redis_client.flushall()

    shown = gateway.client.get(f"/v1/jobs/{job_id}").json
    extended = keep(gateway, job_id, {"seconds": 40 * DAY}).json

    assert parse_timestamp(shown["expires_at"]) == pytest.approx(parse_timestamp(before), abs=5)
    assert parse_timestamp(extended["expires_at"]) == pytest.approx(parse_timestamp(before) + 10 * DAY, abs=5)


def test_a_job_is_deleted_once_that_time_is_over(gateway: GatewayUnderTest) -> None:
    job_id = run(gateway)
    keep(gateway, job_id, {"seconds": 1})

    wait_until(lambda: is_deleted(gateway, job_id), seconds=10)

    assert list(gateway.stores.bucket.list_objects(KEPT_PREFIX)) == []


def test_a_purge_deletes_a_kept_job(gateway: GatewayUnderTest) -> None:
    job_id = run(gateway)
    keep(gateway, job_id, {"seconds": DAY})

    assert gateway.client.delete(f"/v1/jobs/{job_id}?purge=1").status_code == 204

    assert not has_result(gateway, job_id)
    assert list(gateway.stores.bucket.list_objects(KEPT_PREFIX)) == []
    assert keep(gateway, job_id, {"seconds": DAY}).status_code == 404


def test_only_an_ended_job_with_a_result_is_kept(gateway: GatewayUnderTest) -> None:
    queued, gone = gateway.client.post("/v1/jobs", data=png()).json["id"], run(gateway)
    gateway.stores.bucket.delete([result_key(gone)])

    answers = [keep(gateway, job_id, {"seconds": DAY}) for job_id in (queued, gone, "0" * 32)]

    assert [answer.status_code for answer in answers] == [409, 410, 404]
    assert answers[1].json["kept_until"] == gateway.client.get(f"/v1/jobs/{gone}").json["expires_at"]
    assert list(gateway.stores.bucket.list_objects(KEPT_PREFIX)) == []


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"seconds": 5, "until": "2999-01-01T00:00:00Z"},
        {"seconds": 0},
        {"seconds": -5},
        {"seconds": 91 * DAY},
        {"seconds": "60"},
        {"seconds": 1.5},
        {"until": "2001-01-01T00:00:00Z"},
        {"until": "2999-01-01T00:00:00Z"},
        {"until": 1790000000},
        {"until": "tomorrow"},
        {"days": 3},
        [],
    ],
)
def test_a_wrong_time_is_refused(gateway: GatewayUnderTest, body: Any) -> None:
    answer = keep(gateway, "0" * 32, body)

    assert answer.status_code == 400
    assert answer.json["error_type"] in {"bad_parameter", "unknown_parameter", "unreadable_body"}
