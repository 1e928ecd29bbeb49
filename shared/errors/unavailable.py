"""The errors after which a request may be repeated."""

from collections.abc import Mapping

from shared.errors.root import Unavailable


class Overloaded(Unavailable):
    """A limit of load is reached, so new work is refused; running work goes on.

    retry_after_seconds: when it is worth trying again; None: the default of the class.
    """

    retry_after_seconds = 10

    def __init__(
        self, message: str = "", *, retry_after_seconds: int | None = None, **details: str | int | float
    ) -> None:
        super().__init__(message, **details)
        if retry_after_seconds is not None:
            self.retry_after_seconds = retry_after_seconds


class QueueFull(Overloaded):
    """`limit` is the number of jobs that may be queued."""

    code = "queue_full"

    def __init__(self, message: str = "", *, limit: int = 1, retry_after_seconds: int | None = None) -> None:
        super().__init__(message, retry_after_seconds=retry_after_seconds, limit=limit)
        self.limit = limit

    def headers(self) -> Mapping[str, str]:
        """Return Retry-After, and RateLimit and RateLimit-Policy in the syntax that huggingface_hub parses."""
        seconds = self.retry_after_seconds
        return {
            **super().headers(),
            "RateLimit": f'"queue";r=0;t={seconds}',
            "RateLimit-Policy": f'"fixed window";"queue";q={self.limit};w={seconds}',
        }


class QuotaExceeded(Overloaded):
    """A quota of the tenant is used up: `limit` of a unit, such as bytes or pixels, within `window_seconds`."""

    code = "quota_exceeded"

    def __init__(
        self,
        message: str = "",
        *,
        quota: str = "quota",
        limit: float = 1,
        window_seconds: int = 1,
        retry_after_seconds: int | None = None,
    ) -> None:
        super().__init__(message, retry_after_seconds=retry_after_seconds, limit=limit)
        self.quota = quota
        self.limit = limit
        self.window_seconds = window_seconds

    def headers(self) -> Mapping[str, str]:
        """Return Retry-After, and RateLimit and RateLimit-Policy in the syntax that huggingface_hub parses."""
        return {
            **super().headers(),
            "RateLimit": f'"{self.quota}";r=0;t={self.retry_after_seconds}',
            "RateLimit-Policy": f'"fixed window";"{self.quota}";q={self.limit:.0f};w={self.window_seconds}',
        }


class TooManyRequests(QuotaExceeded):
    code = "too_many_requests"
    retry_after_seconds = 1


class UploadsFull(Overloaded):
    code = "uploads_full"

    def __init__(
        self, message: str = "This service holds as many uploads as it may; send the request again shortly."
    ) -> None:
        super().__init__(message)


class TooManyWaiting(Overloaded):
    code = "too_many_waiting"
    retry_after_seconds = 2


class TooManyStreams(Overloaded):
    code = "too_many_streams"

    def __init__(
        self, message: str = "Too many event streams are open; close some, or ask for the job itself from time to time."
    ) -> None:
        super().__init__(message)


class WaitTooLong(Overloaded):
    code = "wait_too_long"


class PayloadsFull(Overloaded):
    code = "payloads_full"
    retry_after_seconds = 5


class StoreFull(Overloaded):
    code = "store_full"
    retry_after_seconds = 30


class StoreUnavailable(Unavailable):
    code = "store_unavailable"


class StorageUnavailable(Unavailable):
    code = "storage_unavailable"


class StackUnconfirmed(Unavailable):
    code = "stack_unconfirmed"

    def __init__(
        self, message: str = "It is not known yet whether another stack uses the bucket; try again in some seconds."
    ) -> None:
        super().__init__(message)


class WrongStores(Unavailable):
    code = "wrong_stores"


class RendererUnavailable(Unavailable):
    code = "renderer_unavailable"

    def __init__(self, message: str = "No renderer is free to make this now; ask again in a few seconds.") -> None:
        super().__init__(message)


class ModelNotReady(Unavailable):
    code = "model_not_ready"


class EngineLost(ModelNotReady):
    """Inside a worker only: the image may be what ended the process that runs the model."""

    code = "engine_lost"


class SharedJobEnded(Unavailable):
    """The job of an identical request, which a coalesced one waited for, ended without a result."""

    code = "shared_job_ended"
    retry_after_seconds = 1


class GatewayStopping(Unavailable):
    """The gateway process was told to stop while a request waited for its result, or was being sent."""

    code = "gateway_stopping"
    retry_after_seconds = 1

    def __init__(self, message: str = "This gateway is being restarted; send the request again.") -> None:
        super().__init__(message)


class SharedMemoryFull(Unavailable):
    code = "shared_memory_full"


class DutyLeaseLost(Unavailable):
    code = "duty_lease_lost"


class DecodersBusy(Unavailable):
    code = "decoders_busy"


class UrlsBusy(Unavailable):
    """Inside a worker only: the job is given back for some seconds."""

    code = "urls_busy"


class DeadlineExceeded(Unavailable):
    code = "deadline_passed"
    retry_after_seconds = None
