"""Settings of the gateway: address, tokens, limits.  Those of its connections are in api/server/settings.py."""

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, ValidationInfo, field_validator, model_validator

from api.server.settings import ServerSettings
from shared.authority import parse_origins, wrap_ipv6
from shared.formats.registry import FORMAT_NAMES, select_formats
from shared.jobs.store import UNBOUNDED
from shared.setting_types import (
    MAX_SECONDS,
    BucketNames,
    Bytes,
    Count,
    CountOrNone,
    Endpoint,
    Host,
    ListenAddress,
    Seconds,
    SecondsOrNone,
    check_listen_address,
)
from shared.settings import MAX_TTL_SECONDS, check_share
from shared.worker_registry import public_id

MAX_PROCESSES = 1024
# The longest that S3 accepts: a week.
MAX_SIGNED_SECONDS = 7 * 24 * 3600
# A million by a million, as sides may be long.
MAX_PIXELS = 10**12
# Each is submitted while its caller waits for the answer.
MAX_IMAGES_PER_REQUEST = 1000
# They are in Redis with the record of each job.
MAX_METADATA_BYTES = 65_536
# The end of the names of settings that bound a part of what another setting bounds.
OF_ONE_TENANT = "_per_tenant"
OFF = "off"  # a value of MASKMILL_METRICS_BIND


