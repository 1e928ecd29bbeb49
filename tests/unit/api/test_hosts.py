"""The names under which the gateway serves."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.http.hosts import build_host_policy
from shared.authority import Authority, parse_authority

BIND = "127.0.0.1:8000"


def is_allowed(host: str, setting: str = "", *, bind: str = BIND, requires_token: bool = False) -> bool:
    authority = parse_authority(host)
    return authority is not None and build_host_policy(setting, bind=bind, requires_token=requires_token)(authority)


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST:8000",
        "localhost.",
        "localhost.:80",
        "127.0.0.1",
        "127.0.0.1:8000",
        "127.9.8.7:1",
        "[::1]",
        "[::1]:8000",
        "[0:0:0:0:0:0:0:1]:8000",
    ],
)
def test_loopback_is_always_allowed(host: str) -> None:
    assert is_allowed(host)
    assert is_allowed(host, "gateway.example", requires_token=True)


@pytest.mark.parametrize(
    "host",
    [
        "",
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "evil.example:8000",
        "192.0.2.1",
        "169.254.169.254",
        "0.0.0.0:8000",
        "[::]",
        "[fe80::1%25lo]",
        "[::1",
        "::1",
        "2130706433",
        "127.1",
        "0x7f.1",
        "user@127.0.0.1",
        "127.0.0.1@evil.example",
        "127.0.0.1,evil.example",
        "localhost evil.example",
        "localhost/evil",
        "localhost:80:80",
        "localhost:http",
        "localhost:999999",
        "localhost..",
        "http://localhost",
        "localhost\x00",
        "１２７.0.0.1",
    ],
)
def test_any_other_name_is_foreign(host: str) -> None:
    assert not is_allowed(host)


@pytest.mark.parametrize(
    ("setting", "host", "expected"),
    [
        ("gateway.example", "gateway.example", True),
        ("gateway.example", "Gateway.Example.:8443", True),
        ("gateway.example", "a.gateway.example", False),
        ("gateway.example:8443", "gateway.example:8443", True),
        ("gateway.example:8443", "gateway.example", False),
        ("*.gateway.example", "a.b.gateway.example:1", True),
        ("*.gateway.example", "gateway.example", False),
        ("*.gateway.example", "evilgateway.example", False),
        ("a.example, b.example c.example", "c.example", True),
        ("10.0.0.7", "10.0.0.7:8000", True),
        ("[fd00::0:7]", "[fd00::7]:8000", True),
        ("*", "evil.example", True),
    ],
)
def test_names_of_the_setting_are_allowed(setting: str, host: str, expected: bool) -> None:
    assert is_allowed(host, setting) is expected
    assert is_allowed(host, setting, requires_token=True) is expected


def test_the_address_listened_on_is_allowed_unless_it_is_every_address() -> None:
    assert is_allowed("10.0.0.7:8000", bind="10.0.0.7:8000")
    assert is_allowed("10.0.0.7:8443", bind="10.0.0.7:8000")
    assert is_allowed("gateway.example:80", bind="gateway.example:80")
    assert not is_allowed("0.0.0.0:8000", bind="0.0.0.0:8000")
    assert not is_allowed("[::]:8000", bind="[::]:8000")
    assert is_allowed("[fd00::7]:8000", bind="fd00::7:8000")
    assert not is_allowed("evil.example", bind="unix:/run/gateway")


def test_names_are_not_checked_if_tokens_are_required_and_none_are_listed() -> None:
    assert is_allowed("any.example", requires_token=True)


@pytest.mark.parametrize("setting", ["http://gateway.example", "a.example/b", "*.", "a.*.example", "user@a.example"])
def test_a_wrong_entry_stops_the_start(setting: str) -> None:
    with pytest.raises(ValueError, match="MASKMILL_ALLOWED_HOSTS"):
        build_host_policy(setting, bind=BIND, requires_token=False)


@given(st.text(max_size=80))
def test_only_loopback_is_allowed_by_default(host: str) -> None:
    found = parse_authority(host)

    assert found is None or is_allowed(host) == found.is_loopback


@given(st.from_regex(r"[a-z0-9_-][a-z0-9._-]{0,40}", fullmatch=True), st.integers(0, 65535))
def test_host_and_port_are_read(name: str, port: int) -> None:
    expected: Any = Authority(name.removesuffix("."), port)

    assert parse_authority(f"{name}:{port}") == expected
