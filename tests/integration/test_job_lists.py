"""Lists of jobs: filters, times, metadata, dead letters, and many jobs by their ids."""

from collections.abc import Mapping
from typing import Any

import pytest
import redis

from api.jobs import listing
from shared.errors import AttemptsExhausted, EngineFailed
from shared.jobs.completion import complete_job
from shared.jobs.ids import new_job_id
from shared.jobs.model import JobRequest
from shared.jobs.result import failed_result
from shared.rfc3339 import format_timestamp
from tests.support.gateway import GatewayUnderTest
from tests.support.jobs import build_request, png
from tests.support.two_tenants import LAB, SHOP, open_two_tenant_gateway

START = 1_790_000_000.0


@pytest.fixture
def gateway(clean_redis: str, storage_env: dict[str, str]) -> GatewayUnderTest:
    return open_two_tenant_gateway(clean_redis, storage_env)


def create(gateway: GatewayUnderTest, minutes: float = 0.0, **changes: Any) -> JobRequest:
    """Create a job as if it had been submitted some minutes after START."""
    created_at = START + 60 * minutes
    request = build_request(
        **{"id": new_job_id(created_at), "created_at": created_at, "tenant": "shop", "formats": ("labels",), **changes}
    )
    gateway.stores.jobs.create(request)
    return request


def fail(gateway: GatewayUnderTest, request: JobRequest, error: Exception) -> None:
    complete_job(failed_result(request, error), jobs=gateway.stores.jobs, bucket=gateway.stores.bucket)  # type: ignore[arg-type]


def list_ids(gateway: GatewayUnderTest, query: Mapping[str, Any]) -> list[str]:
    answer = gateway.client.get("/v1/jobs", query_string=query, headers=SHOP)
    assert answer.status_code == 200, answer.json
    return [job["id"] for job in answer.json["jobs"]]


def test_times_bound_the_list_and_match_what_is_shown(gateway: GatewayUnderTest) -> None:
    jobs = [create(gateway, minutes) for minutes in range(5)]
    shown = [job["created_at"] for job in gateway.client.get("/v1/jobs", headers=SHOP).json["jobs"]][::-1]

    assert shown == [format_timestamp(job.created_at) for job in jobs]
    assert list_ids(gateway, {"created_after": shown[3]}) == [jobs[4].id, jobs[3].id]
    assert list_ids(gateway, {"created_before": shown[1]}) == [jobs[0].id]
    assert list_ids(gateway, {"created_after": shown[1], "created_before": shown[3]}) == [jobs[2].id, jobs[1].id]
    assert list_ids(gateway, {"created_after": "2026-09-21T17:16:40+02:00", "created_before": shown[0]}) == []
    assert list_ids(gateway, {"created_after": "9999-01-01T00:00:00Z"}) == []
    assert list_ids(gateway, {"created_before": "0002-01-01T00:00:00Z"}) == []


def test_a_time_between_the_clocks_of_id_and_record_loses_no_job(gateway: GatewayUnderTest) -> None:
    job = create(gateway, id=new_job_id(START + 0.9))

    assert list_ids(gateway, {"created_after": format_timestamp(START)}) == [job.id]
    assert list_ids(gateway, {"created_before": format_timestamp(START + 0.001)}) == [job.id]


def test_a_time_bounds_what_is_read(gateway: GatewayUnderTest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "FILTERED_PAGE_SIZE", 2)
    jobs = [create(gateway, 10 * number) for number in range(15)]

    # One call looks at ten jobs, and this one is the first of fifteen.
    first = {"created_before": format_timestamp(START + 60)}

    assert list_ids(gateway, first) == [jobs[0].id]
    last = gateway.client.get(f"/v1/jobs?created_after={format_timestamp(jobs[-1].created_at)}", headers=SHOP).json
    assert ([job["id"] for job in last["jobs"]], last["next_cursor"]) == ([jobs[-1].id], None)


