"""The form of every query."""

from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator

from api.quoting import quote
from shared.errors import UnknownParameter


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
        check_names(values, cls.list_names())
        return {name: value.strip() if isinstance(value, str) else value for name, value in values.items()}


def check_names(names: Iterable[str], known: Sequence[str]) -> None:
    """Refuse a name that means nothing where it stands.

    Raises:
        UnknownParameter: one is not among the known ones, which the error names.
    """
    unknown = next((name for name in names if name not in known), None)
    if unknown is not None:
        rest = f"; known are {', '.join(known)}" if known else " here; this address takes none."
        raise UnknownParameter(f"There is no parameter {quote(unknown)}{rest}")
