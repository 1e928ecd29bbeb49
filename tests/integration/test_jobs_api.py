"""The jobs API over a real Valkey and a real object store; a test runs its jobs with run_job()."""

import zipfile
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from typing import Any

import numpy as np
import pytest
import redis
from PIL import Image
from werkzeug.test import TestResponse

from shared.errors import EngineFailed, NotAnImage
from shared.jobs.completion import complete_job
from shared.jobs.result import failed_result
from shared.storage.keys import inbox_key, result_key
from tests.support.gateway import GatewayUnderTest, list_queued_ids, open_gateway, open_shared_gateway, run_job
from tests.support.jobs import png
from tests.support.polling import wait_until

JOB_KEYS = {
    "id",
    *("client_id", "priority", "format_options", "labels", "recut", "metadata", "webhook", "deadline_at"),
    "state",
    "model",
    "parameters",
    "formats",
    "image",
    "image_url",
    "created_at",
    "started_at",
    "ended_at",
    "expires_at",
    "redrive_of",
    "recut_of",
    "attempt",
    "timings_ms",
    "queue_position",
    "eta",
    "error",
    "error_type",
    "links",
}


@pytest.fixture
def gateway(clean_redis: str, storage_env: dict[str, str]) -> GatewayUnderTest:
    return open_shared_gateway(clean_redis, storage_env)


@pytest.fixture
def gateway_with_tokens(clean_redis: str, storage_env: dict[str, str]) -> GatewayUnderTest:
    return open_gateway(clean_redis, storage_env, tokens="shop:s3cret,lab:0ther")


def submit(gateway: GatewayUnderTest, image: bytes | None = None, **kwargs: Any) -> TestResponse:
    return gateway.client.post("/v1/jobs", data=png() if image is None else image, **kwargs)


def stored_keys(gateway: GatewayUnderTest, job_id: str) -> list[str]:
    bucket = gateway.stores.bucket
    prefixes = (inbox_key(job_id), f"results/{job_id}/")
    return [found.key for prefix in prefixes for found in bucket.list_objects(prefix)]


def test_a_job_is_accepted_without_a_worker(gateway: GatewayUnderTest) -> None:
    response = submit(gateway, query_string={"threshold": "0.5", "subtask": "semantic"})

    assert response.status_code == 202
    job = response.json
    assert set(job) == JOB_KEYS
    assert (job["state"], job["model"], job["attempt"]) == ("queued", "maskmill/embedded", 0)
    assert job["parameters"]["threshold"] == 0.5
    assert job["parameters"]["subtask"] == "semantic"
    assert (job["image"]["width"], job["image"]["height"]) == (6, 4)
    assert response.headers["Location"] == job["links"]["self"] == f"/v1/jobs/{job['id']}"
    assert int(response.headers["Retry-After"]) > 0
    assert gateway.stores.bucket.get(inbox_key(job["id"])) == png()


def test_a_job_produces_labels_masks_and_overlay(gateway: GatewayUnderTest) -> None:
    links = submit(gateway).json["links"]
    run_job(gateway, links["self"].rpartition("/")[2])

    result = gateway.client.get(links["result"]).json
    cat, dog = result["segments"]
    labels = np.asarray(Image.open(BytesIO(gateway.client.get(result["labels_url"]).data)))
    mask = np.asarray(Image.open(BytesIO(gateway.client.get(dog["mask_url"]).data)))
    names = zipfile.ZipFile(BytesIO(gateway.client.get(result["masks_zip_url"]).data)).namelist()
    overlay = Image.open(BytesIO(gateway.client.get(result["overlay_url"]).data))

    assert (result["state"], result["model_revision"]) == ("succeeded", "halves")
    assert (cat["label"], cat["area"], cat["bbox"], cat["is_thing"]) == ("cat", 12, [0, 0, 3, 4], True)
    assert (labels == [1, 1, 1, 2, 2, 2]).all()
    assert ((mask == 255) == (labels == dog["id"])).all()
    assert names[:2] == ["1.png", "2.png"]
    assert overlay.size == (6, 4)


