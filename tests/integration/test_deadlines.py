"""Deadlines: a job that has not ended by then is expired, with the stage that it had reached."""

import time
from collections.abc import Mapping
from dataclasses import replace

import pytest
import redis

from shared import redis_keys
from shared.jobs import survey
from shared.jobs.model import JobState, Priority
from tests.support.gateway import GatewayUnderTest, open_gateway, run_job
from tests.support.jobs import FakeSegmenter, ImmediateScheduler, png
from tests.support.polling import wait_until
from tests.support.steward import Steward, build_steward
from tests.support.worker import InProcessWorker, build_worker
from worker.batching.scheduler import Ticket
from worker.segmenter import ModelImage

SECONDS = 0.4


@pytest.fixture
def gateway(clean_redis: str, storage_env: Mapping[str, str], new_bucket: str) -> GatewayUnderTest:
    return open_gateway(clean_redis, {**storage_env, "MASKMILL_STORAGE_BUCKET": new_bucket})


@pytest.fixture
def steward(gateway: GatewayUnderTest) -> Steward:
    return build_steward(gateway.settings, gateway.stores.jobs, gateway.stores.bucket)


@pytest.fixture
def worker(gateway: GatewayUnderTest) -> InProcessWorker:
    return build_worker(gateway.settings, jobs=gateway.stores.jobs)


def submit(gateway: GatewayUnderTest, seconds: float = SECONDS) -> str:
    response = gateway.client.post(f"/v1/jobs?deadline_seconds={seconds}&formats=labels", data=png())
    assert response.status_code == 202
    return str(response.json["id"])


def wait_until_late(gateway: GatewayUnderTest, job_id: str) -> None:
    deadline = gateway.stores.jobs.get(job_id).request.deadline_at
    assert deadline is not None
    wait_until(lambda: gateway.stores.jobs.clock.now() > deadline + 0.02)


def show(gateway: GatewayUnderTest, job_id: str) -> tuple[str, str | None, str | None]:
    job = gateway.client.get(f"/v1/jobs/{job_id}").json
    return job["state"], job["error_type"], job["error"]


class LateScheduler(ImmediateScheduler):
    """Segments an image after the deadline of its job, if it has one."""

    def submit(
        self, image: ModelImage, *, priority: Priority, deadline: float | None, is_alone: bool = False
    ) -> Ticket:
        if deadline is not None:
            wait_until(lambda: time.monotonic() > deadline + 0.05)
        return super().submit(image, priority=priority, deadline=deadline, is_alone=is_alone)


def test_a_queued_job_expires_without_a_worker(
    gateway: GatewayUnderTest, steward: Steward, redis_client: "redis.Redis"
) -> None:
    late, patient = submit(gateway), submit(gateway, 600)
    steward.expire_overdue()
    assert gateway.stores.jobs.get(late).state is JobState.QUEUED
    wait_until_late(gateway, late)

    steward.expire_overdue()

    state, error_type, error = show(gateway, late)
    assert (state, error_type) == ("expired", "deadline_passed")
    assert error is not None and error.endswith("the job was queued.")
    result = gateway.client.get(f"/v1/jobs/{late}/result")
    assert (result.status_code, result.json["error_type"], result.json["state"]) == (409, "expired", "expired")
    assert gateway.stores.jobs.get(patient).state is JobState.QUEUED
    assert redis_client.zrange(redis_keys.DEADLINES, 0, -1) == [patient.encode()]


def test_a_running_job_is_left_to_its_worker_for_a_while(
    gateway: GatewayUnderTest, steward: Steward, worker: InProcessWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = submit(gateway)
    assert worker.claim(job_id) is not None
    wait_until_late(gateway, job_id)

    steward.expire_overdue()
    running = show(gateway, job_id)[0]
    monkeypatch.setattr(survey, "OVERDUE_GRACE_SECONDS", 0.0)
    steward.expire_overdue()

    state, error_type, error = show(gateway, job_id)
    assert (running, state, error_type) == ("running", "expired", "deadline_passed")
    assert error is not None and error.endswith("the job was running.")


def test_a_worker_ends_a_late_job_between_stages_and_no_other_one(
    gateway: GatewayUnderTest, worker: InProcessWorker
) -> None:
    # The decoders have to be up.
    run_job(gateway, submit(gateway, 600))
    late, other = submit(gateway), submit(gateway, 600)
    slow = replace(worker, batches=LateScheduler(FakeSegmenter()))

    slow.run(late)
    run_job(gateway, other)

    state, error_type, error = show(gateway, late)
    assert (state, error_type) == ("expired", "deadline_passed")
    assert error is not None and error.endswith("had reached the stage `device`.")
    assert show(gateway, other) == ("succeeded", None, None)


def test_a_job_that_is_claimed_too_late_was_queued(gateway: GatewayUnderTest) -> None:
    job_id = submit(gateway)
    wait_until_late(gateway, job_id)

    run_job(gateway, job_id)

    assert show(gateway, job_id)[2] == "There was no result before the deadline: the job was queued."


@pytest.mark.parametrize("end", ["run", "cancel", "purge"])
def test_the_deadline_of_an_ended_job_is_removed(
    gateway: GatewayUnderTest, redis_client: "redis.Redis", end: str
) -> None:
    job_id = submit(gateway, 600)
    assert redis_client.zcard(redis_keys.DEADLINES) == 1

    if end == "run":
        run_job(gateway, job_id)
    else:
        gateway.client.delete(f"/v1/jobs/{job_id}", query_string={"purge": 1} if end == "purge" else {})

    assert redis_client.zcard(redis_keys.DEADLINES) == 0


def test_a_deadline_without_a_record_is_removed(
    gateway: GatewayUnderTest, steward: Steward, redis_client: "redis.Redis"
) -> None:
    redis_client.zadd(redis_keys.DEADLINES, {"0" * 32: 1.0})

    steward.expire_overdue()

    assert redis_client.zcard(redis_keys.DEADLINES) == 0


def test_a_deadline_outlives_the_loss_of_redis(
    gateway: GatewayUnderTest, steward: Steward, redis_client: "redis.Redis"
) -> None:
    job_id = submit(gateway)
    wait_until_late(gateway, job_id)
    redis_client.flushall()
    steward.recovery.recover_jobs()

    steward.expire_overdue()

    assert show(gateway, job_id)[:2] == ("expired", "deadline_passed")


def test_only_segments_of_the_wanted_labels_are_in_the_result(gateway: GatewayUnderTest) -> None:
    dogs, none = (
        gateway.client.post(f"/v1/jobs?formats=masks&labels={labels}", data=png()).json["id"] for labels in ("dog", "x")
    )
    for job_id in (dogs, none):
        run_job(gateway, job_id)

    [dog] = gateway.client.get(f"/v1/jobs/{dogs}/result").json["segments"]

    assert (dog["id"], dog["label"], dog["area"]) == (1, "dog", 12)
    assert gateway.client.get(f"/v1/jobs/{dogs}/masks/1.png").status_code == 200
    assert gateway.client.get(f"/v1/jobs/{dogs}/masks/2.png").status_code == 404
    assert gateway.client.get(f"/v1/jobs/{none}/result").json["segments"] == []
