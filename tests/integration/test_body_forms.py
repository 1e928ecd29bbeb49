"""Bodies that clients send by mistake, over a real Valkey and a real object store: alike on every route."""

import pytest

from tests.support.body_forms import READ, REFUSED
from tests.support.gateway import GatewayUnderTest, open_shared_gateway
from tests.support.jobs import MODEL

PATHS = ("/", f"/models/{MODEL}", "/v1/jobs")


@pytest.fixture
def gateway(clean_redis: str, storage_env: dict[str, str]) -> GatewayUnderTest:
    """A gateway without a worker."""
    return open_shared_gateway(clean_redis, storage_env)


def test_what_has_one_meaning_is_a_job(gateway: GatewayUnderTest) -> None:
    sizes = set()
    for body, content_type in READ.values():
        response = gateway.client.post("/v1/jobs", data=body, content_type=content_type)

        assert response.status_code == 202, response.json
        sizes.add((response.json["image"]["width"], response.json["image"]["height"]))

    assert sizes == {(40, 30)}


def test_the_rest_has_the_same_sentence_on_every_route(gateway: GatewayUnderTest) -> None:
    for name, (body, content_type, _) in REFUSED.items():
        # Only jobs may name a URL, where it is turned on; tests/integration/test_url_inputs.py.
        paths = PATHS[:-1] if name == "the image in JSON as a URL" else PATHS
        responses = [gateway.client.post(path, data=body, content_type=content_type) for path in paths]

        assert {response.status_code for response in responses} == {400}
        assert len({response.json["error"] for response in responses}) == 1
