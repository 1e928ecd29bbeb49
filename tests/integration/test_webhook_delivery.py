"""Ends of jobs reach receivers: signed, once in effect, with retries that do not disturb others."""

import time
from collections.abc import Mapping
from dataclasses import replace
from uuid import uuid4

import pytest

from shared import redis_keys
from shared.jobs.model import JobState, Retention
from shared.jobs.purge import purge_job
from shared.redis_client import connect
from shared.webhooks.delivery import Target
from shared.webhooks.endpoint import JobEvent, SigningSecret
from shared.webhooks.outcomes import DeliveryState
from shared.webhooks.signatures import new_secret
from tests.support.environment import get_fields
from tests.support.polling import wait_until
from tests.support.receiver import Receiver, answer_with, answer_without_end, hang, run_receiver
from tests.support.webhooks import POLICY, WebhookLab, open_lab


@pytest.fixture
def lab(clean_redis: str, storage_env: Mapping[str, str]) -> WebhookLab:
    """A tenant of its own, because endpoints outlive a test in the bucket."""
    return open_lab(clean_redis, get_fields(storage_env), tenant=f"t{uuid4().hex[:12]}")


@pytest.mark.parametrize("state", [JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELED, JobState.EXPIRED])
def test_the_end_of_a_job_is_sent_signed_with_links_and_no_masks(lab: WebhookLab, state: JobState) -> None:
    with run_receiver() as receiver, lab.run_steward():
        endpoint = lab.add_endpoint(receiver)
        message_id = lab.run_job(state, metadata={"order": 7}, client_id="mine")
        wait_until(lambda: receiver.received)

    (received,) = receiver.received
    job_id, data = message_id.split("_")[1], received.document["data"]
    assert (received.id, received.type, received.is_signed) == (message_id, f"job.{state}", True)
    assert received.headers["content-type"] == "application/json"
    assert (data["id"], data["state"], data["metadata"], data["client_id"]) == (job_id, state, {"order": 7}, "mine")
    assert data["error_type"] == ("engine_failed" if state is JobState.FAILED else None)
    assert data["created_at"].endswith("Z")
    assert data["ended_at"] == received.document["timestamp"]
    assert data["links"]["self"] == f"/v1/jobs/{job_id}"
    assert data["links"].get("masks") == (f"/v1/jobs/{job_id}/masks.zip" if state is JobState.SUCCEEDED else None)
    assert endpoint.secrets[0].text not in str(received)


def test_an_endpoint_gets_the_events_and_the_jobs_that_it_asked_for(lab: WebhookLab) -> None:
    with run_receiver() as failures, run_receiver() as named, lab.run_steward():
        lab.add_endpoint(failures, events=(JobEvent.FAILED,))
        by_name = lab.add_endpoint(named, all_jobs=False)
        lab.run_job(JobState.SUCCEEDED)
        own = lab.run_job(JobState.SUCCEEDED, webhook=by_name.id)
        failed = lab.run_job(JobState.FAILED)
        wait_until(lambda: failures.received and named.received)
        wait_until(lambda: not lab.deliveries.find_ended(limit=10))

    assert (failures.list_ids(), named.list_ids()) == ({failed}, {own})


def test_synchronous_calls_send_nothing_and_cost_no_entry(lab: WebhookLab) -> None:
    with run_receiver() as receiver:
        lab.add_endpoint(receiver)
        lab.endpoints.restore_tenants()
        lab.run_job(retention=Retention(60, is_listed=False))
        assert not lab.deliveries.find_ended(limit=10)
        lab.run_job()
        assert len(lab.deliveries.find_ended(limit=10)) == 1


def test_a_url_that_a_job_names_gets_an_unsigned_message(lab: WebhookLab) -> None:
    with run_receiver(secret=new_secret()) as receiver, lab.run_steward():
        message_id = lab.run_job(webhook=f"{receiver.url}?token=t0ps3cret")
        wait_until(lambda: receiver.received)

    (received,) = receiver.received
    assert (received.id, received.path, received.is_signed) == (message_id, "/hook?token=t0ps3cret", False)
    assert "webhook-signature" not in received.headers


