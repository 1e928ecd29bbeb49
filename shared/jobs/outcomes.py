"""The outcomes of the job store's scripts, one enumeration per script in shared/jobs/scripts."""

from enum import StrEnum


class CreateOutcome(StrEnum):
    """Which job stands for a submission, or why none does."""

    CREATED = "created"  # its own
    REPEATED = "repeated"  # the one that was submitted under the same idempotency key
    COALESCED = "coalesced"  # an identical one that is under way
    CACHED = "cached"  # an identical one that has succeeded
    CONFLICT = "conflict"  # none: the idempotency key was used for something else
    FULL = "full"  # none: too many jobs are queued
    TENANT_FULL = "tenant_full"  # none: too many jobs of the tenant are queued
    PAYLOADS_FULL = "payloads_full"  # none: the payloads have too many bytes
    TENANT_PAYLOADS_FULL = "tenant_payloads_full"  # none: the payloads of the tenant have too many bytes
    QUOTA_BYTES = "quota_bytes"  # none: too many bytes of the tenant are queued
    QUOTA_PIXELS = "quota_pixels"  # none: the tenant has submitted too many pixels on this day
    PURGED = "purged"  # none: the steward was about to recover a job that was purged meanwhile


class ReserveRecutOutcome(StrEnum):
    RESERVED = "reserved"
    REPEATED = "repeated"  # the same recut was asked for under the idempotency key
    CONFLICT = "conflict"  # the idempotency key was used for something else


class CheckQueueOutcome(StrEnum):
    FREE = "free"
    FULL = "full"  # too many jobs are queued
    TENANT_FULL = "tenant_full"  # too many jobs of the tenant are queued
    QUOTA_BYTES = "quota_bytes"  # too many bytes of the tenant are queued
    QUOTA_PIXELS = "quota_pixels"  # the tenant has submitted too many pixels on this day


class EnqueueCallOutcome(StrEnum):
    """Of a call of the renderer; the script is in shared/jobs/render_calls.py."""

    ENQUEUED = "enqueued"
    JOINED = "joined"  # an identical call is under way
    ABSENT = "absent"  # no renderer has reported for some seconds
    FULL = "full"  # too many calls are queued
    TENANT_FULL = "tenant_full"  # too many calls of the tenant are queued


class TakeCallOutcome(StrEnum):
    """Of a renderer that looks for a call; the script is in shared/jobs/render_calls.py."""

    TAKEN = "taken"
    HELD = "held"  # the tenants of all calls that wait have their part of this renderer
    NONE = "none"  # no call waits
    UNREADABLE = "unreadable"  # by this version; not from the script, but from the store that reads its answer


class StartCallOutcome(StrEnum):
    """Of a renderer that takes a call; the script is in shared/jobs/render_calls.py."""

    STARTED = "started"
    SUSPECTED = "suspected"  # a renderer was killed while it ran: it is to be started with nothing beside it
    UNWANTED = "unwanted"  # no caller waits for it any more
    REFUSED = "refused"  # it has ended too many renderers


class DiscardOutcome(StrEnum):
    DISCARDED = "discarded"
    CLAIMED = "claimed"  # a worker has it already
    UNKNOWN = "unknown"


class ClaimOutcome(StrEnum):
    CLAIMED = "claimed"
    DEADLINE_EXCEEDED = "deadline_exceeded"  # claimed, but too late to run it
    UNREADABLE = "unreadable"  # by this version; not from the script, but from the store that reads its answer
    EMPTY = "empty"  # no job can be claimed


class StartIsolatedOutcome(StrEnum):
    STARTED = "started"
    LOST = "lost"  # the job is not this attempt's any more


class RenewOutcome(StrEnum):
    RENEWED = "renewed"
    LOST = "lost"  # the job is not this attempt's any more


class RecordImageOutcome(StrEnum):
    RECORDED = "recorded"
    LOST = "lost"  # the job is not this attempt's any more


class ReleaseOutcome(StrEnum):
    QUEUED = "queued"
    EXHAUSTED = "exhausted"  # it was returned too often and must be failed; it is running still
    LOST = "lost"  # the job is not this attempt's any more


class RequeueDelayedOutcome(StrEnum):
    QUEUED = "queued"
    DELAYED = "delayed"  # its delay is not over
    UNKNOWN = "unknown"  # it is not delayed any more


class RequeueStalledOutcome(StrEnum):
    QUEUED = "queued"
    EXHAUSTED = "exhausted"  # it has stalled too often, at last while it ran alone, and must be failed
    LEASED = "leased"  # its lease is valid
    NOT_RUNNING = "not_running"


class RecordSucceededOutcome(StrEnum):
    """PURGED: the job was purged before it could be recorded."""

    RECORDED = "recorded"
    PURGED = "purged"


class FinishOutcome(StrEnum):
    """Finished, or why not: the last four are the state of a job that is final already."""

    FINISHED = "finished"
    UNKNOWN = "unknown"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"
    EXPIRED = "expired"


class PurgeOutcome(StrEnum):
    PURGED = "purged"
    UNKNOWN = "unknown"  # there was no record


class KeepOutcome(StrEnum):
    KEPT = "kept"  # followed by the time until which it is
    UNFINISHED = "unfinished"
    UNKNOWN = "unknown"  # there is no record
    ENDED = "ended"  # its objects are being deleted


class EndRetentionOutcome(StrEnum):
    ENDED = "ended"  # followed by the ids of those jobs whose retention has ended


class OpenUploadOutcome(StrEnum):
    OPENED = "opened"
    TOO_MANY = "too_many"  # followed by the time at which one expires, as the next one
    TOO_LARGE = "too_large"


class RemoveWaiterOutcome(StrEnum):
    WAITING = "waiting"  # followed by the number of callers that still wait
    UNKNOWN = "unknown"


class MeasureLoadOutcome(StrEnum):
    MEASURED = "measured"


class MeasureServiceOutcome(StrEnum):
    MEASURED = "measured"


class FindPlaceOutcome(StrEnum):
    PLACED = "placed"  # followed by the place of a queued job, and the pixels before it
    NONE = "none"  # it is not queued, or cannot be claimed yet


class WatchOutcome(StrEnum):
    WATCHED = "watched"  # followed by what Redis knows of each job


class LogStageOutcome(StrEnum):
    LOGGED = "logged"
    LOST = "lost"  # the job is not this attempt's any more


class FindStalledOutcome(StrEnum):
    FOUND = "found"  # followed by the time and the ids of jobs


class FindDelayedOutcome(StrEnum):
    FOUND = "found"  # followed by the ids of jobs by queue


class FindOverdueOutcome(StrEnum):
    FOUND = "found"  # followed by the ids of jobs


class MeasureAgesOutcome(StrEnum):
    MEASURED = "measured"  # followed by the ages
