"""The root of the errors, and its branches."""

from collections.abc import Mapping


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


class Unavailable(MaskmillError):
    """Try again later; after `retry_after_seconds`, unless that is None."""

    retry_after_seconds: int | None = 5

    def headers(self) -> Mapping[str, str]:
        return {} if self.retry_after_seconds is None else {"Retry-After": str(self.retry_after_seconds)}


class WorkerFault(MaskmillError):
    """A fault of the service; the client cannot correct it."""
