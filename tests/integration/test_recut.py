"""POST /v1/jobs/{id}/recut: through a gateway and a renderer, from logits that a worker has kept."""

import base64
import io
from collections.abc import Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from PIL import Image

from deploy.local.processes import Process
from shared import redis_keys
from shared.jobs.completion import read_result
from shared.jobs.event_log import EventLog
from shared.jobs.model import Idempotency, ImageFacts, JobRequest, JobState, Retention
from shared.redis_client import connect
from shared.settings import Settings
from shared.storage.keys import inbox_key, input_key, recut_key, recuts_prefix, result_key
from tests.conftest import Storage
from tests.support.environment import get_fields
from tests.support.gateway import GatewayUnderTest, open_gateway
from tests.support.jobs import ImmediateScheduler, build_request, png, store_input
from tests.support.keeping import MODEL, RULE, KeepingSegmenter
from tests.support.renderer import build_renderer, wait_alive
from tests.support.worker import InProcessWorker, build_worker
from worker.pipeline.recut import RecutKeeper
from worker.renderer.logits import RecentLogits

WIDTH, HEIGHT = 60, 40


@dataclass(frozen=True)
class Service:
    """Gateway and worker in this process, and the renderer as another."""

    gateway: GatewayUnderTest
    worker: InProcessWorker

    def run(self, **changes: object) -> JobRequest:
        """Run a job of WIDTH x HEIGHT, and return its request."""
        content = png(WIDTH, HEIGHT)
        facts = ImageFacts("png", WIDTH, HEIGHT, len(content), sha256(content).hexdigest())
        request = build_request(tenant="public", image=facts, retention=Retention(600), **changes)
        store_input(self.worker.bucket, request, content)
        self.worker.jobs.create(request)
        self.worker.run(request.id)
        assert self.worker.jobs.get(request.id).state is JobState.SUCCEEDED
        return request

    def recut(self, request: JobRequest | str, *, key: str | None = None, **members: object) -> Any:
        job_id = request if isinstance(request, str) else request.id
        headers = {} if key is None else {"Idempotency-Key": key}
        return self.gateway.client.post(f"/v1/jobs/{job_id}/recut", json=members, headers=headers)


@pytest.fixture(scope="module")
def env(redis_url: str, storage: Storage, bucket_name: str) -> dict[str, str]:
    # A stack of its own: a renderer reports itself only every few seconds, so no test may empty its Redis.
    return {
        **storage.get_env(bucket_name),
        "MASKMILL_REDIS_URL": redis_url,
        "MASKMILL_REDIS_PREFIX": "recut",
        "MASKMILL_STORAGE_PREFIX": "recut",
    }


@pytest.fixture(scope="module")
def renderer(env: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    with build_renderer(tmp_path_factory.mktemp("renderer"), env) as process:
        yield process


@pytest.fixture(scope="module")
def service(env: dict[str, str], renderer: Process) -> Iterator[Service]:
    fields = get_fields(env)
    settings = Settings(**fields)
    wait_alive(renderer, connect(settings))
    worker = replace(
        build_worker(settings),
        batches=ImmediateScheduler(KeepingSegmenter()),
        recuts=RecutKeeper(MODEL, RULE),
    )
    worker.leases.start()
    yield Service(open_gateway(fields.pop("redis_url"), {}, **fields), worker)
    worker.leases.stop()


def decode(labels: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(labels))))


