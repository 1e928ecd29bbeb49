"""The jobs API over a real Valkey and a real object store; the worker's part is played when a test says so."""

import zipfile
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from typing import Any

import numpy as np
import pytest
import redis
from PIL import Image
from werkzeug.test import TestResponse

from shared.errors import EngineFailed, NotAnImage
from shared.jobs.completion import complete_job, failed
from shared.storage.keys import inbox_key, result_key
from tests.support.gateway import GatewayUnderTest, do_job, gateway, queued_ids, shared_gateway
from tests.support.jobs import png
from tests.support.polling import wait_until

JOB_KEYS = {
    "id",
    "state",
    "model",
    "parameters",
    "image",
    "created_at",
    "started_at",
    "ended_at",
    "attempt",
    "timings_ms",
    "error",
    "error_type",
    "links",
}


@pytest.fixture
def maskmill(clean_redis: str, storage_env: dict[str, str]) -> GatewayUnderTest:
    return shared_gateway(clean_redis, storage_env)


@pytest.fixture
def guarded(clean_redis: str, storage_env: dict[str, str]) -> GatewayUnderTest:
    return gateway(clean_redis, storage_env, tokens="shop:s3cret,lab:0ther")


def submit(maskmill: GatewayUnderTest, image: bytes | None = None, **kwargs: Any) -> TestResponse:
    return maskmill.client.post("/v1/jobs", data=png() if image is None else image, **kwargs)


def objects_of(maskmill: GatewayUnderTest, job_id: str) -> list[str]:
    bucket = maskmill.services.bucket
    prefixes = (inbox_key(job_id), f"results/{job_id}/")
    return [found.key for prefix in prefixes for found in bucket.listing(prefix)]


def test_a_photo_is_taken_in_before_any_worker_has_seen_it(maskmill: GatewayUnderTest) -> None:
    answer = submit(maskmill, query_string={"threshold": "0.5", "subtask": "semantic"})

    assert answer.status_code == 202
    job = answer.json
    assert set(job) == JOB_KEYS
    assert (job["state"], job["model"], job["attempt"]) == ("queued", "maskmill/embedded", 0)
    assert job["parameters"]["threshold"] == 0.5
    assert job["parameters"]["subtask"] == "semantic"
    assert (job["image"]["width"], job["image"]["height"]) == (6, 4)
    assert answer.headers["Location"] == job["links"]["self"] == f"/v1/jobs/{job['id']}"
    assert int(answer.headers["Retry-After"]) > 0
    assert maskmill.services.bucket.get(inbox_key(job["id"])) == png()


def test_masks_come_out(maskmill: GatewayUnderTest) -> None:
    links = submit(maskmill).json["links"]
    do_job(maskmill, links["self"].rpartition("/")[2])

    result = maskmill.client.get(links["result"]).json
    cat, dog = result["segments"]
    labels = np.asarray(Image.open(BytesIO(maskmill.client.get(result["labels_url"]).data)))
    mask = np.asarray(Image.open(BytesIO(maskmill.client.get(dog["mask_url"]).data)))
    names = zipfile.ZipFile(BytesIO(maskmill.client.get(result["masks_zip_url"]).data)).namelist()
    overlay = Image.open(BytesIO(maskmill.client.get(result["overlay_url"]).data))

    assert (result["state"], result["model_revision"]) == ("succeeded", "halves")
    assert (cat["label"], cat["area"], cat["bbox"]) == ("cat", 12, [0, 0, 3, 4])
    assert (labels == [1, 1, 1, 2, 2, 2]).all()
    assert ((mask == 255) == (labels == dog["id"])).all()
    assert names[:2] == ["1.png", "2.png"]
    assert overlay.size == (6, 4)


def test_the_input_goes_when_the_job_has_ended(maskmill: GatewayUnderTest) -> None:
    job_id = submit(maskmill).json["id"]

    do_job(maskmill, job_id)

    assert inbox_key(job_id) not in objects_of(maskmill, job_id)


def test_before_the_end_there_is_no_result(maskmill: GatewayUnderTest) -> None:
    links = submit(maskmill).json["links"]

    answers = [maskmill.client.get(link) for name, link in links.items() if name != "self"]

    assert {answer.status_code for answer in answers} == {409}
    assert {answer.json["error_type"] for answer in answers} == {"not_finished"}
    assert {answer.json["state"] for answer in answers} == {"queued"}


def test_a_failed_job_answers_with_its_own_error(maskmill: GatewayUnderTest) -> None:
    job = submit(maskmill).json
    request = maskmill.services.jobs.get(job["id"]).request
    end = failed(request, EngineFailed("The model broke on this image."))
    complete_job(end, jobs=maskmill.services.jobs, bucket=maskmill.services.bucket)

    shown = maskmill.client.get(job["links"]["self"]).json
    result = maskmill.client.get(job["links"]["result"])

    assert (shown["state"], shown["error_type"]) == ("failed", "engine_failed")
    assert result.status_code == 500
    assert result.json["error"] == shown["error"] == "The model broke on this image."


