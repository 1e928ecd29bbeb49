"""Recuts of a tenant's jobs: checked here, made by the renderer."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial

from api.jobs.admission import Caller
from api.jobs.queries import TenantJobs
from api.jobs.rendering import RenderCalls
from api.jobs.submission import IDEMPOTENCY_SECONDS, compute_key_digest, hash_document
from shared.errors import RecutGone
from shared.jobs.model import Job, JobRequest, Retention
from shared.jobs.parameters import SegmentParameters
from shared.jobs.recut import check_kept
from shared.jobs.recut_call import RecutArguments, RecutDocument
from shared.jobs.recut_file import get_recut
from shared.jobs.recut_keys import RecutKeys
from shared.jobs.render_calls import RenderCall, RenderKind
from shared.jobs.result import JobResult
from shared.rfc3339 import format_timestamp


@dataclass(frozen=True, slots=True)
class RecutWish:
    """What a client wants of a recut.

    formats: names from the registry, in its order.
    max_side: the longest side of a preview, in pixels; None: as large as the image.
    is_stored: whether it becomes a job of its own.
    idempotency_key: under which it is stored once.
    """

    parameters: SegmentParameters
    formats: tuple[str, ...]
    max_side: int | None = None
    is_stored: bool = False
    idempotency_key: str | None = None


@dataclass(frozen=True, slots=True)
class Recut:
    """source_id: of the job of which it is one.  stored_as: id of the job as which it is stored, if it is."""

    source_id: str
    stored_as: str | None
    document: RecutDocument


@dataclass(frozen=True, slots=True)
class Recutting:
    """new_id: generates job ids.  now: unix seconds by the clock of Redis.  retention: of a stored recut.

    ttl_seconds: how long logits are kept.
    """

    renders: RenderCalls
    keys: RecutKeys
    new_id: Callable[[], str]
    now: Callable[[], float]
    retention: Retention
    ttl_seconds: int

    def recut(
        self,
        job_id: str,
        wish: RecutWish,
        caller: Caller,
        jobs: TenantJobs,
        *,
        is_wanted: Callable[[], bool] = lambda: True,
    ) -> Recut:
        """Segment the image of a job again from its logits, and wait for that.

        Args:
            is_wanted: tells whether the client is still there; a recut that is stored is made in any case.

        Raises:
            Canceled: the client has gone.
            UnknownJob, NotFinished, MaskmillError: as TenantJobs.get_result().
            RecutGone, RecutUnsupported: its logits are not stored (any more).
            ThresholdBelowFloor, AllQueriesNeeded: they do not suffice for these parameters.
            BadParameter, IdempotencyConflict: as for a submission.
            Unavailable: as RenderCalls.call().
        """
        source = find_source(jobs.get_result(job_id), jobs)
        kept = get_recut(source)
        check_kept(wish.parameters, floor=kept.floor, has_all_queries=kept.has_all_queries)
        request = self._reserve(source.request, wish, caller, jobs) if wish.is_stored else None
        arguments = RecutArguments(wish.parameters, wish.formats, wish.max_side, request)
        call = RenderCall(RenderKind.RECUT, caller.tenant, source.request.id, arguments.to_wire())
        try:
            reply = self.renders.call(call, is_wanted=None if wish.is_stored else is_wanted)
            document = RecutDocument.from_json(reply)
        except RecutGone as error:
            raise RecutGone(str(error), kept_until=self._find_end(jobs.get(source.request.id))) from error
        return Recut(source.request.id, request.id if request else None, document)

    def _find_end(self, job: Job) -> str | None:
        """Return until when the logits of a job were kept at most; None if that is not known."""
        if job.ended_at is None or job.expires_at is None:
            return None
        return format_timestamp(min(job.ended_at + self.ttl_seconds, job.expires_at))

    def _reserve(self, source: JobRequest, wish: RecutWish, caller: Caller, jobs: TenantJobs) -> JobRequest:
        """Return the request of a stored recut; under a key that was used for it before, the one that it had then."""
        request = self._build_request(source, wish, caller)
        if wish.idempotency_key is None:
            return request
        reserve = partial(
            self.keys.reserve,
            request,
            digest=compute_key_digest(caller.tenant, wish.idempotency_key),
            fingerprint=hash_document(["recut", source.id, asdict(wish)]),
            seconds=min(IDEMPOTENCY_SECONDS, request.retention.record_seconds),
        )
        earlier = reserve()
        return reserve(gone_id=earlier.id) if jobs.jobs.is_purged(earlier.id) else earlier

    def _build_request(self, source: JobRequest, wish: RecutWish, caller: Caller) -> JobRequest:
        """Return the request of a stored recut: that of the job, but for what belongs to one submission."""
        return replace(
            source,
            id=self.new_id(),
            request_id=caller.request_id,
            parameters=wish.parameters,
            formats=wish.formats,
            retention=self.retention,
            created_at=self.now(),
            deadline_at=None,
            idempotency=None,
            client_id=None,
            webhook=None,
            redrive_of=None,
            recut_of=source.id,
        )


def find_source(result: JobResult, jobs: TenantJobs) -> JobResult:
    """Return the result of the job that has the logits: of a stored recut, that of its original."""
    return jobs.get_result(result.request.recut_of) if result.request.recut_of else result
