"""all.zip: the files of all other formats, and which of them it lacks.  Pure, no torch."""

import importlib
import zipfile
from collections.abc import Callable, Mapping
from functools import partial
from io import BytesIO
from typing import Final

import orjson

from shared.formats.registry import FORMATS, Format
from shared.jobs.model import Failure
from worker.formats.masks import build_entry
from worker.formats.rendered import Rendered, RenderSource, render_or_omit

OMITTED_FILE: Final = "omitted.json"
_NAME: Final = "all"
# Files of these are compressed already.
_COMPRESSED: Final = frozenset({"image/png", "image/webp", "application/zip"})


def render(source: RenderSource) -> Rendered:
    """Pack the file of every other format into a zip; those that need the image only if it is there.

    Formats that cannot hold the result are named in a file of the archive, with the reason.
    """
    buffer = BytesIO()
    omitted: dict[str, Failure] = {}
    others = [one for one in FORMATS if one.name != _NAME and (source.image is not None or not one.needs_image)]
    with zipfile.ZipFile(buffer, "w") as archive:
        for one in others:
            rendered = render_or_omit(partial(_load_renderer(one), source))
            if isinstance(rendered, Failure):
                omitted[one.name] = rendered
            else:
                _add(archive, one.file, rendered.content, is_compressed=one.media_type in _COMPRESSED)
        if omitted:
            _add(archive, OMITTED_FILE, _describe(omitted))
    return Rendered(buffer.getvalue())


def _load_renderer(one: Format) -> Callable[[RenderSource], Rendered]:
    return importlib.import_module(f"worker.formats.{one.name}").render  # type: ignore[no-any-return]


def _add(archive: zipfile.ZipFile, name: str, content: bytes, *, is_compressed: bool = False) -> None:
    entry = build_entry(name)
    entry.compress_type = zipfile.ZIP_STORED if is_compressed else zipfile.ZIP_DEFLATED
    archive.writestr(entry, content, compresslevel=1)


def _describe(omitted: Mapping[str, Failure]) -> bytes:
    """Return JSON as the result document has it: by format, the error and its code."""
    return orjson.dumps({name: {"error": one.message, "error_type": one.code} for name, one in omitted.items()})
