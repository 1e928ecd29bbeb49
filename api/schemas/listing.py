"""The queries of calls about many jobs: filters, pages, ids."""

from collections.abc import Sequence
from typing import Any, Final

from pydantic import BaseModel, Field, model_validator

from api.schemas.query import Query
from shared.jobs.model import JobState
from shared.rfc3339 import Timestamp

METADATA_PREFIX: Final = "metadata."
_MAX_NAME_LENGTH = 256


class FilterQuery(Query):
    """Which jobs; a filter of metadata, `metadata.NAME=VALUE`, is read by parse_filter()."""

    state: JobState | None = Field(None, description="Only jobs of this state.")
    model: str | None = Field(None, description="Only jobs of this model, by its id.", max_length=_MAX_NAME_LENGTH)
    created_after: Timestamp | None = Field(None, description="Only jobs created at this time or later.")
    created_before: Timestamp | None = Field(None, description="Only jobs created before this time.")
    error_type: str | None = Field(
        None,
        description="Only jobs that ended with this error; `attempts_exhausted` are dead letters.",
        max_length=_MAX_NAME_LENGTH,
    )

    @classmethod
    def list_names(cls) -> Sequence[str]:
        """Return the names of the parameters; that of a member of metadata stands for all."""
        return [*super().list_names(), f"{METADATA_PREFIX}NAME"]

    @model_validator(mode="before")
    @classmethod
    def _leave_metadata(cls, values: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in values.items() if not name.startswith(METADATA_PREFIX)}


class PageQuery(FilterQuery):
    limit: int = Field(50, ge=1, le=200, description="Most jobs on a page.")
    cursor: str | None = Field(
        None, description="`next_cursor` of the page before.", json_schema_extra={"pattern": "^[0-9a-f]{32}$"}
    )


class CancelQuery(PageQuery):
    limit: int = Field(100, ge=1, le=200, description="Most jobs that one call cancels.")
    all: bool = Field(False, description="Cancel all jobs that have not ended, in place of filters.")


class CancelView(BaseModel):
    """What a bulk cancellation has done."""

    canceled: int = Field(description="Jobs that are canceled now.")
    already_ended: int = Field(description="Jobs that ended before they could be canceled.")
    next_cursor: str | None = Field(description="Send it as `cursor` to go on; null once no more job matches.")


class ListQuery(PageQuery):
    ids: str | None = Field(
        None, description="These jobs, at most 100 ids separated by commas, and no other parameter.", max_length=8000
    )


# Each member of the object is a parameter of its own.
METADATA_FILTER: Final[dict[str, Any]] = {
    "name": "metadata",
    "in": "query",
    "required": False,
    "description": "`metadata.NAME=VALUE`: only jobs whose metadata have this member, with this text, or another value "
    "whose JSON this is. One member at most.",
    "style": "form",
    "explode": True,
    "schema": {
        "type": "object",
        "maxProperties": 1,
        "propertyNames": {"pattern": "^metadata\\.[A-Za-z0-9_-]{1,64}$"},
        "additionalProperties": {"type": "string"},
    },
    "examples": {"customer": {"value": {"metadata.customer": "7"}}},
}
