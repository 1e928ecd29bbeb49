"""Webhooks over HTTP: who may do what with them, what is shown of them, and which URLs they may have."""

import json
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

import pytest
from redis import Redis
from werkzeug.test import TestResponse

from api.http.tokens import Scope
from api.jobs.admission import Caller, JobOptions, Submission
from api.jobs.upload import Upload
from api.jobs.webhooks import TenantWebhooks
from shared.errors import BadParameter, ForbiddenUrl
from shared.jobs.parameters import SegmentParameters
from shared.storage.keys import webhook_key
from shared.webhooks.endpoint import Endpoint
from tests.integration.test_tokens import build_line
from tests.support.gateway import GatewayUnderTest, list_queued_ids, open_gateway
from tests.support.jobs import png

URL = "https://shop.example/hooks?key=t0ps3cret"


def open_tenants(clean_redis: str, storage_env: Mapping[str, str], **settings: Any) -> GatewayUnderTest:
    """Return a gateway with two new tenants, because endpoints outlive a test in the bucket."""
    name = uuid4().hex[:12]
    return open_gateway(clean_redis, storage_env, tokens=f"a-{name}:token-a b-{name}:token-b", **settings)


@pytest.fixture
def gateway(clean_redis: str, storage_env: Mapping[str, str]) -> GatewayUnderTest:
    return open_tenants(clean_redis, storage_env)


def send(gateway: GatewayUnderTest, method: str, path: str = "", tenant: str = "a", **options: Any) -> TestResponse:
    headers = {"Authorization": f"Bearer token-{tenant}"}
    return gateway.client.open(f"/v1/webhooks{path}", method=method, headers=headers, **options)


def create(gateway: GatewayUnderTest, **members: Any) -> dict[str, Any]:
    response = send(gateway, "POST", json={"url": URL, **members})
    assert response.status_code == 201, response.json
    created: dict[str, Any] = response.get_json()
    return created


def open_webhooks(gateway: GatewayUnderTest, tenant: str = "a") -> TenantWebhooks:
    extension = gateway.client.application.extensions["maskmill"]
    token = extension.authenticator.authenticate(f"Bearer token-{tenant}")
    webhooks: TenantWebhooks = extension.open_webhooks(token.tenant)
    return webhooks


def test_a_webhook_is_created_with_its_secret_and_shown_without(gateway: GatewayUnderTest) -> None:
    created = create(gateway, events=["job.failed", "job.succeeded"], all_jobs=True, description="orders")
    shown = send(gateway, "GET", f"/{created['id']}")

    secret = created.pop("secret")
    assert secret.startswith("whsec_")
    assert shown.json == created
    assert send(gateway, "GET").json == {"webhooks": [created]}
    assert (created["url"], created["events"]) == (URL, ["job.succeeded", "job.failed"])
    assert (created["is_enabled"], created["all_jobs"], created["description"]) == (True, True, "orders")
    assert created["created_at"].endswith("Z")
    assert secret not in shown.text


def test_webhooks_outlive_redis(gateway: GatewayUnderTest, redis_client: Redis) -> None:
    created = create(gateway)
    redis_client.flushall()

    assert send(gateway, "GET", f"/{created['id']}").json["url"] == URL


def test_a_rotation_shows_another_secret_and_keeps_the_old_one_for_a_day(gateway: GatewayUnderTest) -> None:
    created = create(gateway)

    rotated = send(gateway, "POST", f"/{created['id']}/rotate").json

    assert rotated["secret"] != created["secret"]
    assert rotated["old_secret_expires_at"] > rotated["created_at"]
    endpoint = open_webhooks(gateway).get(created["id"])
    now = endpoint.created_at
    assert endpoint.list_secrets(now) == [rotated["secret"], created["secret"]]
    assert endpoint.list_secrets(now + 25 * 3600) == [rotated["secret"]]


def test_a_webhook_is_disabled_enabled_and_deleted(gateway: GatewayUnderTest) -> None:
    path = f"/{create(gateway)['id']}"

    disabled = send(gateway, "POST", f"{path}/disable").json
    refused = send(gateway, "POST", f"{path}/ping")
    enabled = send(gateway, "POST", f"{path}/enable").json

    assert (disabled["is_enabled"], bool(disabled["disabled_reason"]), bool(disabled["disabled_at"])) == (
        (False, True, True)
    )
    assert (refused.status_code, refused.json["error_type"]) == (409, "webhook_disabled")
    assert (enabled["is_enabled"], enabled["disabled_reason"], enabled["disabled_at"]) == (True, None, None)
    assert send(gateway, "DELETE", path).status_code == 204
    assert send(gateway, "DELETE", path).status_code == 404
    assert send(gateway, "GET").json == {"webhooks": []}


def test_a_ping_is_a_delivery_that_can_be_sent_again(gateway: GatewayUnderTest) -> None:
    path = f"/{create(gateway)['id']}"

    pinged = send(gateway, "POST", f"{path}/ping")
    repeated = send(gateway, "POST", f"{path}/deliveries/{pinged.json['id']}/redeliver")

    assert (pinged.status_code, repeated.status_code) == (202, 202)
    assert (pinged.json["type"], pinged.json["state"], pinged.json["job_id"]) == ("webhook.ping", "pending", None)
    listed = send(gateway, "GET", f"{path}/deliveries?limit=5").json["deliveries"]
    assert [one["id"] for one in listed] == [pinged.json["id"]] == [repeated.json["id"]]
    unknown = send(gateway, "POST", f"{path}/deliveries/msg_none/redeliver")
    assert (unknown.status_code, unknown.json["error_type"]) == (404, "unknown_delivery")


