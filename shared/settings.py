"""Settings that gateway, worker and steward share; each adds its own."""

import os
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import AfterValidator, Field, SecretStr, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from shared.prefixes import check_redis_prefix, check_storage_prefix
from shared.setting_names import PREFIX, SECRETS_DIR, find_wrong_names
from shared.setting_types import (
    AccessKey,
    AllowedTargets,
    BucketName,
    Certificates,
    Count,
    Endpoint,
    ModelName,
    ProxyUrl,
    ReadableFile,
    RedisUrl,
    Region,
    Seconds,
    check_key_pair,
    check_secret_key,
    clean_text,
)

# A hundred years: sums with unix seconds stay exact in JSON and in Lua.
MAX_TTL_SECONDS = 100 * 366 * 24 * 3600

# S3 accepts no presigned request that is older.
MAX_UPLOAD_TTL_SECONDS = 7 * 24 * 3600


class Settings(BaseSettings):
    """Read once from the environment by a composition root, then passed to constructors explicitly.

    A wrong value stops the process at start, naming the field.
    """

    # Errors and representations must not show the passwords in values.  The default of a file is not one.
    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, env_ignore_empty=True, hide_input_in_errors=True, validate_default=False
    )

    redis_url: RedisUrl = Field(
        "redis://127.0.0.1:6379/0",
        repr=False,
        description="Redis or Valkey: broker, job store and short-lived inputs. `redis://`, `unix:///path`, or "
        "`rediss://` for TLS, which always verifies the certificate and the host's name.",
    )
    redis_password: SecretStr = Field(SecretStr(""), description="Password for Redis, if the URL holds none.")
    redis_ca_file: Certificates = Field(
        "", description="PEM file of authorities that `rediss://` trusts besides those of the system."
    )
    redis_cert_file: Certificates = Field(
        "", description="PEM file of the certificate that `rediss://` shows, if Redis asks."
    )
    redis_key_file: ReadableFile = Field("", description="PEM file of its key.")
    redis_timeout_seconds: Seconds = Field(2.0, description="How long to wait for Redis before the answer is 503.")
    redis_prefix: Annotated[str, AfterValidator(check_redis_prefix)] = Field(
        "",
        description="Name that begins every key in Redis, as in `name:mm:layout`; stacks that share a database need "
        "different ones.",
    )
    storage_endpoint: Endpoint = Field("", description="URL of an S3-compatible server; empty means Amazon's own.")
    storage_bucket: BucketName = Field("maskmill", description="Bucket for inputs and results.")
    storage_prefix: Annotated[str, AfterValidator(check_storage_prefix)] = Field(
        "",
        description="Folder of the bucket for inputs and results, such as `team/maskmill`; stacks that share a bucket "
        "need different ones.",
    )
    storage_region: Region = Field("us-east-1", description="Region of the bucket.")
    storage_access_key: AccessKey = Field("", description="Access key; empty means the machine's own credentials.")
    storage_secret_key: SecretStr = Field(SecretStr(""), description="Secret key that goes with it.")
    storage_timeout_seconds: Seconds = Field(
        2.0, description="How long to wait for the object store to connect or to answer."
    )
    storage_proxy: ProxyUrl = Field(
        "",
        repr=False,
        description="HTTP proxy for the object store, as in `http://proxy.example:3128`. Empty means none: "
        "`http_proxy`, `https_proxy` and `all_proxy` are for models of the Hub alone.",
    )
    url_inputs: Literal["off", "https", "http"] = Field(
        "off",
        description="Whether a job may name its image by a URL, which a worker fetches: `https`, or `http` for both "
        "schemes.",
    )
    outgoing_allowed: AllowedTargets = Field(
        "",
        description="Hosts and networks that URLs of clients may lead to although their addresses are not public, as "
        "in `images.internal, 10.1.0.0/16`. Empty means none.",
    )
    webhook_http: Literal["off", "on"] = Field(
        "off", description="Whether webhooks may have URLs of `http://`; otherwise only of `https://`."
    )
    max_pending_webhooks: Count = Field(
        10_000,
        description="Messages of one webhook that may wait to be delivered; while there are as many, the ends of "
        "further jobs are not sent to it.",
    )
    model: ModelName = Field(
        "embedded",
        description="What the worker serves and the gateway defaults to: `embedded`, a Hub id, a folder, or "
        "`s3://bucket/prefix`. "
        "`org/name@revision` pins a branch, a tag or a commit of the Hub; clients name the model without it.",
    )
    max_image_side: Annotated[int, Field(gt=0, le=1_000_000)] = Field(
        65_500,
        description="Most pixels that each side of an image may have, in the gateway and in the worker; "
        "no PNG of a result is longer than 1,000,000.",
    )
    lease_seconds: Seconds = Field(
        10.0, description="How long a worker keeps a running job without renewing its lease."
    )
    max_attempts: Count = Field(
        3,
        description="How often a job may stall (its worker was lost) before it is failed. From its first stall on it "
        "is run alone, and only a stall of such a run ends it: 1 means the same as 2.",
    )
    max_retries: Count = Field(
        24,
        description="How often a job is given back because it meets trouble of its own, such as an input that the "
        "store refuses, before it is failed: the delays double from 2 seconds to 5 minutes, so 24 last about an hour.",
    )
    result_ttl_seconds: Annotated[int, Field(gt=0, le=MAX_TTL_SECONDS)] = Field(
        7 * 24 * 3600, description="How long a job and its objects are kept once it is final."
    )
    input_ttl_seconds: Annotated[int, Field(ge=0, le=MAX_TTL_SECONDS)] = Field(
        24 * 3600,
        description="How long the image of a job is kept once it is final, at most as long as the job; 0 deletes it "
        "then. The image of a job that was given up, because its workers were lost, is kept as long as the job.",
    )
    upload_ttl_seconds: Annotated[int, Field(gt=0, le=MAX_UPLOAD_TTL_SECONDS)] = Field(
        24 * 3600, description="How long a file that was uploaded for later jobs can be used, and is kept."
    )
    recut_ttl_seconds: Annotated[int, Field(ge=0, le=MAX_TTL_SECONDS)] = Field(
        24 * 3600,
        description="How long the logits of a job are kept for recuts, at most as long as the job; 0 switches recuts "
        "off.",
    )
    log_format: Literal["auto", "json", "console"] = Field(
        "auto", description="`auto` is columns on a terminal and JSON otherwise."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Lowest level that is logged.")

    @model_validator(mode="before")
    @classmethod
    def _drop_empty(cls, values: Any) -> Any:
        # Files of secrets and values of blanks are empty as variables are.
        return {name: value for name, value in values.items() if not isinstance(value, str) or value.strip()}

    @field_validator("*", mode="before")
    @classmethod
    def _clean_text(cls, value: Any, info: ValidationInfo) -> Any:
        # A password may have every character.
        return clean_text(value) if isinstance(value, str) and info.field_name != "redis_password" else value

    @field_validator("storage_secret_key")
    @classmethod
    def _check_secret_key(cls, value: SecretStr) -> SecretStr:
        if value.get_secret_value():
            check_secret_key(value.get_secret_value())
        return value

    @model_validator(mode="after")
    def _check_redis_files(self) -> Self:
        names = ("redis_ca_file", "redis_cert_file", "redis_key_file")
        given = [f"MASKMILL_{name.upper()}" for name in names if getattr(self, name)]
        if given and not self.redis_url.startswith("rediss:"):
            raise ValueError(f"{given[0]}: has no effect without TLS; write a MASKMILL_REDIS_URL with rediss://")
        check_pair("redis_cert_file", self.redis_cert_file, "redis_key_file", self.redis_key_file)
        if self.redis_cert_file:
            check_key_pair(self.redis_cert_file, self.redis_key_file)
        return self

    @model_validator(mode="after")
    def _check_storage_keys(self) -> Self:
        secret_key = self.storage_secret_key.get_secret_value()
        check_pair("storage_access_key", self.storage_access_key, "storage_secret_key", secret_key)
        return self


def check_pair(name: str, value: str, other_name: str, other: str) -> None:
    """Check that both of two settings are set, or none.

    Raises:
        ValueError: one is missing.
    """
    if bool(value) != bool(other):
        there, missing = (name, other_name) if value else (other_name, name)
        raise ValueError(
            f"{_format_name([there])}: has no effect without {_format_name([missing])}; set both, or none of the two"
        )


def check_share(settings: Settings, part: str, whole: str) -> None:
    """Check that a bound for one tenant does not exceed that for all; 0 means another default.

    Raises:
        ValueError: it does.
    """
    if getattr(settings, part) > getattr(settings, whole) > 0:
        raise ValueError(f"{_format_name([part])}: is more than {_format_name([whole])}; write at most as much")


S = TypeVar("S", bound=Settings)


def read_settings(kind: type[S], environ: Mapping[str, str] = os.environ) -> S:
    """Read the settings of a process.  For composition roots only.

    A setting can also be the content of a file of its name, as in `maskmill_redis_password`, in the folder that
    MASKMILL_SECRETS_DIR names; the environment comes first.  A wrong value, a former or misspelt name or a file that
    cannot be read ends the process with one line that names every such setting, and never a secret.
    """
    folder = environ.get(SECRETS_DIR) or None
    try:
        wrong = [*find_wrong_names([*environ, *_list_files(folder)])]
        if wrong:
            raise SystemExit(f"Wrong settings: {'; '.join(wrong)}")
        return kind(_secrets_dir=folder, **_select_values(kind, environ))
    except ValidationError as error:
        wrong = [_format_error(_format_name(one["loc"]), one["msg"]) for one in error.errors()]
        # A value in it, such as a path, may have several lines.
        raise SystemExit(f"Wrong settings: {' '.join('; '.join(wrong).split())}") from None
    except SettingsError as error:
        # The text of its cause may hold a part of the value.
        reason = getattr(error.__cause__, "strerror", None) or type(error.__cause__).__name__
        raise SystemExit(f"Wrong settings: {SECRETS_DIR}: {error}: {reason}") from None
    except OSError as error:
        raise SystemExit(f"Wrong settings: {SECRETS_DIR}: {folder!r} cannot be read: {error.strerror}") from None


def _list_files(folder: str | None) -> Collection[str]:
    """Return the names of files in the folder of secrets.

    Raises:
        OSError: it cannot be read.
    """
    if not folder:
        return ()
    if not Path(folder).is_dir():
        raise SystemExit(f"Wrong settings: {SECRETS_DIR}: there is no folder {folder!r}; write the path of one")
    return [path.name for path in Path(folder).iterdir()]


def _select_values(kind: type[Settings], environ: Mapping[str, str]) -> dict[str, Any]:
    """Return the values by the names of fields; without those that are empty, so that files come next."""
    values = {name.upper(): value for name, value in environ.items() if value.strip()}
    names = kind.model_fields
    return {name: values[found] for name in names if (found := f"{PREFIX}{name.upper()}") in values}


def _format_name(location: Iterable[int | str]) -> str:
    return f"{PREFIX}{'_'.join(map(str, location)).upper()}" if location else ""


def _format_error(name: str, message: str) -> str:
    """Return what pydantic, or a validator, says of a setting; a validator of several names the first itself."""
    reason = message.removeprefix("Value error, ").replace("Input should", "should", 1)
    return f"{name}: {reason}" if name else reason
