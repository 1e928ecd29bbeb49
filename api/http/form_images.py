"""The images of a form that has several; each is read by itself, so that one that cannot be read refuses no other."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from api.http.multipart import Part
from shared.errors import ClientError, EmptyBody

MAX_NAME_CHARACTERS: Final = 100


@dataclass(frozen=True, slots=True)
class FormImage:
    """One of several images of a form.

    name: of its file or, without one, of its field; cut.
    content: empty if there is an error.
    """

    name: str
    content: bytes = b""
    error: ClientError | None = None


def read_images(parts: Sequence[Part], extract: Callable[[bytes, str], bytes]) -> tuple[FormImage, ...]:
    """Return the image of each part, in order.

    Args:
        extract: returns the image that some bytes are or hold; raises a ClientError.
    """
    return tuple(_read_image(part, extract) for part in parts)


def _read_image(part: Part, extract: Callable[[bytes, str], bytes]) -> FormImage:
    name = (part.filename or part.name)[:MAX_NAME_CHARACTERS]
    try:
        if not part.content:
            raise EmptyBody("The image in the form is empty")
        return FormImage(name, extract(part.content, "The form's image"))
    except ClientError as error:
        return FormImage(name, error=error)
