"""Job ids: version 7 UUIDs as 32 hex digits.  They sort by creation time, those of one millisecond in any order.

An id is not a secret: access is checked by tenant.  The first 12 digits are unix
milliseconds (RFC 9562, section 5.7).  So a listing of the bucket, or of a tenant's jobs,
is in the order of time, and the oldest come first.
"""

import re
from typing import Final

from uuid_utils import uuid7

_MAX_MS = 2**48 - 1
CLIENT_ID_PATTERN: Final = "[A-Za-z0-9._~-]{1,64}"

_JOB_ID = re.compile(r"[0-9a-f]{32}")
_CLIENT_ID = re.compile(CLIENT_ID_PATTERN)
# Clients remove these from a path.
_STEPS = (".", "..")


def new_job_id(unix_seconds: float) -> str:
    """Return a new id for a job that is created at this time, by the clock of Redis."""
    return uuid7(nanoseconds=int(unix_seconds * 1e9)).hex


def read_creation_time(job_id: str) -> float:
    """Return when a job was created: unix seconds by the clock of Redis, to the millisecond."""
    return int(job_id[:12], 16) / 1000


def find_id_prefix(unix_seconds: float) -> str:
    """Return the beginning of the ids of this millisecond; ids of earlier ones sort before it."""
    return f"{min(max(0, round(unix_seconds * 1_000_000) // 1000), _MAX_MS):012x}"


def is_job_id(text: str) -> bool:
    """Tell whether a client's string may be part of a key."""
    return _JOB_ID.fullmatch(text) is not None


def is_client_id(text: str) -> bool:
    """Tell whether a client may name a job so: the characters that no URL has to encode, and not 32 hex digits."""
    return _CLIENT_ID.fullmatch(text) is not None and not is_job_id(text.lower()) and text not in _STEPS
