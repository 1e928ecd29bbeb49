"""The documents over HTTP: all are listed, their links lead somewhere, and no path of a client opens a file."""

import posixpath
import re
from collections.abc import Mapping

import pytest

from api.ui.documents import SECTIONS, read_documents
from tests.support.gateway import GatewayUnderTest, open_shared_gateway

NAMES = [name for section in SECTIONS for name in section.files]


@pytest.fixture
def gateway(redis_url: str, storage_env: Mapping[str, str]) -> GatewayUnderTest:
    return open_shared_gateway(redis_url, storage_env)


def read_links(html: str) -> list[str]:
    main = html.partition("<main")[2].partition("</main>")[0]
    return [link for link in re.findall(r'href="([^"]*)"', main) if "://" not in link]


def test_all_documents_are_listed_and_every_link_of_each_leads_somewhere(gateway: GatewayUnderTest) -> None:
    listed = read_links(gateway.client.get("/docs").text)
    pages = {address: gateway.client.get(address).text for address in ["/docs", "/openapi.json", *listed]}

    broken = []
    for address, page in pages.items():
        for link in read_links(page):
            target, _, anchor = posixpath.join(posixpath.dirname(address), link).partition("#")
            path = address if link.startswith("#") else posixpath.normpath(target)
            if path not in pages or (anchor and f'id="{anchor}"' not in pages[path]):
                broken.append((address, link))

    assert listed == [*(f"/docs/{name}" for name in NAMES), "/docs/api"]
    assert broken == []


@pytest.mark.parametrize("name", NAMES)
def test_a_document_is_a_page_with_its_text(gateway: GatewayUnderTest, name: str) -> None:
    page = gateway.client.get(f"/docs/{name}")

    assert (page.status_code, page.mimetype) == (200, "text/html")
    assert read_documents()[name].html in page.text
    # The policy allows no style in a tag, and comments are for authors.
    assert "style=" not in page.text
    assert "&lt;!--" not in page.text and "<!--" not in page.text


@pytest.mark.parametrize(
    "path", ["none", "tutorial.md", "../README.md", "..%2f..%2fREADME.md", "%2fetc/passwd", "how-to", "how-to/none"]
)
def test_only_the_listed_documents_are_served(gateway: GatewayUnderTest, path: str) -> None:
    response = gateway.client.get(f"/docs/{path}")

    assert (response.status_code, response.json["error_type"]) == (404, "unknown_route")


def test_a_document_is_below_the_prefix_of_a_proxy(gateway: GatewayUnderTest) -> None:
    index = gateway.client.get("/docs", environ_overrides={"SCRIPT_NAME": "/masks"})

    assert all(link.startswith("/masks/docs/") for link in read_links(index.text))
