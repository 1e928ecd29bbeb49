"""The form of every query."""

from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator


class Query(BaseModel):
    """A query: no other parameters than these, so that a misspelt one is not ignored; blanks around a value are."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _strip(cls, values: dict[str, Any]) -> dict[str, Any]:
        return {name: value.strip() if isinstance(value, str) else value for name, value in values.items()}
