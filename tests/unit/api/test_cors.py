"""The origins that may read responses: all of them only if a token is required."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.http.cors import build_policy, list_allowed_headers
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


@pytest.mark.parametrize(
    "setting",
    [
        "https://App.example",
        "https://app.example:443",
        "https://app.example/",
        " HTTPS://APP.example.:443/ ,\thttps://b.example",
    ],
)
def test_an_origin_is_allowed_however_the_setting_writes_it(setting: str) -> None:
    assert build_policy(setting, requires_token=False)("https://app.example") == "https://app.example"


@pytest.mark.parametrize(
    "entry",
    [
        "https://app.example/app",
        "https://app.example//",
        "https://app.example?x",
        "app.example",
        "null",
        "*",
        "https://u@app.example",
    ],
)
def test_an_entry_that_is_no_origin_stops_the_start(monkeypatch: pytest.MonkeyPatch, entry: str) -> None:
    monkeypatch.setenv("MASKMILL_CORS_ORIGINS", f"https://a.example {entry}")

    with pytest.raises(SystemExit, match=r"^Wrong settings: MASKMILL_CORS_ORIGINS: .* is not an origin such as "):
        read_settings(ApiSettings)


@pytest.mark.parametrize("setting", ["*", " * "])
def test_a_star_allows_every_origin(monkeypatch: pytest.MonkeyPatch, setting: str) -> None:
    monkeypatch.setenv("MASKMILL_CORS_ORIGINS", setting)

    assert build_policy(read_settings(ApiSettings).cors_origins, requires_token=False)(FOREIGN) == "*"


INSTRUMENTATION = (
    "baggage,cache-control,elastic-apm-traceparent,newrelic,pragma,sentry-trace,traceparent,tracestate,b3,x-b3-sampled,"
    "x-b3-spanid,x-b3-traceid,x-datadog-origin,x-datadog-parent-id,x-datadog-sampling-priority,x-datadog-trace-id,"
    "x-requested-with"
)


def test_a_page_may_send_what_instrumentation_adds() -> None:
    assert set(list_allowed_headers(INSTRUMENTATION)) >= {*INSTRUMENTATION.split(","), "authorization", "content-type"}


@pytest.mark.parametrize(
    "name", ["forwarded", "X-Forwarded-For", "x-forwarded-host", "x-forwarded-prefix", "x-real-ip"]
)
def test_a_page_may_not_send_what_a_proxy_says(name: str) -> None:
    assert list_allowed_headers(f"{name}, traceparent") == [*list_allowed_headers(""), "traceparent"]


@pytest.mark.parametrize(
    "asked", ["a" * 65, "x\r\nset-cookie: a", "ä", "a b", "*;", ",,, ,", '"a"', "a," * 1025, "," * 7000]
)
def test_what_is_no_name_of_a_header_is_not_repeated(asked: str) -> None:
    assert set(list_allowed_headers(asked)) - set(list_allowed_headers("")) <= {"a"}


@given(st.text(max_size=300))
def test_the_headers_that_a_page_may_send_are_few_and_are_names(asked: str) -> None:
    names = list_allowed_headers(asked)

    assert len(names) <= 80
    assert all(name.isascii() and not set(name) & set(' ,;:"\r\n') for name in names)
