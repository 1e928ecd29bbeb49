"""The code blocks of the documents, and how each is run.

Blocks of `sh` and `python` are run, in the order of their document, against a running service.  A comment before a
block says what is to be known of it:

* `<!-- run by: tests/e2e/test_make_serve.py -->`: another test does what the block says
* `<!-- not run: Docker -->`: it needs something that no test machine has to have; see REASONS
* `<!-- refused: bad_parameter -->`: it is run, and its last answer is this error
* `<!-- example: an event -->`: it is nothing to run, but an answer, a file or a picture; every other language needs it
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt

from tests.support.tables import ROOT

RUNNABLE = frozenset({"sh", "python"})
REASONS = frozenset({"Docker", "a GPU", "a cloud account"})
# Code that the reader is to write into this repository, as a sketch.
SKETCHES = frozenset({"deploy/docs/adding-a-feature.md"})
_MARK = re.compile(r"<!-- (run by|not run|refused|example): ([^>\n]+) -->\s*\Z")


@dataclass(frozen=True, slots=True)
class CodeBlock:
    """A code block.

    line: of its first fence, from 1.
    mark, detail: of the comment before it; empty without one.
    """

    document: str
    line: int
    language: str
    text: str
    mark: str = ""
    detail: str = ""

    @property
    def is_run(self) -> bool:
        return self.language in RUNNABLE and self.mark in ("", "refused")

    def find_fault(self) -> str:
        """Return why nothing is known of how the block is run, empty if it is known."""
        match self.mark:
            case "run by":
                return self._find_fault_of_runner(ROOT / self.detail)
            case "not run":
                return "" if self.detail in REASONS else f"{self.detail} is no reason"
            case "example":
                return "it can be run" if self.language in RUNNABLE else ""
            case _:
                return "" if self.language in RUNNABLE else "it is neither run nor marked"

    def _find_fault_of_runner(self, file: Path) -> str:
        if not file.is_file():
            return f"there is no {self.detail}"
        # It reads the block, or has its commands.
        is_run = self.document in file.read_text() or self.text.strip() in file.read_text()
        return "" if is_run else f"{self.detail} does not run it"


def list_documents() -> Sequence[str]:
    """Return the paths of the documents whose blocks are run."""
    found = sorted((ROOT / "deploy" / "docs").rglob("*.md"))
    names = ["README.md", "deploy/README.md", *(path.relative_to(ROOT).as_posix() for path in found)]
    return [name for name in names if name not in SKETCHES]


def read_blocks(document: str) -> Sequence[CodeBlock]:
    """Return the code blocks of a document, in their order."""
    return list(parse_blocks(document, (ROOT / document).read_text()))


def parse_blocks(document: str, text: str) -> Iterator[CodeBlock]:
    """Yield the code blocks of a text in Markdown, indented ones too, which have no language."""
    before = ""
    for token in MarkdownIt("commonmark").parse(text):
        if token.type in ("fence", "code_block"):
            mark = _MARK.search(before)
            words = token.info.split()
            line = token.map[0] + 1 if token.map else 0
            language = words[0] if words else ""
            yield CodeBlock(document, line, language, token.content, *(mark.groups() if mark else ()))
        before = token.content if token.type == "html_block" else ""
