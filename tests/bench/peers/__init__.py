"""Compares this service with two general model servers that run transformers' pipeline on the same weights.

The servers import this package in an environment of their own, so importing it must import nothing else.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.bench.measurement import Measurement, Workload


def run(workload: "Workload") -> "Iterator[Measurement]":
    """Measure all servers in one run."""
    from tests.bench.peers.comparison import run as compare

    yield from compare(workload)
