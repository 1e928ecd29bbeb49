"""Which web pages may read answers: all of them only where a token stands between them and the jobs."""

import pytest

from api.http.cors import build_policy

FOREIGN = "https://example.org"


def test_every_page_may_try_where_tokens_are_asked_for() -> None:
    assert build_policy("auto", requires_token=True)(FOREIGN) == "*"


@pytest.mark.parametrize("origin", ["http://localhost:5173", "http://127.0.0.1:8000", "http://[::1]:80"])
def test_pages_of_this_machine_may_where_none_are(origin: str) -> None:
    assert build_policy("auto", requires_token=False)(origin) == origin


@pytest.mark.parametrize("origin", [FOREIGN, "null", "http://localhost.example.org", "http://[", "file://"])
def test_no_other_page_may_where_none_are(origin: str) -> None:
    assert build_policy("auto", requires_token=False)(origin) is None


def test_pages_may_be_named() -> None:
    policy = build_policy("https://a.example, https://b.example", requires_token=False)

    assert policy("https://b.example") == "https://b.example"
    assert policy(FOREIGN) is None


def test_all_pages_may_be_let_in_on_purpose() -> None:
    assert build_policy("*", requires_token=False)(FOREIGN) == "*"
