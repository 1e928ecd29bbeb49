"""Isolation: a suspect, a job that has stalled, runs while its host holds no other lease.

So if its worker is lost meanwhile, it is the cause, and no other job stalls with it.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from shared.errors import ModelNotReady
from shared.jobs.store import JobStore
from worker.pipeline.leases import Lease, LeaseKeeper
from worker.pipeline.slots import Slots

log = structlog.get_logger()

POLL_SECONDS = 0.05


class Isolation:
    """Thread-safe."""

    def __init__(self, jobs: JobStore, slots: Slots, leases: LeaseKeeper) -> None:
        self._jobs = jobs
        self._slots = slots
        self._leases = leases
        self._is_used = threading.Lock()

    @contextmanager
    def isolate(self, lease: Lease) -> Iterator[None]:
        """Claim nothing and wait until all other jobs of this host have ended; claim again when the block has ended.

        Raises:
            Canceled: the lease was lost.
            ModelNotReady: the host ends, or another suspect has it.
            StoreUnavailable: Redis did not answer.
        """
        if not self._is_used.acquire(blocking=False):
            # After Redis lost its data: otherwise a worker gets one at a time.
            raise ModelNotReady("The worker runs another suspect.")
        try:
            self._slots.pause()
            try:
                self._wait_alone(lease)
                self._start(lease)
                yield
            finally:
                self._slots.resume()
        finally:
            self._is_used.release()

    def _wait_alone(self, lease: Lease) -> None:
        while not self._is_alone(lease):
            if self._slots.is_closed:
                raise ModelNotReady("The worker ends before it could run the suspect alone.")
            lease.wait_lost(POLL_SECONDS)
            lease.check()

    def _is_alone(self, lease: Lease) -> bool:
        # A slot is used before its job is claimed; a lease is held until files that follow a reply are stored.
        return self._slots.used_count <= 1 and self._leases.is_only(lease)

    def _start(self, lease: Lease) -> None:
        if not self._jobs.attempts.start_isolated(lease.claim):
            lease.lose()
        lease.check()
        log.info("suspect_isolated", job_id=lease.claim.request.id, attempt=lease.claim.attempt_name)
