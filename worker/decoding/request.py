"""What a host asks of a decoder, what the decoder answers, and the size of each output."""

from dataclasses import asdict, dataclass
from typing import Any, Self

from PIL.Image import Resampling

from shared.errors import NotAnImage
from shared.images.formats import MAX_SIDE
from shared.images.opening import fit_size

MAX_ORIENTATION = 8  # of EXIF
Size = tuple[int, int]  # (width, height) in pixels


@dataclass(frozen=True, slots=True)
class ImageRequest:
    """The outputs that a host needs of one image.

    max_pixels, max_side: larger images are refused.
    resize: (width, height) of the model's input and the filter; None means the upright image itself.
    image_side: the longer side of the image for an overlay, at most; None means that no such image is needed.
    is_scaled: a JPEG may be decoded at a fraction of its size, if that has twice the model's input in both directions
        and every pixel of the image for the overlay.  Faster; the pixels differ slightly.
    """

    max_pixels: int
    resize: tuple[Size, Resampling] | None
    image_side: int | None = None
    is_scaled: bool = False
    max_side: int = MAX_SIDE

    def encode(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def decode(cls, fields: dict[str, Any]) -> Self:
        resize = fields["resize"]
        return cls(**fields | {"resize": resize and (tuple(resize[0]), Resampling(resize[1]))})


@dataclass(frozen=True, slots=True)
class Plan:
    """What decoding an image takes, known from its header.

    size: of the upright image, (width, height).
    outputs: (width, height) of each output: the model's input, then the image for the overlay if it was requested.
    memory_bytes: an upper bound of the memory that the decoder takes, without the outputs.
    orientation: of the file, by its EXIF, 1 to 8.
    """

    size: Size
    outputs: tuple[Size, ...]
    memory_bytes: int
    orientation: int = 1

    def encode(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def decode(cls, fields: dict[str, Any], request: ImageRequest) -> Self:
        """Read the answer of a decoder, which has read the file of a stranger and is not trusted.

        Raises:
            NotAnImage: the sizes are not those of any answer to the request.
        """
        (width, height), outputs = fields["size"], fields["outputs"]
        size = int(width), int(height)
        plan = cls(
            size, tuple((int(w), int(h)) for w, h in outputs), int(fields["memory_bytes"]), int(fields["orientation"])
        )
        is_possible = 0 < size[0] * size[1] <= request.max_pixels and 0 < min(size) <= max(size) <= request.max_side
        is_possible = is_possible and 1 <= plan.orientation <= MAX_ORIENTATION
        if not is_possible or plan.outputs != output_sizes(request, size):
            raise NotAnImage("The image is damaged: its decoder gave a size that cannot be")
        return plan


def output_sizes(request: ImageRequest, size: Size) -> tuple[Size, ...]:
    """Return the (width, height) of each output of an image whose upright size is `size`."""
    model_input = size if request.resize is None else request.resize[0]
    return (model_input,) if request.image_side is None else (model_input, fit_size(size, request.image_side))
