"""`Prefer: wait=N` on the submission of a job: its result if it is there in time, and else the job."""

import pytest
from werkzeug.test import TestResponse

from shared.errors import EngineFailed
from shared.jobs.completion import complete_job
from shared.jobs.result import failed_result
from tests.support.gateway import GatewayUnderTest, consume_messages
from tests.support.jobs import png


def submit(gateway: GatewayUnderTest, prefer: str, **headers: str) -> TestResponse:
    return gateway.client.post("/v1/jobs", data=png(), headers={"Prefer": prefer, **headers})


def test_the_result_comes_if_it_is_there_in_time(gateway_with_worker: GatewayUnderTest) -> None:
    response = submit(gateway_with_worker, "wait=20")

    assert (response.status_code, response.headers["Preference-Applied"]) == (200, "wait=20")
    assert response.headers["Location"] == f"/v1/jobs/{response.json['id']}"
    assert response.json == gateway_with_worker.client.get(f"/v1/jobs/{response.json['id']}/result").json


@pytest.mark.parametrize(("prefer", "applied"), [("wait=0", "wait=0"), ("respond-async", "respond-async")])
def test_otherwise_the_job_comes(gateway: GatewayUnderTest, prefer: str, applied: str) -> None:
    response = submit(gateway, prefer)

    assert (response.status_code, response.headers["Preference-Applied"]) == (202, applied)
    assert response.json["state"] == "queued"


def test_a_preference_that_is_not_valid_is_ignored(gateway: GatewayUnderTest) -> None:
    response = submit(gateway, "wait=soon")

    assert response.status_code == 202
    assert "Preference-Applied" not in response.headers


def test_a_job_that_fails_in_time_is_shown_in_its_state(gateway: GatewayUnderTest) -> None:
    stores = gateway.stores

    def fail(job_id: str) -> None:
        request = stores.jobs.get(job_id).request
        complete_job(failed_result(request, EngineFailed("no")), jobs=stores.jobs, bucket=stores.bucket)

    with consume_messages(gateway, fail):
        response = submit(gateway, "wait=20")

    assert (response.status_code, response.headers["Preference-Applied"]) == (200, "wait=20")
    assert (response.json["state"], response.json["error_type"]) == ("failed", "engine_failed")


def test_a_repeated_submission_waits_for_the_same_job(gateway_with_worker: GatewayUnderTest) -> None:
    first, second = (submit(gateway_with_worker, "wait=20", **{"Idempotency-Key": "k"}) for _ in range(2))

    assert first.status_code == second.status_code == 200
    assert first.json == second.json
