"""all.zip: the files of all other formats.  Pure, no torch."""

import importlib
import zipfile
from io import BytesIO
from typing import Final

from shared.formats.registry import FORMATS, Format
from worker.formats.masks import build_entry
from worker.formats.rendered import Rendered, RenderSource

_NAME: Final = "all"
# Files of these are compressed already.
_COMPRESSED: Final = frozenset({"image/png", "image/webp", "application/zip"})


def render(source: RenderSource) -> Rendered:
    """Pack the file of every other format into a zip; those that need the image only if it is there."""
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for one in FORMATS:
            if one.name != _NAME and (source.image is not None or not one.needs_image):
                _add(archive, one, source)
    return Rendered(buffer.getvalue())


def _add(archive: zipfile.ZipFile, one: Format, source: RenderSource) -> None:
    rendered: Rendered = importlib.import_module(f"worker.formats.{one.name}").render(source)
    entry = build_entry(one.file)
    entry.compress_type = zipfile.ZIP_STORED if one.media_type in _COMPRESSED else zipfile.ZIP_DEFLATED
    archive.writestr(entry, rendered.content, compresslevel=1)
