"""Settings of the gateway: address, tokens, limits."""

from typing import Annotated, Literal

from pydantic import Field, SecretStr, field_validator

from shared.formats.registry import FORMAT_NAMES, select_formats
from shared.jobs.store import UNBOUNDED
from shared.settings import Settings


class ApiSettings(Settings):
    """Read once by api/wsgi.py."""

    bind: str = Field("127.0.0.1:8000", description="Where the gateway listens: `host:port`, or `unix:/path`.")
    processes: Annotated[int, Field(gt=0)] = Field(2, description="Gateway processes.")
    threads: Annotated[int, Field(gt=0)] = Field(
        512, description="Requests that one gateway process serves at a time; a synchronous caller holds one."
    )
    auth: Literal["auto", "on", "off"] = Field(
        "auto",
        description="Whether a bearer token is asked for; `auto` asks if tokens are configured, "
        "and without any listens on loopback alone.",
    )
    tokens: SecretStr = Field(
        SecretStr(""),
        description="Accepted tokens, separated by commas or blanks: `name:token` or `token`. "
        "Jobs are visible to tokens of the same name.",
    )
    tokens_file: str = Field(
        "", description="File with a line `name:sha256` for each token, the sum in hex; `#` begins a comment."
    )
    cors_origins: str = Field(
        "auto",
        description="Web pages that may call the API: `*`, or origins separated by commas; `auto` is `*` where tokens "
        "are asked for, and pages of this machine where none are.",
    )
    max_upload_bytes: Annotated[int, Field(gt=0)] = Field(
        32 * 1024 * 1024, description="Largest request body; base64 adds a third to an image."
    )
    max_image_pixels: Annotated[int, Field(gt=0)] = Field(64_000_000, description="Most pixels that an image may have.")
    default_formats: str = Field(
        "masks,overlay",
        description="Files of a job that was submitted without `formats=`, by commas; `labels` is always made.",
    )
    max_queued: Annotated[int, Field(gt=0, le=UNBOUNDED)] = Field(
        10_000, description="Jobs that may wait in one queue; more are refused with 429."
    )
    max_waiting_seconds: Annotated[float, Field(gt=0, le=60)] = Field(
        60.0, description="Longest time that `?wait=` can hold a request."
    )
    sync_deadline_seconds: Annotated[float, Field(gt=0, lt=300)] = Field(
        120.0,
        description="How long a synchronous caller is kept waiting before 504; some clients give up after 300 s.",
    )
    cold_start_seconds: Annotated[float, Field(ge=1)] = Field(
        10.0,
        description="How long a synchronous caller is held for a model without a ready worker before 503; "
        "`x-wait-for-model: true` asks to be held until the deadline.",
    )
    ready_timeout_seconds: Annotated[float, Field(gt=0)] = Field(
        1.0, description="How long `/readyz` waits for Redis and the object store."
    )

    @field_validator("default_formats")
    @classmethod
    def _check_formats(cls, value: str) -> str:
        try:
            select_formats(_split(value))
        except KeyError as error:
            raise ValueError(f"there is no format {error}; known are {', '.join(FORMAT_NAMES)}") from None
        return value

    @property
    def default_format_names(self) -> tuple[str, ...]:
        """The default formats in the registry's order, with the required ones."""
        return select_formats(_split(self.default_formats))


def _split(names: str) -> list[str]:
    return [name.strip() for name in names.split(",") if name.strip()]