def test_a_webhook_of_another_tenant_does_not_exist(gateway: GatewayUnderTest) -> None:
    path = f"/{create(gateway)['id']}"
    delivery = send(gateway, "POST", f"{path}/ping").json["id"]

    answers = [
        send(gateway, method, f"{path}{suffix}", tenant="b")
        for method, suffix in (
            *(("GET", ""), ("DELETE", ""), ("POST", "/rotate"), ("POST", "/disable"), ("POST", "/enable")),
            *(("POST", "/ping"), ("GET", "/deliveries"), ("POST", f"/deliveries/{delivery}/redeliver")),
        )
    ]

    assert [answer.json["error_type"] for answer in answers] == ["unknown_webhook"] * len(answers)
    assert {answer.status_code for answer in answers} == {404}
    assert send(gateway, "GET", tenant="b").json == {"webhooks": []}
    with pytest.raises(BadParameter):
        open_webhooks(gateway, "b").check_webhook(path[1:])
    open_webhooks(gateway, "a").check_webhook(path[1:])


def test_a_tenant_has_a_bounded_number_of_webhooks(clean_redis: str, storage_env: Mapping[str, str]) -> None:
    gateway = open_tenants(clean_redis, storage_env, max_webhooks=2)
    for _ in range(2):
        create(gateway)

    response = send(gateway, "POST", json={"url": URL})

    assert (response.status_code, response.json["error_type"]) == (409, "too_many_webhooks")
    assert send(gateway, "POST", tenant="b", json={"url": URL}).status_code == 201


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "empty_body"),
        (b"{", 400, "unreadable_body"),
        (b"[]", 400, "unreadable_body"),
        (b"{}", 400, "bad_parameter"),
        (b'{"url": "https://a.example", "url": "https://b.example"}', 400, "bad_parameter"),
        (b'{"url": "https://a.example", "secret": "mine"}', 400, "unknown_parameter"),
        (b'{"url": "https://a.example", "events": ["job.begun"]}', 400, "bad_parameter"),
        (b'{"url": "https://a.example", "events": []}', 400, "bad_parameter"),
        (b'{"url": 7}', 400, "bad_parameter"),
        (b'{"url": "https://a.example", "all_jobs": "yes"}', 400, "bad_parameter"),
        (b'{"url": "' + b"a" * 70000 + b'"}', 413, "body_too_large"),
        (b'{"url": "http://a.example/"}', 422, "forbidden_url"),
        (b'{"url": "https://169.254.169.254/latest"}', 422, "forbidden_url"),
        (b'{"url": "https://2130706433/"}', 422, "forbidden_url"),
        (b'{"url": "https://me:s3cr3t@a.example/"}', 422, "forbidden_url"),
        (b'{"url": "file:///etc/passwd"}', 422, "forbidden_url"),
    ],
)
def test_a_wrong_webhook_is_refused_at_once(gateway: GatewayUnderTest, body: bytes, status: int, code: str) -> None:
    response = send(gateway, "POST", data=body, content_type="application/json")

    assert (response.status_code, response.json["error_type"]) == (status, code), response.json
    assert "s3cr3t" not in response.text
    assert send(gateway, "GET").json == {"webhooks": []}


def test_a_job_names_an_endpoint_and_a_url_only_where_that_is_allowed(
    clean_redis: str, storage_env: Mapping[str, str]
) -> None:
    closed, opened = open_tenants(clean_redis, storage_env), open_tenants(clean_redis, storage_env, webhook_urls="on")

    with pytest.raises(BadParameter, match="URLs are not allowed"):
        open_webhooks(closed).check_webhook("https://a.example/")
    open_webhooks(opened).check_webhook("https://a.example/")
    with pytest.raises(ForbiddenUrl):
        open_webhooks(opened).check_webhook("http://a.example/")
    with pytest.raises(BadParameter, match="no webhook of this id"):
        open_webhooks(opened).check_webhook(f"wh_{'0' * 32}")


def test_a_secret_is_in_no_representation_and_the_bucket_keeps_it(gateway: GatewayUnderTest) -> None:
    created = create(gateway)

    endpoint = open_webhooks(gateway).get(created["id"])

    assert created["secret"] not in repr(endpoint)
    assert "t0ps3cret" not in repr(endpoint)
    stored = gateway.stores.bucket.get(webhook_key(endpoint.tenant, endpoint.id))
    assert json.loads(stored)["secrets"][0]["text"] == created["secret"]
    assert Endpoint.from_json(stored) == endpoint
    # A newer version may have added a member.
    assert Endpoint.from_json(stored[:-1] + b', "color": "red"}') == endpoint


def test_a_token_that_may_read_sees_webhooks_and_changes_none(
    clean_redis: str, storage_env: Mapping[str, str], tmp_path: Any
) -> None:
    (tmp_path / "tokens").write_text(build_line("token-a", Scope.READ))
    gateway = open_gateway(clean_redis, storage_env, tokens_file=str(tmp_path / "tokens"))

    assert send(gateway, "GET").status_code == 200
    assert send(gateway, "POST", json={"url": URL}).status_code == 403


def test_a_query_is_refused(gateway: GatewayUnderTest) -> None:
    assert send(gateway, "GET", "?limit=3").json["error_type"] == "unknown_parameter"
    assert send(gateway, "GET", f"/{create(gateway)['id']}/deliveries?limit=0").status_code == 400


def test_a_job_whose_webhook_is_wrong_stores_nothing(gateway: GatewayUnderTest) -> None:
    submitter = gateway.client.application.extensions["maskmill"].submitter
    submission = Submission(Upload(png()), SegmentParameters(), options=JobOptions(webhook=f"wh_{'0' * 32}"))

    with pytest.raises(BadParameter):
        submitter.submit(submission, Caller("a", "test"))

    assert list_queued_ids(gateway) == []
