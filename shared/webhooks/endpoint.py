"""An endpoint: a URL of a tenant that is told of the ends of its jobs.  No Redis and no S3 here."""

import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Self

from pydantic import TypeAdapter

from shared.jobs.ids import new_job_id
from shared.jobs.model import JobState

PING: Final = "webhook.ping"
_ID: Final = re.compile(r"wh_[0-9a-f]{32}")


class JobEvent(StrEnum):
    SUCCEEDED = "job.succeeded"
    FAILED = "job.failed"
    CANCELED = "job.canceled"
    EXPIRED = "job.expired"

    @classmethod
    def of(cls, state: JobState) -> Self:
        """Return the event of a final state.

        Raises:
            ValueError: the state is not final.
        """
        return cls(f"job.{state}")


@dataclass(frozen=True, slots=True)
class SigningSecret:
    """text: `whsec_` and base64.  expires_at: unix seconds by the clock of Redis; None for the present one."""

    text: str = field(repr=False)
    expires_at: float | None = None


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An endpoint with its secrets, newest first.

    events: those that it gets.  all_jobs: of all jobs of the tenant; otherwise of those that name it.
    created_at, disabled_at: unix seconds by the clock of Redis.
    disabled_reason: why it gets nothing any more; None while it does.
    """

    id: str
    tenant: str
    url: str = field(repr=False)
    secrets: tuple[SigningSecret, ...]
    created_at: float
    events: tuple[JobEvent, ...] = tuple(JobEvent)
    all_jobs: bool = False
    description: str = ""
    disabled_at: float | None = None
    disabled_reason: str | None = None

    def is_wanted(self, event: JobEvent, webhook: str | None) -> bool:
        """Tell whether the endpoint gets the event of a job.

        Args:
            webhook: the endpoint or the URL that the job names.
        """
        return self.disabled_reason is None and event in self.events and (self.all_jobs or webhook == self.id)

    def list_secrets(self, now: float) -> list[str]:
        """Return the secrets that are valid at a time, newest first."""
        return [one.text for one in self.secrets if one.expires_at is None or one.expires_at > now]

    def to_json(self) -> bytes:
        return _ENDPOINT.dump_json(self)

    @classmethod
    def from_json(cls, document: bytes) -> Self:
        """Read a stored endpoint; members that a newer version added are ignored.

        Raises:
            ValueError: the document is not an endpoint.
        """
        return _ENDPOINT.validate_json(document)  # type: ignore[return-value]


_ENDPOINT = TypeAdapter(Endpoint)


def new_endpoint_id(unix_seconds: float) -> str:
    """Return a new id for an endpoint that is created at this time; ids sort by time."""
    return f"wh_{new_job_id(unix_seconds)}"


def is_endpoint_id(text: str) -> bool:
    """Tell whether a client's string may be part of a key."""
    return _ID.fullmatch(text) is not None
