"""Checks the parameters and formats of a request; errors name the allowed values."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError
from werkzeug.datastructures import MultiDict

from api.quoting import quote
from api.schemas.query import check_names
from shared.errors import BadParameter
from shared.formats.registry import FORMAT_NAMES, select_formats
from shared.jobs.parameters import FIELDS, PARAMETERS, SegmentParameters

_MAX_FORMATS_CHARACTERS = 1000  # of the text of `formats`


def parse_parameters(raw: Mapping[str, object], *, beside: Sequence[str] = ()) -> SegmentParameters:
    """Check segmentation parameters; null and absent ones take the pipeline's defaults.

    Args:
        beside: other names that a client may give in their place; an error names them too.

    Raises:
        UnknownParameter: there is no such parameter.
        BadParameter: a value is out of range or of the wrong type.
    """
    check_names(raw, (*FIELDS, *beside))
    try:
        return PARAMETERS.validate_python({name: _strip(value) for name, value in raw.items() if value is not None})
    except ValidationError as error:
        name = str(error.errors(include_url=False)[0]["loc"][0])
        raise BadParameter(f"{name} must be {describe_range(name)}, not {quote(raw[name])}") from None


def parse_formats(raw: object) -> tuple[str, ...] | None:
    """Check the formats that a job is to have: a list of names, or one text of names separated by commas.

    Returns:
        names in the registry's order, with the required ones; None if nothing was asked for.

    Raises:
        BadParameter: it is no list, is too long, or has a name that is no format.
    """
    if raw is None:
        return None
    names = _split_names(raw) if isinstance(raw, str) else raw
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise BadParameter(f"formats must be a list of {', '.join(FORMAT_NAMES)}, not {quote(raw)}")
    names = [name.strip() for name in names]
    unknown = next((name for name in names if name not in FORMAT_NAMES), None)
    if unknown is not None:
        raise BadParameter(f"There is no format {quote(unknown)}; known are {', '.join(FORMAT_NAMES)}")
    return select_formats(names) if names else None


def _split_names(text: str) -> list[str]:
    if len(text) > _MAX_FORMATS_CHARACTERS:
        raise BadParameter(f"formats has at most {_MAX_FORMATS_CHARACTERS} characters, not {len(text)}")
    return [name for name in text.split(",") if name.strip()]


def check_given_once(names: Sequence[str], where: str) -> None:
    """Refuse names of which one occurs twice, with equal values too: no rule for which one counts is known to clients.

    Raises:
        BadParameter: one does.
    """
    if len(set(names)) < len(names):
        repeated = next(name for name, count in Counter(names).items() if count > 1)
        raise BadParameter(f"{quote(repeated)} is given twice {where}; give it once.")


def _strip(value: object) -> object:
    """Return a text without the blanks and line ends around it; another value as it is."""
    return value.strip() if isinstance(value, str) else value


def check_query(query: MultiDict[str, str]) -> None:
    """Refuse a query that has a parameter twice.

    Raises:
        BadParameter: it has.
    """
    check_given_once([name for name, _ in query.items(multi=True)], "in the query")


def refuse_query(query: MultiDict[str, str]) -> None:
    """Refuse any query, for routes that take none.

    Raises:
        UnknownParameter: there is one.
    """
    check_names(query, ())


def describe_range(name: str) -> str:
    """Return the values of a segmentation parameter in words."""
    schema = get_value_schema(name)
    if "enum" in schema:
        return f"one of {', '.join(schema['enum'])}"
    if schema["type"] == "boolean":
        return "true or false"
    return f"a number from {schema['minimum']:g} to {schema['maximum']:g}"


def get_value_schema(name: str) -> dict[str, Any]:
    """Return the JSON schema of a segmentation parameter's values, without null: type, range or enum."""
    document = PARAMETERS.json_schema()
    schema = document["properties"][name]
    schema = next((one for one in schema.get("anyOf", ()) if one.get("type") != "null"), schema)
    if "$ref" in schema:
        schema = document["$defs"][schema["$ref"].rpartition("/")[2]]
    return {key: schema[key] for key in ("type", "minimum", "maximum", "enum") if key in schema}
