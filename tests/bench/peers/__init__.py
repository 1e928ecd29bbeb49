"""This service beside two general model servers that run transformers' pipeline on the same weights.

The servers are started out of this package in an environment of their own, so nothing is imported here.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.bench.measuring import Effort, Measurement


def run(effort: "Effort") -> "Iterator[Measurement]":
    """Measure all sides in one run."""
    from tests.bench.peers.comparison import run as compare

    yield from compare(effort)
