"""Leases of the claimed jobs: one thread renews them all and marks those that are lost."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Protocol

import structlog

from shared.broker.envelope import encode_message
from shared.errors import Canceled, Unavailable
from shared.jobs.messages import job_queue
from shared.jobs.store import Claim, JobStore

log = structlog.get_logger()

# After a renewal that failed: once Redis answers again, the steward soon requeues jobs whose leases have expired.
RETRY_SECONDS = 1.0


class LendableSlot(Protocol):
    """The slot of the job; implemented by worker.pipeline.slots.Slot."""

    def lend(self) -> bool:
        """Give back the slot before the job is done; False if it has to be kept."""


class Lease:
    """The lease of one claim, and the slot in which its job runs.  Thread-safe.

    is_watched: whether its events are streamed to a client.
    """

    def __init__(
        self, claim: Claim, slot: LendableSlot | None = None, log_stage: Callable[[Claim, str], object] | None = None
    ) -> None:
        self.claim = claim
        self.is_watched = claim.is_watched
        self._slot = slot
        self._log_stage = log_stage
        self._lost = threading.Event()
        self._is_settled = False
        self._lock = threading.Lock()  # guards the next one
        self._callbacks: list[Callable[[], object]] = []

    @property
    def is_held(self) -> bool:
        return not self._lost.is_set()

    def lend_slot(self) -> bool:
        """Give back the job's slot early, because the job will take long without the device."""
        return self._slot is not None and self._slot.lend()

    def lose(self) -> None:
        """Mark the lease as lost: the job was canceled, or it was requeued."""
        with self._lock:
            self._lost.set()
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()

    @property
    def is_settled(self) -> bool:
        """Whether the result of the job is stored, so that it must not be given back."""
        return self._is_settled

    def settle(self) -> None:
        """Record that the result of the job is stored."""
        self._is_settled = True

    def wait_lost(self, seconds: float) -> bool:
        """Wait until the lease is lost, or for some seconds; return whether it is."""
        return self._lost.wait(seconds)

    def call_when_lost(self, callback: Callable[[], object]) -> None:
        """Call a function, which must not raise, as soon as the lease is lost; at once if it is."""
        with self._lock:
            is_held = self.is_held
            if is_held:
                self._callbacks.append(callback)
        if not is_held:
            callback()

    def enter(self, stage: str) -> None:
        """Log that the job comes to a stage, for its watchers; it costs nothing while there are none."""
        if self.is_watched and self._log_stage is not None:
            self._log_stage(self.claim, stage)

    def check(self) -> None:
        """Raise Canceled if the lease is lost; called between stages."""
        if not self.is_held:
            raise Canceled("The job was canceled, or another worker has it.")


class LeaseKeeper:
    """Renews every lease at a third of its duration.

    While Redis is unavailable, it keeps trying: the job may be requeued meanwhile, and then the attempt that completes
    first decides the result.
    """

    def __init__(self, jobs: JobStore, *, lease_seconds: float) -> None:
        self._jobs = jobs
        self._renew_interval_seconds = lease_seconds / 3
        self._leases: set[Lease] = set()
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="leases", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    @contextmanager
    def hold(self, claim: Claim, slot: LendableSlot | None = None) -> Iterator[Lease]:
        """Renew the lease of a claim for as long as the block runs."""
        lease = Lease(claim, slot, self._log_stage)
        with self._lock:
            self._leases.add(lease)
        try:
            yield lease
        finally:
            with self._lock:
                self._leases.discard(lease)

    def check(self, job_id: str) -> None:
        """Renew the lease of a job now, if it is held and not settled: the job may have been canceled."""
        with self._lock:
            found = [lease for lease in self._leases if lease.claim.request.id == job_id]
        for lease in found:
            if lease.is_held and not lease.is_settled:
                self._renew(lease)

    def is_only(self, lease: Lease) -> bool:
        """Return whether no other lease than this one is held."""
        with self._lock:
            return self._leases <= {lease}

    def give_back(self) -> None:
        """Give back each held job whose result is not stored, for another worker to claim at once; for a drain's end.

        It is not counted.  What is not given back, because Redis is unavailable, is requeued once its lease expires.
        """
        with self._lock:
            leases = [lease for lease in self._leases if lease.is_held and not lease.is_settled]
        for lease in leases:
            lease.lose()
        for lease in leases:
            give_back_job(self._jobs, lease.claim, "The worker ends.")

    def _run(self) -> None:
        interval_seconds = self._renew_interval_seconds
        while not self._stopped.wait(interval_seconds):
            is_renewed = self._renew_all()
            interval_seconds = self._renew_interval_seconds
            if not is_renewed:
                interval_seconds = min(RETRY_SECONDS, interval_seconds)

    def _renew_all(self) -> bool:
        """Renew all leases; return False at the first that cannot be renewed, because Redis is unavailable."""
        with self._lock:
            held = list(self._leases)
        return all(self._renew(lease) for lease in held if lease.is_held)

    def _log_stage(self, claim: Claim, stage: str) -> None:
        # The watchers of the job miss a stage.
        with suppress(Unavailable):
            self._jobs.attempts.log_stage(claim.request.id, claim.attempt_name, stage)

    def _renew(self, lease: Lease) -> bool:
        try:
            renewal = self._jobs.attempts.renew(lease.claim.request.id, lease.claim.attempt_name)
            if renewal is None:
                lease.lose()
            elif renewal.is_watched:
                lease.is_watched = True
        except Unavailable as error:
            log.warning("lease_not_renewed", job_id=lease.claim.request.id, error=str(error))
            return False
        return True


def give_back_job(jobs: JobStore, claim: Claim, reason: str) -> None:
    """Return a job to its place in its queue at once, for another worker; it is not counted.

    Raises:
        StoreUnavailable: Redis did not answer; the lease expires.
    """
    outcome = jobs.attempts.release(
        claim.request.id, claim.attempt_name, message=encode_message(job_queue(claim.request))
    )
    log.info("job_given_back", job_id=claim.request.id, attempt=claim.attempt_name, outcome=outcome, reason=reason)
