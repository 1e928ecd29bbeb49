"""Settings that gateway, worker and steward share; each adds its own."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self, TypeVar
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

REDIS_SCHEMES = ("redis", "rediss", "unix")


class Settings(BaseSettings):
    """Read once from the environment by a composition root, then passed to constructors explicitly.

    A wrong value stops the process at start, naming the field.
    """

    # Errors and representations must not show the passwords in values.
    model_config = SettingsConfigDict(
        env_prefix="MASKMILL_", frozen=True, env_ignore_empty=True, hide_input_in_errors=True
    )

    redis_url: str = Field(
        "redis://127.0.0.1:6379/0",
        repr=False,
        description="Redis or Valkey: broker, job store and short-lived inputs. `redis://`, `unix:///path`, or "
        "`rediss://` for TLS, which always verifies the certificate and the host's name.",
    )
    redis_password: SecretStr = Field(SecretStr(""), description="Password for Redis, if the URL holds none.")
    redis_ca_file: str = Field(
        "", description="PEM file of authorities that `rediss://` trusts besides those of the system."
    )
    redis_cert_file: str = Field("", description="PEM file of the certificate that `rediss://` shows, if Redis asks.")
    redis_key_file: str = Field("", description="PEM file of its key.")
    redis_timeout_seconds: Annotated[float, Field(gt=0)] = Field(
        2.0, description="How long to wait for Redis before the answer is 503."
    )
    storage_endpoint: str = Field("", description="URL of an S3-compatible server; empty means Amazon's own.")
    storage_bucket: Annotated[str, Field(min_length=3)] = Field(
        "maskmill", description="Bucket for inputs and results."
    )
    storage_region: str = Field("us-east-1", description="Region of the bucket.")
    storage_access_key: str = Field("", description="Access key; empty means the machine's own credentials.")
    storage_secret_key: SecretStr = Field(SecretStr(""), description="Secret key that goes with it.")
    storage_timeout_seconds: Annotated[float, Field(gt=0)] = Field(
        2.0, description="How long to wait for the object store to connect or to answer."
    )
    model: str = Field(
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
    lease_seconds: Annotated[float, Field(gt=0)] = Field(
        10.0, description="How long a worker keeps a running job without renewing its lease."
    )
    max_attempts: Annotated[int, Field(gt=0)] = Field(
        3, description="How often a job may stall (its worker was lost) before it is failed."
    )
    result_ttl_seconds: Annotated[int, Field(gt=0)] = Field(
        7 * 24 * 3600, description="How long a job and its objects are kept once it is final."
    )
    log_format: Literal["auto", "json", "console"] = Field(
        "auto", description="`auto` is columns on a terminal and JSON otherwise."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Lowest level that is logged.")

    @field_validator("redis_url")
    @classmethod
    def _check_redis_url(cls, value: str) -> str:
        # The clients of Redis and of Celery know different parameters, among them some that turn verification off.
        scheme, separator, rest = value.partition("://")
        # They compare the scheme as it is written, in lower case.
        value = f"{scheme.lower()}{separator}{rest}"
        allowed = {"db"} if scheme.lower() == "unix" else set()
        names = {pair.partition("=")[0] for pair in urlsplit(value).query.split("&") if pair}
        if not separator or scheme.lower() not in REDIS_SCHEMES:
            raise ValueError(f"begins with none of {', '.join(f'{scheme}://' for scheme in REDIS_SCHEMES)}")
        if names - allowed:
            raise ValueError(
                f"has parameters that are not supported ({', '.join(sorted(names - allowed))}); for TLS use rediss:// "
                "and MASKMILL_REDIS_CA_FILE, for timeouts MASKMILL_REDIS_TIMEOUT_SECONDS"
            )
        return value

    @model_validator(mode="after")
    def _check_redis_files(self) -> Self:
        names = ("redis_ca_file", "redis_cert_file", "redis_key_file")
        given = {f"MASKMILL_{name.upper()}": file for name in names if (file := getattr(self, name))}
        if given and not self.redis_url.startswith("rediss:"):
            raise ValueError(f"{', '.join(given)} need a MASKMILL_REDIS_URL with rediss://")
        if bool(self.redis_cert_file) != bool(self.redis_key_file):
            raise ValueError("MASKMILL_REDIS_CERT_FILE and MASKMILL_REDIS_KEY_FILE belong together")
        missing = [f"{name}: there is no file {file}" for name, file in given.items() if not Path(file).is_file()]
        if missing:
            raise ValueError("; ".join(missing))
        return self


S = TypeVar("S", bound=Settings)

SECRETS_DIR = "MASKMILL_SECRETS_DIR"

# Former names of settings; a process does not start if one is set, because ignoring it would hide the mistake.
RENAMED: Mapping[str, str] = {
    "MASKMILL_BATCH_IMAGES": "MASKMILL_MAX_BATCH_IMAGES",
    "MASKMILL_BATCH_MEGAPIXELS": "MASKMILL_MAX_BATCH_MEGAPIXELS",
    "MASKMILL_BATCH_WAIT_MS": "MASKMILL_MAX_BATCH_WAIT_MS",
    "MASKMILL_DECODE_MEGAPIXELS": "MASKMILL_MAX_DECODE_MEGAPIXELS",
    "MASKMILL_STUCK_AFTER_SECONDS": "MASKMILL_BATCH_TIMEOUT_SECONDS",
    "MASKMILL_SWEEP_SECONDS": "MASKMILL_REQUEUE_INTERVAL_SECONDS",
    "MASKMILL_FORGOTTEN_AFTER_SECONDS": "MASKMILL_ORPHANED_AFTER_SECONDS",
    "MASKMILL_RECOVER_SECONDS": "MASKMILL_RECOVERY_INTERVAL_SECONDS",
    "MASKMILL_EXPIRE_SECONDS": "MASKMILL_RETENTION_INTERVAL_SECONDS",
}


def read_settings(kind: type[S], environ: Mapping[str, str] = os.environ) -> S:
    """Read the settings of a process.  For composition roots only.

    A setting can also be the content of a file of its name, as in `maskmill_redis_password`, in the folder that
    MASKMILL_SECRETS_DIR names; the environment comes first.  A wrong value, a former name or a file that cannot be read
    ends the process with one line that names every such setting, and never its value.
    """
    renamed = [f"{old} is now {new}" for old, new in RENAMED.items() if old in environ]
    if renamed:
        raise SystemExit(f"Wrong settings: {'; '.join(renamed)}")
    folder = environ.get(SECRETS_DIR) or None
    try:
        if folder and not Path(folder).is_dir():
            raise SystemExit(f"Wrong settings: {SECRETS_DIR}: there is no folder {folder}")
        return kind(_secrets_dir=folder)
    except ValidationError as error:
        wrong = (": ".join(filter(None, [_format_name(found["loc"]), found["msg"]])) for found in error.errors())
        raise SystemExit(f"Wrong settings: {'; '.join(wrong)}") from None
    except SettingsError as error:
        # The text of its cause may hold a part of the value.
        reason = getattr(error.__cause__, "strerror", None) or type(error.__cause__).__name__
        raise SystemExit(f"Wrong settings: {SECRETS_DIR}: {error}: {reason}") from None
    except OSError as error:
        raise SystemExit(f"Wrong settings: {SECRETS_DIR}: {folder} cannot be read: {error.strerror}") from None


def _format_name(location: tuple[int | str, ...]) -> str:
    return f"MASKMILL_{'_'.join(map(str, location)).upper()}" if location else ""
