"""The deletion of all data of a tenant."""

from typing import Self

from pydantic import BaseModel, Field

from shared.jobs.erasure import Erasure
from shared.rfc3339 import Timestamp


class DeletionView(BaseModel):
    """A deletion that is under way."""

    requested_at: Timestamp = Field(description="What was stored before this time is deleted.")
    deleted_jobs: int = Field(description="Jobs that are deleted so far.")

    @classmethod
    def of(cls, erasure: Erasure) -> Self:
        return cls(requested_at=erasure.requested_at, deleted_jobs=erasure.progress.deleted)


class DataView(BaseModel):
    deletion: DeletionView | None = Field(description="The deletion of your data that is under way; null without one.")