def test_a_job_that_failed_by_the_callers_fault_says_so_by_its_status(maskmill: GatewayUnderTest) -> None:
    job_id = submit(maskmill).json["id"]
    end = failed(maskmill.services.jobs.get(job_id).request, NotAnImage("It cannot be decoded."))
    complete_job(end, jobs=maskmill.services.jobs, bucket=maskmill.services.bucket)

    assert maskmill.client.get(f"/v1/jobs/{job_id}/result").status_code == 400


def test_an_unknown_mask_is_told_from_an_unknown_job(maskmill: GatewayUnderTest) -> None:
    job_id = submit(maskmill).json["id"]
    do_job(maskmill, job_id)

    answer = maskmill.client.get(f"/v1/jobs/{job_id}/masks/3.png")

    assert (answer.status_code, answer.json["error_type"]) == (404, "unknown_mask")


@pytest.mark.parametrize("job_id", ["x", "0" * 31, "G" * 32, "0" * 32, "*", "..%2f..%2fsecrets", "0" * 4000])
def test_an_id_that_was_never_given_is_not_found(maskmill: GatewayUnderTest, job_id: str) -> None:
    for path in ("", "/result", "/labels.png", "/masks/1.png"):
        answer = maskmill.client.get(f"/v1/jobs/{job_id}{path}")

        assert answer.status_code == 404, path
        assert answer.json["error_type"] in {"unknown_job", "unknown_route"}


def test_waiting_ends_with_the_job(maskmill: GatewayUnderTest) -> None:
    job_id = submit(maskmill).json["id"]

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(maskmill.client.get, f"/v1/jobs/{job_id}?wait=20")
        do_job(maskmill, job_id)
        answer = waiting.result(timeout=5)

    assert answer.json["state"] == "succeeded"
    assert "Retry-After" not in answer.headers


def test_waiting_ends_with_its_time(maskmill: GatewayUnderTest) -> None:
    job_id = submit(maskmill).json["id"]

    answer = maskmill.client.get(f"/v1/jobs/{job_id}?wait=0.2")

    assert answer.json["state"] == "queued"
    assert "Retry-After" in answer.headers


def test_a_poller_is_told_only_of_changes(maskmill: GatewayUnderTest) -> None:
    job_id = submit(maskmill).json["id"]
    etag = maskmill.client.get(f"/v1/jobs/{job_id}").headers["ETag"]

    unchanged = maskmill.client.get(f"/v1/jobs/{job_id}", headers={"If-None-Match": etag})
    do_job(maskmill, job_id)
    changed = maskmill.client.get(f"/v1/jobs/{job_id}", headers={"If-None-Match": etag})

    assert (unchanged.status_code, unchanged.data) == (304, b"")
    assert changed.status_code == 200


def test_the_end_outlives_redis(maskmill: GatewayUnderTest, redis_client: "redis.Redis") -> None:
    job_id = submit(maskmill).json["id"]
    do_job(maskmill, job_id)

    redis_client.flushall()

    assert maskmill.client.get(f"/v1/jobs/{job_id}").json["state"] == "succeeded"
    assert len(maskmill.client.get(f"/v1/jobs/{job_id}/result").json["segments"]) == 2


def test_a_queued_job_is_never_unknown_to_its_owner(maskmill: GatewayUnderTest, redis_client: "redis.Redis") -> None:
    job_id = submit(maskmill).json["id"]

    redis_client.flushall()

    assert maskmill.client.get(f"/v1/jobs/{job_id}").json["state"] == "queued"


def test_a_canceled_job_is_dropped(maskmill: GatewayUnderTest) -> None:
    job_id = submit(maskmill).json["id"]

    answer = maskmill.client.delete(f"/v1/jobs/{job_id}")
    again = maskmill.client.delete(f"/v1/jobs/{job_id}")
    do_job(maskmill, job_id)

    assert (answer.status_code, answer.json["state"]) == (200, "canceled")
    assert (again.status_code, again.json["state"]) == (200, "canceled")
    assert objects_of(maskmill, job_id) == [result_key(job_id)]
    result = maskmill.client.get(f"/v1/jobs/{job_id}/result")
    assert (result.status_code, result.json["error_type"]) == (409, "canceled")


def test_what_has_succeeded_cannot_be_canceled(maskmill: GatewayUnderTest) -> None:
    job_id = submit(maskmill).json["id"]
    do_job(maskmill, job_id)

    answer = maskmill.client.delete(f"/v1/jobs/{job_id}")

    assert (answer.status_code, answer.json["error_type"], answer.json["state"]) == (409, "already_ended", "succeeded")


