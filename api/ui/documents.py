"""The documents, read and rendered from Markdown once.

A path of a client is compared with their names and never opened.  The files are this project's own, so their links
are followed as they are; HTML in them, such as the marks of generated tables, is left out of the page.
"""

import posixpath
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

FOLDER = Path(__file__).resolve().parents[2] / "deploy"


@dataclass(frozen=True, slots=True)
class Section:
    """Documents of one kind: their names, which are their paths below /docs, and their files below deploy/."""

    title: str
    purpose: str
    files: Mapping[str, str]


SECTIONS: Sequence[Section] = (
    Section("Tutorial", "Ten minutes, from nothing to masks.", {"tutorial": "docs/tutorial.md"}),
    Section(
        "How to",
        "One task each.",
        {
            f"how-to/{name}": f"docs/how-to/{name}.md"
            for name in ("gpu", "own-storage", "tokens", "webhooks", "batches", "scaling-out", "upgrading")
        },
    ),
    Section(
        "Reference",
        "Complete, and compared with the code by tests.",
        {
            f"reference/{name}": f"docs/reference/{name}.md"
            for name in ("settings", "jobs", "formats", "errors", "metrics")
        },
    ),
    Section(
        "Explanation",
        "Why it is so, and what it does not do.",
        {
            "guarantees": "docs/guarantees.md",
            "architecture": "docs/architecture.md",
            "security": "docs/security.md",
            "glossary": "docs/glossary.md",
        },
    ),
    Section(
        "For operators and contributors",
        "The whole of it.",
        {"operating": "README.md", "adding-a-feature": "docs/adding-a-feature.md"},
    ),
)


_WIDE = {
    "<table>": '<div class="document__table" tabindex="0"><table>',
    "</table>": "</table></div>",
    "<pre>": '<pre tabindex="0">',
}


@dataclass(frozen=True, slots=True)
class Document:
    """A document as HTML.

    title: its first heading, as plain text.
    parts: titles of its sections, as plain text, by their anchors.
    """

    name: str
    title: str
    html: str
    parts: Mapping[str, str]


@cache
def read_documents() -> Mapping[str, Document]:
    """Read and render all documents, by name; a process does it once."""
    files = {name: file for section in SECTIONS for name, file in section.files.items()}
    names = {file: name for name, file in files.items()}
    return {name: render(name, (FOLDER / file).read_text(), file=file, names=names) for name, file in files.items()}


def render(name: str, text: str, *, file: str, names: Mapping[str, str]) -> Document:
    """Render a document.

    Args:
        file: its path, which its links are relative to.
        names: of the documents that are served, by their paths; links to other files become plain text.
    """
    parser = MarkdownIt("commonmark").enable("table")
    tokens = list(_drop_html(parser.parse(text)))
    title = next((_plain(inline) for mark, inline in _headings(tokens) if mark.tag == "h1"), name)
    parts = {_anchor(inline.content): _plain(inline) for mark, inline in _headings(tokens) if mark.tag == "h2"}
    for mark, inline in _headings(tokens):
        mark.attrSet("id", _anchor(inline.content))
    _label_cells(tokens)
    for token in tokens:
        if token.children:
            token.children = _resolve_links(token.children, name, file, names)
    html = str(parser.renderer.render(tokens, parser.options, {}))
    # What is wide scrolls by itself, by keys too, and not the page with it.
    for before, after in _WIDE.items():
        html = html.replace(before, after)
    return Document(name, title, html, parts)


def _headings(tokens: Sequence[Token]) -> Iterator[tuple[Token, Token]]:
    """Yield each heading, as its mark and its text."""
    return (pair for pair in pairwise(tokens) if pair[0].type == "heading_open")


def _plain(inline: Token) -> str:
    return "".join(part.content for part in inline.children or () if part.type in ("text", "code_inline"))


def _anchor(heading: str) -> str:
    """Return the anchor of a heading, as GitHub makes it."""
    kept = (character for character in heading.lower() if character.isalnum() or character in "_- ")
    return "".join(kept).replace(" ", "-")


def _drop_html(tokens: Sequence[Token]) -> Iterator[Token]:
    for token in tokens:
        if token.type not in ("html_block", "html_inline"):
            if token.children:
                token.children = list(_drop_html(token.children))
            yield token


def _label_cells(tokens: Sequence[Token]) -> None:
    """Tell each cell the heading of its column, for screens on which a table does not fit."""
    headings: list[str] = []
    column = 0
    for token, following in pairwise(tokens):
        match token.type:
            case "thead_open":
                headings = []
            case "th_open":
                headings.append(_plain(following))
            case "tr_open":
                column = 0
            case "td_open":
                token.attrSet("data-label", headings[column])
                column += 1


def _resolve_links(children: Sequence[Token], name: str, file: str, names: Mapping[str, str]) -> list[Token]:
    """Return the tokens of a line; links lead to documents under their names.

    Links to other files become plain text, or nothing if they are all that parentheses hold, as in "(why)".
    """
    kept: list[Token] = []
    is_open, start = True, 0
    for position, token in enumerate(children):
        if token.type == "link_open":
            address = _find_address(str(token.attrGet("href")), name, file, names)
            is_open, start = address is not None, len(kept)
            token.attrSet("href", address or "")
        if is_open or token.type not in ("link_open", "link_close"):
            kept.append(token)
        elif token.type == "link_close":
            _drop_parentheses(kept, start, children[position + 1 :])
    return kept


def _drop_parentheses(kept: list[Token], start: int, rest: Sequence[Token]) -> None:
    """Drop what is kept from `start` on, if parentheses hold nothing else, and these with it."""
    if start and rest and kept[start - 1].content.endswith("(") and rest[0].content.startswith(")"):
        del kept[start:]
        kept[-1].content = kept[-1].content.removesuffix("(").rstrip()
        rest[0].content = rest[0].content.removeprefix(")")
        if not kept[-1].content and len(kept) > 1 and kept[-2].type == "softbreak":
            del kept[-2:]


def _find_address(link: str, name: str, file: str, names: Mapping[str, str]) -> str | None:
    """Return where a link leads on the page of a document, None for a file that is not served."""
    path, mark, anchor = link.partition("#")
    if "://" in link or not path:
        return link
    target = names.get(posixpath.normpath(posixpath.join(posixpath.dirname(file), path)))
    if target is None:
        return None
    return posixpath.relpath(target, posixpath.dirname(name) or ".") + mark + anchor
