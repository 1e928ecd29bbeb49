"""The provenance of a result: what it was computed from and by, to compute it again."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import PIL
import torch
import transformers

from shared import __version__
from shared.jobs.completion import read_result
from shared.storage.keys import result_key
from tests.support.gateway import GatewayUnderTest, run_job
from tests.support.images import sideways_cat
from tests.support.jobs import FakeSegmenter, png
from worker.main import describe_execution


def submit(gateway: GatewayUnderTest, image: bytes) -> str:
    job_id: str = gateway.client.post("/v1/jobs?formats=labels&threshold=0.7", data=image).json["id"]
    run_job(gateway, job_id)
    return job_id


def test_a_result_says_what_it_was_computed_from_and_by(gateway: GatewayUnderTest) -> None:
    image = sideways_cat()

    result = gateway.client.get(f"/v1/jobs/{submit(gateway, image)}/result").json

    provenance = result["provenance"]
    assert provenance["image_sha256"] == hashlib.sha256(image).hexdigest()
    assert provenance["exif_orientation"] == 6
    assert (provenance["model"], provenance["model_revision"]) == (result["model"], FakeSegmenter.revision)
    assert (provenance["forward"], provenance["dtype"], provenance["device"]) == ("exact", "float32", "cpu")
    assert provenance["libraries"] == {"pillow": PIL.__version__, "maskmill": __version__}
    assert provenance["parameters"]["threshold"] == 0.7
    assert provenance["attempt"] == 1
    assert provenance["timings_ms"] == result["timings_ms"]


def test_an_upright_image_was_not_turned(gateway: GatewayUnderTest) -> None:
    result = gateway.client.get(f"/v1/jobs/{submit(gateway, png())}/result").json

    assert result["provenance"]["exif_orientation"] == 1


def test_a_result_of_an_earlier_version_has_no_provenance(gateway: GatewayUnderTest) -> None:
    job_id = submit(gateway, png())
    result = read_result(job_id, bucket=gateway.stores.bucket)
    assert result is not None
    earlier = replace(result, provenance=None).to_json().replace(b',"provenance":null', b"")
    gateway.stores.bucket.put(result_key(job_id), earlier, content_type="application/json")

    assert gateway.client.get(f"/v1/jobs/{job_id}/result").json["provenance"] is None


def test_the_engine_names_its_libraries() -> None:
    execution = describe_execution(FakeSegmenter())

    assert execution.libraries == {"torch": torch.__version__, "transformers": transformers.__version__}
