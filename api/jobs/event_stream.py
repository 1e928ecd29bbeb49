"""What one stream of server-sent events says of a job: each logged event once, its place in the queue, its end.

An event of the log has an id, by which a client that was cut off asks for those after it; that of the end is marked.
The place in the queue has none: it is told again after a new connection.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from shared.errors import BadParameter
from shared.jobs.event_log import LoggedEvent, WatchedJob
from shared.jobs.model import Failure, Job, JobState, QueuePlace
from shared.jobs.service_times import Eta
from shared.rfc3339 import format_timestamp

POSITION = "position"
DELETED = "deleted"
# Between two events about the place of a job in its queue.
PLACE_SECONDS = 2.0
RECONNECT_MS = 1000
END_MARK = "-end"
BEGINNING = f"retry: {RECONNECT_MS}\n\n".encode()
HEARTBEAT = b": heartbeat\n\n"
_ID = re.compile(r"([0-9]{1,15})(-end)?")


@dataclass(frozen=True, slots=True)
class LastEvent:
    """The last event that a client has seen.  is_end: it was the end of the job, as the client knew it."""

    number: int = 0
    is_end: bool = False


def parse_last_event(header: str | None) -> LastEvent:
    """Read the header Last-Event-ID.

    Raises:
        BadParameter: it is no id that this service gave out.
    """
    if not header:
        return LastEvent()
    found = _ID.fullmatch(header.strip()[:32])
    if found is None:
        raise BadParameter("The header Last-Event-ID is no id of an event that this service gave out.")
    return LastEvent(int(found[1]), found[2] is not None)


def format_event(name: str, data: Mapping[str, Any], number: int | None = None, *, is_end: bool = False) -> bytes:
    """Return an event in the form of the HTML standard, section 9.2.

    >>> format_event("running", {"attempt": 1}, 17)
    b'id: 17\\nevent: running\\ndata: {"attempt":1}\\n\\n'
    """
    line = "" if number is None else f"id: {number}{END_MARK if is_end else ''}\n"
    # JSON of one line: it has no line break of its own.
    return f"{line}event: {name}\ndata: ".encode() + orjson.dumps(data) + b"\n\n"


@dataclass(slots=True)
class EventStream:
    """The state of one stream.  It belongs to one thread at a time.

    last: number of the last logged event that was told.
    """

    job_id: str
    last: int = 0
    is_ended: bool = False
    _place: QueuePlace | None = None
    _eta: Eta | None = None
    _placed_at: float = field(default=-PLACE_SECONDS)

    def tell(self, job: WatchedJob) -> bytes:
        """Return what is new in the log of a job, its end included."""
        told = b"".join([self._tell_logged(event, job) for event in job.events if event.number > self.last])
        if job.state.is_final and not self.is_ended:
            told += self._tell_end(job, self._number_end(job.ended_at))
        return told

    def tell_place(self, place: QueuePlace, estimate: Callable[[], Eta | None], now: float) -> bytes:
        """Return where a queued job stands and when it will end, if that has changed, and was not told just now.

        Args:
            now: seconds by any clock.
        """
        if now - self._placed_at < PLACE_SECONDS:
            return b""
        eta = estimate()
        if place == self._place and _agree(eta, self._eta):
            return b""
        self._place, self._eta, self._placed_at = place, eta, now
        return format_event(POSITION, {"id": self.job_id, "position": place.position, "eta": describe_eta(eta)})

    def tell_stored_end(self, job: Job) -> bytes:
        """Return the end of a job that only the bucket knows any more."""
        watched = WatchedJob(
            job.state,
            attempt=job.attempt,
            ended_at=job.ended_at,
            failure=job.failure,
            timings_ms=job.timings_ms,
        )
        return self._tell_end(watched, self._number_end(job.ended_at or job.request.created_at))

    def tell_deletion(self) -> bytes:
        """Return the event of a job of which nothing is left."""
        self.is_ended = True
        return format_event(DELETED, {"id": self.job_id})

    def _tell_logged(self, event: LoggedEvent, job: WatchedJob) -> bytes:
        # An earlier end of a job that was queued again is not the end of the stream.
        if event.name == job.state and job.state.is_final and event is job.events[-1]:
            return self._tell_end(job, event.number)
        self.last = event.number
        data = {"id": self.job_id, "at": format_timestamp(event.number / 1000), **event.data}
        return format_event(event.name, data, event.number)

    def _tell_end(self, job: WatchedJob, number: int) -> bytes:
        self.last, self.is_ended = number, True
        return format_event(job.state, _describe_end(self.job_id, job, number), number, is_end=True)

    def _number_end(self, ended_at: float | None) -> int:
        """Return a number for an end that is not in the log: an earlier version wrote it, or Redis has lost it."""
        return max(self.last + 1, int(1000 * (ended_at or 0.0)))


def _describe_end(job_id: str, job: WatchedJob, number: int) -> dict[str, Any]:
    failure = job.failure or Failure("", "")
    return {
        "id": job_id,
        "at": format_timestamp(job.ended_at or number / 1000),
        "state": job.state,
        "attempt": job.attempt,
        "error": failure.message or None,
        "error_type": failure.code or None,
        "timings_ms": dict(job.timings_ms),
    }


def _agree(eta: Eta | None, told: Eta | None) -> bool:
    """Return whether a range says nothing new: both are unknown, or they overlap."""
    if eta is None or told is None:
        return eta is told
    return eta.earliest <= told.latest and told.earliest <= eta.latest


def describe_eta(eta: Eta | None) -> dict[str, str] | None:
    if eta is None:
        return None
    return {"earliest": format_timestamp(eta.earliest), "latest": format_timestamp(eta.latest)}


def is_end_known(last: LastEvent, job: WatchedJob | None, state: JobState) -> bool:
    """Return whether a client has seen the end of a job, so that nothing will follow.

    Args:
        job: with its log; None if Redis has none any more.
    """
    if not (last.is_end and state.is_final):
        return False
    return job is None or all(event.number <= last.number for event in job.events)