def test_a_recut_has_the_segments_of_its_threshold(service: Service) -> None:
    request = service.run()

    strict, loose = service.recut(request), service.recut(request, threshold=0.5)

    assert (strict.status_code, loose.status_code) == (200, 200)
    assert [one["label"] for one in strict.json["segments"]] == ["sky"]
    assert [one["label"] for one in loose.json["segments"]] == ["sky", "cat"]
    assert [(one["area"], one["bbox"]) for one in loose.json["segments"]] == [
        (WIDTH * HEIGHT // 2, [0, 0, WIDTH, HEIGHT // 2]),
        (WIDTH * HEIGHT // 2, [0, HEIGHT // 2, WIDTH, HEIGHT // 2]),
    ]
    label_map = decode(loose.json["labels"])
    assert label_map.shape == (HEIGHT, WIDTH)
    assert (label_map[: HEIGHT // 2] == 1).all() and (label_map[HEIGHT // 2 :] == 2).all()
    assert loose.json["recut_of"] == request.id and loose.json["id"] is None
    assert loose.json["parameters"]["threshold"] == 0.5


def list_everything(service: Service) -> tuple[list[str], list[str]]:
    objects = [found.key for prefix in ("results/", "recuts/") for found in service.worker.bucket.list_objects(prefix)]
    return objects, list_jobs(service)


def list_jobs(service: Service) -> list[str]:
    return [job["id"] for job in service.gateway.client.get("/v1/jobs").json["jobs"]]


def test_nothing_is_stored_without_store(service: Service) -> None:
    request = service.run()
    before = list_everything(service)

    service.recut(request, threshold=0.5)

    assert list_everything(service) == before


def test_a_preview_is_smaller(service: Service) -> None:
    answer = service.recut(service.run(), threshold=0.5, max_side=30).json

    assert (answer["width"], answer["height"]) == (30, 20)
    assert decode(answer["labels"]).shape == (20, 30)
    assert [one["area"] for one in answer["segments"]] == [300, 300]


def test_other_formats_are_in_the_answer(service: Service) -> None:
    files = service.recut(service.run(), threshold=0.5, formats=["masks", "rle"]).json["files"]

    assert set(files) == {"masks", "rle"}
    assert base64.b64decode(files["masks"]["base64"]).startswith(b"PK")
    assert files["rle"]["media_type"] == "application/json" and files["rle"]["text"].startswith(("{", "["))


def test_the_overlay_is_drawn_while_the_photo_is_kept(service: Service) -> None:
    request = service.run()

    drawn = service.recut(request, threshold=0.5, formats=["overlay"])
    preview = service.recut(request, threshold=0.5, formats=["overlay"], max_side=30)
    stored = service.recut(request, threshold=0.5, store=True).json["id"]
    later = service.gateway.client.get(f"/v1/jobs/{stored}/overlay.png")
    service.worker.bucket.delete([input_key(request.id), inbox_key(request.id)])
    gone = service.recut(request, threshold=0.6, formats=["overlay"])

    assert decode(drawn.json["files"]["overlay"]["base64"]).shape == (HEIGHT, WIDTH, 3)
    assert decode(preview.json["files"]["overlay"]["base64"]).shape == (20, 30, 3)
    assert later.status_code == 200
    assert (gone.status_code, gone.json["error_type"]) == (410, "image_gone")


def test_a_stored_recut_is_a_job_of_its_own(service: Service) -> None:
    request = service.run()
    client = service.gateway.client

    answer = service.recut(request, threshold=0.5, formats=["masks"], store=True)

    assert answer.status_code == 201
    job_id = answer.json["id"]
    assert answer.headers["Location"] == answer.json["job_url"] == f"/v1/jobs/{job_id}"
    job = client.get(f"/v1/jobs/{job_id}").json
    assert (job["state"], job["recut_of"], job["formats"]) == ("succeeded", request.id, ["labels", "masks"])
    assert job["parameters"]["threshold"] == 0.5
    assert list_jobs(service)[:2] == [job_id, request.id]
    result = client.get(f"/v1/jobs/{job_id}/result").json
    assert [one["label"] for one in result["segments"]] == ["sky", "cat"]
    assert client.get(f"/v1/jobs/{job_id}/labels.png").data == base64.b64decode(answer.json["labels"])
    assert client.get(f"/v1/jobs/{job_id}/masks/2.png").status_code == 200
    # It has no logits of its own.
    again = service.recut(job_id)
    assert (again.status_code, again.json["recut_of"]) == (200, request.id)


def test_a_stored_recut_is_one_job_under_an_idempotency_key(service: Service) -> None:
    request, key = service.run(), uuid4().hex

    answers = [service.recut(request, key=key, threshold=0.5, store=True) for _ in range(2)]

    assert [one.status_code for one in answers] == [201, 201]
    first, again = (one.json for one in answers)
    assert (again["id"], again["segments"]) == (first["id"], first["segments"])
    assert list_jobs(service)[:2] == [first["id"], request.id]
    stored = service.gateway.client.get(f"/v1/jobs/{first['id']}/labels.png")
    assert stored.data == base64.b64decode(first["labels"])


def test_an_idempotency_key_stands_for_one_recut(service: Service) -> None:
    request, key = service.run(), uuid4().hex
    client = service.gateway.client
    service.recut(request, key=key, threshold=0.5, store=True)

    other = service.recut(request, key=key, threshold=0.6, store=True)
    submission = client.post("/v1/jobs", data=png(WIDTH, HEIGHT), headers={"Idempotency-Key": key})
    preview = service.recut(request, key=key, threshold=0.6)
    wrong = service.recut(request, key="x" * 256, store=True)

    assert [one.status_code for one in (other, submission, preview, wrong)] == [422, 422, 200, 400]
    assert other.json["error_type"] == submission.json["error_type"] == "idempotency_conflict"


def test_the_idempotency_key_of_a_purged_recut_is_free(service: Service) -> None:
    request, key = service.run(), uuid4().hex
    first = service.recut(request, key=key, threshold=0.5, store=True).json["id"]
    service.gateway.client.delete(f"/v1/jobs/{first}?purge=true")

    again = service.recut(request, key=key, threshold=0.5, store=True)

    assert again.status_code == 201
    assert again.json["id"] != first
    assert service.gateway.client.get(f"/v1/jobs/{again.json['id']}").status_code == 200


def test_a_stored_recut_says_what_it_comes_from(service: Service) -> None:
    request = service.run()
    client = service.gateway.client
    original = client.get(f"/v1/jobs/{request.id}/result").json["provenance"]

    job_id = service.recut(request, threshold=0.5, store=True).json["id"]

    result = client.get(f"/v1/jobs/{job_id}/result").json
    provenance = result["provenance"]
    same = ("image_sha256", "model", "model_revision", "forward", "dtype", "device", "libraries", "worker")
    assert [provenance[name] for name in same] == [original[name] for name in same]
    assert (provenance["parameters"]["threshold"], original["parameters"]["threshold"]) == (
        0.5,
        request.parameters.threshold,
    )
    assert provenance["timings_ms"] == result["timings_ms"]
    assert {"recut", "store"} & set(provenance["timings_ms"])
    assert (original["recut_of"], original["recut_libraries"]) == (None, None)
    assert provenance["recut_of"] == request.id
    assert set(provenance["recut_libraries"]) == {"torch", "numpy", "pillow", "maskmill"}


def test_a_stored_recut_has_the_image_of_its_job_while_that_is_kept(service: Service) -> None:
    request = service.run()
    client = service.gateway.client
    job_id = service.recut(request, threshold=0.5, store=True).json["id"]
    path = f"/v1/jobs/{job_id}/input"

    kept = client.get(path)
    service.worker.bucket.delete([input_key(request.id), inbox_key(request.id)])
    gone = client.get(path)

    assert (kept.status_code, kept.data) == (200, png(WIDTH, HEIGHT))
    assert (gone.status_code, gone.json["error_type"]) == (410, "gone")
    assert gone.json["kept_until"].endswith("Z")
    assert "not kept any more" in gone.json["error"]


def test_the_image_of_a_purged_job_is_not_shown_by_its_recut(service: Service) -> None:
    request = service.run()
    client = service.gateway.client
    job_id = service.recut(request, threshold=0.5, store=True).json["id"]
    content = client.get(f"/v1/jobs/{job_id}/input").data
    client.delete(f"/v1/jobs/{request.id}?purge=1")
    # As if the deletion were not complete.
    service.worker.bucket.put(input_key(request.id), content, content_type="image/png")

    assert client.get(f"/v1/jobs/{job_id}/input").status_code == 410


def test_a_stored_recut_counts_as_a_job_but_takes_no_quota(service: Service) -> None:
    request = service.run()
    before = service.gateway.client.get("/v1/usage").json["days"][-1]

    service.recut(request, threshold=0.5, store=True)

    after = service.gateway.client.get("/v1/usage").json["days"][-1]
    assert [after[name] - before[name] for name in ("submitted", "succeeded", "pixels")] == [1, 1, 0]


def test_a_recut_shows_only_the_labels_of_its_job(service: Service) -> None:
    request = service.run(labels=("cat",))

    strict, loose = service.recut(request), service.recut(request, threshold=0.5, formats=["masks"], store=True)

    assert strict.json["segments"] == []
    assert [(one["id"], one["label"]) for one in loose.json["segments"]] == [(1, "cat")]
    label_map = decode(loose.json["labels"])
    assert (label_map[: HEIGHT // 2] == 0).all() and (label_map[HEIGHT // 2 :] == 1).all()
    assert service.gateway.client.get(f"/v1/jobs/{loose.json['id']}").json["labels"] == ["cat"]
    assert service.gateway.client.get(f"/v1/jobs/{loose.json['id']}/masks/1.png").status_code == 200


def test_a_job_can_be_named_by_its_callers_own_id(service: Service) -> None:
    client_id = f"photo-{uuid4().hex}"
    request = service.run(client_id=client_id, idempotency=Idempotency("00" * 32, "00" * 32, 2e9))

    answer = service.recut(client_id, threshold=0.5, store=True)

    assert (answer.status_code, answer.json["recut_of"]) == (201, request.id)
    # The own id stays that of the job.
    assert service.gateway.client.get(f"/v1/jobs/{client_id}").json["id"] == request.id
    for file in ("overlay.png", "labels.png", "masks/1.png", "input"):
        assert service.gateway.client.get(f"/v1/jobs/{client_id}/{file}").status_code == 200, file


def test_a_stored_recut_is_told_of(service: Service) -> None:
    redis = connect(service.gateway.settings)
    request = service.run()
    redis.delete(redis_keys.WEBHOOK_OUTBOX)

    job_id = service.recut(request, threshold=0.5, store=True).json["id"]

    (watched,) = EventLog(redis).watch([job_id])
    assert watched is not None and [one.name for one in watched.events] == ["queued", "succeeded"]
    assert redis.zrange(redis_keys.WEBHOOK_OUTBOX, 0, -1) == [job_id]


def test_a_stored_recut_outlives_redis_and_can_be_purged(service: Service) -> None:
    job_id = service.recut(service.run(), threshold=0.5, store=True).json["id"]
    connect(service.gateway.settings).delete(redis_keys.job(job_id))

    assert service.gateway.client.get(f"/v1/jobs/{job_id}").json["state"] == "succeeded"
    assert service.gateway.client.delete(f"/v1/jobs/{job_id}?purge=1").status_code == 204
    assert service.gateway.client.get(f"/v1/jobs/{job_id}").status_code == 404
    assert service.worker.bucket.is_empty(f"results/{job_id}/")


def test_a_threshold_below_the_floor_is_refused_with_the_floor(service: Service) -> None:
    answer = service.recut(service.run(), threshold=0.04)

    assert (answer.status_code, answer.json["error_type"], answer.json["floor"]) == (422, "threshold_below_floor", 0.05)


def test_a_semantic_recut_has_to_be_asked_for_at_submission(service: Service) -> None:
    refused = service.recut(service.run(), subtask="semantic")
    answer = service.recut(service.run(keeps_all_queries=True), subtask="semantic")

    assert (refused.status_code, refused.json["error_type"]) == (422, "all_queries_needed")
    assert "recut=semantic" in refused.json["error"]
    assert [(one["label"], one["score"]) for one in answer.json["segments"]] == [("sky", None), ("cat", None)]


@pytest.mark.parametrize("were_used", [False, True])
def test_deleted_logits_are_gone(service: Service, were_used: bool) -> None:
    request = service.run()
    if were_used:
        assert service.recut(request, threshold=0.5).status_code == 200
    bucket = service.worker.bucket
    bucket.delete([found.key for found in bucket.list_objects(recuts_prefix(request.id))])

    answer = service.recut(request)

    assert (answer.status_code, answer.json["error_type"]) == (410, "recut_gone")
    # As long as the job, which is shorter than a day.
    assert answer.json["kept_until"] == service.gateway.client.get(f"/v1/jobs/{request.id}").json["expires_at"]


@pytest.mark.parametrize(
    ("recuts", "status", "code"),
    [
        (RecutKeeper(MODEL, None), 410, "recut_gone"),
        (RecutKeeper(None, RULE), 422, "recut_unsupported"),
    ],
    ids=["off", "family"],
)
def test_a_job_without_logits_says_why(service: Service, recuts: RecutKeeper, status: int, code: str) -> None:
    answer = replace(service, worker=replace(service.worker, recuts=recuts))

    refused = service.recut(answer.run())

    assert (refused.status_code, refused.json["error_type"]) == (status, code)


@pytest.mark.parametrize("were_used", [False, True])
def test_logits_that_others_were_stored_over_are_not_used(service: Service, were_used: bool) -> None:
    request = service.run()
    if were_used:
        assert service.recut(request, threshold=0.5).status_code == 200
    attempt = service.worker.jobs.get(request.id).attempt_name
    service.worker.bucket.put(recut_key(request.id, attempt), b"other", content_type="application/octet-stream")

    assert service.recut(request).json["error_type"] == "result_overwritten"


def test_the_logits_that_were_used_last_stay_in_memory(service: Service) -> None:
    bucket = service.worker.bucket
    first, second = (read_result(service.run().id, bucket=bucket) for _ in range(2))
    assert first and second
    size = RecentLogits(bucket).load(first).logits.nbytes
    recent = RecentLogits(bucket, max_bytes=size)

    loaded = recent.load(first)

    assert recent.load(first) is loaded
    recent.load(second)
    assert recent.load(first) is not loaded
    again = recent.load(first)
    recent.clear()
    assert recent.load(first) is not again


def test_a_job_that_has_not_ended_is_refused(service: Service) -> None:
    request = build_request(tenant="public")
    service.worker.jobs.create(request)

    answer = service.recut(request)

    assert (answer.status_code, answer.json["state"]) == (409, "queued")


def test_a_job_of_another_tenant_does_not_exist(service: Service) -> None:
    request = build_request(tenant="other")
    store_input(service.worker.bucket, request, png())
    service.worker.jobs.create(request)
    service.worker.run(request.id)

    assert not service.worker.bucket.is_empty(result_key(request.id).rpartition("/")[0] + "/")
    assert service.recut(request).status_code == 404


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "empty_body"),
        (b"[]", 400, "unreadable_body"),
        (b"{", 400, "unreadable_body"),
        (b'{"treshold": 1}', 400, "unknown_parameter"),
        (b'{"threshold": 1, "threshold": 1}', 400, "bad_parameter"),
        (b'{"threshold": 2}', 400, "bad_parameter"),
        (b'{"max_side": 0}', 400, "bad_parameter"),
        (b'{"max_side": true}', 400, "bad_parameter"),
        (b'{"store": "yes"}', 400, "bad_parameter"),
        (b'{"store": true, "max_side": 8}', 400, "bad_parameter"),
        (b'{"formats": ["jpeg"]}', 400, "bad_parameter"),
        (b" " * 20_000 + b"{}", 413, "body_too_large"),
    ],
)
def test_a_wrong_body_is_refused(service: Service, body: bytes, status: int, code: str) -> None:
    answer = service.gateway.client.post(f"/v1/jobs/{'0' * 32}/recut", data=body, content_type="application/json")

    assert (answer.status_code, answer.json["error_type"]) == (status, code)
