"""Calls of the renderer, as requests make them: each waits for its reply, in a slot as every request that waits."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from api.jobs.drain import Drain
from api.jobs.limits import SharedLimit
from api.jobs.waiting import WaitingSlots
from shared.broker.envelope import encode_render_message
from shared.errors import MaskmillError, RendererUnavailable, TooManyWaiting
from shared.jobs.events import JobEvents
from shared.jobs.outcomes import EnqueueCallOutcome
from shared.jobs.render_calls import Enqueued, RenderCall, RenderCallStore, RenderKind, decode_reply

# Longer than most calls take with their transport; the event of the reply usually comes before.
INITIAL_POLL_SECONDS = 0.02
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

    def call(self, call: RenderCall, seconds: float | None = None) -> bytes:
        """Let a renderer do something, and return the content of its reply; identical calls are done once.

        Args:
            seconds: how long to wait, at most `max_seconds`, which is the default.

        Raises:
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
            reply = self._wait(entry.call_id, longest, INITIAL_POLL_SECONDS if is_new else 0.0)
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

    def _wait(self, call_id: str, seconds: float, first_poll_seconds: float) -> bytes | None:
        def poll() -> bytes | None:
            reply = self.store.get_reply(call_id)
            if reply is None:
                self.drain.check()
            return reply

        return self.events.wait_for(call_id, poll, seconds=seconds, first_poll_seconds=first_poll_seconds)
