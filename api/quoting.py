"""A client's own text in an error message: shortened, and without control characters."""

from collections.abc import Mapping
from typing import Final

_MAX_CHARACTERS: Final = 40
_JSON_NAMES: Final[Mapping[type, str]] = {list: "list", dict: "JSON object", type(None): "null"}


def quote(value: object) -> str:
    """Return a client's value for an error message, shortened."""
    if isinstance(value, str):
        value = value[: _MAX_CHARACTERS + 1]
    text = repr(value) if isinstance(value, str | bool | int | float) else f"a {_JSON_NAMES.get(type(value), 'value')}"
    return text if len(text) <= _MAX_CHARACTERS else f"{text[:_MAX_CHARACTERS]}..."
