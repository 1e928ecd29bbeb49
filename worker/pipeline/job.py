"""Run one job: claim it, fetch and decode its image, segment, render, store, end it.  No Celery here, and no torch."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import wait
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Protocol

import structlog
from PIL.Image import Image

from shared.errors import Canceled, DeadlineExceeded, InputMissing, MaskmillError, Unavailable
from shared.formats.huggingface import hf_array
from shared.jobs.completion import complete_in_store, complete_job, failed
from shared.jobs.model import Failure, JobRequest, JobState, Priority
from shared.jobs.payloads import PayloadStore
from shared.jobs.result import JobResult
from shared.jobs.store import JobStore
from shared.storage.bucket import Bucket, NoSuchObject
from shared.storage.keys import inbox_key, object_key
from worker.batching.scheduler import Ticket
from worker.formats import labels, masks, overlay
from worker.pipeline.decode import decode
from worker.pipeline.leases import Lease, LeaseKeeper
from worker.segmenter import Prepared, Segmentation, Segmenter

log = structlog.get_logger()

# How long a job's thread steps back for those whom somebody waits for, where they may share its cores.
COURTESY_SECONDS = 0.004


class Batches(Protocol):
    """Where prepared images go to be segmented: worker.batching.scheduler.BatchScheduler."""

    def announce(self) -> AbstractContextManager[None]:
        """Announce one image for as long as the block runs."""

    def submit(
        self, prepared: Prepared, *, priority: Priority, deadline: float | None, is_wanted: Callable[[], bool]
    ) -> Ticket:
        """Queue an image for the device; the ticket raises what went wrong with it.

        Args:
            deadline: by time.monotonic(), or None.
        """


class Observer(Protocol):
    """Who hears how jobs went: worker.runtime.metrics."""

    def job_ended(self, priority: Priority, state: JobState, code: str, timings_ms: dict[str, float]) -> None:
        """One attempt brought its job to an end."""

    def job_dropped(self, reason: str) -> None:
        """A message or an attempt led to nothing: it was somebody else's job by then."""


@dataclass(frozen=True, slots=True)
class Services:
    """What a job needs, built once by worker/main.py."""

    jobs: JobStore
    bucket: Bucket
    payloads: PayloadStore
    leases: LeaseKeeper
    segmenter: Segmenter
    batches: Batches
    observer: Observer
    worker_id: str
    max_pixels: int


@dataclass(frozen=True, slots=True)
class Stopwatch:
    """Milliseconds by stage."""

    timings_ms: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.timings_ms[name] = round(1000 * (time.perf_counter() - start), 2)


def run_job(job_id: str, services: Services) -> None:
    """Claim a job and bring it to its end.

    Safe to call twice for one job: what cannot be claimed is dropped, and only one end counts.  An error of the job's
    own ends it as failed; if a store is away, the job goes back to its queue and no attempt is counted against it.
    """
    claim = services.jobs.claim(job_id, worker=services.worker_id)
    if isinstance(claim, str):
        log.info("job_dropped", job_id=job_id, reason=claim)
        services.observer.job_dropped(claim)
        if claim == "late":
            expire(services.jobs.get(job_id).request, services)
        return
    with services.leases.keep(claim) as lease:
        try:
            _end(run_attempt(lease, services), services)
        except Canceled:
            log.info("job_dropped", job_id=job_id, reason="lost")
            services.observer.job_dropped("lost")
        except DeadlineExceeded:
            expire(claim.request, services, attempt=claim.attempt)
        except Unavailable as error:
            _give_back(lease, error, services)
        except MaskmillError as error:
            _end(failed(claim.request, error, attempt=claim.attempt), services)
        except Exception:
            # A bug of ours: the job ends with it, so that it is not tried for ever; the trace is for the log.
            log.exception("job_broke", job_id=job_id)
            broken = MaskmillError("Something unexpected went wrong with this job; the operator's log says what.")
            _end(failed(claim.request, broken, attempt=claim.attempt), services)


