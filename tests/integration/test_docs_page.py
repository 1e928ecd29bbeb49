"""The page of the API's documentation; a browser draws it in tests/e2e/test_browser.py."""

import re
from collections.abc import Mapping

import pytest

from tests.support.gateway import GatewayUnderTest, open_gateway, open_shared_gateway


@pytest.fixture
def gateway(redis_url: str, storage_env: Mapping[str, str]) -> GatewayUnderTest:
    return open_shared_gateway(redis_url, storage_env)


def test_the_page_loads_its_script_and_the_document_from_this_service(gateway: GatewayUnderTest) -> None:
    page = gateway.client.get("/docs/api")
    addresses = re.findall(r'(?:src|spec-url|href)="([^"]*)"', page.text)

    answers = {address: gateway.client.get(address) for address in addresses}

    assert page.mimetype == "text/html"
    assert {address: answer.mimetype for address, answer in answers.items()} == {
        "/docs/rapidoc.js": "text/javascript",
        "/openapi.json": "application/json",
    }
    assert "default-src 'none'; script-src 'self';" in page.headers["Content-Security-Policy"]


def test_the_page_works_below_the_prefix_of_a_proxy(gateway: GatewayUnderTest) -> None:
    page = gateway.client.get("/docs/api", environ_overrides={"SCRIPT_NAME": "/masks"})

    assert 'src="/masks/docs/rapidoc.js"' in page.text
    assert 'spec-url="/masks/openapi.json"' in page.text


def test_the_page_needs_no_token(clean_redis: str, storage_env: dict[str, str]) -> None:
    gateway = open_gateway(clean_redis, storage_env, tokens="shop:s3cret")

    assert gateway.client.get("/docs/api").status_code == 200
    assert gateway.client.get("/v1/jobs").status_code == 401
