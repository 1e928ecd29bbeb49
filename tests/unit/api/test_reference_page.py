"""The reference of the API as it is read from an OpenAPI document."""

from typing import Any

import pytest

from api.ui.reference import describe_values, read_reference

DOCUMENT: dict[str, Any] = {
    "info": {"description": "Photos in, <b>masks</b> out."},
    "tags": [{"name": "jobs"}],
    "paths": {
        "/v1/jobs/{id}": {
            "post": {
                "tags": ["jobs"],
                "operationId": "run",
                "summary": "Run a job, as `id`.",
                "description": "<br/>Once.<br/><br/>Or twice.",
                "parameters": [
                    {
                        "name": "wait",
                        "in": "query",
                        "required": True,
                        "example": 5,
                        "schema": {
                            "anyOf": [{"type": "integer", "minimum": 0}, {"maxLength": 0, "type": "string"}],
                            "default": 0,
                        },
                    }
                ],
                "requestBody": {
                    "content": {
                        "application/json": {
                            "schema": {
                                "type": "object",
                                "required": ["outer"],
                                "properties": {
                                    "outer": {"type": "object", "properties": {"inner": {"type": "boolean"}}}
                                },
                            },
                            "examples": {"one": {"value": {"outer": {"inner": True}}}},
                        }
                    }
                },
                "responses": {
                    "404": {"description": "error_type: `unknown_job`"},
                    "200": {
                        "description": "OK",
                        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Job"}}},
                    },
                },
            }
        }
    },
    "components": {"schemas": {"Job": {"type": "object", "properties": {"id": {"type": "string"}}}}},
}


@pytest.mark.parametrize(
    ("schema", "values"),
    [
        ({"$ref": "#/components/schemas/Job"}, "[Job](#Job)"),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, "text or null"),
        ({"anyOf": [{"type": "boolean"}, {"maxLength": 0, "type": "string"}]}, "boolean"),
        ({"type": "string", "enum": ["a", "b"]}, "`a`, `b`"),
        ({"type": "string", "const": "a"}, "`a`"),
        ({"type": "array", "items": {"type": "number", "minimum": 0, "maximum": 1}}, "list of number, 0 to 1"),
        ({"type": "object", "additionalProperties": {"type": "number"}}, "object of number"),
        ({"type": "object", "additionalProperties": True}, "object"),
        ({"type": "number", "exclusiveMinimum": 0}, "number, more than 0"),
        ({"type": "integer", "maximum": 9}, "integer, at most 9"),
        ({"type": "string", "format": "date-time"}, "time"),
        ({"oneOf": [{"required": ["x"]}], "type": "object", "properties": {}}, "object"),
        ({}, "any"),
    ],
)
def test_values_are_told_in_words(schema: dict[str, Any], values: str) -> None:
    assert describe_values(schema) == values


def test_an_operation_has_its_parameters_bodies_and_answers() -> None:
    (group,) = read_reference(DOCUMENT).groups
    (operation,) = group.operations

    assert (operation.method, operation.path, operation.anchor) == ("POST", "/v1/jobs/{id}", "run")
    assert operation.summary == "Run a job, as <code>id</code>."
    assert operation.text == "<p>Once.</p>\n<p>Or twice.</p>\n"
    (wait,) = operation.parameters
    assert (wait.name, wait.place, wait.values, wait.is_required) == ("wait", "query", "integer, at least 0", True)
    assert wait.text == "Default: <code>0</code>. Example: <code>5</code>."
    (body,) = operation.bodies
    assert [(row.name, row.values, row.is_required) for row in body.rows] == [
        ("outer", "object", True),
        ("outer.inner", "boolean", False),
    ]
    assert body.examples == {"one": '{\n  "outer": {\n    "inner": true\n  }\n}'}
    assert [(one.status, one.values) for one in operation.answers] == [("200", '<a href="#Job">Job</a>')]
    assert [(one.status, one.text) for one in operation.errors] == [("404", "<code>unknown_job</code>")]


def test_markup_in_a_text_is_text() -> None:
    assert read_reference(DOCUMENT).text == "<p>Photos in, &lt;b&gt;masks&lt;/b&gt; out.</p>\n"
