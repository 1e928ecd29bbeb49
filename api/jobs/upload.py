"""The bytes of a submission's image, which a request holds only until they are stored."""

from collections.abc import Callable


class Upload:
    """Holds an image until release().  All that passes it on shares it, so that one release frees the bytes."""

    def __init__(self, content: bytes, *, on_release: Callable[[], None] = lambda: None) -> None:
        """`on_release` is called once, when the bytes are let go."""
        self._content: bytes | None = content
        self._on_release = on_release

    @property
    def content(self) -> bytes:
        """The bytes.

        Raises:
            RuntimeError: they were released.
        """
        if self._content is None:
            raise RuntimeError("the image was released already")
        return self._content

    def release(self) -> None:
        """Let go of the bytes; a second call does nothing."""
        if self._content is not None:
            self._content = None
            self._on_release()
