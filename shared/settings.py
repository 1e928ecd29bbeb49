"""Settings that gateway, worker and steward have in common; each side adds its own."""

from typing import Annotated, Literal, TypeVar

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Read once from the environment by a composition root, then passed down by hand.

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
    lease_seconds: Annotated[float, Field(gt=0)] = Field(
        10.0, description="A worker silent for this long has lost its jobs to others."
    )
    max_attempts: Annotated[int, Field(gt=0)] = Field(
        3, description="A job that loses this many workers is failed, not tried again."
    )
    result_ttl_seconds: Annotated[int, Field(gt=0)] = Field(
        7 * 24 * 3600, description="How long an ended job and its objects are kept."
    )
    log_format: Literal["auto", "json", "console"] = Field(
        "auto", description="`auto` is columns on a terminal and JSON otherwise."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level that is logged.")


S = TypeVar("S", bound=Settings)


def read_settings(kind: type[S]) -> S:
    """Read the environment.  For composition roots only.

    A wrong value ends the process with one line that names every setting that is wrong, and never its value.
    """
    try:
        return kind()
    except ValidationError as error:
        wrong = (f"MASKMILL_{'_'.join(map(str, found['loc'])).upper()}: {found['msg']}" for found in error.errors())
        raise SystemExit(f"Wrong settings: {'; '.join(wrong)}") from None