def test_only_the_requested_formats_are_stored(gateway: GatewayUnderTest) -> None:
    job = submit(gateway, query_string={"formats": "labels"}).json
    run_job(gateway, job["id"])

    labels, overlay = (gateway.client.get(job["links"][name]) for name in ("labels", "overlay"))
    mask = gateway.client.get(f"/v1/jobs/{job['id']}/masks/1.png")

    assert job["formats"] == ["labels"]
    assert labels.status_code == 200
    # They are rendered when they are asked for, but no renderer runs here.
    assert {overlay.status_code, mask.status_code} == {503}
    assert {answer.json["error_type"] for answer in (overlay, mask)} == {"renderer_unavailable"}
    stored = {key.rpartition("/")[2] for key in stored_keys(gateway, job["id"])}
    assert stored == {"labels.png", "result.json"}


@pytest.mark.parametrize(
    "kwargs",
    [
        {"query_string": {"formats": "masks"}},
        {"data": {"file": (BytesIO(png()), "a.png"), "formats": "masks"}},
        {"json": {"inputs": b64encode(png()).decode(), "formats": ["masks"]}},
        {"json": {"inputs": b64encode(png()).decode(), "formats": [" masks\n"]}},
        {"query_string": {"formats": " masks , labels\n"}},
    ],
)
def test_formats_are_read_from_query_form_and_json(gateway: GatewayUnderTest, kwargs: dict[str, Any]) -> None:
    body = kwargs if {"data", "json"} & set(kwargs) else {"data": png(), **kwargs}

    assert gateway.client.post("/v1/jobs", **body).json["formats"] == ["labels", "masks"]


@pytest.mark.parametrize("formats", [["gif"], "labels,gif", 5, {"labels": True}, [1]])
def test_an_unknown_format_is_rejected_with_the_known_ones(gateway: GatewayUnderTest, formats: object) -> None:
    response = gateway.client.post("/v1/jobs", json={"inputs": b64encode(png()).decode(), "formats": formats})

    assert (response.status_code, response.json["error_type"]) == (400, "bad_parameter")
    assert "labels, overlay, masks" in response.json["error"]


def test_an_idempotency_key_outlives_a_change_of_the_default_formats(
    clean_redis: str, storage_env: dict[str, str]
) -> None:
    before, after = (open_gateway(clean_redis, storage_env, default_formats=names) for names in ("masks", "overlay"))
    headers = {"Idempotency-Key": "k"}

    first, second = (submit(gateway, headers=headers) for gateway in (before, after))
    other = submit(after, headers=headers, query_string={"formats": "labels"})

    assert (second.status_code, second.json["id"]) == (202, first.json["id"])
    assert (other.status_code, other.json["error_type"]) == (422, "idempotency_conflict")


def test_the_default_formats_are_a_setting(clean_redis: str, storage_env: dict[str, str]) -> None:
    labels_only = open_gateway(clean_redis, storage_env, default_formats="labels")

    assert submit(labels_only).json["formats"] == ["labels"]


def test_the_input_is_deleted_when_the_job_is_final(gateway: GatewayUnderTest) -> None:
    job_id = submit(gateway).json["id"]

    run_job(gateway, job_id)

    assert inbox_key(job_id) not in stored_keys(gateway, job_id)


def test_the_files_of_a_queued_job_are_a_409(gateway: GatewayUnderTest) -> None:
    links = submit(gateway).json["links"]

    responses = [gateway.client.get(link) for name, link in links.items() if name not in ("self", "input")]

    assert {response.status_code for response in responses} == {409}
    assert {response.json["error_type"] for response in responses} == {"not_finished"}
    assert {response.json["state"] for response in responses} == {"queued"}


def test_the_result_of_a_failed_job_is_its_error(gateway: GatewayUnderTest) -> None:
    job = submit(gateway).json
    request = gateway.stores.jobs.get(job["id"]).request
    job_result = failed_result(request, EngineFailed("The model broke on this image."))
    complete_job(job_result, jobs=gateway.stores.jobs, bucket=gateway.stores.bucket)

    view = gateway.client.get(job["links"]["self"]).json
    result = gateway.client.get(job["links"]["result"])

    assert (view["state"], view["error_type"]) == ("failed", "engine_failed")
    assert result.status_code == 500
    assert result.json["error"] == view["error"] == "The model broke on this image."


