"""Bodies of requests that are a small JSON object and hold no image."""

from typing import Any, Final, TypeVar

import orjson
from pydantic import BaseModel, ValidationError

from api.http.json_documents import parse_json
from api.http.request_body import read_request_body
from shared.errors import BadParameter, BodyTooLarge, EmptyBody, UnknownParameter, UnreadableBody

MAX_BYTES: Final = 64 * 1024
_MAX_QUOTED: Final = 40

M = TypeVar("M", bound=BaseModel)


def read_json_body(kind: type[M]) -> M:
    """Return the body of the current request as a model whose other members are forbidden.

    Raises:
        EmptyBody, UnreadableBody: it is no JSON object.
        BodyTooLarge: it has more than MAX_BYTES.
        UnknownParameter: it has a member that does not exist.
        BadParameter: a member is missing, given twice, or has a wrong value.
    """
    body = read_request_body()
    if not body:
        raise EmptyBody("The request has no body; send a JSON object.")
    if len(body) > MAX_BYTES:
        raise BodyTooLarge(f"The body has more than {MAX_BYTES} bytes.")
    try:
        document = parse_json(body)
    except orjson.JSONDecodeError as error:
        raise UnreadableBody(f"The body is not JSON: {error.msg}.") from None
    if not isinstance(document, dict):
        raise UnreadableBody("The body must be a JSON object.")
    try:
        return kind.model_validate(document)
    except ValidationError as error:
        raise _describe(error, kind) from None


def _describe(error: ValidationError, kind: type[BaseModel]) -> BadParameter | UnknownParameter:
    first = error.errors(include_url=False, include_input=False)[0]
    name = str(first["loc"][0])[:_MAX_QUOTED] if first["loc"] else "the body"
    if first["type"] == "extra_forbidden":
        return UnknownParameter(f"There is no member {name!r} of the body; known are {', '.join(kind.model_fields)}.")
    return BadParameter(f"The member {name!r} is not valid: {first['msg']}.")


def describe_json_body(kind: type[BaseModel]) -> dict[str, Any]:
    """Return the requestBody of the OpenAPI document."""
    schema = kind.model_json_schema(ref_template="#/components/schemas/{model}")
    # Small enumerations stand where they are used.
    definitions = schema.pop("$defs", {})
    return {"required": True, "content": {"application/json": {"schema": _inline(schema, definitions)}}}


def _inline(schema: Any, definitions: dict[str, Any]) -> Any:
    if isinstance(schema, list):
        return [_inline(one, definitions) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _inline(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    return {name: _inline(value, definitions) for name, value in schema.items()}
