"""Webhooks of the whole service: a receiver dies for a while, and the steward is killed."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.local.sample_job import SAMPLE_IMAGE
from deploy.local.stack import Stack
from tests.support.environment import copy_environment
from tests.support.polling import wait_until
from tests.support.receiver import Receiver, run_receiver

SETTINGS = {
    "MASKMILL_WEBHOOK_HTTP": "on",
    "MASKMILL_OUTGOING_ALLOWED": "127.0.0.1",
    "MASKMILL_WEBHOOK_TIMEOUT_SECONDS": "2",
    "MASKMILL_PUBLIC_URL": "https://masks.example",
    "MASKMILL_RECOVERY_INTERVAL_SECONDS": "2",
    "MASKMILL_INBOX_GRACE_SECONDS": "2",
}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A whole service of its own, because these tests kill its processes."""
    with Stack(tmp_path_factory.mktemp("webhooks"), environ=copy_environment() | SETTINGS) as stack:
        yield stack.start()


@pytest.fixture
def receiver(service: Stack) -> Iterator[Receiver]:
    """A receiver that is told of all jobs."""
    with run_receiver() as running:
        created = call(service, "POST", "/v1/webhooks", {"url": running.url, "all_jobs": True})
        running.secret = created["secret"]
        yield running
        call(service, "DELETE", f"/v1/webhooks/{created['id']}")


def call(service: Stack, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    response = service.client.request(method, path, json.dumps(body).encode() if body else None)
    assert response.status < 300, response
    return response.json() if response.status != 204 else {}


def submit(service: Stack) -> str:
    """Submit a job; return the id of the message about its success."""
    response = service.client.request("POST", "/v1/jobs", Path(SAMPLE_IMAGE).read_bytes())
    assert response.status == 202, response
    return f"msg_{response.json()['id']}_job_succeeded"


def test_each_job_is_told_of_once_in_effect_whatever_dies(service: Stack, receiver: Receiver) -> None:
    first = submit(service)
    wait_until(lambda: receiver.received, seconds=60)
    (received,) = receiver.received
    assert (received.id, received.is_signed) == (first, True)
    result = received.document["data"]["links"]["result"]
    assert result.startswith("https://masks.example/v1/jobs/")
    assert call(service, "GET", result.removeprefix("https://masks.example"))["segments"]

    receiver.stop()
    while_away = {submit(service) for _ in range(3)}
    endpoint = call(service, "GET", "/v1/webhooks")["webhooks"][0]["id"]

    def list_deliveries() -> dict[str, dict[str, Any]]:
        deliveries = call(service, "GET", f"/v1/webhooks/{endpoint}/deliveries")["deliveries"]
        return {one["id"]: one for one in deliveries}

    wait_until(lambda: any(one["error"] for one in list_deliveries().values()), seconds=30)
    service.steward.kill()
    service.steward.start()
    receiver.start()
    wait_until(lambda: receiver.list_ids() == {first, *while_away}, seconds=60)
    wait_until(lambda: {one["state"] for one in list_deliveries().values()} == {"delivered"}, seconds=30)
    assert all(one.is_signed for one in receiver.received)

    log = "".join(path.read_text(errors="replace") for path in service.data.rglob("*.log"))
    assert receiver.secret not in log
    assert "webhook_attempted" in log