def test_the_result_of_a_job_that_failed_by_a_client_error_is_a_400(gateway: GatewayUnderTest) -> None:
    job_id = submit(gateway).json["id"]
    job_result = failed_result(gateway.stores.jobs.get(job_id).request, NotAnImage("It cannot be decoded."))
    complete_job(job_result, jobs=gateway.stores.jobs, bucket=gateway.stores.bucket)

    assert gateway.client.get(f"/v1/jobs/{job_id}/result").status_code == 400


def test_an_unknown_mask_has_its_own_error_type(gateway: GatewayUnderTest) -> None:
    job_id = submit(gateway).json["id"]
    run_job(gateway, job_id)

    response = gateway.client.get(f"/v1/jobs/{job_id}/masks/3.png")

    assert (response.status_code, response.json["error_type"]) == (404, "unknown_mask")


@pytest.mark.parametrize("job_id", ["x", "0" * 31, "G" * 32, "0" * 32, "*", "..%2f..%2fsecrets", "0" * 4000])
def test_an_unknown_job_id_is_a_404(gateway: GatewayUnderTest, job_id: str) -> None:
    for path in ("", "/result", "/labels.png", "/masks/1.png"):
        response = gateway.client.get(f"/v1/jobs/{job_id}{path}")

        assert response.status_code == 404, path
        assert response.json["error_type"] in {"unknown_job", "unknown_route"}


def test_a_wait_ends_when_the_job_is_final(gateway: GatewayUnderTest) -> None:
    job_id = submit(gateway).json["id"]

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(gateway.client.get, f"/v1/jobs/{job_id}?wait=20")
        run_job(gateway, job_id)
        response = waiting.result(timeout=5)

    assert response.json["state"] == "succeeded"
    assert "Retry-After" not in response.headers


def test_a_wait_ends_at_its_timeout(gateway: GatewayUnderTest) -> None:
    job_id = submit(gateway).json["id"]

    response = gateway.client.get(f"/v1/jobs/{job_id}?wait=0.2")

    assert response.json["state"] == "queued"
    assert "Retry-After" in response.headers


def test_an_unchanged_job_is_a_304(gateway: GatewayUnderTest) -> None:
    job_id = submit(gateway).json["id"]
    etag = gateway.client.get(f"/v1/jobs/{job_id}").headers["ETag"]

    unchanged = gateway.client.get(f"/v1/jobs/{job_id}", headers={"If-None-Match": etag})
    run_job(gateway, job_id)
    changed = gateway.client.get(f"/v1/jobs/{job_id}", headers={"If-None-Match": etag})

    assert (unchanged.status_code, unchanged.data) == (304, b"")
    assert changed.status_code == 200


def test_a_result_survives_the_loss_of_redis(gateway: GatewayUnderTest, redis_client: "redis.Redis") -> None:
    job_id = submit(gateway).json["id"]
    run_job(gateway, job_id)

    redis_client.flushall()

    assert gateway.client.get(f"/v1/jobs/{job_id}").json["state"] == "succeeded"
    assert len(gateway.client.get(f"/v1/jobs/{job_id}/result").json["segments"]) == 2


def test_a_queued_job_is_known_after_the_loss_of_redis(gateway: GatewayUnderTest, redis_client: "redis.Redis") -> None:
    job_id = submit(gateway).json["id"]

    redis_client.flushall()

    assert gateway.client.get(f"/v1/jobs/{job_id}").json["state"] == "queued"


def test_a_canceled_job_is_not_run(gateway: GatewayUnderTest) -> None:
    job_id = submit(gateway).json["id"]

    response = gateway.client.delete(f"/v1/jobs/{job_id}")
    repeated = gateway.client.delete(f"/v1/jobs/{job_id}")
    run_job(gateway, job_id)

    assert (response.status_code, response.json["state"]) == (200, "canceled")
    assert (repeated.status_code, repeated.json["state"]) == (200, "canceled")
    assert stored_keys(gateway, job_id) == [result_key(job_id)]
    result = gateway.client.get(f"/v1/jobs/{job_id}/result")
    assert (result.status_code, result.json["error_type"]) == (409, "canceled")


