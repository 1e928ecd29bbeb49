"""Every error of the service, as one tree.

* MaskmillError
  x ClientError            the client can correct the request
    - EmptyBody            the request has no body
    - UnreadableBody       the body is neither an image, nor JSON, nor base64, nor a form
    - UnsupportedCoding    the body is compressed in a way that the service does not accept
    - NotAnImage           the bytes are not an image of a supported format
    - TruncatedImage       the image file stops before its end
    - BodyTooLarge         the body has more bytes than the service accepts
    - MetadataTooLarge     the caller's own data of a job have more bytes than the service accepts
    - RequestTimeout       the client sent the request too slowly
    - ImageTooLarge        the image has more pixels, or needs more memory, than the service accepts
    - ImageTooCostly       the image takes more time to decode than the service accepts
    - ImageTooNarrow       one side of the image is too short for the model
    x Unrepresentable      a format cannot hold this result; it is omitted from a job, whose other files are made
      - TooManyCorners     the segments have more corners than polygons are made of
    - UnknownParameter     a parameter that does not exist
    - BadParameter         a value that is out of range or of the wrong type
    - Unauthorized         no token, an unknown one, or one that has expired
    - MissingScope         the token may not do this
    - NotPermitted         the token may not use this model, or this priority
    - UnknownHost          the request names the service by a name that is not its own
    - ForeignOrigin        a web page that may not call the service
    - BadPrefix            the proxy in front sent a prefix that cannot begin a path
    - UnknownJob           no such job, it has expired, or it belongs to another tenant
    - UnknownModel         no worker serves this model
    - Gone                 something of a job that is known is not stored any more
      - ImageGone          the image, from which a file would be rendered, is not kept any more
      - RecutGone          the logits of the job are not kept (any more)
    - UnknownMask          the job has no segment of that number
    - UnknownWebhook       no such webhook, or it belongs to another tenant
    - UnknownDelivery      the webhook has no such delivery, or it is not kept any more
    - UnknownRoute         no such path
    - WrongMethod          the path exists, but does not allow this method
    - NotFinished          the result was requested before the job ended
    - AlreadyEnded         the job ended before it could be canceled
    - TooManyWebhooks      the tenant has as many webhooks as it may
    - WebhookDisabled      the webhook gets no messages until it is enabled
    - Canceled             the job was canceled, so it has no result
    - JobExpired           the job did not end before its deadline, so it has no result
    - ClientIdTaken        the caller's own id names a job that was submitted otherwise
    - RecutUnsupported     the model keeps no logits
    - ThresholdBelowFloor  the threshold of a recut is below the scores of the queries that were kept
    - AllQueriesNeeded     a semantic recut of a job that did not keep every query
    - IdempotencyConflict  an idempotency key was reused for a different request
    - ForbiddenInput       an image is named in a way, or at a place, that this service does not use
    - InputNotFound        no object is stored at the place that was named
    - UnknownUpload        no file was uploaded under this id, or it has expired
    - ForbiddenUrl         a URL of a kind that this service does not use
    - UrlRefused           a URL leads to an address that this service does not connect to
    - UrlUnreachable       the server of a URL did not answer as it must
    - UrlTooLarge          a URL has more bytes than the service accepts
  x Unavailable            try again later
    x Overloaded           a limit of load is reached, so new work is refused
      - QueueFull          too many jobs are queued
      - QuotaExceeded      a quota of the tenant is used up
        - TooManyRequests  the tenant sends too many requests a second
      - TooManyWaiting     too many requests wait for their results
      - TooManyStreams     too many event streams are open
      - WaitTooLong        there is more work ahead than a caller may wait for
      - UploadsFull        the gateway holds as many bytes of uploads as it may
      - PayloadsFull       too many bytes of images of synchronous requests are stored
      - StoreFull          Redis has too little memory left
    - StoreUnavailable     Redis did not answer
    - StorageUnavailable   the object store did not answer
    x ModelNotReady        the model is known, but no worker is ready for it
      - EngineLost           the process that ran the model ended while it worked on the image
    - RendererUnavailable  no renderer was free to make a file in time
    - StackUnconfirmed     it is not known yet whether another stack uses the stores
    - WrongStores          the gateway must not use the stores that it is configured with
    - GatewayStopping      the gateway stops, and the request could not be answered within its grace period
    - SharedJobEnded       the job that the request shared with an identical one has no result
    - SharedMemoryFull     the worker had no shared memory free for the image
    - DutyLeaseLost        another steward runs a duty that this one has begun
    - DecodersBusy         the worker had no memory free, or no process, to decode the image
    - UrlsBusy             the worker waits for as many slow servers of URLs as it may
    - DeadlineExceeded     there was no result before the deadline
  x WorkerFault            a fault of the service
    - OutOfMemory          the image did not fit on the device, even alone
    - DecoderLost          the processes that decoded the image were killed by the system
    - EngineFailed         the model failed on this image
    - RenderingFailed      a format of the result could not be written
    - InputMissing         a job names bytes that are not stored
    - ResultOverwritten    another file is stored in the place of one of the result
    - AttemptsExhausted    workers were lost with the job too often, or gave it back too often
    - ModelUnusable        the model could not be loaded
    x UnusableStores       this process must not use the stores that it is configured with
      - LayoutMismatch     a store holds data of another version's layout
      - FeatureMissing     the object store lacks a feature that the service relies on
      - ForeignStack       a store is in use by another stack

An error carries the response headers that belong to it.  Its HTTP status is in one table, in api/errors.py.
"""

