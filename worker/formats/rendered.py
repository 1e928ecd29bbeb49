"""What every format's render() takes and returns."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from PIL.Image import Image

from shared.jobs.format_options import FormatOptions
from shared.jobs.result import ByteRange
from worker.segmenter import Segmentation


@dataclass(frozen=True, slots=True)
class RenderSource:
    """All that the file of a format is made from.

    segmentation: the label map and the segments.
    image: upright RGB, of at most MAX_OVERLAY_SIDE; None if no format that is rendered needs it.
    file_name: of the image, in documents that name it.
    model: public id.
    """

    segmentation: Segmentation
    image: Image | None = None
    file_name: str = "image"
    model: str = ""
    options: FormatOptions = field(default_factory=FormatOptions)


@dataclass(frozen=True, slots=True)
class Rendered:
    """One output file.

    content: the whole file.
    ranges: by segment id, the bytes of `content` that are that segment's own file; empty for most formats.
    """

    content: bytes
    ranges: Mapping[int, ByteRange] = field(default_factory=dict)
