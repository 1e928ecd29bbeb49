"""Leases of the claimed jobs: one thread renews them all and marks those that are lost."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

import structlog

from shared.errors import Canceled, Unavailable
from shared.jobs.store import Claim, JobStore

log = structlog.get_logger()


class LendableSlot(Protocol):
    """The slot of the job; implemented by worker.pipeline.slots.Slot."""

    def lend(self) -> bool:
        """Give back the slot before the job is done; False if it has to be kept."""


class Lease:
    """The lease of one claim, and the slot in which its job runs.  Thread-safe."""

    def __init__(self, claim: Claim, slot: LendableSlot | None = None) -> None:
        self.claim = claim
        self._slot = slot
        self._lost = threading.Event()
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

    def call_when_lost(self, callback: Callable[[], object]) -> None:
        """Call a function, which must not raise, as soon as the lease is lost; at once if it is."""
        with self._lock:
            is_held = self.is_held
            if is_held:
                self._callbacks.append(callback)
        if not is_held:
            callback()

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
        lease = Lease(claim, slot)
        with self._lock:
            self._leases.add(lease)
        try:
            yield lease
        finally:
            with self._lock:
                self._leases.discard(lease)

    def _run(self) -> None:
        while not self._stopped.wait(self._renew_interval_seconds):
            with self._lock:
                held = list(self._leases)
            for lease in held:
                if lease.is_held:
                    self._renew(lease)

    def _renew(self, lease: Lease) -> None:
        try:
            if not self._jobs.renew(lease.claim.request.id, lease.claim.attempt_name):
                lease.lose()
        except Unavailable as error:
            log.warning("lease_not_renewed", job_id=lease.claim.request.id, error=str(error))
