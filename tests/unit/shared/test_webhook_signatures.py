"""Ids, secrets and signatures of messages."""

import time

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook, WebhookVerificationError

from shared.webhooks.delivery import Target
from shared.webhooks.endpoint import JobEvent, is_endpoint_id, new_endpoint_id
from shared.webhooks.signatures import build_message_id, new_secret, sign_message


@given(body=st.dictionaries(st.text(), st.text()))
def test_each_valid_secret_verifies_a_message_and_no_other(body: dict[str, str]) -> None:
    secrets = [new_secret(), new_secret()]
    content = orjson.dumps(body)

    headers = sign_message("msg_1", content, secrets, time.time())

    assert all(Webhook(secret).verify(content, headers) == body for secret in secrets)
    with pytest.raises(WebhookVerificationError):
        Webhook(new_secret()).verify(content, headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(secrets[0]).verify(content, {**headers, "webhook-id": "msg_2"})


def test_a_message_without_a_secret_has_no_signature() -> None:
    assert set(sign_message("msg_1", b"{}", [], 1000.9)) == {"webhook-id", "webhook-timestamp"}


def test_ids_are_of_the_job_and_the_event_alone() -> None:
    ids = {build_message_id(event, "ab12") for event in JobEvent}

    assert len(ids) == 4
    assert build_message_id(JobEvent.FAILED, "ab12") == "msg_ab12_job_failed"


@given(text=st.text())
def test_no_text_of_a_client_but_an_id_is_taken_for_one(text: str) -> None:
    assert is_endpoint_id(new_endpoint_id(1.0))
    assert not is_endpoint_id(text)


def test_a_url_is_no_part_of_a_key() -> None:
    target = Target.of_webhook("shop", "https://shop.example/hook?key=t0ps3cret")

    assert target.is_url
    assert "t0ps3cret" not in str(target)
    assert Target.parse(str(target)) == target
