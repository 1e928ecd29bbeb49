"""Settings that gateway, worker and steward share; each adds its own."""

import os
from collections.abc import Mapping
from typing import Annotated, Literal, TypeVar

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.images.formats import MAX_SIDE


class Settings(BaseSettings):
    """Read once from the environment by a composition root, then passed to constructors explicitly.

    A wrong value stops the process at start, naming the field.
    """

    model_config = SettingsConfigDict(env_prefix="MASKMILL_", frozen=True)

    redis_url: str = Field(
        "redis://127.0.0.1:6379/0", description="Redis or Valkey: broker, job store and short-lived inputs."
    )
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
        description="What the worker serves and the gateway defaults to: `embedded`, a Hub id, a folder, or `s3://bucket/prefix`.",
    )
    max_image_side: Annotated[int, Field(gt=0, le=1_000_000)] = Field(
        MAX_SIDE,
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


S = TypeVar("S", bound=Settings)

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

    A wrong value or a former name ends the process with one line that names every such setting, and never its value.
    """
    renamed = [f"{old} is now {new}" for old, new in RENAMED.items() if old in environ]
    if renamed:
        raise SystemExit(f"Wrong settings: {'; '.join(renamed)}")
    try:
        return kind()
    except ValidationError as error:
        wrong = (f"MASKMILL_{'_'.join(map(str, found['loc'])).upper()}: {found['msg']}" for found in error.errors())
        raise SystemExit(f"Wrong settings: {'; '.join(wrong)}") from None