def test_old_and_new_secret_verify_after_a_rotation(lab: WebhookLab) -> None:
    with run_receiver() as receiver, lab.run_steward():
        endpoint = lab.add_endpoint(receiver)
        old, new = endpoint.secrets[0], SigningSecret(new_secret())
        later = lab.jobs.clock.now() + 60
        lab.endpoints.edit(
            lab.tenant, endpoint.id, lambda one: replace(one, secrets=(new, replace(old, expires_at=later)))
        )
        for secret in (old, new):
            receiver.secret = secret.text
            message_id = lab.run_job()
            wait_until(lambda message_id=message_id: message_id in receiver.list_ids())

    assert [one.is_signed for one in receiver.received] == [True, True]
    assert receiver.received[0].headers["webhook-signature"].count("v1,") == 2


def test_a_receiver_that_was_away_gets_each_event_once_in_effect(lab: WebhookLab) -> None:
    with run_receiver() as receiver, lab.run_steward():
        endpoint = lab.add_endpoint(receiver)
        receiver.stop()
        sent = {lab.run_job() for _ in range(10)}
        wait_until(lambda: any(lab.get_delivery(endpoint, one).attempts > 2 for one in sent if is_planned(lab, one)))
        assert all(lab.get_delivery(endpoint, one).error for one in sent if lab.get_delivery(endpoint, one).attempts)

        receiver.start()
        wait_until(lambda: receiver.list_ids() == sent, seconds=10)
        wait_until(lambda: all(lab.get_state(endpoint, one) is DeliveryState.DELIVERED for one in sent))

    assert all(one.is_signed for one in receiver.received)
    assert len(receiver.received) == len(sent)


def is_planned(lab: WebhookLab, message_id: str) -> bool:
    return all(one.job_id not in message_id for one in lab.deliveries.find_ended(limit=100))


def test_neither_a_dead_nor_a_slow_receiver_delays_another(lab: WebhookLab, capsys: pytest.CaptureFixture[str]) -> None:
    dead = Receiver()
    dead.start()
    dead.stop()
    ended: dict[str, float] = {}
    with run_receiver(answer=hang(30)) as slow, run_receiver() as live, lab.run_steward():
        for receiver in (dead, slow):
            lab.add_endpoint(receiver)
        lab.add_endpoint(live)
        for _ in range(20):
            request = lab.submit()
            at = time.monotonic()
            ended[lab.end(request)] = at
        wait_until(lambda: live.list_ids() == set(ended), seconds=5)

    delays = sorted(one.at - ended[one.id] for one in live.received)
    with capsys.disabled():
        print(
            f"\na live receiver beside a dead and a slow one, {len(delays)} messages: "
            f"median {1000 * delays[len(delays) // 2]:.0f} ms, most {1000 * delays[-1]:.0f} ms"
        )
    assert delays[-1] < 3


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (answer_with(302, Location="/elsewhere"), "status 302, and redirects are not followed"),
        (answer_with(500), "status 500"),
        (hang(10), "took too long"),
    ],
    ids=["redirect", "error", "slow"],
)
def test_an_answer_that_is_no_success_is_repeated(lab: WebhookLab, answer: object, error: str) -> None:
    lab = replace(lab, settings=lab.settings.model_copy(update={"webhook_timeout_seconds": 0.3}))
    with run_receiver(answer=answer) as receiver, lab.run_steward():
        endpoint = lab.add_endpoint(receiver)
        message_id = lab.run_job()
        wait_until(lambda: lab.deliveries.list_newest(Target(lab.tenant, endpoint.id), limit=1))
        wait_until(lambda: lab.get_delivery(endpoint, message_id).error)
        assert error in lab.get_delivery(endpoint, message_id).error
        receiver.answer = answer_with(204)
        wait_until(lambda: lab.get_state(endpoint, message_id) is DeliveryState.DELIVERED)

    assert {one.path for one in receiver.received} == {"/hook"}
    assert receiver.list_ids() == {message_id}


def test_an_endless_answer_is_not_read(lab: WebhookLab) -> None:
    with run_receiver(answer=answer_without_end) as receiver, lab.run_steward():
        endpoint = lab.add_endpoint(receiver)
        started = time.monotonic()
        message_id = lab.run_job()
        wait_until(lambda: receiver.received and lab.get_state(endpoint, message_id) is DeliveryState.DELIVERED)

    assert time.monotonic() - started < 5
    assert len(receiver.received) == 1


def test_a_receiver_that_asks_to_be_left_alone_is(lab: WebhookLab) -> None:
    with run_receiver(answer=answer_with(429, Retry_After="1")) as receiver, lab.run_steward():
        lab.add_endpoint(receiver)
        first = lab.run_job()
        wait_until(lambda: receiver.received)
        receiver.answer = answer_with(204)
        second = lab.run_job()
        wait_until(lambda: receiver.list_ids() == {first, second} and len(receiver.received) == 3)

    times = [one.at for one in receiver.received]
    assert times[1] - times[0] >= 0.9


