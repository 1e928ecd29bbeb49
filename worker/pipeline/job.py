"""Run jobs: claim one, make an attempt, complete it, claim the next.  No Celery here, and no torch."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Protocol, TypeVar

import structlog

from shared.broker.envelope import encode_message
from shared.broker.queues import JobQueue
from shared.errors import (
    Canceled,
    DeadlineExceeded,
    MaskmillError,
    StorageUnavailable,
    StoreFull,
    StoreUnavailable,
    Unavailable,
)
from shared.jobs.deadlines import QUEUED, RUNNING
from shared.jobs.messages import job_queue
from shared.jobs.outcomes import ClaimOutcome
from shared.jobs.store import Claim, JobStore, TakenMessage
from worker.pipeline.attempt import Attempt, AttemptRunner
from worker.pipeline.completer import Completer
from worker.pipeline.isolation import Isolation
from worker.pipeline.leases import Lease, LeaseKeeper
from worker.pipeline.persistence import Persistence
from worker.pipeline.publication import StoreErrors
from worker.pipeline.slots import Slot, Slots

T = TypeVar("T")
log = structlog.get_logger()

STORE_ERRORS = (StoreUnavailable, StorageUnavailable, StoreFull)


class BackgroundExecutor(Protocol):
    """Runs what follows a reply; implemented by worker.pipeline.follow_up.FollowUp."""

    def submit(
        self, function: Callable[[Attempt, ExitStack], object], attempt: Attempt, lease: ExitStack, /
    ) -> None: ...


@dataclass(frozen=True, slots=True)
class JobRunner:
    """model: whose jobs are run.  queue: for messages that are given back.

    claim_seconds: how long a claim is repeated that Redis does not answer, and so is what gives back a message.
    """

    model: str
    jobs: JobStore
    queue: JobQueue
    slots: Slots
    leases: LeaseKeeper
    isolation: Isolation
    attempts: AttemptRunner
    completer: Completer
    stores: StoreErrors
    follow_up: BackgroundExecutor
    worker_id: str
    claim_seconds: float

    def run_jobs(self, queue: str) -> None:
        """Run jobs one after the other, from the message of a queue on, until no job or no slot is left.

        The message only says that there is work.  Taking the next job without one saves Celery's time for a message.

        Raises:
            Unavailable: Redis did not answer; the lease expires, or the job is still queued.
        """
        message: TakenMessage | None = TakenMessage(queue, substitute=encode_message(queue))
        with self.slots.occupy() as slot:
            if slot is None:
                # The worker ends, or its slots were filled after it had asked for a message.
                self._repeat(lambda: self.queue.publish(queue))
                return
            while self.run_next(slot, message) is not ClaimOutcome.EMPTY and slot.renew():
                message = None

    def run_next(self, slot: Slot, message: TakenMessage | None = None) -> Claim | ClaimOutcome:
        """Claim the next job that may run in a slot, and complete it; return the claim, or why there is none.

        Only one result of a job counts.  An error of the job itself fails it; if a store is unavailable, the job is
        released, which does not count as a stall.

        Raises:
            Unavailable: as for run_jobs().
        """
        claim = self._claim(slot, message)
        if isinstance(claim, Claim):
            with structlog.contextvars.bound_contextvars(request_id=claim.request.request_id):
                self._run(claim, slot)
        return claim

    def _claim(self, slot: Slot, message: TakenMessage | None) -> Claim | ClaimOutcome:
        """Claim a job.  One that was claimed without an answer would stall, and be suspected."""
        return self._repeat(
            lambda: self.jobs.attempts.claim(
                self.model, worker=self.worker_id, priorities=slot.priorities, message=message, may_isolate=True
            )
        )

    def _repeat(self, function: Callable[[], T]) -> T:
        """Call a function until Redis answers: else the message that this thread has taken would be lost."""

        def wait(seconds: float) -> bool:
            time.sleep(seconds)
            return self.slots.is_closed

        return Persistence(self.claim_seconds, wait=wait, on_error=lambda _: self.stores.report_error()).call(function)

    def _run(self, claim: Claim, slot: Slot) -> None:
        with ExitStack() as stack:
            lease = stack.enter_context(self.leases.hold(claim, slot))
            with self._complete_on_error(lease):
                if claim.is_late:
                    self.completer.expire(lease, QUEUED)
                    return
                if claim.is_recovered and self.completer.sync(claim.request):
                    return
                if claim.is_isolated:
                    stack.enter_context(self.isolation.isolate(lease))
                attempt = self.attempts.segment(lease)
                if not claim.request.wants_reply:
                    self.completer.complete(lease, self.attempts.store(attempt))
                    return
                self.attempts.reply(attempt)
                # The lease is held until the files are stored, and a suspect stays alone.
                self.follow_up.submit(self._store, attempt, stack.pop_all())

    def _store(self, attempt: Attempt, lease: ExitStack) -> None:
        """Store and complete a job whose caller has the reply already."""
        try:
            with lease, self._complete_on_error(attempt.lease):
                self.completer.complete(attempt.lease, self.attempts.store(attempt))
            if attempt.lease.claim.is_isolated:
                # Its thread has ended, and the message of another suspect may have been used up meanwhile.
                self.queue.publish(job_queue(attempt.request))
        except Unavailable as error:
            log.warning("job_abandoned", job_id=attempt.request.id, reason=str(error))

    @contextmanager
    def _complete_on_error(self, lease: Lease) -> Iterator[None]:
        """Complete or release the job if the block raises an error."""
        claim = lease.claim
        try:
            with self._report_store_errors():
                yield
        except Canceled:
            self.completer.drop(claim.request.id, "lease_lost")
        except DeadlineExceeded as error:
            self.completer.expire(lease, str(error.details.get("stage", RUNNING)))
        except Unavailable as error:
            self.completer.release(lease, error)
        except MaskmillError as error:
            self.completer.fail(lease, error)
        except Exception:
            # A bug: the job is failed, so that it is not retried endlessly; the log has the traceback.
            log.exception("job_crashed", job_id=claim.request.id)
            bug = MaskmillError("Something unexpected went wrong with this job; the operator's log says what.")
            self.completer.fail(lease, bug)

    @contextmanager
    def _report_store_errors(self) -> Iterator[None]:
        try:
            yield
        except STORE_ERRORS:
            self.stores.report_error()
            raise
