"""Times as clients write and read them: RFC 3339, in UTC and with milliseconds, such as 2026-11-28T23:31:33.123Z."""

import re
from datetime import UTC, datetime
from typing import Annotated, Final

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

_TIMESTAMP = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?([Zz]|[+-][0-9]{2}:[0-9]{2})"
)
EXAMPLE: Final = "2026-11-28T23:31:33.123Z"


def format_timestamp(unix_seconds: float) -> str:
    """Return a time in UTC; fractions of a millisecond are cut off.

    >>> format_timestamp(1795908693.1239)
    '2026-11-28T23:31:33.123Z'
    """
    return f"{datetime.fromtimestamp(unix_seconds, UTC).replace(tzinfo=None).isoformat(timespec='milliseconds')}Z"


def parse_timestamp(text: str) -> float:
    """Return the unix seconds of a time with its zone.

    Raises:
        ValueError: the text is not one of RFC 3339, or in UTC not within the years 1 to 9999.
    """
    # The pattern sees 40 characters at most.
    if not _TIMESTAMP.fullmatch(text[:40]) or len(text) > 40:
        raise ValueError(f"should be a time of RFC 3339 with its zone, such as {EXAMPLE} (a + in a query is %2B)")
    try:
        return datetime.fromisoformat(text.upper()).astimezone(UTC).timestamp()
    except (ValueError, OverflowError):
        raise ValueError(f"there is no time {text[:40]}") from None


def _read_timestamp(value: object) -> object:
    return parse_timestamp(value) if isinstance(value, str) else value


_SCHEMA: Final = {"type": "string", "format": "date-time", "examples": [EXAMPLE]}

Timestamp = Annotated[
    float,
    BeforeValidator(_read_timestamp),
    PlainSerializer(format_timestamp, return_type=str, when_used="json"),
    WithJsonSchema(_SCHEMA),
]
"""Unix seconds inside the service, a text of RFC 3339 in JSON and in a query."""