def test_410_disables_an_endpoint_with_a_reason_and_drops_what_is_pending(lab: WebhookLab) -> None:
    with run_receiver(answer=answer_with(410)) as receiver, lab.run_steward() as registry:
        endpoint = lab.add_endpoint(receiver)
        message_id = lab.run_job()
        wait_until(lambda: lab.read_endpoint(endpoint).disabled_reason)
        wait_until(lambda: lab.get_state(endpoint, message_id) is DeliveryState.FAILED)
        later = lab.run_job()
        wait_until(lambda: is_planned(lab, later))

    assert "410" in (lab.read_endpoint(endpoint).disabled_reason or "")
    assert receiver.list_ids() == {message_id}
    assert registry.get_sample_value("maskmill_steward_webhooks_disabled_total") == 1


def test_a_receiver_that_takes_nothing_for_long_is_disabled(lab: WebhookLab) -> None:
    with (
        run_receiver(answer=answer_with(503)) as receiver,
        lab.run_steward(policy=replace(POLICY, total_seconds=0.5)) as registry,
    ):
        endpoint = lab.add_endpoint(receiver)
        message_id = lab.run_job()
        wait_until(lambda: lab.read_endpoint(endpoint).disabled_reason)

    assert "503" in (lab.read_endpoint(endpoint).disabled_reason or "")
    assert lab.get_state(endpoint, message_id) is DeliveryState.FAILED
    assert registry.get_sample_value("maskmill_steward_webhook_attempts_total", {"state": "failed"}) == 1


def test_a_purged_job_is_not_told_of(lab: WebhookLab) -> None:
    with run_receiver(answer=answer_with(500)) as receiver:
        endpoint = lab.add_endpoint(receiver)
        before, after = lab.submit(), lab.submit()
        lab.end(before)
        purge_job(before.id, jobs=lab.jobs, bucket=lab.bucket)
        with lab.run_steward():
            message_id = lab.end(after)
            wait_until(lambda: receiver.received)
            purge_job(after.id, jobs=lab.jobs, bucket=lab.bucket)
            wait_until(lambda: not connect(lab.settings).exists(redis_keys.WEBHOOK_DUE, redis_keys.WEBHOOK_RUNNING))

    assert receiver.list_ids() == {message_id}
    assert lab.deliveries.list_newest(Target(lab.tenant, endpoint.id), limit=10) == []


def test_another_tenants_endpoint_gets_nothing(lab: WebhookLab) -> None:
    with run_receiver() as own, run_receiver() as foreign, lab.run_steward():
        lab.add_endpoint(own)
        endpoint = lab.add_endpoint(foreign, tenant=f"{lab.tenant}-other")
        lab.run_job(webhook=endpoint.id)
        wait_until(lambda: own.received)
        wait_until(lambda: not connect(lab.settings).exists(redis_keys.WEBHOOK_DUE, redis_keys.WEBHOOK_RUNNING))

    assert foreign.received == []


def test_a_loopback_receiver_is_refused_by_default_and_named_nowhere(lab: WebhookLab) -> None:
    lab = replace(lab, settings=lab.settings.model_copy(update={"outgoing_allowed": ""}))
    with run_receiver() as receiver, lab.run_steward():
        endpoint = lab.add_endpoint(receiver)
        message_id = lab.run_job()
        wait_until(lambda: is_planned(lab, message_id) and lab.get_delivery(endpoint, message_id).error)

    error = lab.get_delivery(endpoint, message_id).error or ""
    assert "not public" in error
    assert "127.0.0.1" not in error
    assert receiver.received == []


def test_more_messages_than_may_be_pending_are_dropped(lab: WebhookLab) -> None:
    lab = replace(lab, settings=lab.settings.model_copy(update={"max_pending_webhooks": 3}))
    with run_receiver() as receiver:
        lab.add_endpoint(receiver)
        for _ in range(5):
            lab.run_job()
        with lab.run_steward() as registry:
            dropped = {"state": "dropped"}
            wait_until(lambda: registry.get_sample_value("maskmill_steward_webhook_attempts_total", dropped) == 2)
            wait_until(lambda: len(receiver.received) == 3)
