"""The page of the API's reference: all that the OpenAPI document has, and nothing from elsewhere."""

import re
from collections.abc import Mapping

import pytest

from tests.support.gateway import GatewayUnderTest, open_gateway, open_shared_gateway


@pytest.fixture
def gateway(redis_url: str, storage_env: Mapping[str, str]) -> GatewayUnderTest:
    return open_shared_gateway(redis_url, storage_env)


def test_every_operation_parameter_answer_and_object_is_shown(gateway: GatewayUnderTest) -> None:
    document = gateway.client.get("/openapi.json").json
    page = gateway.client.get("/docs/api").text
    operations = [
        (method, path, facts) for path, methods in document["paths"].items() for method, facts in methods.items()
    ]

    assert len(operations) > 40
    for method, path, facts in operations:
        section = page.partition(f'<h3 id="{facts["operationId"]}">')[2].partition("</section>")[0]
        assert f">{method.upper()}</span> <code>{path}</code>" in section
        assert re.findall(
            r'<th scope="row"><code>([^<]+)</code>.*\n *<td class="fields__place">(?:query|path|header)<', section
        ) == [parameter["name"] for parameter in facts.get("parameters", ())]
        assert set(re.findall(r"<dt>(\d+)</dt>", section)) == set(facts["responses"])
    assert set(re.findall(r'<h3 id="(\w+)"><code>\1</code>', page)) == set(document["components"]["schemas"])


def test_every_link_of_the_page_leads_somewhere(gateway: GatewayUnderTest) -> None:
    page = gateway.client.get("/docs/api").text
    anchors = re.findall(r' id="([^"]+)"', page)

    links = set(re.findall(r'href="([^"]+)"', page))

    assert len(anchors) == len(set(anchors))
    assert {link for link in links if link.startswith("#")} <= {f"#{anchor}" for anchor in anchors}
    served = links - {link for link in links if link.startswith("#")}
    statuses = {link: gateway.client.get(link, headers={"Accept": "text/html"}).status_code for link in served}
    assert statuses == dict.fromkeys(served, 200)


def test_the_page_runs_no_script_of_its_own(gateway: GatewayUnderTest) -> None:
    page = gateway.client.get("/docs/api")

    assert page.mimetype == "text/html"
    assert re.findall(r"<script(?! type=\"importmap\")", page.text) == []
    assert "style=" not in page.text
    assert "default-src 'none'; script-src 'self' 'sha256-" in page.headers["Content-Security-Policy"]


def test_the_page_works_below_the_prefix_of_a_proxy(gateway: GatewayUnderTest) -> None:
    page = gateway.client.get("/docs/api", environ_overrides={"SCRIPT_NAME": "/masks"}).text

    assert all(link.startswith(("/masks/", "#")) for link in re.findall(r'(?:href|src)="([^"]+)"', page))


def test_the_page_needs_no_token_and_says_that_the_api_does(clean_redis: str, storage_env: dict[str, str]) -> None:
    gateway = open_gateway(clean_redis, storage_env, tokens="shop:s3cret")

    page = gateway.client.get("/docs/api")

    assert page.status_code == 200
    assert "Authorization: Bearer" in page.text
    assert gateway.client.get("/v1/jobs").status_code == 401
