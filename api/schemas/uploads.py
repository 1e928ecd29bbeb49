"""The wire form of uploads."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from shared.rfc3339 import Timestamp
from shared.setting_types import MAX_BYTES


class UploadPath(BaseModel):
    upload_id: str = Field(description="As it was given out.", json_schema_extra={"pattern": "^[0-9a-f]{32}$"})


class UploadRequest(BaseModel):
    """What is going to be uploaded."""

    model_config = ConfigDict(extra="forbid")

    bytes: int | None = Field(
        None,
        gt=0,
        le=MAX_BYTES,
        description="Most bytes that the file may have; null, or more than the service takes: what it takes.",
    )
    content_type: str = Field(
        "image/jpeg",
        pattern=r"^image/[a-z0-9][a-z0-9.+-]{0,60}$",
        description="Type with which the file will be sent.",
        examples=["image/png"],
    )


class UploadView(BaseModel):
    """An upload that can be made until it expires, and the request that makes it."""

    upload_id: str = Field(description='Name it in a submission: `{"upload_id": "..."}`, as often as you like.')
    method: Literal["POST", "PUT"] = Field(
        description="`POST`: a form with `fields`, and the file last, as `file`. `PUT`: the bytes alone."
    )
    url: str = Field(
        description="Of the object store, which needs no token; or a path on this host, with the token of the tenant."
    )
    fields: dict[str, str] = Field(description="Fields of the form of a POST.")
    headers: dict[str, str] = Field(description="Headers of a PUT.")
    expires_at: Timestamp