def run_attempt(lease: Lease, services: Services) -> JobResult:
    """Do the work of one attempt; its objects are in the bucket when this returns, the job is not ended yet.

    Raises:
        Canceled: the lease was lost; whatever was stored stays under this attempt, unseen.
        DeadlineExceeded: the caller is not waiting any more.
        Unavailable: Redis or the bucket did not answer.
        MaskmillError: anything else that went wrong with this image.
    """
    request, attempt = lease.claim.request, lease.claim.attempt
    watch = Stopwatch({"queue": max(0.0, round(1000 * (time.time() - request.created_at), 2))})
    with services.batches.announce():
        image, ticket = _submit(lease, services, watch)
    # Said when the device is at work, and nobody waits for this thread to let go.
    wait([ticket], timeout=COURTESY_SECONDS)
    log.info("job_started", job_id=request.id, attempt=attempt, priority=request.priority)
    segmentation = ticket.result()
    watch.timings_ms["batch"] = round(ticket.wait_ms, 2)
    watch.timings_ms["device"] = round(ticket.device_ms, 2)
    lease.check()
    with watch.stage("render"):
        rendered = masks.render(segmentation, image)
    if request.priority is Priority.INTERACTIVE:
        with watch.stage("reply"):
            services.payloads.reply(request.id, hf_array(segmentation.segments, rendered.content, rendered.ranges))
        # What is left can wait; who reads the reply, on this very machine perhaps, should not have to share the cores.
        time.sleep(COURTESY_SECONDS)
    files = {"masks.zip": (rendered.content, "application/zip"), **render(segmentation, image, request.priority, watch)}
    lease.check()
    with watch.stage("store"):
        for name, (content, content_type) in files.items():
            services.bucket.put(object_key(request.id, attempt, name), content, content_type=content_type)
    return JobResult(
        request,
        JobState.SUCCEEDED,
        attempt,
        model_revision=services.segmenter.revision,
        segments=segmentation.segments,
        masks=rendered.ranges,
        timings_ms=watch.timings_ms,
    )


def render(
    segmentation: Segmentation, image: Image, priority: Priority, watch: Stopwatch
) -> dict[str, tuple[bytes, str]]:
    """Return what is stored beside the masks: contents and their types by name."""
    with watch.stage("labels"):
        files = {"labels.png": (labels.render(segmentation, image).content, "image/png")}
    # Who waits for the masks has the photo; who comes back later wants to see them on it.
    if priority is Priority.NORMAL:
        with watch.stage("overlay"):
            files["overlay.png"] = (overlay.render(segmentation, image).content, "image/png")
    return files


def fetch_input(request: JobRequest, services: Services) -> bytes:
    """Return the bytes of a job's image.

    Raises:
        InputMissing: they are not where they should be.
        DeadlineExceeded: they were kept for a caller who is not waiting any more.
    """
    if request.priority is Priority.INTERACTIVE:
        image = services.payloads.collect(request.id)
        if image is None:
            raise DeadlineExceeded("The image was kept until the deadline, and that has passed.")
        return image
    try:
        return services.bucket.get(inbox_key(request.id))
    except NoSuchObject as error:
        raise InputMissing("The image of this job is not in the bucket any more; submit it again.") from error


def expire(request: JobRequest, services: Services, *, attempt: int = 0) -> None:
    """End a job whose caller stopped waiting before a device was free."""
    late = Failure(DeadlineExceeded.code, "There was no result before the deadline.")
    _end(JobResult(request, JobState.EXPIRED, attempt, failure=late), services)


def _submit(lease: Lease, services: Services, watch: Stopwatch) -> tuple[Image, Ticket]:
    """Fetch, decode and prepare a job's image, and put it in the queue for the device."""
    request = lease.claim.request
    with watch.stage("fetch"):
        data = fetch_input(request, services)
    with watch.stage("decode"):
        image = decode(data, max_pixels=services.max_pixels)
    with watch.stage("prepare"):
        prepared = services.segmenter.prepare(image, request.parameters)
    lease.check()
    left = None if request.deadline_at is None else request.deadline_at - time.time()
    deadline = None if left is None else time.monotonic() + left
    ticket = services.batches.submit(
        prepared, priority=request.priority, deadline=deadline, is_wanted=lambda: lease.is_held
    )
    return image, ticket


def _end(result: JobResult, services: Services) -> None:
    """End a job; while the bucket is away, an interactive one in the job store alone, and any other later."""
    try:
        holds = complete_job(result, jobs=services.jobs, bucket=services.bucket)
    except Unavailable:
        if result.request.priority is not Priority.INTERACTIVE:
            services.jobs.give_back(result.request.id, result.attempt)
            log.warning("job_given_back", job_id=result.request.id, reason="its end could not be stored")
            return
        complete_in_store(result, jobs=services.jobs)
        holds = result
    if result.request.priority is Priority.INTERACTIVE:
        services.payloads.drop(result.request.id)
    code = holds.failure.code if holds.failure else ""
    won = holds == result
    log.info(
        "job_ended" if won else "job_ended_elsewhere",
        state=holds.state,
        job_id=result.request.id,
        attempt=result.attempt,
        segments=len(holds.segments),
        error_type=code or None,
        **{f"{stage}_ms": elapsed for stage, elapsed in result.timings_ms.items()},
    )
    if won:
        services.observer.job_ended(result.request.priority, holds.state, code, dict(result.timings_ms))
    else:
        services.observer.job_dropped("ended elsewhere")


def _give_back(lease: Lease, error: Unavailable, services: Services) -> None:
    request, attempt = lease.claim.request, lease.claim.attempt
    if request.priority is Priority.INTERACTIVE:
        _end(failed(request, error, attempt=attempt), services)
        return
    log.warning("job_given_back", job_id=request.id, attempt=attempt, reason=str(error))
    services.jobs.give_back(request.id, attempt)
