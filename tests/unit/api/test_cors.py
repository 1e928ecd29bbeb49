"""The origins that may read responses: all of them only if a token is required."""

import pytest

from api.http.cors import build_policy
from api.settings import ApiSettings
from shared.settings import read_settings

FOREIGN = "https://example.org"


def test_auto_allows_every_origin_if_tokens_are_required() -> None:
    assert build_policy("auto", requires_token=True)(FOREIGN) == "*"


@pytest.mark.parametrize(
    "origin",
    ["http://localhost:5173", "http://127.0.0.1:8000", "http://[::1]:80", "http://127.0.0.2", "http://localhost."],
)
def test_auto_allows_loopback_origins_if_no_token_is_required(origin: str) -> None:
    assert build_policy("auto", requires_token=False)(origin) == origin


@pytest.mark.parametrize(
    "origin", [FOREIGN, "null", "http://localhost.example.org", "http://[", "file://", "http://x@localhost"]
)
def test_auto_allows_no_other_origin_if_no_token_is_required(origin: str) -> None:
    assert build_policy("auto", requires_token=False)(origin) is None


def test_listed_origins_are_allowed() -> None:
    policy = build_policy("https://a.example, https://b.example", requires_token=False)

    assert policy("https://b.example") == "https://b.example"
    assert policy(FOREIGN) is None


@pytest.mark.parametrize("setting", ["https://App.example", "https://app.example:443"])
def test_an_origin_is_allowed_however_the_setting_writes_it(setting: str) -> None:
    assert build_policy(setting, requires_token=False)("https://app.example") == "https://app.example"


@pytest.mark.parametrize("entry", ["https://app.example/", "app.example", "null", "*", "https://u@app.example"])
def test_an_entry_that_is_no_origin_stops_the_start(monkeypatch: pytest.MonkeyPatch, entry: str) -> None:
    monkeypatch.setenv("MASKMILL_CORS_ORIGINS", f"https://a.example {entry}")

    with pytest.raises(SystemExit, match=r"^Wrong settings: MASKMILL_CORS_ORIGINS: .* is not an origin such as "):
        read_settings(ApiSettings)


def test_a_star_allows_every_origin() -> None:
    assert build_policy("*", requires_token=False)(FOREIGN) == "*"
