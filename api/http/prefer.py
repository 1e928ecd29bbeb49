"""The request header Prefer (RFC 7240), as far as a synchronous request uses it.  Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from werkzeug.http import parse_list_header, parse_options_header

_MAX_WAIT_DIGITS = 4


@dataclass(frozen=True, slots=True)
class Preference:
    """The client prefers a job.

    wait_seconds: how long to delay the response until the job ends.
    applied: the value of the response header Preference-Applied.
    """

    wait_seconds: float
    applied: str


def parse_prefer(header: str | None) -> Preference | None:
    """Return the preferences `respond-async` and `wait` (sections 4.1 and 4.3), or None if there is neither.

    Other preferences and values that are not valid are ignored, as section 2 demands.

    >>> parse_prefer("respond-async, wait=10")
    Preference(wait_seconds=10.0, applied='respond-async, wait=10')
    >>> parse_prefer("handling=lenient") is None
    True
    """
    preferences = _parse_preferences(header or "")
    applied = ["respond-async"] if preferences.get("respond-async") == "" else []
    wait = preferences.get("wait", "")
    seconds = int(wait) if wait.isascii() and wait.isdecimal() and len(wait) <= _MAX_WAIT_DIGITS else None
    if seconds is not None:
        applied.append(f"wait={seconds}")
    return Preference(float(seconds or 0), ", ".join(applied)) if applied else None


def _parse_preferences(header: str) -> Mapping[str, str]:
    """Return value by name without parameters; the first of several with one name counts (section 2)."""
    preferences: dict[str, str] = {}
    for item in parse_list_header(header):
        preference, _parameters = parse_options_header(item)
        name, _, value = preference.partition("=")
        preferences.setdefault(name.strip().lower(), value.strip(' "'))
    return preferences
