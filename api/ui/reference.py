"""The reference of the API: what the OpenAPI document says, in the order and the form in which its page shows it.

Pure.  Texts of the document are Markdown of this project; HTML in them is shown as text, but for its line breaks.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markdown_it import MarkdownIt

Schema = Mapping[str, Any]

_LINE_BREAK = re.compile(r"(?:<br/>)+")
# A parameter of a query may be empty, which is the same as none.
_EMPTY_TEXT = {"maxLength": 0, "type": "string"}
_FORMATS: Mapping[str, str] = {"date-time": "time", "binary": "bytes", "uri": "URL"}
_FIRST_ERROR = 400
_MARKDOWN = MarkdownIt("commonmark", {"html": False}).enable("table")


@dataclass(frozen=True, slots=True)
class Row:
    """A parameter of a route, or a member of an object.

    place: `query`, `path` or `header`; empty for a member.
    values, text: HTML.
    """

    name: str
    place: str
    values: str
    is_required: bool
    text: str


@dataclass(frozen=True, slots=True)
class Body:
    """A body of one media type.  values: HTML.  examples: JSON, by their titles."""

    media_type: str
    values: str
    rows: Sequence[Row]
    examples: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer by its status.  text, values: HTML; what it means, and what its body is."""

    status: str
    text: str
    values: str


@dataclass(frozen=True, slots=True)
class Operation:
    """A method of a path.  summary, text, body_text: HTML.  errors: the answers from 400 on."""

    anchor: str
    method: str
    path: str
    summary: str
    text: str
    parameters: Sequence[Row]
    body_text: str
    bodies: Sequence[Body]
    answers: Sequence[Answer]
    errors: Sequence[Answer]


@dataclass(frozen=True, slots=True)
class Group:
    """The operations about one thing."""

    name: str
    operations: Sequence[Operation]


@dataclass(frozen=True, slots=True)
class ObjectType:
    """A kind of object, or of value, which operations and other objects name.  text, values: HTML."""

    name: str
    text: str
    values: str
    rows: Sequence[Row]


@dataclass(frozen=True, slots=True)
class Reference:
    """The whole reference.  text: HTML."""

    text: str
    groups: Sequence[Group]
    objects: Sequence[ObjectType]


def read_reference(document: Schema) -> Reference:
    """Return the reference that an OpenAPI document is."""
    operations = list(_list_operations(document))
    groups = [Group(tag["name"], [one for name, one in operations if name == tag["name"]]) for tag in document["tags"]]
    objects = [_read_object(name, schema) for name, schema in sorted(document["components"]["schemas"].items())]
    return Reference(_render(document["info"]["description"]), groups, objects)


def describe_values(schema: Schema) -> str:
    """Return the values of a schema as Markdown, with links to the objects that it names."""
    match schema:
        case {"$ref": str(reference)}:
            name = reference.rpartition("/")[2]
            return f"[{name}](#{name})"
        case {"anyOf": parts} | {"oneOf": parts} if "properties" not in schema:
            return " or ".join(dict.fromkeys(describe_values(part) for part in parts if part != _EMPTY_TEXT))
        case {"enum": values}:
            return ", ".join(f"`{value}`" for value in values)
        case {"const": value}:
            return f"`{value}`"
        case {"type": "array"}:
            return f"list of {describe_values(schema.get('items', {}))}"
        case {"type": "object", "additionalProperties": dict(inner)} if inner:
            return f"object of {describe_values(inner)}"
        case {"type": "integer" | "number" as kind}:
            return f"{kind}{_describe_range(schema)}"
        case {"type": "string"}:
            return _FORMATS.get(schema.get("format", ""), "text")
    return str(schema.get("type", "any"))


def _describe_range(schema: Schema) -> str:
    match schema:
        case {"minimum": low, "maximum": high}:
            return f", {low:g} to {high:g}"
        case {"exclusiveMinimum": low}:
            return f", more than {low:g}"
        case {"minimum": low}:
            return f", at least {low:g}"
        case {"maximum": high}:
            return f", at most {high:g}"
    return ""


def _list_operations(document: Schema) -> Iterator[tuple[str, Operation]]:
    """Yield the operations, each with the name of its group."""
    for path, methods in document["paths"].items():
        for method, facts in methods.items():
            yield facts["tags"][0], _read_operation(method, path, facts)


def _read_operation(method: str, path: str, facts: Schema) -> Operation:
    body = facts.get("requestBody", {})
    answers = [_read_answer(status, answer) for status, answer in sorted(facts["responses"].items())]
    return Operation(
        anchor=facts["operationId"],
        method=method.upper(),
        path=path,
        summary=_render_line(facts.get("summary", "")),
        text=_render(facts.get("description", "")),
        parameters=[_read_parameter(parameter) for parameter in facts.get("parameters", ())],
        body_text=_render(body.get("description", "")),
        bodies=[_read_body(media_type, content) for media_type, content in body.get("content", {}).items()],
        answers=[answer for answer in answers if int(answer.status) < _FIRST_ERROR],
        errors=[answer for answer in answers if int(answer.status) >= _FIRST_ERROR],
    )


def _read_parameter(facts: Schema) -> Row:
    schema = {**facts["schema"], **{name: facts[name] for name in ("description", "example") if name in facts}}
    return _build_row(facts["name"], facts["in"], schema, is_required=facts.get("required", False))


def _read_body(media_type: str, content: Schema) -> Body:
    schema = content.get("schema", {})
    examples = {title: json.dumps(example["value"], indent=2) for title, example in content.get("examples", {}).items()}
    return Body(media_type, _render_line(describe_values(schema)), list(_list_members(schema)), examples)


def _read_answer(status: str, facts: Schema) -> Answer:
    kinds = dict.fromkeys(
        describe_values(content["schema"]) if media_type == "application/json" else f"`{media_type}`"
        for media_type, content in facts.get("content", {}).items()
        if content.get("schema")
    )
    return Answer(
        status, _render_line(facts["description"].removeprefix("error_type: ")), _render_line(", ".join(kinds))
    )


def _read_object(name: str, schema: Schema) -> ObjectType:
    values = "" if "properties" in schema else describe_values(schema)
    return ObjectType(name, _render(schema.get("description", "")), _render_line(values), list(_list_members(schema)))


def _list_members(schema: Schema, prefix: str = "") -> Iterator[Row]:
    """Yield the members of an object, each followed by its own members, `name.member`."""
    required = schema.get("required", ())
    for name, member in schema.get("properties", {}).items():
        yield _build_row(f"{prefix}{name}", "", member, is_required=name in required)
        yield from _list_members(member, f"{prefix}{name}.")


def _build_row(name: str, place: str, schema: Schema, *, is_required: bool) -> Row:
    sentences = [schema.get("description", "")]
    if schema.get("default") is not None:
        sentences.append(f"Default: `{_write(schema['default'])}`.")
    if "example" in schema:
        sentences.append(f"Example: `{_write(schema['example'])}`.")
    return Row(name, place, _render_line(describe_values(schema)), is_required, _render_line(" ".join(sentences)))


def _write(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _render_line(text: str) -> str:
    return str(_MARKDOWN.renderInline(_LINE_BREAK.sub(" ", text).strip()))


def _render(text: str) -> str:
    return str(_MARKDOWN.render(text.replace("<br/>", "\n").strip()))
