"""Calls of the renderer, as requests make them: each waits for its reply, in a slot as every request that waits."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import structlog

from api.jobs.drain import Drain
from api.jobs.limits import SharedLimit
from api.jobs.waiting import WaitingSlots
from shared.broker.envelope import encode_render_message
from shared.errors import Canceled, MaskmillError, RendererUnavailable, TooManyWaiting
from shared.jobs.events import POLL_INTERVAL_SECONDS, JobEvents
from shared.jobs.outcomes import EnqueueCallOutcome
from shared.jobs.render_calls import Enqueued, RenderCall, RenderCallStore, RenderKind, decode_reply

log = structlog.get_logger()
# Longer than most calls take with their transport; the event of the reply usually comes before.
INITIAL_POLL_SECONDS = 0.02
# How soon it is noticed that a client has gone.
CLIENT_POLL_SECONDS = 0.2
_REFUSALS: Final[Mapping[EnqueueCallOutcome, Callable[[], MaskmillError]]] = {
    EnqueueCallOutcome.ABSENT: lambda: RendererUnavailable(
        "This is made by the renderer, and none is running now; the operator of this service has to start one."
    ),
    EnqueueCallOutcome.FULL: lambda: RendererUnavailable(
        "The renderer has more to do than it may queue; ask again in a few seconds."
    ),
    EnqueueCallOutcome.TENANT_FULL: lambda: TooManyWaiting(
        "Too many of your requests wait for the renderer; send more when some are answered."
    ),
}
# What takes less time than a call that was not done.
_INSTEAD: Final[Mapping[RenderKind, str]] = {
    RenderKind.FORMAT: "ask again in a few seconds",
    RenderKind.RECUT: "ask again in a few seconds, or for a preview, with `max_side`",
}


@dataclass(frozen=True, slots=True)
class RenderCalls:
    """Thread-safe.

    max_seconds: the longest that a request waits for its reply.
    limit: of the calls that may be queued.
    """

    store: RenderCallStore
    events: JobEvents
    slots: WaitingSlots
    drain: Drain
    max_seconds: float
    limit: SharedLimit

    def call(
        self, call: RenderCall, seconds: float | None = None, *, is_wanted: Callable[[], bool] | None = None
    ) -> bytes:
        """Let a renderer do something, and return the content of its reply; identical calls are done once.

        Args:
            seconds: how long to wait, at most `max_seconds`, which is the default.
            is_wanted: tells whether the client is still there; without it, the call is done in any case.

        Raises:
            Canceled: the client has gone; the call is dropped, unless another request waits for it.
            RendererUnavailable: none is running, or none was free in time.
            TooManyWaiting: too many requests wait already, or too many of this tenant for the renderer.
            GatewayStopping: this process stops.
            StoreUnavailable, StoreFull: Redis did not answer, or has no memory for the call.
            MaskmillError: the error that the renderer replied with.
        """
        longest = self.max_seconds if seconds is None else min(seconds, self.max_seconds)
        with self.slots.occupy(call.tenant):
            entry = self._enqueue(call, longest)
            is_new = entry.outcome is EnqueueCallOutcome.ENQUEUED
            wait = _Wait(self, call, entry.call_id, is_wanted)
            reply = wait.get_reply(longest, first_poll_seconds=INITIAL_POLL_SECONDS if is_new else 0.0)
        if reply is None:
            raise RendererUnavailable(
                f"The renderer was not done in time; {_INSTEAD[call.kind]}. Formats that a submission names are there "
                "with its result."
            )
        return decode_reply(reply)

    def _enqueue(self, call: RenderCall, seconds: float) -> Enqueued:
        entry = self.store.enqueue(
            call,
            encode_render_message(),
            seconds=seconds,
            max_calls=self.limit.total,
            max_calls_per_tenant=self.limit.per_tenant,
        )
        if entry.outcome in _REFUSALS:
            raise _REFUSALS[entry.outcome]()
        return entry


@dataclass(frozen=True, slots=True)
class _Wait:
    """A request that waits for a call, its own or one that it has joined."""

    calls: RenderCalls
    call: RenderCall
    call_id: str
    is_wanted: Callable[[], bool] | None

    def get_reply(self, seconds: float, *, first_poll_seconds: float) -> bytes | None:
        return self.calls.events.wait_for(
            self.call_id,
            self._poll,
            seconds=seconds,
            first_poll_seconds=first_poll_seconds,
            poll_interval_seconds=CLIENT_POLL_SECONDS if self.is_wanted else POLL_INTERVAL_SECONDS,
        )

    def _poll(self) -> bytes | None:
        reply = self.calls.store.get_reply(self.call_id)
        if reply is not None:
            return reply
        self.calls.drain.check()
        if self.is_wanted and not self.is_wanted():
            is_dropped = self.calls.store.withdraw(self.call, self.call_id)
            log.info("render_call_withdrawn", job_id=self.call.job_id, kind=self.call.kind, is_dropped=is_dropped)
            raise Canceled("The client has gone before there was a reply.")
        return None
