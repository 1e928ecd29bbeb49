"""What every format's render() takes and returns."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from PIL.Image import Image

from shared.errors import Unrepresentable
from shared.images.georeference import Georeference
from shared.jobs.format_options import FormatOptions
from shared.jobs.model import Failure
from shared.jobs.result import ByteRange, build_failure
from worker.segmenter import Segmentation

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RenderSource:
    """All that the file of a format is made from.

    segmentation: the label map and the segments.
    image: upright RGB, of at most MAX_OVERLAY_SIDE; None if no format that is rendered needs it.
    file_name: of the image, in documents that name it.
    model: public id.
    georeference: where on Earth the image lies; None if its file does not say.
    shared: what several formats are made from, by a name, such as the outlines; filled by the first that needs it.
    """

    segmentation: Segmentation
    image: Image | None = None
    file_name: str = "image"
    model: str = ""
    georeference: Georeference | None = None
    options: FormatOptions = field(default_factory=FormatOptions)
    shared: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    def share(self, name: str, build: Callable[[], T]) -> T:
        """Return what was built under this name, or build it."""
        if name not in self.shared:
            self.shared[name] = build()
        value: T = self.shared[name]
        return value


@dataclass(frozen=True, slots=True)
class Rendered:
    """One output file.

    content: the whole file.
    media_type: if it is not that of the registry.
    ranges: by segment id, the bytes of `content` that are that segment's own file; empty for most formats.
    """

    content: bytes
    ranges: Mapping[int, ByteRange] = field(default_factory=dict)
    media_type: str | None = None


def render_or_omit(render: Callable[[], Rendered]) -> Rendered | Failure:
    """Return the file of a format, or why the format cannot hold the result."""
    try:
        return render()
    except Unrepresentable as error:
        return build_failure(error)
