"""The file of every format, from a job's submission to its route."""

import pytest

from shared.formats.registry import FORMAT_NAMES, FORMATS
from tests.support.gateway import GatewayUnderTest, open_shared_gateway, run_job
from tests.support.geotiffs import utm
from tests.support.jobs import png


@pytest.fixture
def gateway(clean_redis: str, storage_env: dict[str, str]) -> GatewayUnderTest:
    return open_shared_gateway(clean_redis, storage_env)


def run(gateway: GatewayUnderTest, image: bytes, formats: str) -> dict[str, str]:
    """Return the links of a job that has run."""
    job = gateway.client.post("/v1/jobs", query_string={"formats": formats}, data=image).json
    run_job(gateway, job["id"])
    return dict(job["links"])


def test_every_format_is_served_as_it_says(gateway: GatewayUnderTest) -> None:
    links = run(gateway, png(), ",".join(FORMAT_NAMES))

    answers = {one.name: gateway.client.get(links[one.name]) for one in FORMATS}

    assert {name: answer.status_code for name, answer in answers.items()} == dict.fromkeys(FORMAT_NAMES, 200)
    assert all(answer.data for answer in answers.values())
    for one in FORMATS:
        assert answers[one.name].content_type.partition(";")[0] == (one.other_media_type or one.media_type)
    result = gateway.client.get(links["result"]).json
    assert {result[one.result_field] for one in FORMATS} == {links[name] for name in FORMAT_NAMES}


def test_geojson_of_a_geotiff_is_in_degrees(gateway: GatewayUnderTest) -> None:
    links = run(gateway, utm(), "geojson")

    answer = gateway.client.get(links["geojson"])

    assert answer.content_type == "application/geo+json"
    assert answer.json["coordinate_unit"] == "degree"
    first = answer.json["features"][0]["geometry"]["coordinates"][0][0]
    assert (round(first[0], 3), round(first[1], 2)) == (15.0, 45.15)
