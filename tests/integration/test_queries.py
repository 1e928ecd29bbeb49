"""Queries: a parameter that is given twice, one that a route does not have, and blanks around a value."""

from collections.abc import Iterator

import pytest

from tests.support.gateway import GatewayUnderTest, open_shared_gateway
from tests.support.jobs import MODEL, png
from tests.support.routes import list_requests

SUBMISSIONS = ["/", f"/models/{MODEL}", "/v1/jobs"]


@pytest.fixture
def gateway(clean_redis: str, storage_env: dict[str, str]) -> GatewayUnderTest:
    """A gateway without a worker."""
    return open_shared_gateway(clean_redis, storage_env)


def list_routes(gateway: GatewayUnderTest) -> Iterator[tuple[str, str]]:
    """Yield method and path of every route."""
    for method, path, endpoint in list_requests(gateway.client.application):
        if endpoint and method not in ("HEAD", "OPTIONS"):
            yield method, path


def test_a_parameter_that_is_twice_in_the_query_is_refused_on_every_route(gateway: GatewayUnderTest) -> None:
    for method, path in list_routes(gateway):
        response = gateway.client.open(f"{path}?wait=1&threshold=0.5&wait=1", method=method, data=png())

        assert response.status_code == 400, path
        assert response.json["error"] == "'wait' is given twice in the query; give it once."


@pytest.mark.parametrize("query", ["threshold=0.5&threshold=0.6", "formats=masks&formats=rle", "threshold=&threshold="])
@pytest.mark.parametrize("path", SUBMISSIONS)
def test_a_submission_refuses_a_repeated_parameter(gateway: GatewayUnderTest, path: str, query: str) -> None:
    response = gateway.client.post(f"{path}?{query}", data=png())

    assert (response.status_code, response.json["error_type"]) == (400, "bad_parameter")
    assert "is given twice in the query" in response.json["error"]


def test_a_preflight_is_answered_whatever_its_query(gateway: GatewayUnderTest) -> None:
    assert gateway.client.options("/v1/jobs?a=1&a=1").status_code == 204


def test_no_route_of_v1_ignores_a_query(gateway: GatewayUnderTest) -> None:
    for method, path in list_routes(gateway):
        if path.startswith("/v1/"):
            response = gateway.client.open(f"{path}?wiat=20", method=method, data=png())

            assert (response.status_code, response.json["error_type"]) == (400, "unknown_parameter"), path


@pytest.mark.parametrize(
    "target",
    [
        "/v1/jobs?limit=%205%0A&state=%09queued%20",
        "/v1/jobs?limit=5%0D%0A",
        f"/v1/jobs/{'0' * 32}?wait=%200%0A",
    ],
)
def test_blanks_around_a_value_of_a_query_do_not_count(gateway: GatewayUnderTest, target: str) -> None:
    assert gateway.client.get(target).status_code in (200, 404)


def test_blanks_around_purge_do_not_count(gateway: GatewayUnderTest) -> None:
    job = gateway.client.post("/v1/jobs", data=png()).json

    assert gateway.client.delete(f"/v1/jobs/{job['id']}?purge=%20true%0A").status_code == 204