from collections.abc import Iterable, Mapping


class MaskmillError(Exception):
    """Root of the tree; `code` is part of the public API and never changes.

    `details` are machine-readable facts beside the message, such as the state of a job.
    """

    code = "internal"

    def __init__(self, message: str = "", **details: str | int | float) -> None:
        super().__init__(message)
        self.details = details

    def headers(self) -> Mapping[str, str]:
        """Return the headers of an HTTP response that reports this error."""
        return {}


class ClientError(MaskmillError):
    """The client can correct the request."""


class EmptyBody(ClientError):
    code = "empty_body"


class UnreadableBody(ClientError):
    code = "unreadable_body"


class UnsupportedCoding(ClientError):
    """`codings` are the content codings that are accepted."""

    code = "unsupported_coding"

    def __init__(self, message: str = "", *, codings: Iterable[str] = ("identity",)) -> None:
        super().__init__(message)
        self.codings = tuple(codings)

    def headers(self) -> Mapping[str, str]:
        """Return Accept-Encoding, by which RFC 9110, section 12.5.3, tells this 415 from that of a media type."""
        return {"Accept-Encoding": ", ".join(self.codings)}


class NotAnImage(ClientError):
    code = "not_an_image"


class TruncatedImage(ClientError):
    code = "truncated_image"


class BodyTooLarge(ClientError):
    code = "body_too_large"


class MetadataTooLarge(ClientError):
    code = "metadata_too_large"


class RequestTimeout(ClientError):
    code = "request_timeout"


class ImageTooLarge(ClientError):
    code = "image_too_large"


class ImageTooCostly(ClientError):
    code = "image_too_costly"


class ImageTooNarrow(ClientError):
    code = "image_too_narrow"


class Unrepresentable(ClientError):
    """A format cannot hold this result, however often it is rendered."""


class TooManyCorners(Unrepresentable):
    code = "too_many_corners"


class UnknownParameter(ClientError):
    code = "unknown_parameter"


class BadParameter(ClientError):
    code = "bad_parameter"


class Unauthorized(ClientError):
    code = "unauthorized"

    def headers(self) -> Mapping[str, str]:
        return {"WWW-Authenticate": "Bearer"}


class MissingScope(ClientError):
    """`scope` is the one that the token lacks."""

    code = "missing_scope"

    def __init__(self, message: str = "", *, scope: str = "") -> None:
        super().__init__(message)
        self.scope = scope

    def headers(self) -> Mapping[str, str]:
        """Return WWW-Authenticate in the form of RFC 6750, section 3."""
        return {"WWW-Authenticate": f'Bearer error="insufficient_scope", scope="{self.scope}"'}


class NotPermitted(ClientError):
    code = "not_permitted"


class UnknownHost(ClientError):
    code = "unknown_host"


class BadPrefix(ClientError):
    code = "bad_prefix"


class ForeignOrigin(ClientError):
    code = "foreign_origin"


class UnknownJob(ClientError):
    code = "unknown_job"


class UnknownModel(ClientError):
    code = "unknown_model"