def test_a_job_that_succeeded_cannot_be_canceled(gateway: GatewayUnderTest) -> None:
    job_id = submit(gateway).json["id"]
    run_job(gateway, job_id)

    response = gateway.client.delete(f"/v1/jobs/{job_id}")

    error = response.json
    assert (response.status_code, error["error_type"], error["state"]) == (409, "already_ended", "succeeded")


def test_jobs_are_listed_newest_first_page_by_page(gateway: GatewayUnderTest) -> None:
    submitted = [submit(gateway).json["id"] for _ in range(5)]

    first = gateway.client.get("/v1/jobs?limit=3").json
    second = gateway.client.get(f"/v1/jobs?limit=3&cursor={first['next_cursor']}").json

    assert sorted(submitted, reverse=True) == [job["id"] for job in first["jobs"] + second["jobs"]]
    assert second["next_cursor"] is None


def test_the_list_is_filtered_by_state(gateway: GatewayUnderTest) -> None:
    succeeded, waiting = submit(gateway).json["id"], submit(gateway).json["id"]
    run_job(gateway, succeeded)

    listed = {state: gateway.client.get(f"/v1/jobs?state={state}").json["jobs"] for state in ("queued", "succeeded")}

    assert [job["id"] for job in listed["queued"]] == [waiting]
    assert [job["id"] for job in listed["succeeded"]] == [succeeded]


@pytest.mark.parametrize("query", ["limit=0", "limit=201", "limit=x", "state=lost", "cursor=zzz", "limt=3"])
def test_an_invalid_list_query_is_rejected(gateway: GatewayUnderTest, query: str) -> None:
    response = gateway.client.get(f"/v1/jobs?{query}")

    assert response.status_code == 400
    assert response.json["error_type"] in {"bad_parameter", "unknown_parameter"}


def test_a_repeated_idempotency_key_returns_the_first_job(gateway: GatewayUnderTest) -> None:
    headers = {"Idempotency-Key": "order 17"}
    first = submit(gateway, headers=headers).json

    repeated = submit(gateway, headers=headers)

    assert (repeated.status_code, repeated.json["id"]) == (202, first["id"])
    assert list_queued_ids(gateway) == [first["id"]]


def test_a_repeated_submission_stores_one_input(gateway: GatewayUnderTest) -> None:
    before = set(list_inputs(gateway))

    job_ids = {submit(gateway, headers={"Idempotency-Key": "k"}).json["id"] for _ in range(3)}

    wait_until(lambda: set(list_inputs(gateway)) - before == {inbox_key(job_id) for job_id in job_ids})
    assert len(job_ids) == 1


def test_an_idempotency_key_of_a_different_request_is_a_conflict(gateway: GatewayUnderTest) -> None:
    submit(gateway, headers={"Idempotency-Key": "k"})

    other_image = submit(gateway, png(9, 9), headers={"Idempotency-Key": "k"})
    other_threshold = submit(gateway, query_string={"threshold": 0.1}, headers={"Idempotency-Key": "k"})

    assert {other_image.status_code, other_threshold.status_code} == {422}
    assert other_image.json["error_type"] == "idempotency_conflict"