def test_the_list_goes_by_pages_newest_first(maskmill: GatewayUnderTest) -> None:
    submitted = [submit(maskmill).json["id"] for _ in range(5)]

    first = maskmill.client.get("/v1/jobs?limit=3").json
    second = maskmill.client.get(f"/v1/jobs?limit=3&cursor={first['next_cursor']}").json

    assert sorted(submitted, reverse=True) == [job["id"] for job in first["jobs"] + second["jobs"]]
    assert second["next_cursor"] is None


def test_the_list_can_be_of_one_state(maskmill: GatewayUnderTest) -> None:
    done, waiting = submit(maskmill).json["id"], submit(maskmill).json["id"]
    do_job(maskmill, done)

    listed = {state: maskmill.client.get(f"/v1/jobs?state={state}").json["jobs"] for state in ("queued", "succeeded")}

    assert [job["id"] for job in listed["queued"]] == [waiting]
    assert [job["id"] for job in listed["succeeded"]] == [done]


@pytest.mark.parametrize("query", ["limit=0", "limit=201", "limit=x", "state=lost", "cursor=zzz", "limt=3"])
def test_a_list_that_cannot_be_is_refused(maskmill: GatewayUnderTest, query: str) -> None:
    answer = maskmill.client.get(f"/v1/jobs?{query}")

    assert answer.status_code == 400
    assert answer.json["error_type"] in {"bad_parameter", "unknown_parameter"}


def test_the_same_key_gives_the_same_job(maskmill: GatewayUnderTest) -> None:
    headers = {"Idempotency-Key": "order 17"}
    first = submit(maskmill, headers=headers).json

    again = submit(maskmill, headers=headers)

    assert (again.status_code, again.json["id"]) == (202, first["id"])
    assert queued_ids(maskmill) == [first["id"]]


def test_a_repeated_submission_leaves_no_second_input(maskmill: GatewayUnderTest) -> None:
    before = set(inputs(maskmill))

    job_ids = {submit(maskmill, headers={"Idempotency-Key": "k"}).json["id"] for _ in range(3)}

    wait_until(lambda: set(inputs(maskmill)) - before == {inbox_key(job_id) for job_id in job_ids})
    assert len(job_ids) == 1


def test_a_key_used_for_something_else_is_a_conflict(maskmill: GatewayUnderTest) -> None:
    submit(maskmill, headers={"Idempotency-Key": "k"})

    other_image = submit(maskmill, png(9, 9), headers={"Idempotency-Key": "k"})
    other_wish = submit(maskmill, query_string={"threshold": 0.1}, headers={"Idempotency-Key": "k"})

    assert {other_image.status_code, other_wish.status_code} == {422}
    assert other_image.json["error_type"] == "idempotency_conflict"


def test_when_too_many_wait_the_next_is_told_to_come_back(clean_redis: str, storage_env: dict[str, str]) -> None:
    small = gateway(clean_redis, storage_env, max_queued=2)
    before = set(inputs(small))

    statuses = [submit(small).status_code for _ in range(2)]
    refused = submit(small)

    assert statuses == [202, 202]
    assert (refused.status_code, refused.json["error_type"]) == (429, "queue_full")
    assert int(refused.headers["Retry-After"]) > 0
    assert refused.headers["RateLimit"].startswith('"queue";r=0;t=')
    assert "q=2" in refused.headers["RateLimit-Policy"]
    assert len(set(inputs(small)) - before) == 2


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
def test_what_is_no_image_is_refused(
    clean_redis: str, storage_env: dict[str, str], body: bytes, status: int, code: str
) -> None:
    small = gateway(clean_redis, storage_env, max_image_pixels=4000, max_upload_bytes=20_000)

    answer = submit(small, body)

    assert (answer.status_code, answer.json["error_type"]) == (status, code)
    assert queued_ids(small) == []


def test_an_unknown_model_is_refused_and_the_known_ones_named(maskmill: GatewayUnderTest) -> None:
    answer = maskmill.client.post("/v1/jobs", json={"inputs": "aGVsbG8=", "model": "nobody/knows"})

    assert (answer.status_code, answer.json["error_type"]) == (404, "unknown_model")
    assert "maskmill/embedded" in answer.json["error"]


def test_the_models_are_listed_with_their_workers(maskmill: GatewayUnderTest) -> None:
    listed = maskmill.client.get("/v1/models").json
    alone = maskmill.client.get("/v1/models/maskmill/embedded").json

    assert listed == {
        "models": [{"id": "maskmill/embedded", "state": "offline", "workers": []}],
        "default": alone["id"],
    }


