"""The form of every query."""

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator

from shared.errors import UnknownParameter

_MAX_QUOTED = 40  # characters of a client's own text in an error


class Query(BaseModel):
    """A query: no other parameters than these, so that a misspelt one is not ignored; blanks around a value are."""

    model_config = ConfigDict(extra="forbid")

    @classmethod
    def list_names(cls) -> Sequence[str]:
        """Return the names of the parameters, as clients send them."""
        return [field.alias or name for name, field in cls.model_fields.items()]

    @model_validator(mode="before")
    @classmethod
    def _prepare(cls, values: dict[str, Any]) -> dict[str, Any]:
        known = cls.list_names()
        for name in values:
            if name not in known:
                rest = f"; known are {', '.join(known)}" if known else " here; this address takes none."
                raise UnknownParameter(f"There is no parameter {name[:_MAX_QUOTED]!r}{rest}")
        return {name: value.strip() if isinstance(value, str) else value for name, value in values.items()}
