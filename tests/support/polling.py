"""Waiting for something to become so, with a deadline instead of a guess."""

import time
from collections.abc import Callable


def wait_until(
    condition: Callable[[], object], what: str = "what was waited for", *, seconds: float = 5.0, pause: float = 0.02
) -> None:
    """Poll a condition until it holds; fail when it has not held for `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen in {seconds:g} s"
        time.sleep(pause)
