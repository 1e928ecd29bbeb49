"""The job API of the whole service over HTTP: options, own ids, lists, events, files, recuts, retention."""

import base64
import hashlib
import io
import json
import zipfile
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from deploy.local.sample_job import SAMPLE_IMAGE
from deploy.local.stack import Stack
from shared.formats.registry import FORMATS
from tests.support.bodies import BOUNDARY, encode_form
from tests.support.environment import copy_environment
from tests.support.polling import wait_until

PHOTO = SAMPLE_IMAGE.read_bytes()
JSON = "application/json"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("stack"), environ=copy_environment()) as running:
        yield running.start()


def send(
    service: Stack, method: str, path: str, body: bytes | None = None, **headers: str
) -> tuple[int, dict[str, str], bytes]:
    """Send a request; return the status, the headers by their names in lower case, and the body."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    response = service.client.request(method, path, body, sent.pop("Content-Type", "image/jpeg"), sent)
    return response.status, dict(response.headers), response.body


def call(service: Stack, method: str, path: str, body: Any = None, **headers: str) -> Any:
    """Send JSON or a photo, and return the JSON of an answer that is no error."""
    content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    status, _, answer = send(service, method, path, content, **headers)
    assert status < 300, (status, answer[:500])
    return json.loads(answer) if answer else {}


def decode_png(content: bytes) -> NDArray[Any]:
    decoded = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    assert decoded is not None
    return np.asarray(decoded)


@pytest.fixture(scope="module")
def job(service: Stack) -> Any:
    """A job that has succeeded, submitted with options."""
    query = "?priority=low&formats=rle&recut=semantic&metadata=%7B%22order%22%3A17%7D&deadline_seconds=600"
    result = call(service, "POST", f"/v1/jobs{query}", PHOTO, Prefer="wait=60")
    assert result["segments"]
    return call(service, "GET", f"/v1/jobs/{result['id']}")


@pytest.fixture(scope="module")
def plain_job(service: Stack) -> Any:
    """A job that has succeeded, submitted without options."""
    return call(service, "POST", "/v1/jobs", PHOTO, Prefer="wait=60")


def test_a_submission_that_waits_is_answered_with_the_result(service: Stack) -> None:
    status, headers, body = send(service, "POST", "/v1/jobs", PHOTO, Prefer="wait=60")

    assert status == 200
    assert headers["preference-applied"] == "wait=60"
    assert {segment["label"] for segment in json.loads(body)["segments"]} >= {"person"}


def test_options_are_shown_with_the_job(job: Any) -> None:
    assert (job["state"], job["priority"], job["metadata"]) == ("succeeded", "low", {"order": 17})
    assert job["deadline_at"].endswith("Z")
    assert job["created_at"] < job["started_at"] < job["ended_at"] < job["expires_at"]


def test_an_own_id_names_the_job_on_every_route(service: Stack) -> None:
    first = call(service, "PUT", "/v1/jobs/street-17?labels=person", PHOTO, Prefer="wait=60")
    again = call(service, "PUT", "/v1/jobs/street-17?labels=person", PHOTO)
    other, _, _ = send(service, "PUT", "/v1/jobs/street-17?labels=car", PHOTO)

    assert again["id"] == first["id"]
    assert other == 409
    assert {one["label"] for one in call(service, "GET", "/v1/jobs/street-17/result")["segments"]} == {"person"}
    assert send(service, "GET", "/v1/jobs/street-17/labels.png")[0] == 200


def test_each_image_of_a_form_becomes_a_job(service: Stack) -> None:
    files = [("file", PHOTO, "a.jpg"), ("file", b"no image", "b.txt"), ("file", PHOTO, "c.jpg")]
    form = encode_form(*files, ("metadata", b'{"set": "form"}', None))

    status, _, body = send(service, "POST", "/v1/jobs", form, Content_Type=f"multipart/form-data; boundary={BOUNDARY}")

    parts = json.loads(body)["jobs"]
    assert status == 207
    assert [part["status"] for part in parts] == [202, 400, 202]
    listed = call(service, "GET", "/v1/jobs?metadata.set=form")["jobs"]
    assert {one["id"] for one in listed} == {parts[0]["job"]["id"], parts[2]["job"]["id"]}


def test_many_jobs_are_looked_up_at_once(service: Stack, job: Any) -> None:
    found = call(service, "GET", f"/v1/jobs?ids={job['id']},{'0' * 32}")

    assert [one["id"] for one in found["jobs"]] == [job["id"]]
    assert found["missing"] == ["0" * 32]


def test_events_lead_to_the_end_and_are_resumed(service: Stack) -> None:
    job_id = call(service, "POST", "/v1/jobs", PHOTO)["id"]

    status, headers, body = send(service, "GET", f"/v1/jobs/{job_id}/events")
    blocks = [block.splitlines() for block in body.decode().split("\n\n")]
    events = [
        dict(line.split(": ", 1) for line in block) for block in blocks if any("event: " in line for line in block)
    ]
    _, _, rest = send(service, "GET", f"/v1/jobs/{job_id}/events", Last_Event_ID=events[0]["id"])

    assert (status, headers["content-type"].partition(";")[0]) == (200, "text/event-stream")
    assert [event["event"] for event in events][:1] == ["queued"]
    assert events[-1]["event"] == "succeeded"
    assert rest.decode().count("event: succeeded") == 1
    assert "event: queued" not in rest.decode()


@pytest.mark.parametrize("output", FORMATS, ids=lambda one: one.name)
def test_every_format_is_had_later(service: Stack, job: Any, output: Any) -> None:
    path = f"/v1/jobs/{job['id']}/{output.file}"

    status, headers, body = send(service, "GET", path)

    assert status == 200, body[:300]
    assert headers["content-type"].partition(";")[0] in (output.media_type, output.other_media_type)
    assert send(service, "GET", path, If_None_Match=headers["etag"])[0] == 304
    ranged = send(service, "GET", path, Range="bytes=0-9")
    assert (ranged[0], ranged[2]) == (206, body[:10])


# Of pycocotools with this NumPy.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_formats_show_the_same_pixels(service: Stack, job: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    labels = decode_png(send(service, "GET", job["links"]["labels"])[2])
    masks = zipfile.ZipFile(io.BytesIO(send(service, "GET", job["links"]["masks"])[2]))
    file = tmp_path_factory.mktemp("coco") / "coco.json"
    file.write_bytes(send(service, "GET", job["links"]["coco"])[2])
    coco = COCO(str(file))

    segments = call(service, "GET", f"/v1/jobs/{job['id']}/result")["segments"]

    for segment, annotation in zip(segments, coco.loadAnns(coco.getAnnIds()), strict=True):
        expected = labels == segment["id"]
        assert np.array_equal(coco_mask.decode(annotation["segmentation"]) > 0, expected)
        assert np.array_equal(decode_png(masks.read(f"{segment['id']}.png")) > 0, expected)


@pytest.mark.parametrize("parameters", [{"threshold": 0.5}, {"threshold": 0.95}, {"subtask": "semantic"}])
def test_a_recut_shows_what_a_new_job_shows(service: Stack, job: Any, parameters: dict[str, Any]) -> None:
    query = "&".join(f"{name}={value}" for name, value in parameters.items())

    recut = call(service, "POST", f"/v1/jobs/{job['id']}/recut", parameters)
    fresh = call(service, "POST", f"/v1/jobs?{query}", PHOTO, Prefer="wait=60")

    names = ("label", "score", "area", "bbox")
    assert [[one[name] for name in names] for one in recut["segments"]] == [
        [one[name] for name in names] for one in fresh["segments"]
    ]
    png = send(service, "GET", f"/v1/jobs/{fresh['id']}/labels.png")[2]
    assert np.array_equal(decode_png(base64.b64decode(recut["labels"])), decode_png(png))


def test_a_stored_recut_is_a_job(service: Stack, job: Any) -> None:
    stored = call(service, "POST", f"/v1/jobs/{job['id']}/recut", {"threshold": 0.6, "store": True})

    view = call(service, "GET", f"/v1/jobs/{stored['id']}")

    assert (view["state"], view["recut_of"]) == ("succeeded", job["id"])
    assert send(service, "GET", view["links"]["labels"])[0] == 200


def test_a_job_is_kept_for_longer(service: Stack, job: Any) -> None:
    kept = call(service, "POST", f"/v1/jobs/{job['id']}/keep", {"seconds": 30 * 86400})

    assert kept["expires_at"] > job["expires_at"]


def test_many_jobs_are_canceled_and_leave_nothing_to_run_again(service: Stack) -> None:
    jobs = [call(service, "POST", "/v1/jobs?metadata=%7B%22set%22%3A%22many%22%7D", PHOTO)["id"] for _ in range(6)]
    canceled = call(service, "POST", "/v1/jobs/cancel?metadata.set=many")
    states = {one["id"]: one["state"] for one in call(service, "GET", f"/v1/jobs?ids={','.join(jobs)}")["jobs"]}
    ended = [job_id for job_id, state in states.items() if state == "canceled"]
    assert canceled["canceled"] == len(ended) > 0

    status, _, body = send(service, "POST", f"/v1/jobs/{ended[0]}/redrive")

    assert (status, json.loads(body)["error_type"]) == (410, "gone")


def test_models_queue_and_usage_are_shown(service: Stack, job: Any) -> None:
    model = call(service, "GET", f"/v1/models/{job['model']}")
    queue = call(service, "GET", "/v1/queue")["models"][0]
    usage = call(service, "GET", "/v1/usage")["days"][-1]

    assert {one["label"] for one in model["classes"]} >= {"person", "sky-other-merged"}
    assert set(model["subtasks"]) == {"panoptic", "instance", "semantic"}
    assert sum(minute["succeeded"] for minute in queue["last_hour"]) >= 1
    assert usage["succeeded"] >= 1
    assert usage["device_ms"] > 0


@pytest.mark.parametrize("prefix", ["", "data:image/jpeg;base64,"])
def test_an_image_may_be_in_json(service: Stack, prefix: str) -> None:
    body = {"inputs": prefix + base64.b64encode(PHOTO).decode(), "formats": ["labels"]}

    result = call(service, "POST", "/v1/jobs", body, Content_Type=JSON, Prefer="wait=60")

    assert {segment["label"] for segment in result["segments"]} >= {"person"}


def test_a_job_that_is_late_expires_and_says_where(service: Stack) -> None:
    job_id = call(service, "POST", "/v1/jobs?deadline_seconds=0.001", PHOTO)["id"]
    view = {}

    def is_final() -> bool:
        view.update(call(service, "GET", f"/v1/jobs/{job_id}?wait=5"))
        return view["state"] not in ("queued", "running")

    wait_until(is_final, "the end of the job", seconds=60)

    assert (view["state"], view["error_type"]) == ("expired", "deadline_passed")
    assert "queued" in view["error"] or "stage" in view["error"]


def test_a_result_says_what_it_was_computed_by(service: Stack, job: Any) -> None:
    provenance = call(service, "GET", f"/v1/jobs/{job['id']}/result")["provenance"]

    assert provenance["image_sha256"] == hashlib.sha256(PHOTO).hexdigest()
    assert {"torch", "maskmill"} <= set(provenance["libraries"])
    assert provenance["model_revision"] and provenance["worker"]


def test_all_processes_are_seen(service: Stack) -> None:
    ready = call(service, "GET", "/readyz")

    assert (ready["status"], ready["checks"]["renderer"], ready["checks"]["steward"]) == ("ok", "ok", "ok")
    assert call(service, "GET", "/v1/queue")["renderer"] == {"is_alive": True, "queued": 0}


ENCODED = base64.b64encode(PHOTO).decode()


@pytest.mark.parametrize(
    ("method", "path", "body", "answer", "sentence"),
    [
        ("POST", "/v1/jobs?formats=gif", PHOTO, (400, "bad_parameter"), "geojson"),
        ("POST", "/v1/jobs?priority=urgent", PHOTO, (400, "bad_parameter"), "interactive"),
        ("POST", "/v1/jobs?colour=red", PHOTO, (400, "unknown_parameter"), "colour"),
        ("POST", "/v1/jobs", {"inputs": ENCODED, "metadata": {"a": "x" * 5000}}, (413, "metadata_too_large"), "4096"),
        ("POST", "/v1/jobs", {"inputs": "https://photos.example/a.jpg"}, (422, "forbidden_input"), "URL"),
        ("POST", "/v1/jobs/{plain}/recut", {"threshold": 0.01}, (422, "threshold_below_floor"), "0.05"),
        ("DELETE", "/v1/jobs/{job}", None, (409, "already_ended"), "succeeded"),
        ("POST", "/v1/jobs/{job}/redrive", None, (409, "already_ended"), "succeeded"),
        ("GET", f"/v1/jobs/{'0' * 32}/labels.png", None, (404, "unknown_job"), "job"),
    ],
)
def test_what_is_wrong_is_named(
    service: Stack, job: Any, plain_job: Any, method: str, path: str, body: Any, answer: tuple[int, str], sentence: str
) -> None:
    content = json.dumps(body).encode() if isinstance(body, dict) else body
    headers = {"Content_Type": JSON} if isinstance(body, dict) else {}

    place = path.replace("{job}", job["id"]).replace("{plain}", plain_job["id"])
    status, _, error = send(service, method, place, content, **headers)

    assert (status, json.loads(error)["error_type"]) == answer
    assert sentence in json.loads(error)["error"]


def test_all_data_of_a_tenant_are_deleted(service: Stack) -> None:
    """The last test of this file: it leaves nothing."""
    call(service, "DELETE", "/v1/data")

    def is_empty() -> bool:
        return not call(service, "GET", "/v1/jobs")["jobs"]

    wait_until(is_empty, "the end of the deletion", seconds=60)
