"""The options of the Hugging Face clients: members of `options` in a JSON body, or headers.  Pure."""

from collections.abc import Iterator, Mapping
from typing import Final

from werkzeug.datastructures import Headers

from api.quoting import quote
from shared.errors import BadParameter

HEADERS: Final[Mapping[str, str]] = {"use_cache": "x-use-cache", "wait_for_model": "x-wait-for-model"}
"""The header of each option that has an effect here."""

_VALUES: Final[Mapping[object, bool]] = {
    **dict.fromkeys((True, "true", "1", "yes"), True),  # 1 equals True
    **dict.fromkeys((False, "false", "0", "no"), False),
}


def parse_options(options: Mapping[str, object], headers: Headers) -> dict[str, bool]:
    """Return the options that a request gives; one in the body overrides its header.

    Raises:
        BadParameter: a value is neither yes nor no, or a header is there twice.
    """
    from_headers = {name: _parse_header(header, headers.get(header, "")) for name, header in HEADERS.items()}
    from_body = {name: _parse_value(f"`options.{name}`", options.get(name)) for name in HEADERS}
    given = {name: from_headers[name] if value is None else value for name, value in from_body.items()}
    return {name: value for name, value in given.items() if value is not None}


def list_overridden(options: Mapping[str, object], headers: Headers) -> Iterator[str]:
    """Yield the headers whose option the body gives too."""
    return (header for name, header in HEADERS.items() if options.get(name) is not None and headers.get(header))


def _parse_header(header: str, text: str) -> bool | None:
    # The server joins the values of a header that is there twice (RFC 9110, section 5.2).
    if "," in text:
        raise BadParameter(f"The header {header} is given twice; give it once.")
    return _parse_value(f"The header {header}", text.strip() or None)


def _parse_value(what: str, value: object) -> bool | None:
    """Return the boolean that clients of several years spell as true, "true", 1 or "1"; None for null."""
    if value is None:
        return None
    key = value.strip().lower() if isinstance(value, str) else value
    if not isinstance(key, str | int | float) or key not in _VALUES:
        raise BadParameter(f"{what} must be true or false, not {quote(value)}.")
    return _VALUES[key]
