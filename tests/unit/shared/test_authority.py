"""Hosts, addresses to listen on, and origins: what is loopback is the same to all of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.authority import Authority, Origin, parse_address, parse_authority, parse_origin

HOSTS = {
    "localhost": True,
    "LOCALHOST.": True,
    "127.0.0.1": True,
    "127.0.0.2": True,
    "[::1]": True,
    "[0:0:0:0:0:0:0:1]": True,
    "0.0.0.0": False,
    "10.0.0.7": False,
    "[::]": False,
    "[fd00::7]": False,
    "localhost.example": False,
    "127.0.0.1.example": False,
}


@pytest.mark.parametrize(("host", "expected"), HOSTS.items())
def test_loopback_is_the_same_in_each_notation(host: str, expected: bool) -> None:
    origin = parse_origin(f"http://{host}:8000")
    found = [parse_authority(host), parse_address(f"{host}:8000"), origin and origin.authority]

    assert [one is not None and one.is_loopback for one in found] == [expected] * 3


@pytest.mark.parametrize("text", ["unix:/run/gateway", "8000", ":8000", "a b:1", "user@localhost:80", "::g:80"])
def test_what_is_no_address_is_none(text: str) -> None:
    assert parse_address(text) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://App.example", Origin("https", Authority("app.example"))),
        ("https://app.example:443", Origin("https", Authority("app.example"))),
        ("http://app.example:443", Origin("http", Authority("app.example", 443))),
        ("http://[::1]:80", Origin("http", Authority("::1"))),
        ("tauri://localhost", Origin("tauri", Authority("localhost"))),
    ],
)
def test_an_origin_is_read(text: str, expected: Origin) -> None:
    assert parse_origin(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "*",
        "app.example",
        "https://",
        "https://a.example/",
        "https://u@a.example",
        "https:// a",
        "://a",
        "1://a",
    ],
)
def test_what_is_no_origin_is_none(text: str) -> None:
    assert parse_origin(text) is None


@given(st.text(max_size=60))
def test_any_text_is_parsed_or_none(text: str) -> None:
    for parse in (parse_authority, parse_address, parse_origin):
        parse(text)
        parse(f"http://{text}")
