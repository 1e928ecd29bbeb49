"""Checks what the refusal of a hostile request costs."""

import tracemalloc
from collections.abc import Callable

import pytest

from shared.errors import ClientError
from tests.support.cpu_time import measure_cpu_seconds

MAX_MESSAGE_LENGTH = 400


def check_refusal_costs(refuse: Callable[[], None], *, cpu_seconds: float, memory_bytes: float) -> None:
    """Check that refuse() raises a ClientError with a short message, and takes less time and memory than this."""

    def catch() -> ClientError:
        with pytest.raises(ClientError) as found:
            refuse()
        return found.value

    tracemalloc.start()
    error = catch()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(str(error)) < MAX_MESSAGE_LENGTH
    assert measure_cpu_seconds(catch) < cpu_seconds
    assert peak < memory_bytes
