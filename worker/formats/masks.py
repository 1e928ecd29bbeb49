"""masks.zip: one PNG per segment.  Pure, no torch."""

import zipfile
from io import BytesIO

from shared.jobs.result import ByteRange
from worker.formats.mask_png import RunLengthEncoding
from worker.formats.rendered import Rendered, RenderSource

# The earliest date of the zip format, so that equal masks give equal bytes.
_ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)
_REGULAR_FILE_0644 = 0o100644 << 16


def render(source: RenderSource) -> Rendered:
    """Pack the mask of every segment into a zip with the entries 1.png, 2.png, ... by segment id.

    Entries are stored, not compressed, so each range of the result is the PNG file of that segment: 8-bit greyscale,
    the size of the label map, 255 inside the segment and 0 elsewhere.
    """
    segmentation = source.segmentation
    buffer = BytesIO()
    ranges: dict[int, ByteRange] = {}
    encoding = RunLengthEncoding.from_label_map(segmentation.label_map)
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for segment in segmentation.segments:
            png = encoding.encode_mask_png(segment.id)
            archive.writestr(build_entry(f"{segment.id}.png"), png)
            ranges[segment.id] = ByteRange(offset=buffer.tell() - len(png), length=len(png))
    return Rendered(buffer.getvalue(), ranges)


def build_entry(name: str) -> zipfile.ZipInfo:
    """Return a file in a zip, stored and not compressed."""
    entry = zipfile.ZipInfo(name, _ZIP_EPOCH)
    entry.external_attr = _REGULAR_FILE_0644
    return entry
