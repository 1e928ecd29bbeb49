"""Bulk cancellation: by filter, page by page, repeated, and beside jobs that end meanwhile."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from api.composition import build_gateway
from api.jobs import listing
from api.jobs.cancellation import cancel_jobs
from api.jobs.listing import JobFilter, JobPage, TenantListing
from shared.jobs.model import Job, JobRequest, JobState
from shared.storage.keys import inbox_key
from tests.support.gateway import GatewayUnderTest, list_queued_ids, run_job
from tests.support.jobs import build_sync_request
from tests.support.two_tenants import SHOP, create_job, open_two_tenant_gateway


@pytest.fixture
def gateway(clean_redis: str, storage_env: dict[str, str]) -> GatewayUnderTest:
    return open_two_tenant_gateway(clean_redis, storage_env)


def cancel(gateway: GatewayUnderTest, query: str) -> dict[str, Any]:
    answer = gateway.client.post(f"/v1/jobs/cancel?{query}", headers=SHOP)
    assert answer.status_code == 200, answer.json
    return dict(answer.json)


def get_state(gateway: GatewayUnderTest, request: JobRequest) -> JobState:
    return gateway.stores.jobs.get(request.id).state


def test_only_jobs_that_match_and_have_not_ended_are_canceled(gateway: GatewayUnderTest) -> None:
    wanted = [create_job(gateway, metadata={"order": 7}) for _ in range(3)]
    other, ended = create_job(gateway, metadata={"order": 8}), create_job(gateway, metadata={"order": 7})
    foreign = create_job(gateway, tenant="lab", metadata={"order": 7})
    run_job(gateway, ended.id)

    answer = cancel(gateway, "metadata.order=7")
    repeated = cancel(gateway, "metadata.order=7")

    assert answer == {"canceled": 3, "already_ended": 0, "next_cursor": None}
    assert repeated == {"canceled": 0, "already_ended": 0, "next_cursor": None}
    assert {get_state(gateway, job) for job in wanted} == {JobState.CANCELED}
    assert get_state(gateway, ended) is JobState.SUCCEEDED
    assert sorted(list_queued_ids(gateway)) == sorted([other.id, foreign.id])
    assert not [job for job in wanted if list(gateway.stores.bucket.list_objects(inbox_key(job.id)))]


def test_all_jobs_are_canceled_page_by_page(gateway: GatewayUnderTest) -> None:
    jobs = [create_job(gateway) for _ in range(7)]
    counts, cursor = [], ""
    while not counts or cursor:
        answer = cancel(gateway, f"all=true&limit=3{f'&cursor={cursor}' if cursor else ''}")
        counts.append(answer["canceled"])
        cursor = answer["next_cursor"]

    assert counts == [3, 3, 1]
    assert {get_state(gateway, job) for job in jobs} == {JobState.CANCELED}


def test_jobs_that_end_meanwhile_are_counted_apart(gateway: GatewayUnderTest) -> None:
    jobs = [create_job(gateway) for _ in range(2)]
    stored = gateway_listing(gateway)
    stale = [Job(job) for job in jobs]
    run_job(gateway, jobs[0].id)

    done = cancel_jobs(JobFilter(), StaleListing(stored, stale), limit=9)  # type: ignore[arg-type]

    assert (done.canceled, done.already_ended) == (1, 1)
    assert [get_state(gateway, job) for job in jobs] == [JobState.SUCCEEDED, JobState.CANCELED]


def test_concurrent_calls_cancel_each_job_once_in_effect(gateway: GatewayUnderTest) -> None:
    jobs = [create_job(gateway) for _ in range(10)]
    clients = [gateway.client.application.test_client() for _ in range(3)]

    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(lambda client: client.post("/v1/jobs/cancel?all=1", headers=SHOP), clients))

    assert {answer.status_code for answer in answers} == {200}
    assert {get_state(gateway, job) for job in jobs} == {JobState.CANCELED}


def test_jobs_that_have_ended_and_callers_that_wait_cost_nothing(
    gateway: GatewayUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "FILTERED_PAGE_SIZE", 1)
    old = create_job(gateway)
    for job in [create_job(gateway) for _ in range(8)]:
        run_job(gateway, job.id)
    waiting = build_sync_request(tenant="shop")
    gateway.stores.jobs.create(waiting)

    answer = cancel(gateway, "all=true")

    assert answer == {"canceled": 1, "already_ended": 0, "next_cursor": None}
    assert get_state(gateway, old) is JobState.CANCELED
    assert get_state(gateway, waiting) is JobState.QUEUED


@pytest.mark.parametrize("query", ["", "limit=5", "all=false", "all=true&state=queued", "all=true&metadata.a=1"])
def test_a_call_that_does_not_say_which_jobs_is_refused(gateway: GatewayUnderTest, query: str) -> None:
    job = create_job(gateway)

    answer = gateway.client.post(f"/v1/jobs/cancel?{query}", headers=SHOP)

    assert (answer.status_code, answer.json["error_type"]) == (400, "bad_parameter")
    assert "all=true" in answer.json["error"]
    assert get_state(gateway, job) is JobState.QUEUED


class StaleListing:
    """A list that was read before some of its jobs ended."""

    def __init__(self, listing: TenantListing, jobs: list[Job]) -> None:
        self.tenant_jobs = listing.tenant_jobs
        self._jobs = jobs

    def list_unfinished(self, **_: Any) -> Any:
        return JobPage(self._jobs, None)


def gateway_listing(gateway: GatewayUnderTest) -> TenantListing:
    return build_gateway(gateway.settings, gateway.stores).open_listing("shop")
