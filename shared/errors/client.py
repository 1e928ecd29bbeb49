"""The errors that a client can correct."""

from collections.abc import Iterable, Mapping

from shared.errors.root import ClientError


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