class Gone(ClientError):
    """`kept_until`, where it is known, is until when it was kept at most: RFC 3339."""

    code = "gone"

    def __init__(self, message: str = "", *, kept_until: str | None = None) -> None:
        if kept_until is None:
            super().__init__(message)
        else:
            super().__init__(f"{message} It was kept until {kept_until}.", kept_until=kept_until)


class ImageGone(Gone):
    code = "image_gone"


class RecutGone(Gone):
    """A recut is not possible: the logits of the job were deleted, or never stored."""

    code = "recut_gone"


class UnknownMask(ClientError):
    code = "unknown_mask"


class UnknownWebhook(ClientError):
    code = "unknown_webhook"


class UnknownDelivery(ClientError):
    code = "unknown_delivery"


class UnknownRoute(ClientError):
    code = "unknown_route"


class WrongMethod(ClientError):
    """`methods` are those that the path allows."""

    code = "wrong_method"

    def __init__(self, message: str = "", *, methods: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.methods = sorted(methods)

    def headers(self) -> Mapping[str, str]:
        return {"Allow": ", ".join(self.methods)} if self.methods else {}


class NotFinished(ClientError):
    code = "not_finished"


class AlreadyEnded(ClientError):
    code = "already_ended"


class TooManyWebhooks(ClientError):
    code = "too_many_webhooks"


class WebhookDisabled(ClientError):
    code = "webhook_disabled"


class Canceled(ClientError):
    code = "canceled"


class ClientIdTaken(ClientError):
    code = "client_id_taken"


class RecutUnsupported(ClientError):
    """The model's family keeps no logits."""

    code = "recut_unsupported"


class ThresholdBelowFloor(ClientError):
    """The detail `floor` is the lowest threshold that a recut of the job can have."""

    code = "threshold_below_floor"


class AllQueriesNeeded(ClientError):
    """The job was submitted without keeping every query, so there is no semantic recut of it."""

    code = "all_queries_needed"


class JobExpired(ClientError):
    """For its caller's later requests: a synchronous one is answered with DeadlineExceeded, and may be repeated."""

    code = "expired"


class IdempotencyConflict(ClientError):
    code = "idempotency_conflict"


class ForbiddenInput(ClientError):
    code = "forbidden_input"


class InputNotFound(ClientError):
    code = "input_not_found"


class UnknownUpload(ClientError):
    code = "unknown_upload"


class ForbiddenUrl(ClientError):
    code = "forbidden_url"


class UrlRefused(ClientError):
    code = "url_refused"


class UrlUnreachable(ClientError):
    code = "url_unreachable"


class UrlTooLarge(ClientError):
    code = "url_too_large"


class Unavailable(MaskmillError):
    """Try again later; after `retry_after_seconds`, unless that is None."""

    retry_after_seconds: int | None = 5

    def headers(self) -> Mapping[str, str]:
        return {} if self.retry_after_seconds is None else {"Retry-After": str(self.retry_after_seconds)}


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


class WorkerFault(MaskmillError):
    """A fault of the service; the client cannot correct it."""


class OutOfMemory(WorkerFault):
    code = "out_of_memory"


class DecoderLost(WorkerFault):
    code = "decoder_lost"


class EngineFailed(WorkerFault):
    code = "engine_failed"


class RenderingFailed(WorkerFault):
    code = "rendering_failed"


class InputMissing(WorkerFault):
    code = "input_missing"


class ResultOverwritten(WorkerFault):
    """Another file was stored in the place of one of the result."""

    code = "result_overwritten"


class AttemptsExhausted(WorkerFault):
    code = "attempts_exhausted"


class ModelUnusable(WorkerFault):
    code = "model_unusable"


class UnusableStores(WorkerFault):
    """This process must not use the stores that it is configured with."""


class LayoutMismatch(UnusableStores):
    code = "layout_mismatch"


class FeatureMissing(UnusableStores):
    code = "feature_missing"


class ForeignStack(UnusableStores):
    code = "foreign_stack"


def build_error(code: str, message: str) -> MaskmillError:
    """Return the error that another process recorded by its code.

    An unknown code, such as one of a newer version, gives the root of the tree.
    """
    return _BY_CODE.get(code, MaskmillError)(message)


def _subtree(kind: type[MaskmillError]) -> list[type[MaskmillError]]:
    return [kind, *(descendant for child in kind.__subclasses__() for descendant in _subtree(child))]


_BY_CODE = {kind.code: kind for kind in _subtree(MaskmillError) if "code" in vars(kind)}