def test_a_full_queue_is_a_429_with_retry_after(clean_redis: str, storage_env: dict[str, str]) -> None:
    small = open_gateway(clean_redis, storage_env, max_queued=2)
    before = set(list_inputs(small))

    statuses = [submit(small).status_code for _ in range(2)]
    rejected = submit(small)

    assert statuses == [202, 202]
    assert (rejected.status_code, rejected.json["error_type"]) == (429, "queue_full")
    assert int(rejected.headers["Retry-After"]) > 0
    assert rejected.headers["RateLimit"].startswith('"queue";r=0;t=')
    assert "q=2" in rejected.headers["RateLimit-Policy"]
    assert len(set(list_inputs(small)) - before) == 2


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "empty_body"),
        (b"\x00\x01\x02\x03", 400, "unreadable_body"),
        (b'{"inputs": 5}', 400, "unreadable_body"),
        (png()[:30], 400, "truncated_image"),
        (png(5000, 1), 413, "image_too_large"),
        (b"\xff" * 20_001, 413, "body_too_large"),
    ],
)
def test_an_invalid_image_is_rejected(
    clean_redis: str, storage_env: dict[str, str], body: bytes, status: int, code: str
) -> None:
    small = open_gateway(clean_redis, storage_env, max_image_pixels=4000, max_upload_bytes=20_000)

    response = submit(small, body)

    assert (response.status_code, response.json["error_type"]) == (status, code)
    assert list_queued_ids(small) == []


def test_an_unknown_model_is_rejected_with_the_known_ones(gateway: GatewayUnderTest) -> None:
    response = gateway.client.post("/v1/jobs", json={"inputs": "aGVsbG8=", "model": "nobody/knows"})

    assert (response.status_code, response.json["error_type"]) == (404, "unknown_model")
    assert "maskmill/embedded" in response.json["error"]


def test_the_models_are_listed_with_their_workers(gateway: GatewayUnderTest) -> None:
    listed = gateway.client.get("/v1/models").json
    model = gateway.client.get("/v1/models/maskmill/embedded").json

    assert listed == {
        "models": [{"id": "maskmill/embedded", "state": "offline", "workers": []}],
        "default": model["id"],
    }


def test_a_request_without_a_token_is_a_401(gateway_with_tokens: GatewayUnderTest) -> None:
    responses = [
        gateway_with_tokens.client.get("/v1/jobs"),
        submit(gateway_with_tokens),
        gateway_with_tokens.client.post("/", data=png()),
    ]

    assert {response.status_code for response in responses} == {401}
    assert {response.headers["WWW-Authenticate"] for response in responses} == {"Bearer"}


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/openapi.json"])
def test_public_routes_need_no_token(gateway_with_tokens: GatewayUnderTest, path: str) -> None:
    gateway_with_tokens.stores.guard.check()

    assert gateway_with_tokens.client.get(path).status_code == 200


def test_metrics_are_on_the_port_for_operators_only(gateway_with_tokens: GatewayUnderTest) -> None:
    assert gateway_with_tokens.client.get("/metrics").status_code == 404
    statuses = {gateway_with_tokens.operators_client.get(path).status_code for path in ("/metrics", "/healthz")}
    assert statuses == {200}


def test_a_page_cannot_read_metrics_under_a_name_of_its_own(gateway: GatewayUnderTest) -> None:
    statuses = [
        gateway.operators_client.get("/metrics", headers={"Host": host}).status_code
        for host in ("localhost:9464", "127.0.0.1", "evil.example", "evil.example:9464")
    ]

    assert statuses == [200, 200, 421, 421]


def test_invented_methods_do_not_add_metrics(clean_redis: str, storage_env: dict[str, str]) -> None:
    gateway = open_gateway(clean_redis, storage_env)
    gateway.client.open("/v1/jobs", method="INVENTED").close()
    before = len(gateway.operators_client.get("/metrics").text.splitlines())

    for number in range(50):
        gateway.client.open("/v1/jobs", method=f"GET{number}").close()

    lines = gateway.operators_client.get("/metrics").text.splitlines()
    assert any('method="other"' in line for line in lines)
    assert len(lines) == before


