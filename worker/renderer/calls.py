"""Runs calls: take the next one, let the handler of its kind do it if it is still wanted, reply.  No Celery here."""

import time
from collections.abc import Mapping
from typing import Protocol

import structlog

from shared.errors import MaskmillError, RenderingFailed, Unavailable
from shared.jobs.outcomes import StartCallOutcome, TakeCallOutcome
from shared.jobs.render_calls import (
    ATTEMPTS_SECONDS,
    MAX_ATTEMPTS,
    Handle,
    RenderCall,
    RenderCallStore,
    RenderKind,
    encode_error,
    encode_reply,
)
from worker.renderer.company import Company
from worker.renderer.running import RunningCalls
from worker.renderer.turns import Turns

log = structlog.get_logger()
SUCCEEDED = "ok"
# A thread that has found only calls of tenants with their part looks again so much later.
HELD_SECONDS = 0.05
_REFUSED = (
    f"The renderer has ended {MAX_ATTEMPTS} times while it made this, so it is not made again within "
    f"{ATTEMPTS_SECONDS // 60} minutes."
)


class CallObserver(Protocol):
    """Is told of each call; implemented by worker.renderer.metrics.RendererMetrics."""

    def call_completed(self, kind: RenderKind, code: str, seconds: float) -> None:
        """`code` is that of the error, or SUCCEEDED."""


class CallRunner:
    """Thread-safe.

    Args:
        max_reply_bytes: a longer reply is replaced by an error.
    """

    def __init__(
        self,
        calls: RenderCallStore,
        handlers: Mapping[RenderKind, Handle],
        observer: CallObserver,
        running: RunningCalls,
        turns: Turns,
        *,
        max_reply_bytes: int,
    ) -> None:
        self._calls = calls
        self._handlers = handlers
        self._observer = observer
        self._running = running
        self._turns = turns
        self._company = Company()
        self._max_reply_bytes = max_reply_bytes

    def run(self) -> None:
        """Run the call whose turn it is, unless its caller waits no more."""
        try:
            with self._turns.take() as taken:
                if taken.call is not None:
                    self._try(taken.call)
        except Unavailable as error:
            log.warning("render_call_not_taken", reason=str(error))
            return
        if taken.outcome is TakeCallOutcome.HELD:
            time.sleep(HELD_SECONDS)
        elif taken.outcome is TakeCallOutcome.UNREADABLE:
            # Of a newer gateway; its caller gets a 503 after its wait.
            log.error("render_call_unreadable")

    def _try(self, call: RenderCall) -> None:
        try:
            self._run(call)
        except Unavailable as error:
            log.warning("render_call_abandoned", job_id=call.job_id, kind=call.kind, reason=str(error))

    def _run(self, call: RenderCall) -> None:
        with self._company.share():
            outcome = self._start(call)
        if outcome is StartCallOutcome.SUSPECTED:
            with self._company.exclude():
                self._start(call, is_alone=True)

    def _start(self, call: RenderCall, *, is_alone: bool = False) -> StartCallOutcome:
        outcome = self._calls.start(call, is_alone=is_alone)
        if outcome is StartCallOutcome.STARTED:
            with self._running.run(call):
                reply = self._reply(call)
            self._calls.finish(call, reply)
        elif outcome is StartCallOutcome.REFUSED:
            log.error("render_call_refused", job_id=call.job_id, kind=call.kind)
            self._calls.finish(call, encode_error(RenderingFailed(_REFUSED)), is_attempt_over=False)
        elif outcome is StartCallOutcome.SUSPECTED:
            log.warning("render_call_suspected", job_id=call.job_id, kind=call.kind)
        else:
            log.info("render_call_dropped", job_id=call.job_id, kind=call.kind)
        return outcome

    def _reply(self, call: RenderCall) -> bytes:
        """Do what a call asks for; return the reply, with the content or the error."""
        start, code = time.perf_counter(), SUCCEEDED
        try:
            return encode_reply(self._handle(call))
        except MaskmillError as error:
            code = error.code
            return encode_error(error)
        finally:
            seconds = time.perf_counter() - start
            self._observer.call_completed(call.kind, code, seconds)
            log.info(
                "render_call", job_id=call.job_id, kind=call.kind, outcome=code, milliseconds=round(1000 * seconds, 1)
            )

    def _handle(self, call: RenderCall) -> bytes:
        handle = self._handlers.get(call.kind)
        if handle is None:
            raise RenderingFailed(f"The renderer of this service cannot do {call.kind}; it may be of an older version.")
        try:
            content = handle(call)
        except MaskmillError:
            raise
        except Exception as error:
            log.exception("render_call_crashed", job_id=call.job_id, kind=call.kind)
            raise RenderingFailed("Something went wrong in the renderer; its log has it.") from error
        if len(content) > self._max_reply_bytes:
            raise RenderingFailed(f"The reply has {len(content)} bytes, more than the {self._max_reply_bytes} allowed.")
        return content