def test_pages_of_a_filter_have_every_job_once(gateway: GatewayUnderTest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "FILTERED_PAGE_SIZE", 3)
    jobs = [create(gateway, number, metadata={"odd": bool(number % 2)}) for number in range(40)]
    found, cursor, pages = [], None, 0
    while pages == 0 or cursor:
        query = {"metadata.odd": "true", "limit": 4, **({"cursor": cursor} if cursor else {})}
        answer = gateway.client.get("/v1/jobs", query_string=query, headers=SHOP).json
        found += [job["id"] for job in answer["jobs"]]
        cursor, pages = answer["next_cursor"], pages + 1

    assert found == [job.id for job in jobs if job.metadata["odd"]][::-1]


@pytest.mark.parametrize(
    ("value", "text"), [("a b", "a b"), (7, "7"), (True, "true"), (None, "null"), ([1, "x"], '[1,"x"]'), ("7", "7")]
)
def test_jobs_are_found_by_a_member_of_their_metadata(gateway: GatewayUnderTest, value: Any, text: str) -> None:
    wanted = create(gateway, metadata={"order": value, "other": 1})
    create(gateway, metadata={"order": "something else"})
    create(gateway, metadata={"other": value})

    assert list_ids(gateway, {"metadata.order": text}) == [wanted.id]


def test_filters_are_combined(gateway: GatewayUnderTest) -> None:
    dead, broken, other = create(gateway), create(gateway, 1), create(gateway, 2, model="org/other")
    fail(gateway, dead, AttemptsExhausted("3 workers were lost"))
    fail(gateway, broken, EngineFailed("a bug"))

    assert list_ids(gateway, {"state": "failed", "error_type": "attempts_exhausted"}) == [dead.id]
    assert list_ids(gateway, {"state": "failed"}) == [broken.id, dead.id]
    assert list_ids(gateway, {"model": "org/other"}) == [other.id]
    assert list_ids(gateway, {"model": "org/other", "state": "failed"}) == []


def test_many_jobs_are_found_by_their_ids(gateway: GatewayUnderTest) -> None:
    jobs = [create(gateway, number) for number in range(3)]
    foreign = create(gateway, tenant="lab")
    ids = [jobs[2].id, "0" * 32, jobs[0].id, foreign.id, jobs[2].id]

    answer = gateway.client.get("/v1/jobs", query_string={"ids": ",".join(ids)}, headers=SHOP).json

    assert [job["id"] for job in answer["jobs"]] == [jobs[2].id, jobs[0].id]
    assert answer["missing"] == ["0" * 32, foreign.id]
    assert answer["next_cursor"] is None


def test_jobs_that_redis_has_lost_are_found_by_their_ids(gateway: GatewayUnderTest, redis_client: redis.Redis) -> None:
    submitted = gateway.client.post("/v1/jobs", data=png(), headers=SHOP).json["id"]
    ended = create(gateway)
    fail(gateway, ended, EngineFailed("a bug"))
    redis_client.flushdb()

    answer = gateway.client.get(f"/v1/jobs?ids={ended.id},{submitted}", headers=SHOP).json

    assert [job["state"] for job in answer["jobs"]] == ["failed", "queued"]
    assert gateway.client.get(f"/v1/jobs?ids={ended.id}", headers=LAB).json["missing"] == [ended.id]


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("created_after=yesterday", "created_after is not valid: Value error, should be a time of RFC 3339"),
        ("created_after=2026-11-28T23:31:33", "should be a time of RFC 3339 with its zone"),
        ("created_before=1790000000", "should be a time of RFC 3339"),
        ("metadata.a=1&metadata.b=2", "one member of their metadata at most"),
        ("metadata.=1", "names a member"),
        ("metadata=1", "There is no parameter 'metadata'; known are state, model, "),
        ("metadata=1", "ids, metadata.NAME"),
        ("ids=", "1 to 100 ids"),
        ("ids=,", "1 to 100 ids"),
        ("ids=" + ",".join(["a"] * 101), "these are 101"),
        ("ids=a&limit=5", "'limit' has no effect beside ids"),
        ("ids=a&metadata.b=5", "'metadata.b' has no effect beside ids"),
        ("model=" + "m" * 300, "model is not valid"),
    ],
)
def test_a_wrong_filter_is_refused_with_a_sentence(gateway: GatewayUnderTest, query: str, sentence: str) -> None:
    answer = gateway.client.get(f"/v1/jobs?{query}", headers=SHOP)

    assert answer.status_code == 400
    assert sentence in answer.json["error"]