def test_a_job_is_invisible_to_other_tenants(gateway_with_tokens: GatewayUnderTest) -> None:
    shop, lab = {"Authorization": "Bearer s3cret"}, {"Authorization": "Bearer 0ther"}
    job_id = submit(gateway_with_tokens, headers=shop).json["id"]
    run_job(gateway_with_tokens, job_id)
    paths = ["", "/result", "/labels.png", "/masks/1.png", "/masks.zip", "/overlay.png"]

    own = [gateway_with_tokens.client.get(f"/v1/jobs/{job_id}{path}", headers=shop) for path in paths]
    others = [gateway_with_tokens.client.get(f"/v1/jobs/{job_id}{path}", headers=lab) for path in paths]

    assert {response.status_code for response in own} == {200}
    assert {response.status_code for response in others} == {404}
    client = gateway_with_tokens.client
    assert client.delete(f"/v1/jobs/{job_id}", headers=lab).status_code == 404
    assert client.post(f"/v1/jobs/{job_id}/redrive", headers=lab).status_code == 404
    assert client.post(f"/v1/jobs/{job_id}/keep", headers=lab, json={"seconds": 1}).status_code == 404
    assert client.get("/v1/jobs", headers=lab).json["jobs"] == []
    assert client.get(f"/v1/jobs?ids={job_id}", headers=lab).json["missing"] == [job_id]


@pytest.mark.parametrize("sent", ["", "a b", "x" * 65, '"; drop'])
def test_an_invalid_request_id_is_replaced(gateway: GatewayUnderTest, sent: str) -> None:
    request_id = gateway.client.get("/healthz", headers={"X-Request-ID": sent}).headers["X-Request-ID"]

    assert request_id != sent
    assert len(request_id) == 32


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nothing/here", 404), ("PUT", "/v1/jobs", 405), ("POST", "/v1/models", 405), ("GET", "/predict", 405)],
)
def test_an_unknown_path_or_method_is_a_json_error(
    gateway: GatewayUnderTest, method: str, path: str, status: int
) -> None:
    response = gateway.client.open(path, method=method)

    assert response.status_code == status
    assert set(response.json) == {"error", "error_type", "request_id"}
    assert response.json["request_id"] == response.headers["X-Request-ID"]


def test_metrics_count_requests_and_the_backlog(clean_redis: str, storage_env: dict[str, str]) -> None:
    gateway = open_gateway(clean_redis, storage_env)
    # A response is counted after it is sent; the test client runs that callback when the response is closed.
    submit(gateway).close()
    gateway.client.get("/v1/jobs/unknown").close()

    lines = gateway.operators_client.get("/metrics").text.splitlines()

    assert 'maskmill_requests_total{method="POST",route="/v1/jobs",status="202"} 1.0' in lines
    assert 'maskmill_jobs_submitted_total{priority="normal"} 1.0' in lines
    assert 'maskmill_refusals_total{code="unknown_job"} 1.0' in lines
    assert 'maskmill_backlog_jobs{model="maskmill/embedded",priority="normal"} 1.0' in lines
    assert "maskmill_store_up 1.0" in lines


def test_the_openapi_document_has_every_public_route(gateway: GatewayUnderTest) -> None:
    document = gateway.client.get("/openapi.json").json

    documented = {(method.upper(), path) for path, operations in document["paths"].items() for method in operations}
    rules = gateway.client.application.url_map.iter_rules()
    routes = {
        (method, openapi_path(rule.rule))
        for rule in rules
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        if rule.rule.startswith("/v1/")
    }
    assert routes <= documented
    assert {operation["summary"] for operations in document["paths"].values() for operation in operations.values()}


def test_responses_have_the_fields_of_the_openapi_document(gateway: GatewayUnderTest) -> None:
    schemas = gateway.client.get("/openapi.json").json["components"]["schemas"]

    job = submit(gateway).json
    run_job(gateway, job["id"])
    result = gateway.client.get(job["links"]["result"]).json
    error = gateway.client.get("/v1/jobs/none").json

    assert set(job) == set(schemas["JobView"]["properties"])
    assert set(result) == set(schemas["ResultView"]["properties"])
    assert set(result["segments"][0]) == set(schemas["SegmentView"]["properties"])
    assert set(error) == set(schemas["ErrorView"]["properties"])


def list_inputs(gateway: GatewayUnderTest) -> list[str]:
    return [found.key for found in gateway.stores.bucket.list_objects("inbox/")]


def openapi_path(rule: str) -> str:
    for converter in ("path:", "int:"):
        rule = rule.replace(converter, "")
    return rule.replace("<", "{").replace(">", "}")