class ApiSettings(ServerSettings):
    """Read once by api/wsgi.py."""

    bind: ListenAddress = Field(
        "127.0.0.1:8000", description="Where the gateway listens: `host:port`, or `unix:/path`."
    )
    published: Host = Field(
        "",
        description="Address at which a container's port is published, if that differs from `MASKMILL_BIND`; `auto` of "
        "`MASKMILL_AUTH` goes by it.",
    )
    processes: Annotated[int, Field(gt=0, le=MAX_PROCESSES)] = Field(2, description="Gateway processes.")
    threads: Count = Field(
        640,
        description="Requests that one gateway process serves at a time; one that waits for a job holds one.",
    )
    max_waiting: CountOrNone = Field(
        0,
        description="Requests of one gateway process that may wait for a job: beyond, synchronous ones get 429, "
        "and `?wait=` is answered at once. 0 means four fifths of `MASKMILL_THREADS`.",
    )
    max_waiting_per_tenant: CountOrNone = Field(
        0, description="Of these, those of one tenant; 0 means half with tokens, and all without."
    )
    render_wait_seconds: Annotated[float, Field(gt=0, le=60)] = Field(
        30.0, description="Longest time that a request waits for a file that the renderer makes; then it gets 503."
    )
    max_render_calls: Count = Field(
        256, description="Calls that may be queued for the renderer; requests beyond get 503."
    )
    max_render_calls_per_tenant: CountOrNone = Field(
        0,
        description="Of these, those of one tenant; its requests beyond get 429. 0 means half with tokens, and all "
        "without.",
    )
    storage_public_endpoint: Endpoint = Field(
        "",
        description="URL under which clients reach the object store, for signed URLs; empty means that they do not, "
        "and get every file through the gateway.",
    )
    input_buckets: BucketNames = Field(
        "",
        description="Buckets of the object store whose objects jobs may name as `s3://bucket/key`, by commas. Every "
        "tenant may use every object in them.",
    )
    signed_url_seconds: Annotated[int, Field(gt=0, le=MAX_SIGNED_SECONDS)] = Field(
        300, description="How long a signed URL is valid."
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
        "",
        description="File with a line `name:sha256 scopes=read,submit expires=2027-01-31T00:00:00Z` for each token, "
        "the last two optional, and `max_priority=`, `models=`; `python -m api.tokens NAME` makes one. A changed "
        "file is read within a second.",
    )
    cors_origins: str = Field(
        "auto",
        description="Web pages that may call the API: `*`, or origins separated by commas; `auto` is `*` where tokens "
        "are asked for, and pages of this machine where none are.",
    )
    allowed_hosts: str = Field(
        "",
        description="Names, beside loopback and the address listened on or published, under which clients reach the "
        "gateway, by commas: `name`, `name:port`, `*.name` or `*`; other names get 421. Not checked where tokens "
        "are asked for, unless names are listed.",
    )
    max_upload_bytes: Bytes = Field(
        32 * 1024 * 1024, description="Largest request body; base64 adds a third to an image."
    )
    max_image_pixels: Annotated[int, Field(gt=0, le=MAX_PIXELS)] = Field(
        64_000_000, description="Most pixels that an image may have."
    )
    model_aliases: str = Field(
        "",
        description="Further names of models, by commas: `facebook/mask2former-swin-large-coco-panoptic=maskmill/"
        "embedded` answers for the first with the second, which the header `x-maskmill-model` says.",
    )
    max_images_per_request: Annotated[int, Field(gt=0, le=MAX_IMAGES_PER_REQUEST)] = Field(
        32, description="Most images in one form; each becomes a job of its own."
    )
    max_deadline_seconds: Seconds = Field(
        604800.0, description="Latest deadline that a caller may set for a job, from its submission on."
    )
    max_metadata_bytes: Annotated[int, Field(gt=0, le=MAX_METADATA_BYTES)] = Field(
        4096, description="Most bytes of the `metadata` of a job, as compact JSON."
    )
    default_formats: str = Field(
        "masks,overlay",
        description="Files of a job that was submitted without `formats=`, by commas; `labels` is always made.",
    )
    max_result_ttl_seconds: Annotated[int, Field(ge=0, le=MAX_TTL_SECONDS)] = Field(
        90 * 24 * 3600,
        description="How long, from the time of the call, `POST /v1/jobs/{id}/keep` can keep a job that has ended; 0 "
        "keeps none for longer.",
    )
    max_webhooks: Count = Field(10, description="Webhooks that one tenant may have.")
    webhook_urls: Literal["off", "on"] = Field(
        "off",
        description="Whether a job may name a URL as its `webhook`, which gets unsigned messages; otherwise only the "
        "id of a webhook of its tenant.",
    )
    max_queued: Annotated[int, Field(gt=0, le=UNBOUNDED)] = Field(
        10_000, description="Jobs that may wait in one queue; more are refused with 429."
    )
    max_queued_per_tenant: Annotated[int, Field(ge=0, le=UNBOUNDED)] = Field(
        0,
        description="Jobs of one tenant that may wait or run in one queue; 0 means half of `MASKMILL_MAX_QUEUED` "
        "with tokens, and all without.",
    )
    max_payload_bytes: Annotated[int, Field(gt=0, le=UNBOUNDED)] = Field(
        512 * 1024 * 1024,
        description="Bytes of the images of synchronous requests that may be in Redis; more are refused with 429.",
    )
    max_payload_bytes_per_tenant: Annotated[int, Field(ge=0, le=UNBOUNDED)] = Field(
        0, description="Of these, those of one tenant; 0 means half with tokens, and all without."
    )
    tenant_requests_per_second: Annotated[float, Field(gt=0, le=UNBOUNDED, allow_inf_nan=False)] = Field(
        1000.0,
        description="Requests a second that one tenant may send to one gateway process, and twice as many at once; "
        "more are refused with 429.",
    )
    tenant_queued_bytes: Annotated[int, Field(gt=0, le=UNBOUNDED)] = Field(
        64 * 1024**3,
        description="Bytes of the images of one tenant's jobs that wait or run; more are refused with 429.",
    )
    tenant_pixels_per_day: Annotated[int, Field(gt=0, le=UNBOUNDED)] = Field(
        10**13,
        description="Pixels of the images that one tenant may submit on a day in UTC; more are refused with 429.",
    )
    tenant_uploads: Annotated[int, Field(gt=0, le=UNBOUNDED)] = Field(
        10_000,
        description="Uploads of one tenant that have not expired, used or not; more are refused with 429.",
    )
    tenant_upload_bytes: Annotated[int, Field(gt=0, le=UNBOUNDED)] = Field(
        128 * 1024**3,
        description="Bytes that the files of these uploads may have in all, by the `bytes` with which they were asked "
        "for; more are refused with 429.",
    )
    max_redis_memory_share: Annotated[float, Field(gt=0, le=1)] = Field(
        0.9,
        description="Share of Redis' `maxmemory` above which new work is refused with 429; "
        "the rest is for jobs that are queued or running.",
    )
    max_event_streams: Count = Field(
        1000, description="Event streams of jobs that one gateway process holds open; further ones get 429."
    )
    max_event_streams_per_tenant: CountOrNone = Field(
        0, description="Of these, those of one tenant; 0 means half with tokens, and all without."
    )
    event_heartbeat_seconds: Seconds = Field(
        10.0,
        description="After so long without an event a stream gets a comment, so that no proxy takes it for dead.",
    )
    max_waiting_seconds: Annotated[float, Field(gt=0, le=60)] = Field(
        60.0, description="Longest time that `?wait=` can hold a request."
    )
    sync_deadline_seconds: Annotated[float, Field(gt=0, lt=300)] = Field(
        120.0,
        description="How long a synchronous caller is kept waiting before 504; some clients give up after 300 s.",
    )
    max_sync_wait_seconds: SecondsOrNone = Field(
        0.0,
        description="A synchronous request is refused with 429 if the work before it takes longer than this, by what "
        "the workers have completed so far; 0 means a quarter of `MASKMILL_SYNC_DEADLINE_SECONDS`.",
    )
    max_sync_wait_seconds_per_tenant: SecondsOrNone = Field(
        0.0, description="Of this work, that of the tenant of the request; 0 means half with tokens, and all without."
    )
    cold_start_seconds: Annotated[float, Field(ge=1, le=MAX_SECONDS, allow_inf_nan=False)] = Field(
        10.0,
        description="How long a synchronous caller is held for a model without a ready worker before 503; "
        "`x-wait-for-model: true` asks to be held until the deadline.",
    )
    graceful_timeout_seconds: Annotated[int, Field(ge=1, le=MAX_SECONDS)] = Field(
        25,
        description="How long requests in flight may take to finish after SIGTERM; two seconds before the end, a "
        "synchronous one without a result gets 503.",
    )
    ready_timeout_seconds: Seconds = Field(1.0, description="How long `/readyz` waits for Redis and the object store.")
    metrics_bind: str = Field(
        "127.0.0.1:9464",
        description="Where the gateway serves `/metrics`, and health, without a token: `host:port`, `unix:/path`, or "
        "`off`. The default is skipped if another process has it.",
    )

    @field_validator("metrics_bind")
    @classmethod
    def _check_metrics_bind(cls, value: str) -> str:
        return value if value == OFF else check_listen_address(value)

    @model_validator(mode="after")
    def _check_input_buckets(self) -> Self:
        if self.storage_bucket in self.input_buckets.replace(",", " ").split():
            raise ValueError(
                "MASKMILL_INPUT_BUCKETS: has the bucket of MASKMILL_STORAGE_BUCKET, where all tenants have their "
                "images and results; write other buckets"
            )
        return self

    @model_validator(mode="after")
    def _check_shares(self) -> Self:
        for name in type(self).model_fields:
            if name.endswith(OF_ONE_TENANT):
                check_share(self, name, name.removesuffix(OF_ONE_TENANT))
        return self

    @field_validator("cors_origins")
    @classmethod
    def _check_origins(cls, value: str) -> str:
        value = value.strip()
        if value not in ("auto", "*"):
            parse_origins(value)
        return value

    @field_validator("default_formats")
    @classmethod
    def _check_formats(cls, value: str) -> str:
        try:
            select_formats(_split(value))
        except KeyError as error:
            raise ValueError(f"there is no format {error}; known are {', '.join(FORMAT_NAMES)}") from None
        return value

    @field_validator("model_aliases")
    @classmethod
    def _check_aliases(cls, value: str) -> str:
        parse_aliases(value)
        return value

    @property
    def aliases(self) -> Mapping[str, str]:
        return parse_aliases(self.model_aliases)

    @field_validator("max_waiting")
    @classmethod
    def _check_waiting(cls, value: int, info: ValidationInfo) -> int:
        if value >= info.data.get("threads", value + 1):
            raise ValueError("must be less than MASKMILL_THREADS, so that requests that do not wait find a thread")
        return value

    @property
    def waiting_count(self) -> int:
        """Requests that may wait in one process."""
        return self.max_waiting or max(1, self.threads * 4 // 5)

    @property
    def sync_wait_seconds(self) -> float:
        """How much work may be before a synchronous request."""
        return self.max_sync_wait_seconds or self.sync_deadline_seconds / 4

    @property
    def reachable_at(self) -> str:
        """The address at which clients reach the gateway, with a port."""
        return f"{wrap_ipv6(self.published)}:{self.bind.rpartition(':')[2]}" if self.published else self.bind

    @property
    def default_format_names(self) -> tuple[str, ...]:
        """The default formats in the registry's order, with the required ones."""
        return select_formats(_split(self.default_formats))


def parse_aliases(text: str) -> Mapping[str, str]:
    """Return the model of each alias.

    Raises:
        ValueError: a pair is not `alias=model`, or an alias is given twice.
    """
    pairs = [tuple(part.strip() for part in pair.split("=")) for pair in _split(text)]
    if not all(len(pair) == 2 and all(pair) for pair in pairs):
        raise ValueError("each must be `alias=model`, separated by commas")
    aliases = {pair[0]: public_id(pair[1]) for pair in pairs}
    if len(aliases) < len(pairs):
        raise ValueError("an alias is given twice")
    return aliases


def _split(names: str) -> list[str]:
    return [name.strip() for name in names.split(",") if name.strip()]