def test_a_stranger_is_asked_for_a_token(guarded: GatewayUnderTest) -> None:
    answers = [guarded.client.get("/v1/jobs"), submit(guarded), guarded.client.post("/", data=png())]

    assert {answer.status_code for answer in answers} == {401}
    assert {answer.headers["WWW-Authenticate"] for answer in answers} == {"Bearer"}


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/openapi.json"])
def test_some_doors_are_open_to_all(guarded: GatewayUnderTest, path: str) -> None:
    assert guarded.client.get(path).status_code == 200


def test_a_job_is_invisible_to_other_tenants(guarded: GatewayUnderTest) -> None:
    shop, lab = {"Authorization": "Bearer s3cret"}, {"Authorization": "Bearer 0ther"}
    job_id = submit(guarded, headers=shop).json["id"]
    do_job(guarded, job_id)
    paths = ["", "/result", "/labels.png", "/masks/1.png", "/masks.zip", "/overlay.png"]

    own = [guarded.client.get(f"/v1/jobs/{job_id}{path}", headers=shop) for path in paths]
    others = [guarded.client.get(f"/v1/jobs/{job_id}{path}", headers=lab) for path in paths]

    assert {answer.status_code for answer in own} == {200}
    assert {answer.status_code for answer in others} == {404}
    assert guarded.client.delete(f"/v1/jobs/{job_id}", headers=lab).status_code == 404
    assert guarded.client.get("/v1/jobs", headers=lab).json["jobs"] == []


@pytest.mark.parametrize("sent", ["", "a b", "x" * 65, '"; drop'])
def test_a_request_id_that_is_not_sane_is_replaced(maskmill: GatewayUnderTest, sent: str) -> None:
    given = maskmill.client.get("/healthz", headers={"X-Request-ID": sent}).headers["X-Request-ID"]

    assert given != sent
    assert len(given) == 32


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nothing/here", 404), ("PUT", "/v1/jobs", 405), ("POST", "/v1/models", 405), ("GET", "/predict", 405)],
)
def test_every_wrong_turn_is_answered_in_json(maskmill: GatewayUnderTest, method: str, path: str, status: int) -> None:
    answer = maskmill.client.open(path, method=method)

    assert answer.status_code == status
    assert set(answer.json) == {"error", "error_type", "request_id"}
    assert answer.json["request_id"] == answer.headers["X-Request-ID"]


def test_the_metrics_tell_of_requests_and_of_the_backlog(clean_redis: str, storage_env: dict[str, str]) -> None:
    maskmill = gateway(clean_redis, storage_env)
    # An answer counts when it has been sent, which the test client takes for granted only once it is closed.
    submit(maskmill).close()
    maskmill.client.get("/v1/jobs/unknown").close()

    told = maskmill.client.get("/metrics").text.splitlines()

    assert 'maskmill_requests_total{method="POST",route="/v1/jobs",status="202"} 1.0' in told
    assert 'maskmill_jobs_submitted_total{priority="normal"} 1.0' in told
    assert 'maskmill_refusals_total{code="unknown_job"} 1.0' in told
    assert 'maskmill_backlog_jobs{model="maskmill/embedded",priority="normal"} 1.0' in told
    assert "maskmill_store_up 1.0" in told


def test_the_description_names_every_public_route(maskmill: GatewayUnderTest) -> None:
    described = maskmill.client.get("/openapi.json").json

    documented = {(method.upper(), path) for path, operations in described["paths"].items() for method in operations}
    rules = maskmill.client.application.url_map.iter_rules()
    served = {
        (method, _described(rule.rule))
        for rule in rules
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        if rule.rule.startswith("/v1/")
    }
    assert served <= documented
    assert {operation["summary"] for operations in described["paths"].values() for operation in operations.values()}


def test_every_answer_is_what_the_description_says(maskmill: GatewayUnderTest) -> None:
    schemas = maskmill.client.get("/openapi.json").json["components"]["schemas"]

    job = submit(maskmill).json
    do_job(maskmill, job["id"])
    result = maskmill.client.get(job["links"]["result"]).json
    error = maskmill.client.get("/v1/jobs/none").json

    assert set(job) == set(schemas["JobView"]["properties"])
    assert set(result) == set(schemas["ResultView"]["properties"])
    assert set(result["segments"][0]) == set(schemas["SegmentView"]["properties"])
    assert set(error) == set(schemas["ErrorView"]["properties"])


def inputs(maskmill: GatewayUnderTest) -> list[str]:
    return [found.key for found in maskmill.services.bucket.listing("inbox/")]


def _described(rule: str) -> str:
    for converter in ("path:", "int:"):
        rule = rule.replace(converter, "")
    return rule.replace("<", "{").replace(">", "}")
