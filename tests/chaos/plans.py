"""The two trials: `make chaos`, and the short one of `make test`."""

from typing import Final

from tests.chaos.faults import ALL_FAULTS, SHORT_FAULTS, Durations
from tests.chaos.trial import Plan

# On a machine that does nothing else.
MAX_RECOVERY_SECONDS: Final = 15.0
# `exact`, because its results can be compared bit for bit.  The others bound for how long jobs are missing after Redis
# has lost its data: by default each is 15 s.
SETTINGS: Final = {
    "MASKMILL_FORWARD": "exact",
    "MASKMILL_INBOX_GRACE_SECONDS": "5",
    "MASKMILL_RECOVERY_INTERVAL_SECONDS": "3",
}
SHORT_SETTINGS: Final = {
    "MASKMILL_FORWARD": "exact",
    "MASKMILL_LEASE_SECONDS": "3",
    "MASKMILL_INBOX_GRACE_SECONDS": "2",
    "MASKMILL_RECOVERY_INTERVAL_SECONDS": "1",
}


def build_plan(seed: int, jobs: int = 0) -> Plan:
    """Return the trial of `make chaos`: each kind of fault, and the default leases of 10 s."""
    durations = Durations(worker_frozen_seconds=15.0, server_frozen_seconds=15.0, store_away_seconds=10.0)
    return Plan(seed, jobs or 420, ALL_FAULTS, SETTINGS, durations, variants=15)


def build_short_plan(seed: int, jobs: int = 0) -> Plan:
    """Return a trial of about a minute, with leases of 3 s."""
    durations = Durations(worker_frozen_seconds=5.0, server_frozen_seconds=5.0, store_away_seconds=4.0)
    return Plan(seed, jobs or 60, SHORT_FAULTS, SHORT_SETTINGS, durations, variants=6)
