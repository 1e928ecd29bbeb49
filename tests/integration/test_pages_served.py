"""The pages and their files over HTTP: who gets them, how they are cached, and what a browser is told of them."""

import gzip
import json
import re

import pytest
from werkzeug.test import TestResponse

from api.ui.assets import read_assets
from tests.support.gateway import GatewayUnderTest, open_gateway, open_shared_gateway
from tests.support.jobs import png
from tests.support.routes import list_requests

BROWSER_ACCEPT = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"
HTML = {"Accept": BROWSER_ACCEPT}
PAGES = ["/", "/ui/ops", "/docs", "/docs/tutorial"]


@pytest.fixture
def gateway(clean_redis: str, storage_env: dict[str, str]) -> GatewayUnderTest:
    return open_shared_gateway(clean_redis, storage_env)


def list_addresses(page: TestResponse) -> list[str]:
    """Return the addresses of the files that a page loads, those of its map of imports among them."""
    found = re.findall(r'(?:src|href)="([^"]*)"', page.text)
    return [*(address for address in found if "/ui/static/" in address), *read_import_map(page).values()]


def read_import_map(page: TestResponse) -> dict[str, str]:
    (text,) = re.findall(r'<script type="importmap">(.*?)</script>', page.text)
    return json.loads(text)["imports"]


@pytest.mark.parametrize("path", PAGES)
def test_a_browser_gets_a_page_and_all_files_that_it_loads(gateway: GatewayUnderTest, path: str) -> None:
    page = gateway.client.get(path, headers=HTML)
    addresses = list_addresses(page)

    answers = {address: gateway.client.get(address) for address in addresses}

    assert (page.status_code, page.mimetype) == (200, "text/html")
    assert len(addresses) > 5
    assert {answer.status_code for answer in answers.values()} == {200}
    assert {answer.mimetype for answer in answers.values()} == {"text/javascript", "text/css", "image/svg+xml"}


@pytest.mark.parametrize("accept", [None, "*/*", "application/json", "application/json, text/html;q=0.9", "image/png"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_other_clients_are_told_that_the_root_takes_images(
    gateway: GatewayUnderTest, accept: str | None, method: str
) -> None:
    response = gateway.client.open("/", method=method, headers={} if accept is None else {"Accept": accept})

    assert (response.status_code, response.headers["Allow"]) == (405, "OPTIONS, POST")
    assert method == "HEAD" or response.json["error_type"] == "wrong_method"


def test_a_photo_that_is_posted_to_the_root_gets_masks_whatever_is_accepted(
    gateway_with_worker: GatewayUnderTest,
) -> None:
    response = gateway_with_worker.client.post("/", data=png(), headers=HTML)

    assert (response.status_code, response.mimetype) == (200, "application/json")


@pytest.mark.parametrize("path", PAGES)
def test_a_page_runs_and_loads_only_what_its_policy_allows(gateway: GatewayUnderTest, path: str) -> None:
    headers = gateway.client.get(path, headers=HTML).headers
    policy = headers["Content-Security-Policy"]

    assert policy.startswith("default-src 'none'; script-src 'self' 'sha256-")
    assert "unsafe" not in policy and "http" not in policy and "*" not in policy
    assert "form-action 'none'; frame-ancestors 'none'" in policy
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert "camera=(self)" in headers["Permissions-Policy"]
    assert (headers["X-Content-Type-Options"], headers["Cache-Control"]) == ("nosniff", "no-cache")
    assert "Set-Cookie" not in headers


def test_a_page_works_below_the_prefix_of_a_proxy(gateway: GatewayUnderTest) -> None:
    page = gateway.client.get("/", headers=HTML, environ_overrides={"SCRIPT_NAME": "/masks"})

    assert all(address.startswith("/masks/ui/static/") for address in list_addresses(page))
    assert '<meta name="maskmill-base" content="/masks">' in page.text


def test_a_prefix_is_no_markup(gateway: GatewayUnderTest) -> None:
    page = gateway.client.get("/", headers=HTML, environ_overrides={"SCRIPT_NAME": "/</script><b>"})

    assert "<b>" not in page.text


def test_a_page_needs_no_token_and_says_that_the_api_does(clean_redis: str, storage_env: dict[str, str]) -> None:
    gateway = open_gateway(clean_redis, storage_env, tokens="shop:s3cret")

    pages = [gateway.client.get(path, headers=HTML) for path in PAGES]

    assert [page.status_code for page in pages] == [200] * len(PAGES)
    assert all('<meta name="maskmill-token" content="required">' in page.text for page in pages)
    assert gateway.client.get(list_addresses(pages[0])[0]).status_code == 200


def test_a_file_is_kept_for_a_year_under_the_address_of_its_version(gateway: GatewayUnderTest) -> None:
    address = list_addresses(gateway.client.get("/", headers=HTML))[0]
    other_version = re.sub(r"static/\w+/", "static/0000/", address)

    assert gateway.client.get(address).headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert gateway.client.get(other_version).headers["Cache-Control"] == "no-cache"
    assert gateway.client.get(other_version).data == gateway.client.get(address).data


def test_a_file_is_sent_compressed_and_only_if_it_has_changed(gateway: GatewayUnderTest) -> None:
    address = next(
        one for one in list_addresses(gateway.client.get("/", headers=HTML)) if one.endswith("preact/preact.mjs")
    )
    plain = gateway.client.get(address)
    compressed = gateway.client.get(address, headers={"Accept-Encoding": "gzip"})
    known = gateway.client.get(
        address, headers={"Accept-Encoding": "gzip", "If-None-Match": compressed.headers["ETag"]}
    )

    assert compressed.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(compressed.data) == plain.data
    assert len(compressed.data) < len(plain.data) / 2
    assert compressed.headers["ETag"] != plain.headers["ETag"]
    assert "Accept-Encoding" in plain.headers["Vary"]
    assert (known.status_code, known.data) == (304, b"")


@pytest.mark.parametrize(
    "name", ["none.js", "../assets.py", "..%2fassets.py", "%2fetc/passwd", "vendor", "vendor/README.md"]
)
def test_only_the_listed_files_are_served(gateway: GatewayUnderTest, name: str) -> None:
    response = gateway.client.get(f"/ui/static/0000/{name}")

    assert (response.status_code, response.json["error_type"]) == (404, "unknown_route")


def test_all_files_but_the_sample_photos_weigh_less_than_200_kilobytes() -> None:
    files = {name: file for name, file in read_assets().files.items() if not name.startswith("samples/")}

    assert sum(len(file.compressed or file.content) for file in files.values()) < 200_000


def test_no_response_may_be_taken_for_another_type(clean_redis: str, storage_env: dict[str, str]) -> None:
    gateway = open_gateway(clean_redis, storage_env, cold_start_seconds=1)
    requests = list_requests(gateway.client.application)

    answers = {(method, path): gateway.client.open(path, method=method, data=png()) for method, path, _ in requests}

    assert {answer.headers["X-Content-Type-Options"] for answer in answers.values()} == {"nosniff"}
    assert not any("Set-Cookie" in answer.headers for answer in answers.values())
