"""Job ids: version 7 UUIDs as 32 hex digits.  They sort by creation time, those of one millisecond in any order.

An id is not a secret: access is checked by tenant.  The first 12 digits are unix
milliseconds (RFC 9562, section 5.7).  So a listing of the bucket, or of a tenant's jobs,
is in the order of time, and the oldest come first.
"""

import re

from uuid_utils import uuid7

_JOB_ID = re.compile(r"[0-9a-f]{32}")


def new_job_id(unix_seconds: float) -> str:
    """Return a new id for a job that is created at this time, by the clock of Redis."""
    return uuid7(nanoseconds=int(unix_seconds * 1e9)).hex


def read_time(job_id: str) -> float:
    """Return the unix seconds in an id, with milliseconds."""
    return int(job_id[:12], 16) / 1000


def is_job_id(text: str) -> bool:
    """Tell whether a client's string may be part of a key."""
    return _JOB_ID.fullmatch(text) is not None
