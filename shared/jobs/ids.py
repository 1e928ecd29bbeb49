"""The names of jobs: 32 hex digits that nobody can guess and that sort by the time they were given.

The first 12 digits are unix milliseconds, the other 20 are random.  So a listing of the bucket, or of an index, is in
the order of time, and what is too old stands at its beginning.
"""

import re
import secrets
import time

_JOB_ID = re.compile(r"[0-9a-f]{32}")


def new_job_id() -> str:
    return floor_id(time.time())[:12] + secrets.token_hex(10)


def is_job_id(text: str) -> bool:
    """Say whether a client's string may be used in a key at all."""
    return _JOB_ID.fullmatch(text) is not None


def floor_id(unix_seconds: float) -> str:
    """Return the least id that could be given at this time."""
    return f"{int(unix_seconds * 1000):012x}" + 20 * "0"
