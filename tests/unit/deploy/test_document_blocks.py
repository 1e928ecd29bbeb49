"""Every code block of the documents is run, by tests/e2e/test_document_commands.py, or says why not."""

import ast
import json

import pytest

from shared import errors
from tests.support.code_blocks import SKETCHES, CodeBlock, list_documents, parse_blocks, read_blocks

ALL = [block for document in list_documents() for block in read_blocks(document)]


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
