"""Webhooks survive the death of a steward and the loss of Redis, and two stewards do not both send."""

import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from uuid import uuid4

import pytest
from redis import Redis

from deploy.local.processes import Process
from shared.jobs.completion import complete_job, store_result
from shared.jobs.model import JobState
from shared.jobs.result import JobResult
from shared.webhooks.endpoint_store import ALL_KNOWN
from shared.webhooks.signatures import build_message_id
from tests.conftest import Storage
from tests.support.environment import get_fields
from tests.support.polling import wait_until
from tests.support.receiver import answer_with, hang, run_receiver
from tests.support.start import build_storage_environment
from tests.support.steward import build_steward
from tests.support.webhooks import WebhookLab, open_lab


@pytest.fixture
def lab(clean_redis: str, storage_env: Mapping[str, str]) -> WebhookLab:
    """A tenant of its own, because endpoints outlive a test in the bucket."""
    return open_lab(clean_redis, get_fields(storage_env), tenant=f"t{uuid4().hex[:12]}")


def start_steward(lab: WebhookLab, log: Path) -> Process:
    env = {
        **build_storage_environment(lab.settings),
        "MASKMILL_REDIS_URL": lab.settings.redis_url,
        "MASKMILL_WEBHOOK_TIMEOUT_SECONDS": "1",
        "MASKMILL_WEBHOOK_HTTP": "on",
        "MASKMILL_OUTGOING_ALLOWED": "127.0.0.1",
    }
    return Process("The steward", [sys.executable, "-m", "worker.steward"], log=log, env=env)


def test_a_steward_that_is_killed_while_it_sends_loses_no_message(
    clean_redis: str, storage: Storage, new_bucket: str, tmp_path: Path
) -> None:
    lab = open_lab(clean_redis, get_fields(storage.get_env(new_bucket)))
    with run_receiver(answer=hang(5)) as receiver:
        endpoint = lab.add_endpoint(receiver)
        sent = {lab.run_job() for _ in range(12)}
        with start_steward(lab, tmp_path / "first.log") as steward:
            wait_until(lambda: len(receiver.received) == 4, seconds=30)
            os.kill(steward.pid, signal.SIGKILL)

        receiver.answer = answer_with(204)
        with start_steward(lab, tmp_path / "second.log") as steward:
            wait_until(lambda: receiver.list_ids() == sent, seconds=30)
            wait_until(lambda: not lab.deliveries.measure().targets and not lab.deliveries.measure().running)
        log = (tmp_path / "second.log").read_text()

    # The messages of the first one were sent once more, under the same ids.
    assert len(receiver.received) == len(sent) + 4
    assert all(one.is_signed for one in receiver.received)
    assert endpoint.secrets[0].text not in log
    assert receiver.url not in log


def test_two_stewards_send_each_message_once(lab: WebhookLab) -> None:
    with run_receiver() as receiver, lab.run_steward(), lab.run_steward():
        lab.add_endpoint(receiver)
        sent = {lab.run_job() for _ in range(40)}
        wait_until(lambda: receiver.list_ids() == sent)
        wait_until(lambda: not lab.deliveries.measure().running)

    assert len(receiver.received) == len(sent)


def test_a_job_that_ends_after_redis_was_emptied_is_told_of(lab: WebhookLab, redis_client: Redis) -> None:
    with run_receiver() as receiver:
        lab.add_endpoint(receiver)
        request = lab.submit()
        redis_client.flushall()
        message_id = lab.end(request)
        with lab.run_steward():
            wait_until(lambda: receiver.received)

    (received,) = receiver.received
    assert (received.id, received.is_signed, received.document["data"]["state"]) == (message_id, True, "succeeded")


def test_a_job_whose_end_redis_never_saw_is_told_of_under_the_same_id(lab: WebhookLab, redis_client: Redis) -> None:
    with run_receiver() as receiver:
        lab.add_endpoint(receiver)
        request = lab.submit()
        result = JobResult(request, JobState.SUCCEEDED)
        # Its worker dies between the two steps of its end, and Redis loses its data.
        store_result(result, bucket=lab.bucket)
        redis_client.flushall()
        steward = build_steward(lab.settings, lab.jobs, lab.bucket)
        steward.recovery.recover_jobs()
        wait_until(lambda: lab.jobs.is_known(request.id))
        # The worker that claims it finds the result.
        complete_job(result, jobs=lab.jobs, bucket=lab.bucket)
        with lab.run_steward():
            wait_until(lambda: receiver.received)

    assert receiver.list_ids() == {build_message_id("job.succeeded", request.id)}


def test_a_repeated_end_has_the_same_id(lab: WebhookLab, redis_client: Redis) -> None:
    with run_receiver() as receiver, lab.run_steward():
        lab.add_endpoint(receiver)
        request = lab.submit()
        message_id = lab.end(request)
        wait_until(lambda: receiver.received)
        redis_client.flushall()
        lab.end(request)
        wait_until(lambda: len(receiver.received) == 2)

    assert receiver.list_ids() == {message_id}


def test_redis_learns_again_which_tenants_have_endpoints(lab: WebhookLab, redis_client: Redis) -> None:
    with run_receiver() as receiver, lab.run_steward():
        lab.add_endpoint(receiver)
        redis_client.flushall()
        wait_until(lambda: lab.endpoints.get_version(ALL_KNOWN) and lab.endpoints.get_version(lab.tenant))
        message_id = lab.run_job()
        wait_until(lambda: receiver.list_ids() == {message_id})


def test_a_tenant_without_endpoints_costs_no_entry(lab: WebhookLab) -> None:
    # Before the tenants are known, each may have some.
    lab.run_job()
    assert len(lab.deliveries.find_ended(limit=10)) == 1
    with lab.run_steward():
        wait_until(lab.endpoints.are_all_known)
        wait_until(lambda: not lab.deliveries.find_ended(limit=10))

    lab.run_job()
    assert not lab.deliveries.find_ended(limit=10)


def test_the_end_of_a_job_is_recorded_with_its_message_or_not_at_all(lab: WebhookLab) -> None:
    request = lab.submit(webhook=f"wh_{'0' * 32}")

    assert not lab.deliveries.find_ended(limit=10)
    assert lab.jobs.finish(request, JobState.EXPIRED)
    assert [one.job_id for one in lab.deliveries.find_ended(limit=10)] == [request.id]
    # A second end changes nothing.
    assert not lab.jobs.finish(request, JobState.SUCCEEDED)
    assert [one.job_id for one in lab.deliveries.find_ended(limit=10)] == [request.id]
