"""Polling of a condition up to a deadline."""

import time
from collections.abc import Callable


def wait_until(
    condition: Callable[[], object],
    what: str = "the condition",
    *,
    seconds: float = 5.0,
    poll_interval_seconds: float = 0.02,
) -> None:
    """Poll a condition until it holds; fail after `seconds`.

    Args:
        what: the condition, for the failure message.
        seconds: the timeout.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen in {seconds:g} s"
        time.sleep(poll_interval_seconds)
