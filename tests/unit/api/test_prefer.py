"""The header Prefer, as in the examples and rules of RFC 7240."""

import pytest

from api.http.prefer import Preference, parse_prefer


@pytest.mark.parametrize(
    ("header", "wait_seconds", "applied"),
    [
        ("respond-async", 0, "respond-async"),
        ("Respond-Async", 0, "respond-async"),
        ('respond-async=""', 0, "respond-async"),
        ("wait=10", 10, "wait=10"),
        ('wait="10"', 10, "wait=10"),
        ("wait = 10", 10, "wait=10"),
        ("wait=0", 0, "wait=0"),
        ("wait=10, wait=20", 10, "wait=10"),
        ("respond-async, wait=100, handling=lenient", 100, "respond-async, wait=100"),
        ("wait=7; strict, respond-async;x=y", 7, "respond-async, wait=7"),
    ],
)
def test_the_supported_preferences_are_applied(header: str, wait_seconds: float, applied: str) -> None:
    assert parse_prefer(header) == Preference(wait_seconds, applied)


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        ",;=",
        "handling=lenient",
        "respond-async=no",
        "wait",
        "wait=-1",
        "wait=1.5",
        "wait=99999",
        "wait=١",
        'foo="a, respond-async"',
    ],
)
def test_any_other_preference_is_ignored(header: str | None) -> None:
    assert parse_prefer(header) is None
