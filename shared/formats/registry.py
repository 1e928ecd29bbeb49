"""The output formats of a result.  Routes, links, the OpenAPI document and what a worker renders come from this table.

Adding a format takes a row here, a module of its name in worker/formats/, and a test.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Format:
    """One output format.

    name: as in `formats=`; worker/formats/{name}.py renders it.
    file: name of its object, and of its route below a job.
    result_field: member of the result document that links to it.
    is_required: whether it is stored even if not requested; so is the label map, from which all others are rendered.
    needs_image: whether it is rendered from the image as well as from the label map.
    options: names of the fields of FormatOptions that it depends on.
    """

    name: str
    file: str
    media_type: str
    result_field: str
    description: str
    is_required: bool = False
    needs_image: bool = False
    options: tuple[str, ...] = ()


FORMATS: Final = (
    Format(
        "labels",
        "labels.png",
        "image/png",
        "labels_url",
        "PNG of the label map, 8 or 16 bit: 0 is nothing, n is the segment of id n.",
        is_required=True,
    ),
    Format(
        "overlay",
        "overlay.png",
        "image/png",
        "overlay_url",
        "PNG of the photo with its segments drawn over it.",
        needs_image=True,
    ),
    Format(
        "masks", "masks.zip", "application/zip", "masks_zip_url", "Zip of every mask: 1.png, 2.png, ... by segment id."
    ),
    Format("rle", "rle.json", "application/json", "rle_url", "JSON of every mask as COCO's compressed RLE."),
)
FORMAT_NAMES: Final = tuple(one.name for one in FORMATS)


def get_format(name: str) -> Format:
    """Return the format of a name.

    Raises:
        KeyError: there is none.
    """
    return _BY_NAME[name]


def select_formats(names: Iterable[str]) -> tuple[str, ...]:
    """Return these formats and the required ones, each once, in the order of the table.

    Raises:
        KeyError: there is no format of one of the names.
    """
    wanted = {get_format(name) for name in names}
    return tuple(one.name for one in FORMATS if one.is_required or one in wanted)


_BY_NAME: Final = {one.name: one for one in FORMATS}
