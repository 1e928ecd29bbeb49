"""The size of a model's input, where it depends on the image: checked before an image is resized to it.

A model's own image processor that keeps proportions rounds the short side of a narrow image to zero, or enlarges the
long one without end; one that does not resize lets an image of any size through to the model.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from transformers.image_processing_backends import PilBackend
from transformers.image_transforms import get_size_with_aspect_ratio
from transformers.image_utils import get_image_size_for_max_height_width

from shared.errors import EngineFailed, ImageTooLarge, ImageTooNarrow, MaskmillError
from worker.engine.errors import translate_error
from worker.segmenter import ModelImage

Size = tuple[int, int]
"""(height, width) in pixels."""

# Networks reduce their input by this much, so that less may leave nothing of a side.
_MAX_STRIDE: Final = 32


class BoundedResize(PilBackend):
    """The base class that bound_input() gives to a processor: every resize() of it ends in this one."""

    max_input_pixels: int

    def resize(self, image: Any, size: Any, *args: Any, **kwargs: Any) -> Any:
        """Resize an image of (C, H, W), unless the result would be empty or too large.

        Raises:
            ImageTooNarrow, ImageTooLarge: it would.
        """
        height, width = image.shape[-2:]
        check_input_size((height, width), get_output_size((height, width), size), self.max_input_pixels)
        return super().resize(image, size, *args, **kwargs)


def bound_input(processor: Any, max_pixels: int) -> Any:
    """Make an image processor refuse images whose input to the model would be empty, or of more than `max_pixels`.

    A processor that computes sizes of its own calls super().resize() with them.  So the check is put between its class
    and its base class, and sees the size that all of its steps have led to.
    """
    kind = type(processor)
    if isinstance(processor, PilBackend) and not isinstance(processor, BoundedResize):
        processor.__class__ = type(kind.__name__, (kind, BoundedResize), {"__module__": kind.__module__})
    processor.max_input_pixels = max_pixels
    return processor


def get_output_size(given: Size, size: Any) -> Size:
    """Return the size to which PilBackend.resize() brings an image, by the same rules in the same order."""
    if size.shortest_edge and size.longest_edge:
        return get_size_with_aspect_ratio(given, size.shortest_edge, size.longest_edge)
    if size.shortest_edge:
        long = int(size.shortest_edge * max(given) / min(given))
        return (size.shortest_edge, long) if given[0] <= given[1] else (long, size.shortest_edge)
    if size.max_height and size.max_width:
        return get_image_size_for_max_height_width(given, size.max_height, size.max_width)
    # Without both there is no rule, and the processor fails on every image.
    return given if size.height is None or size.width is None else (size.height, size.width)


def check_input_size(given: Size, planned: Size, max_pixels: int) -> None:
    """Check the size that an image of `given` size would have as a model's input.

    Raises:
        ImageTooNarrow: one side would be 0, or the image would be enlarged beyond `max_pixels`.
        ImageTooLarge: it has more pixels itself.
    """
    (height, width), (rows, columns) = given, planned
    if min(planned) < 1:
        raise ImageTooNarrow(
            f"The image of {width} x {height} pixels is too narrow: the model keeps proportions, and would get "
            f"{columns} x {rows}; send a part of it"
        )
    if rows * columns <= max_pixels:
        return
    facts = f"the model would get {columns} x {rows}, and at most {max_pixels} pixels are accepted"
    if height * width <= max_pixels:
        raise ImageTooNarrow(f"The image of {width} x {height} pixels is too narrow: {facts}; send a part of it")
    raise ImageTooLarge(f"The image of {width} x {height} pixels is too large: {facts}; send a smaller one")


@contextmanager
def translate_preparation_errors(processor: Any, image: ModelImage) -> Iterator[None]:
    """Check an image that is not resized, and raise an error of the tree for any error of a processor of bound_input().

    Raises:
        ImageTooNarrow, ImageTooLarge: the input of the model would be empty, or too large.
        OutOfMemory, EngineFailed: the processor failed otherwise.
    """
    if not processor.do_resize:
        size = image.pixels.shape[0], image.pixels.shape[1]
        check_input_size(size, size, processor.max_input_pixels)
    try:
        yield
    except MaskmillError:
        raise
    except Exception as error:
        raise translate_error(error) from error


def explain_failure(error: Exception, planned: Size, image: Size) -> MaskmillError:
    """Return the error of an image on which the network failed.

    Args:
        planned: the size of the network's input.
        image: the image's own size.
    """
    translated = translate_error(error)
    if not isinstance(translated, EngineFailed) or min(planned) >= _MAX_STRIDE:
        return translated
    (rows, columns), (height, width) = planned, image
    narrow = ImageTooNarrow(
        f"The image of {width} x {height} pixels is too narrow: the model got {columns} x {rows} and cannot take that; "
        "send a larger part"
    )
    narrow.__cause__ = translated.__cause__
    return narrow
