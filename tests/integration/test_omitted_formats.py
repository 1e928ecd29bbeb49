"""Formats that cannot hold a result, such as polygons of noise: they alone are missing, and everything says why."""

import io
import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest

from deploy.local.processes import Process
from shared.formats.registry import FORMATS, get_format
from shared.redis_client import connect
from shared.settings import Settings
from tests.conftest import Storage
from tests.support.environment import get_fields
from tests.support.gateway import GatewayUnderTest, open_gateway
from tests.support.jobs import ImmediateScheduler, png
from tests.support.keeping import MODEL, RULE, CheckerSegmenter, StripeSegmenter
from tests.support.renderer import build_renderer, wait_alive
from tests.support.worker import InProcessWorker, build_worker
from worker.pipeline.recut import RecutKeeper

SIDE = 720  # pixels; nearly as many corners as it has pixels
WITH_OUTLINES = ["polygons", "geojson", "yolo", "labelstudio", "labelme"]
OTHERS = sorted(one.name for one in FORMATS if one.name not in WITH_OUTLINES)


@dataclass(frozen=True)
class Service:
    """Gateway and worker in this process, and the renderer as another."""

    gateway: GatewayUnderTest
    worker: InProcessWorker

    def run(self, formats: str, side: int = SIDE, **query: str) -> Any:
        """Run a job whose segments have too many corners; return its view."""
        asked = {"formats": formats, **query}
        job_id = self.gateway.client.post("/v1/jobs", query_string=asked, data=png(side, side)).json["id"]
        self.worker.run(job_id)
        return self.get(f"/v1/jobs/{job_id}").json

    def get(self, path: str) -> Any:
        return self.gateway.client.get(path)


@pytest.fixture(scope="module")
def env(redis_url: str, storage: Storage, bucket_name: str) -> dict[str, str]:
    # A stack of its own: a renderer reports itself only every few seconds, so no test may empty its Redis.
    return {
        **storage.get_env(bucket_name),
        "MASKMILL_REDIS_URL": redis_url,
        "MASKMILL_REDIS_PREFIX": "omitted",
        "MASKMILL_STORAGE_PREFIX": "omitted",
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
        batches=ImmediateScheduler(CheckerSegmenter()),
    )
    worker.leases.start()
    gateway = open_gateway(fields.pop("redis_url"), {}, storage_public_endpoint="http://files.example", **fields)
    yield Service(gateway, worker)
    worker.leases.stop()


@pytest.fixture(scope="module")
def job(service: Service) -> Any:
    """A job that was submitted with every format."""
    return service.run(",".join(one.name for one in FORMATS))


def read_error(answer: Any) -> tuple[int, str, str]:
    return answer.status_code, answer.json["error_type"], answer.json["error"]


def test_the_job_succeeds_and_its_result_names_what_is_omitted(service: Service, job: Any) -> None:
    result = service.get(job["links"]["result"] + "?urls=1").json

    assert (job["state"], job["error"]) == ("succeeded", None)
    assert list(result["omitted"]) == WITH_OUTLINES
    assert {one["error_type"] for one in result["omitted"].values()} == {"too_many_corners"}
    assert all("at most 500000 are drawn as polygons" in one["error"] for one in result["omitted"].values())
    assert sorted(result["urls"]) == OTHERS


def test_all_other_files_are_there(service: Service, job: Any) -> None:
    answers = {name: service.get(job["links"][name]).status_code for name in OTHERS}

    assert answers == dict.fromkeys(OTHERS, 200)


@pytest.mark.parametrize("name", WITH_OUTLINES)
def test_a_file_that_is_omitted_is_answered_with_the_reason(service: Service, job: Any, name: str) -> None:
    reason = service.get(job["links"]["result"]).json["omitted"][name]

    answer = read_error(service.get(job["links"][name]))

    assert answer == (422, reason["error_type"], reason["error"])


def test_all_zip_says_what_it_lacks(service: Service, job: Any) -> None:
    archive = zipfile.ZipFile(io.BytesIO(service.get(job["links"]["all"]).data))

    missing = json.loads(archive.read("omitted.json"))

    assert missing == service.get(job["links"]["result"]).json["omitted"]
    assert set(archive.namelist()) == {get_format(name).file for name in OTHERS if name != "all"} | {"omitted.json"}


def test_what_is_asked_for_later_is_answered_alike(service: Service, job: Any) -> None:
    later = service.run("labels")

    answer = read_error(service.get(later["links"]["yolo"]))
    archive = zipfile.ZipFile(io.BytesIO(service.get(later["links"]["all"]).data))

    assert answer == read_error(service.get(job["links"]["yolo"]))
    assert list(json.loads(archive.read("omitted.json"))) == WITH_OUTLINES
    assert service.get(later["links"]["result"]).json["omitted"] == {}


def test_an_option_can_be_what_a_format_cannot_hold(service: Service) -> None:
    with_polygons = service.run("coco", coco_polygons="true")

    refused = service.get(with_polygons["links"]["coco"])
    as_masks = service.get(with_polygons["links"]["coco"] + "?coco_polygons=false")

    assert (refused.status_code, as_masks.status_code) == (422, 200)


def test_a_stored_recut_has_the_other_files_and_says_why(service: Service) -> None:
    stripes = ImmediateScheduler(StripeSegmenter())
    worker = replace(service.worker, batches=stripes, recuts=RecutKeeper(MODEL, RULE))
    smooth = replace(service, worker=worker).run("labels,polygons", side=2000)
    asked = {"threshold": 0.5, "formats": ["rle", "polygons"], "store": True}

    recut = service.gateway.client.post(f"/v1/jobs/{smooth['id']}/recut", json=asked).json

    assert service.get(smooth["links"]["result"]).json["omitted"] == {}

    assert (list(recut["files"]), list(recut["omitted"])) == (["rle"], ["polygons"])
    assert recut["omitted"]["polygons"]["error_type"] == "too_many_corners"
    assert list(service.get(f"{recut['job_url']}/result").json["omitted"]) == ["polygons"]
    assert service.get(f"{recut['job_url']}/polygons.json").status_code == 422
    assert service.get(f"{recut['job_url']}/rle.json").status_code == 200
