"""Keeping the jobs that this worker has in hand: one thread renews every lease, and tells the job when it is lost."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from shared.errors import Canceled, Unavailable
from shared.jobs.store import Claim, JobStore

log = structlog.get_logger()


class Lease:
    """One attempt's hold on its job."""

    def __init__(self, claim: Claim) -> None:
        self.claim = claim
        self._lost = threading.Event()

    @property
    def is_held(self) -> bool:
        return not self._lost.is_set()

    def lose(self) -> None:
        """Note that the job was canceled or has gone to another worker."""
        self._lost.set()

    def check(self) -> None:
        """Raise Canceled once the lease is lost; called between stages."""
        if not self.is_held:
            raise Canceled("The job was canceled, or another worker has it.")


class LeaseKeeper:
    """Renews all leases three times within their length.

    While Redis is away it goes on trying: the job may be given to another worker then, and whichever comes first with
    its result has ended the job.
    """

    def __init__(self, jobs: JobStore, *, lease_seconds: float) -> None:
        self._jobs = jobs
        self._pause_seconds = lease_seconds / 3
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
    def keeping(self, claim: Claim) -> Iterator[Lease]:
        """Hold a claim for as long as the block runs."""
        lease = Lease(claim)
        with self._lock:
            self._leases.add(lease)
        try:
            yield lease
        finally:
            with self._lock:
                self._leases.discard(lease)

    def _run(self) -> None:
        while not self._stopped.wait(self._pause_seconds):
            with self._lock:
                held = list(self._leases)
            for lease in held:
                self._renew(lease)

    def _renew(self, lease: Lease) -> None:
        try:
            if not self._jobs.renew(lease.claim.request.id, lease.claim.attempt):
                lease.lose()
        except Unavailable as error:
            log.warning("lease_not_renewed", job_id=lease.claim.request.id, error=str(error))
