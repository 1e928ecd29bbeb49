"""The open event streams of one gateway process: one thread reads the logs of all their jobs, and pushes what is new.

A stream costs no thread.  Events wake the thread; it also reads all logs every two seconds, because a message of Redis
may be lost, and to tell the place of queued jobs.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import structlog

from api.jobs.eta import EtaEstimator
from api.jobs.event_stream import BEGINNING, HEARTBEAT, EventStream, LastEvent
from api.jobs.limits import SharedLimit
from api.jobs.queries import TenantJobs
from api.server.push import PushStream
from shared.errors import TooManyStreams, Unavailable, UnknownJob
from shared.jobs.event_log import EventLog, WatchedJob
from shared.jobs.events import POLL_INTERVAL_SECONDS, JobEvents
from shared.jobs.model import Job, JobRequest

log = structlog.get_logger()

# Jobs whose logs are read in one round trip.
PAGE = 200
# That ask the bucket for the end of a job without a record.
READER_THREADS = 2
RETRY_SECONDS = 0.5


@dataclass(slots=True, eq=False)
class Watcher:
    """One open stream.  tenant_jobs: of the client's tenant.  sent_at: when something was pushed last.

    is_read_from_bucket: another thread asks the bucket for the end of the job, and has the stream meanwhile.
    """

    request: JobRequest
    tenant_jobs: TenantJobs
    stream: EventStream
    push: PushStream
    sent_at: float
    is_read_from_bucket: bool = False

    def send(self, data: bytes, now: float) -> None:
        if data:
            self.push.push(data)
            self.sent_at = now
        if self.stream.is_ended:
            self.push.end()


class EventStreams:
    """Thread-safe.  Its thread starts with the first stream; a fork must happen before that."""

    def __init__(
        self,
        event_log: EventLog,
        events: JobEvents,
        eta: EtaEstimator,
        *,
        limit: SharedLimit,
        heartbeat_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log = event_log
        self._events = events
        self._eta = eta
        self._limit = limit
        self._heartbeat_seconds = heartbeat_seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._watchers: dict[Watcher, Callable[[], None]] = {}
        self._used: Counter[str] = Counter()
        self._due: set[Watcher] = set()
        self._wakeup = threading.Event()
        self._is_closed = False
        self._is_interrupted = False
        self._thread: threading.Thread | None = None
        self._readers = ThreadPoolExecutor(READER_THREADS, thread_name_prefix="ended-jobs")

    def __len__(self) -> int:
        return len(self._watchers)

    def open(self, job: Job, tenant_jobs: TenantJobs, last: LastEvent) -> PushStream:
        """Return a stream of what happens to a job after an event, until its end.

        Raises:
            TooManyStreams: the tenant, or all together, have as many as they may.
        """
        push = PushStream(on_close=lambda: self._remove(watcher))
        watcher = Watcher(job.request, tenant_jobs, EventStream(job.id, last.number), push, self._clock())
        wake = partial(self._wake, watcher)
        push.push(BEGINNING)
        with self._lock:
            self._check_room(tenant_jobs.tenant)
            self._used[tenant_jobs.tenant] += 1
            self._watchers[watcher] = wake
            self._start()
        self._events.register(job.id, wake)
        self._wake(watcher)
        return push

    def read(self, job_id: str) -> WatchedJob | None:
        """Return what Redis knows of a job, None without a record.

        Raises:
            StoreUnavailable: Redis did not answer.
        """
        return self._log.watch([job_id])[0]

    def end_all(self) -> None:
        """End all streams, and each further one at once: their clients connect again, with the last id."""
        self._is_closed = True
        self._wakeup.set()
        with self._lock:
            watchers = list(self._watchers)
        for watcher in watchers:
            watcher.push.end()
        self._readers.shutdown(wait=False)

    def _check_room(self, tenant: str) -> None:
        if len(self._watchers) >= self._limit.total or self._used[tenant] >= self._limit.per_tenant:
            raise TooManyStreams()

    def _remove(self, watcher: Watcher) -> None:
        with self._lock:
            wake = self._watchers.pop(watcher, None)
            self._due.discard(watcher)
            if wake is not None:
                self._used[watcher.tenant_jobs.tenant] -= 1
        if wake is not None:
            self._events.unregister(watcher.request.id, wake)

    def _wake(self, watcher: Watcher) -> None:
        with self._lock:
            if watcher in self._watchers:
                self._due.add(watcher)
        self._wakeup.set()

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="event-streams", daemon=True)
            self._thread.start()

    # On the thread of the streams.

    def _run(self) -> None:
        next_poll = 0.0
        while not self._is_closed:
            self._wakeup.wait(max(0.0, next_poll - self._clock()))
            self._wakeup.clear()
            with self._lock:
                due, self._due = self._due, set()
                if (now := self._clock()) >= next_poll:
                    next_poll, due = now + POLL_INTERVAL_SECONDS, set(self._watchers)
            self._update(list(due))
        self.end_all()

    def _update(self, due: Sequence[Watcher]) -> None:
        for start in range(0, len(due), PAGE):
            page = due[start : start + PAGE]
            try:
                self._tell_news(page)
                self._is_interrupted = False
            except Unavailable as error:
                self._report(error)
                time.sleep(RETRY_SECONDS)
            except Exception:
                log.exception("event_streams_failed")
            self._keep_alive(page)

    def _report(self, error: Unavailable) -> None:
        if not self._is_interrupted:
            log.warning("event_streams_interrupted", error=str(error))
        self._is_interrupted = True

    def _tell_news(self, page: Sequence[Watcher]) -> None:
        ids = list(dict.fromkeys(watcher.request.id for watcher in page))
        known: Mapping[str, WatchedJob | None] = dict(zip(ids, self._log.watch(ids), strict=True))
        for watcher in page:
            if watcher.is_read_from_bucket:
                continue
            job = known[watcher.request.id]
            if job is None:
                self._ask_bucket(watcher)
                continue
            told = watcher.stream.tell(job)
            if job.place is not None and not watcher.stream.is_ended:
                estimate = partial(self._eta.estimate, Job(watcher.request, place=job.place))
                told += watcher.stream.tell_place(job.place, estimate, self._clock())
            watcher.send(told, self._clock())

    def _keep_alive(self, page: Sequence[Watcher]) -> None:
        now = self._clock()
        for watcher in page:
            if now - watcher.sent_at >= self._heartbeat_seconds:
                watcher.send(HEARTBEAT, now)

    def _ask_bucket(self, watcher: Watcher) -> None:
        """Have another thread find out whether a job without a record has ended; it may take seconds."""
        if not watcher.is_read_from_bucket and not self._is_closed:
            watcher.is_read_from_bucket = True
            self._readers.submit(self._tell_end, watcher)

    def _tell_end(self, watcher: Watcher) -> None:
        try:
            job = watcher.tenant_jobs.get(watcher.request.id)
            told = watcher.stream.tell_stored_end(job) if job.state.is_final else b""
        except UnknownJob:
            told = watcher.stream.tell_deletion()
        except Unavailable:
            told = b""
        watcher.is_read_from_bucket = False
        watcher.send(told, self._clock())
