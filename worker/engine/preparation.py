"""Errors of a model's own image processor."""

from collections.abc import Iterator
from contextlib import contextmanager

from shared.errors import ImageTooNarrow, MaskmillError
from worker.engine.errors import translate_error
from worker.segmenter import ModelImage

# A processor that keeps the proportions rounds the short side of a narrower image to zero.
_MAX_RATIO = 100


@contextmanager
def translate_preparation_errors(model: str, image: ModelImage) -> Iterator[None]:
    """Raise an error of the tree for any error of a processor.

    Raises:
        ImageTooNarrow: it failed, and one side of the image is more than 100 times the other.
        OutOfMemory, EngineFailed: it failed otherwise.
    """
    try:
        yield
    except MaskmillError:
        raise
    except Exception as error:
        width, height = image.width, image.height
        if max(width, height) > _MAX_RATIO * min(width, height):
            raise ImageTooNarrow(
                f"{model} cannot take an image of {width} x {height} pixels: it is too narrow for the model's input"
            ) from error
        raise translate_error(error) from error
