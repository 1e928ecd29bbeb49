"""The faults of a trial and their seeded schedule; tests/chaos/service.py makes them happen."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class Fault(StrEnum):
    """What happens to a process; the values are shown in the report."""

    WORKER_KILLED = "worker killed"
    WORKER_FROZEN = "worker frozen beyond its lease"
    VALKEY_KILLED = "Valkey killed"
    VALKEY_FROZEN = "Valkey frozen"
    VALKEY_FLUSHED = "Valkey flushed"
    VALKEY_WIPED = "Valkey wiped with its files"
    STORE_AWAY = "object store away"
    STORE_FROZEN = "object store frozen"
    STEWARD_KILLED = "steward killed"
    GATEWAY_KILLED = "gateway killed"


# A server that keeps its data and is back soon: what workers have computed meanwhile is not computed again.
STALLED_SERVERS = frozenset({Fault.VALKEY_FROZEN, Fault.STORE_FROZEN, Fault.STORE_AWAY})
ALL_FAULTS = (*[Fault.WORKER_KILLED] * 5, *(fault for fault in Fault if fault is not Fault.WORKER_KILLED))
SHORT_FAULTS = (
    Fault.WORKER_KILLED,
    Fault.WORKER_FROZEN,
    Fault.VALKEY_WIPED,
    Fault.STORE_AWAY,
    Fault.GATEWAY_KILLED,
    Fault.STEWARD_KILLED,
)
# Of the jobs of a section, how many are accepted before its fault is injected.
_SHARE_BEFORE = (0.3, 0.6)


@dataclass(frozen=True, slots=True)
class Durations:
    """How long what is frozen or away stays so; those of a worker and of a server have to exceed the lease."""

    worker_frozen_seconds: float
    server_frozen_seconds: float
    store_away_seconds: float


@dataclass(frozen=True, slots=True)
class PlannedFault:
    """One fault of a schedule.

    target: number of the worker or gateway, 0 or 1.
    after_jobs: it is injected once so many jobs of its section are accepted.
    is_abrupt: whether an object store that is away refuses connections, instead of leaving them without an answer.
    """

    fault: Fault
    target: int
    after_jobs: int
    is_abrupt: bool


@dataclass(frozen=True, slots=True)
class InjectedFault:
    """A fault that has happened.  Times are unix seconds.

    injected_at: when it began.
    lasted_until: when what was missing came back, if nothing can replace it; otherwise `injected_at`.
    """

    kind: Fault
    target: str
    injected_at: float
    lasted_until: float


def plan_faults(faults: Sequence[Fault], section_jobs: int, seed: int) -> tuple[PlannedFault, ...]:
    """Return the faults in an order of the seed, each with a target and a time within its section of the jobs."""
    chosen = random.Random(seed)
    order = chosen.sample(faults, len(faults))
    first, last = (max(1, round(share * section_jobs)) for share in _SHARE_BEFORE)
    return tuple(
        PlannedFault(fault, chosen.randrange(2), chosen.randint(first, last), chosen.random() < 0.5) for fault in order
    )
