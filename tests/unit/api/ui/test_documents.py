"""Documents as HTML: links under the names of the documents, headings with anchors, no HTML of comments."""

from pathlib import Path

import pytest

from api.ui.documents import FOLDER, SECTIONS, read_documents, render

NAMES = {"docs/a.md": "a", "docs/how-to/b.md": "how-to/b", "README.md": "operating"}


def render_line(text: str, *, name: str = "a", file: str = "docs/a.md") -> str:
    return render(name, text, file=file, names=NAMES).html


@pytest.mark.parametrize(
    ("name", "file", "link", "address"),
    [
        ("a", "docs/a.md", "how-to/b.md", "how-to/b"),
        ("a", "docs/a.md", "how-to/b.md#part", "how-to/b#part"),
        ("a", "docs/a.md", "../README.md", "operating"),
        ("how-to/b", "docs/how-to/b.md", "../a.md", "../a"),
        ("how-to/b", "docs/how-to/b.md", "../../README.md#faults", "../operating#faults"),
        ("operating", "README.md", "docs/how-to/b.md", "how-to/b"),
        ("a", "docs/a.md", "#part", "#part"),
        ("a", "docs/a.md", "https://example.org/x.md", "https://example.org/x.md"),
    ],
)
def test_a_link_leads_to_the_document_under_its_name(name: str, file: str, link: str, address: str) -> None:
    assert render_line(f"[words]({link})", name=name, file=file) == f'<p><a href="{address}">words</a></p>\n'


@pytest.mark.parametrize("link", ["../../shared/README.md", "../decisions/0001-x.md", "c.md", "a.md.md", "/etc/passwd"])
def test_a_link_to_a_file_that_is_not_served_is_plain_text(link: str) -> None:
    assert render_line(f"before [some `words`]({link}) [a](how-to/b.md)") == (
        '<p>before some <code>words</code> <a href="how-to/b">a</a></p>\n'
    )


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("It is so ([why](../decisions/1.md)).", "It is so."),
        ("It is so\n([why](../decisions/1.md)), and stays.", "It is so, and stays."),
        ("It is so (see [why](../decisions/1.md)).", "It is so (see why)."),
        ("It is so ([why](how-to/b.md)).", 'It is so (<a href="how-to/b">why</a>).'),
        ("[Why](../decisions/1.md) (or not)", "Why (or not)"),
    ],
)
def test_parentheses_with_nothing_but_such_a_link_are_left_out(text: str, shown: str) -> None:
    assert render_line(text) == f"<p>{shown}</p>\n"


def test_a_cell_knows_the_heading_of_its_column() -> None:
    html = render_line("| `a` | b |\n|---|---|\n| 1 | |\n")

    assert '<td data-label="a">1</td>\n<td data-label="b"></td>' in html


def test_headings_have_the_anchors_that_links_name() -> None:
    document = render("a", "# The `title`\n\n## What is *not* promised?\n", file="docs/a.md", names=NAMES)

    assert document.title == "The title"
    assert '<h2 id="what-is-not-promised">' in document.html
    assert document.parts == {"what-is-not-promised": "What is not promised?"}


def test_html_is_left_out_and_text_is_escaped() -> None:
    assert render_line("<!-- made by x -->\n<b>x</b>\n\na <i>b</i> `<c>`\n") == (
        "<p>x</p>\n<p>a b <code>&lt;c&gt;</code></p>\n"
    )


def test_what_is_wide_can_be_scrolled_by_keys() -> None:
    html = render_line("| a |\n|---|\n| b |\n\n```sh\ntrue\n```\n")

    assert '<div class="document__table" tabindex="0"><table>' in html and "</table></div>" in html
    assert '<pre tabindex="0"><code class="language-sh">' in html


def test_every_document_of_the_folder_is_served() -> None:
    served = {FOLDER / file for section in SECTIONS for file in section.files.values()}

    assert served == {*Path(FOLDER / "docs").rglob("*.md"), FOLDER / "README.md"}
    assert len(read_documents()) == len(served)
