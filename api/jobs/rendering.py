"""Calls of the renderer, as requests make them: each waits for its reply, in a slot as every request that waits."""

from dataclasses import dataclass

from api.jobs.drain import Drain
from api.jobs.waiting import WaitingSlots
from shared.broker.envelope import encode_call
from shared.errors import RendererUnavailable
from shared.jobs.events import JobEvents
from shared.jobs.outcomes import EnqueueCallOutcome
from shared.jobs.render_calls import RenderCall, RenderCallStore, decode_reply

# Longer than most calls take with their transport; the event of the reply usually comes before.
INITIAL_POLL_SECONDS = 0.02
_REFUSALS = {
    EnqueueCallOutcome.ABSENT: "This is made by the renderer, and none is running now; the operator of this service "
    "has to start one.",
    EnqueueCallOutcome.FULL: "The renderer has more to do than it may queue; ask again in a few seconds.",
}


@dataclass(frozen=True, slots=True)
class RenderCalls:
    """Thread-safe.

    max_seconds: the longest that a request waits for its reply.
    max_calls: most calls that may be queued.
    """

    store: RenderCallStore
    events: JobEvents
    slots: WaitingSlots
    drain: Drain
    max_seconds: float
    max_calls: int

    def call(self, call: RenderCall, seconds: float | None = None) -> bytes:
        """Let a renderer do something, and return the content of its reply; identical calls are done once.

        Args:
            seconds: how long to wait, at most `max_seconds`, which is the default.

        Raises:
            RendererUnavailable: none is running, or none was free in time.
            TooManyWaiting: too many requests wait already.
            GatewayStopping: this process stops.
            StoreUnavailable, StoreFull: Redis did not answer, or has no memory for the call.
            MaskmillError: the error that the renderer replied with.
        """
        limit = self.max_seconds if seconds is None else min(seconds, self.max_seconds)
        with self.slots.occupy(call.tenant):
            entry = self.store.enqueue(call, encode_call(call), seconds=limit, max_calls=self.max_calls)
            if entry.outcome in _REFUSALS:
                raise RendererUnavailable(_REFUSALS[entry.outcome])
            is_new = entry.outcome is EnqueueCallOutcome.ENQUEUED
            reply = self._wait(entry.call_id, limit, INITIAL_POLL_SECONDS if is_new else 0.0)
        return decode_reply(reply)

    def _wait(self, call_id: str, seconds: float, first_poll_seconds: float) -> bytes:
        def poll() -> bytes | None:
            reply = self.store.get_reply(call_id)
            if reply is None:
                self.drain.check()
            return reply

        reply = self.events.wait_for(call_id, poll, seconds=seconds, first_poll_seconds=first_poll_seconds)
        if reply is None:
            raise RendererUnavailable("The renderer was not done in time; ask again in a few seconds.")
        return reply
