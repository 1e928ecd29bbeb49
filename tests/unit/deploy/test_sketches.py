"""The sketch of a format in the document about adding one is a format."""

import csv
import io
from pathlib import PurePosixPath
from typing import Any

from shared.formats.registry import Format
from tests.support.code_blocks import read_blocks
from tests.support.label_maps import build_label_maps, build_segmentation
from worker.formats.rendered import RenderSource

DOCUMENT = "deploy/docs/adding-a-feature.md"


def find_sketch(word: str) -> str:
    """Return the one block with a word."""
    (found,) = (block.text for block in read_blocks(DOCUMENT) if word in block.text)
    return found


def test_the_sketch_of_a_format_renders_what_its_row_describes() -> None:
    names: dict[str, Any] = {}
    exec(find_sketch("# worker/formats/csv.py"), names)
    row = next(line for line in find_sketch("FORMATS: Final").splitlines() if "Format(" in line)
    described = eval(row.strip().removesuffix(","), {"Format": Format})
    source = RenderSource(build_segmentation(build_label_maps()["300 segments"]))

    rendered = names["render"](source)

    rows = list(csv.DictReader(io.StringIO(rendered.content.decode())))
    assert PurePosixPath(described.file).suffix == f".{described.name}"
    assert [int(one["area"]) for one in rows] == [one.area for one in source.segmentation.segments]
    assert [one["label"] for one in rows] == [one.label for one in source.segmentation.segments]
