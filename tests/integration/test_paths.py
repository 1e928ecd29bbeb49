"""Paths with more slashes than one in a row, and with segments of dots."""

import pytest

from tests.support.gateway import GatewayUnderTest
from tests.support.jobs import MODEL, png
from tests.support.routes import list_requests


def write_path(path: str) -> dict[str, str]:
    """Return the path for the environment: in a URL the test's client takes what follows `//` for a host."""
    return {"PATH_INFO": path, "RAW_URI": path}


def test_more_slashes_than_one_are_one_on_every_route(gateway: GatewayUnderTest) -> None:
    for method, path, _ in list_requests(gateway.client.application):
        if method == "GET":
            plain = gateway.client.get(path)
            slashes = gateway.client.get("/", environ_overrides=write_path(path.replace("/", "//")))

            assert (slashes.status_code, slashes.headers.get("Location")) == (plain.status_code, None), path


@pytest.mark.parametrize(
    "path", ["//", "///predict", f"//models//{MODEL}//", f"/hf-inference//models/{MODEL}", "/v1//jobs", "//v1/jobs///"]
)
def test_a_post_to_a_path_with_slashes_keeps_its_body(gateway_with_worker: GatewayUnderTest, path: str) -> None:
    response = gateway_with_worker.client.post("/", data=png(), environ_overrides=write_path(path))

    assert response.status_code in (200, 202)
    assert response.headers.get("Location", "/v1/jobs/").startswith("/v1/jobs/")


@pytest.mark.parametrize("path", ["//evil.example/", "//evil.example//v1/jobs", "/\\evil.example", "//v1/none"])
def test_a_path_that_begins_like_a_host_is_no_redirect(gateway: GatewayUnderTest, path: str) -> None:
    response = gateway.client.get("/", environ_overrides=write_path(path))

    assert (response.status_code, response.headers.get("Location")) == (404, None)


@pytest.mark.parametrize(
    "path", ["/./v1/jobs", "/v1/../v1/jobs", "/v1/jobs/.", "/v1//../jobs", "/..", "/models/./..//"]
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_segments_of_dots_are_part_of_a_name(gateway: GatewayUnderTest, method: str, path: str) -> None:
    response = gateway.client.open("/", method=method, data=png(), environ_overrides=write_path(path))

    assert response.status_code in (404, 405)
