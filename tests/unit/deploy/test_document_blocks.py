"""Every code block of the documents is run, by tests/e2e/test_document_commands.py, or says why not."""

import ast
import json
import re

import pytest

from api.http.tokens import parse_file
from api.schemas.errors import ErrorView
from shared import errors
from tests.support.code_blocks import SKETCHES, CodeBlock, list_documents, parse_blocks, read_blocks
from tests.support.tables import ROOT

ALL = [block for document in list_documents() for block in read_blocks(document)]
SERVICE = re.compile(r"^  ([a-z-]+):", re.MULTILINE)


def test_every_block_is_run_or_says_why_not() -> None:
    faults = [f"{block.document}:{block.line}: {fault}" for block in ALL if (fault := block.find_fault())]

    assert faults == []
    assert len([block for block in ALL if block.is_run]) > 20


def test_every_refusal_that_is_shown_has_a_code_of_the_service() -> None:
    codes = {block.detail for block in ALL if block.mark == "refused"}

    assert codes
    assert {code for code in codes if type(errors.build_error(code, "")) is errors.MaskmillError} == set()


def test_json_and_programs_can_be_parsed() -> None:
    for block in [*ALL, *(block for document in sorted(SKETCHES) for block in read_blocks(document))]:
        if block.language == "json":
            json.loads(block.text)
        if block.language == "python":
            ast.parse(block.text)


def find_example(document: str, language: str) -> CodeBlock:
    return next(block for block in ALL if (block.document, block.language) == (document, language))


def test_the_error_that_is_shown_has_the_members_of_every_error() -> None:
    error = json.loads(find_example("deploy/docs/reference/errors.md", "json").text)

    assert set(error) == set(ErrorView.model_fields)
    assert type(errors.build_error(error["error_type"], "")) is not errors.MaskmillError


def test_the_line_of_a_token_that_is_shown_is_one_of_the_file() -> None:
    (block,) = (one for one in ALL if one.detail == "a line of the file")

    (token,) = parse_file(block.text, "tokens")

    assert token.tenant == "shop"


@pytest.mark.parametrize("block", [one for one in ALL if one.language == "yaml"], ids=lambda one: f"line {one.line}")
def test_an_override_that_is_shown_names_services_of_the_compose_file(block: CodeBlock) -> None:
    compose = (ROOT / "docker-compose.yml").read_text().partition("\nservices:\n")[2]

    named = set(SERVICE.findall(block.text))

    assert block.text.startswith("services:\n") and named
    assert named <= set(SERVICE.findall(compose))


def test_a_document_of_each_kind_is_among_them() -> None:
    assert {"README.md", "deploy/README.md", "deploy/docs/tutorial.md", "deploy/docs/how-to/tokens.md"} <= set(
        list_documents()
    )


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("```sh\ntrue\n```", ""),
        ("```json\n{}\n```", "it is neither run nor marked"),
        ("    true\n", "it is neither run nor marked"),
        ("<!-- example: an answer -->\n```json\n{}\n```", ""),
        ("<!-- example: a command -->\n```sh\ntrue\n```", "it can be run"),
        ("<!-- not run: Docker -->\n```sh\ntrue\n```", ""),
        ("<!-- not run: no time -->\n```sh\ntrue\n```", "no time is no reason"),
        ("<!-- run by: tests/none.py -->\n```sh\ntrue\n```", "there is no tests/none.py"),
        ("<!-- run by: Makefile -->\n```sh\nmake coffee\n```", "Makefile does not run it"),
        ("<!-- run by: .ci/run -->\n```sh\nmake test\n```", ""),
        ("- a list\n\n  <!-- example: a file -->\n  ```yaml\n  a: 1\n  ```", ""),
        ("<!-- example: an answer -->\n\nwords between\n\n```json\n{}\n```", "it is neither run nor marked"),
    ],
)
def test_a_block_without_a_test_is_found(text: str, fault: str) -> None:
    (block,) = parse_blocks("x.md", text)

    assert block.find_fault() == fault


def test_a_block_knows_where_it_stands() -> None:
    (block,) = parse_blocks("x.md", "words\n\n<!-- refused: gone -->\n```sh\ncurl x\n```\n")

    assert block == CodeBlock("x.md", 4, "sh", "curl x\n", "refused", "gone")
