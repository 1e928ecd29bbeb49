"""Run one job: claim it, make an attempt, complete it.  No Celery here, and no torch."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Protocol

import structlog

from shared.errors import Canceled, DeadlineExceeded, MaskmillError, Unavailable
from shared.jobs.outcomes import ClaimOutcome
from shared.jobs.result import failed_result
from shared.jobs.store import Claim, JobStore
from worker.pipeline.attempt import Attempt, AttemptRunner
from worker.pipeline.completer import Completer
from worker.pipeline.leases import Lease, LeaseKeeper

log = structlog.get_logger()


class BackgroundExecutor(Protocol):
    """Runs what follows a reply; implemented by worker.pipeline.follow_up.FollowUp."""

    def submit(
        self, function: Callable[[Attempt, ExitStack], object], attempt: Attempt, lease: ExitStack, /
    ) -> None: ...


@dataclass(frozen=True, slots=True)
class JobRunner:
    jobs: JobStore
    leases: LeaseKeeper
    attempts: AttemptRunner
    completer: Completer
    follow_up: BackgroundExecutor
    worker_id: str

    def run(self, job_id: str) -> None:
        """Claim a job and complete it.

        Safe to repeat: a job that cannot be claimed is dropped, and only one result counts.  An error of the job itself
        fails it; if a store is unavailable, the job is released, which does not count as a stall.

        Raises:
            Unavailable: Redis did not answer; the lease expires, or the job is still queued.
        """
        claim = self.jobs.claim(job_id, worker=self.worker_id)
        if not isinstance(claim, Claim):
            self._drop(job_id, claim)
            return
        with ExitStack() as stack:
            lease = stack.enter_context(self.leases.hold(claim))
            with self._complete_on_error(lease):
                attempt = self.attempts.segment(lease)
                if not claim.request.wants_reply:
                    self.completer.complete(self.attempts.store(attempt))
                    return
                self.attempts.reply(attempt)
                # The lease is held until the files are stored.
                self.follow_up.submit(self._store, attempt, stack.pop_all())

    def _store(self, attempt: Attempt, lease: ExitStack) -> None:
        """Store and complete a job whose caller has the reply already."""
        try:
            with lease, self._complete_on_error(attempt.lease):
                self.completer.complete(self.attempts.store(attempt))
        except Unavailable as error:
            log.warning("job_abandoned", job_id=attempt.request.id, reason=str(error))

    @contextmanager
    def _complete_on_error(self, lease: Lease) -> Iterator[None]:
        """Complete or release the job if the block raises an error."""
        request, attempt = lease.claim.request, lease.claim.attempt
        try:
            yield
        except Canceled:
            self.completer.drop(request.id, "lease_lost")
        except DeadlineExceeded:
            self.completer.expire(request, attempt=attempt)
        except Unavailable as error:
            self.completer.release(request, attempt, error)
        except MaskmillError as error:
            self.completer.complete(failed_result(request, error, attempt=attempt))
        except Exception:
            # A bug: the job is failed, so that it is not retried endlessly; the log has the traceback.
            log.exception("job_crashed", job_id=request.id)
            bug = MaskmillError("Something unexpected went wrong with this job; the operator's log says what.")
            self.completer.complete(failed_result(request, bug, attempt=attempt))

    def _drop(self, job_id: str, refusal: ClaimOutcome) -> None:
        self.completer.drop(job_id, refusal)
        if refusal is ClaimOutcome.DEADLINE_EXCEEDED:
            self.completer.expire(self.jobs.get(job_id).request)
