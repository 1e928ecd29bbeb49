"""Scopes of tokens on every route, and the tokens file of a running gateway."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from api.app import READING_ENDPOINTS
from api.http.tokens import ALL, Permission, Scope, Token, compute_digest, format_line
from shared.jobs.model import Priority
from shared.redis_client import connect
from shared.worker_registry import WorkerRegistry, WorkerState, WorkerStatus
from tests.conftest import Storage
from tests.support.gateway import GatewayUnderTest, open_gateway
from tests.support.jobs import MODEL, png
from tests.support.polling import wait_until
from tests.support.raw_gateway import RawGateway, build_environment, build_get
from tests.support.routes import list_requests

READER = {"Authorization": "Bearer reader"}
SUBMITTER = {"Authorization": "Bearer submitter"}
EXPIRED = {"Authorization": "Bearer expired"}


def build_line(token: str, *scopes: Scope, expires_at: float | None = None, permission: Permission = ALL) -> str:
    return format_line(Token("shop", compute_digest(token), frozenset(scopes), expires_at, permission)) + "\n"


@pytest.fixture
def gateway(clean_redis: str, storage_env: dict[str, str], tmp_path: Path) -> GatewayUnderTest:
    file = tmp_path / "tokens"
    file.write_text(
        build_line("reader", Scope.READ)
        + build_line("submitter", Scope.SUBMIT)
        + build_line("expired", Scope.SUBMIT, expires_at=1.0)
        + build_line("slow", Scope.SUBMIT, permission=Permission(Priority.LOW))
        + build_line("narrow", Scope.SUBMIT, permission=Permission(models=frozenset({"acme/other"})))
    )
    return open_gateway(clean_redis, storage_env, tokens_file=str(file))


def test_a_token_that_may_read_changes_nothing(gateway: GatewayUnderTest) -> None:
    app = gateway.client.application
    changing = [
        (method, path)
        for method, path, endpoint in list_requests(app)
        if method not in ("GET", "HEAD", "OPTIONS") and endpoint and endpoint not in READING_ENDPOINTS
    ]

    answers = {(method, path): gateway.client.open(path, method=method, headers=READER) for method, path in changing}

    assert len(answers) > 5
    assert {response.status_code for response in answers.values()} == {403}
    assert {response.json["error_type"] for response in answers.values()} == {"missing_scope"}
    scopes = {key: "scope admin" if key[1] == "/v1/data" else "scope submit" for key in answers}
    assert all(scopes[key] in response.json["error"] for key, response in answers.items())


def test_a_recut_needs_the_scope_submit_only_to_be_stored(gateway: GatewayUnderTest) -> None:
    path = f"/v1/jobs/{'0' * 32}/recut"

    assert gateway.client.post(path, json={}, headers=READER).status_code == 404
    assert gateway.client.post(path, json={"store": True}, headers=READER).status_code == 403
    assert gateway.client.post(path, json={"store": True}, headers=SUBMITTER).status_code == 404


def test_tokens_of_one_name_see_the_same_jobs(gateway: GatewayUnderTest) -> None:
    job = gateway.client.post("/v1/jobs", data=png(), headers=SUBMITTER).json

    assert gateway.client.get(f"/v1/jobs/{job['id']}", headers=READER).status_code == 200
    assert gateway.client.get(f"/v1/jobs/{job['id']}", headers=SUBMITTER).status_code == 200
    assert gateway.client.delete(f"/v1/jobs/{job['id']}", headers=READER).status_code == 403


def test_an_expired_token_is_a_401_that_says_so(gateway: GatewayUnderTest) -> None:
    response = gateway.client.get("/v1/jobs", headers=EXPIRED)

    assert (response.status_code, response.json["error_type"]) == (401, "unauthorized")
    assert "expired at 1970-01-01T00:00:01Z" in response.json["error"]


def test_a_token_bounds_the_priority_of_its_jobs(gateway: GatewayUnderTest) -> None:
    headers = {"Authorization": "Bearer slow"}

    job = gateway.client.post("/v1/jobs", data=png(), headers=headers).json

    assert gateway.stores.jobs.get(job["id"]).request.priority is Priority.LOW


def test_a_token_uses_only_its_models(gateway: GatewayUnderTest) -> None:
    headers = {"Authorization": "Bearer narrow"}

    answers = [gateway.client.post(path, data=png(), headers=headers) for path in ("/v1/jobs", f"/models/{MODEL}")]

    assert [answer.status_code for answer in answers] == [403, 403]
    assert {answer.json["error_type"] for answer in answers} == {"not_permitted"}
    assert "it may use acme/other" in answers[0].json["error"]


def test_readiness_has_details_for_a_token_only(gateway: GatewayUnderTest) -> None:
    gateway.stores.guard.check()

    # No steward runs.
    assert gateway.client.get("/readyz").json == {"status": "degraded"}
    assert gateway.client.get("/readyz", headers=EXPIRED).json == {"status": "degraded"}
    assert set(gateway.client.get("/readyz", headers=READER).json) == {"status", "checks", "models"}


@pytest.fixture
def process(tmp_path: Path, redis_url: str, storage: Storage, bucket_name: str) -> Iterator[RawGateway]:
    (tmp_path / "tokens").write_text(build_line("old", Scope.READ))
    env = build_environment(redis_url, storage, bucket_name)
    with RawGateway(tmp_path, {**env, "MASKMILL_TOKENS_FILE": str(tmp_path / "tokens")}) as running:
        yield running.wait_ready()


def test_each_process_reads_a_changed_file(process: RawGateway, tmp_path: Path) -> None:
    (tmp_path / "tokens.new").write_text(build_line("new", Scope.READ))
    (tmp_path / "tokens.new").replace(tmp_path / "tokens")
    old, new = (build_get("/v1/jobs", "Host: x", f"Authorization: Bearer {token}") for token in ("old", "new"))

    # Which process takes a request is the kernel's choice, so no number of them says that all have read the file.
    wait_until(lambda: all(process.send(new)[0] == 200 for _ in range(20)))
    wait_until(lambda: all(process.send(old)[0] == 401 for _ in range(20)))

    (tmp_path / "tokens").write_text("broken\n")
    wait_until(lambda: "tokens_not_reloaded" in process.log.read_text() or process.send(new)[0] != 200)
    assert {process.send(new)[0] for _ in range(20)} == {200}


def test_only_an_administrator_sees_the_host_of_a_worker(
    clean_redis: str, storage_env: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "tokens"
    file.write_text(build_line("reader", Scope.READ) + build_line("admin", Scope.ADMIN))
    gateway = open_gateway(clean_redis, storage_env, tokens_file=str(file))
    status = WorkerStatus("gpu-7-4711-0123456789ab", MODEL, WorkerState.SETUP_FAILED, reason="/srv/models is empty")
    WorkerRegistry(connect(gateway.settings)).report(status)
    admin = {"Authorization": "Bearer admin"}

    # Every response that a reader gets, on all routes.
    texts = [
        gateway.client.open(path, method="GET", headers=READER).text
        for method, path, _ in list_requests(gateway.client.application)
        if method == "GET"
    ]

    assert [text for text in texts if "gpu-7" in text or "/srv/models" in text] == []
    assert "gpu-7-4711" in gateway.client.get("/v1/models", headers=admin).text
    assert "/srv/models is empty" in gateway.client.get(f"/v1/models/{MODEL}", headers=admin).text
    assert gateway.client.post("/v1/jobs", data=png(), headers=admin).status_code == 403
