"""A HEIC or AVIF image as Pillow shows others: size, mode and orientation.  Only the worker decodes its pixels."""

from io import BytesIO

from PIL.ExifTags import Base
from PIL.Image import Exif
from PIL.ImageFile import ImageFile

from shared.images.heif import HeifImage


class HeifImageFile(ImageFile):
    """The header of an image.

    Its orientation is that of its transformations; that in its Exif metadata is only for information
    (ISO/IEC 23008-12, A.2.1), and decoders ignore it.
    """

    format = "HEIF"
    format_description = "High Efficiency Image File Format"

    def __init__(self, data: bytes, header: HeifImage) -> None:
        self.data = data
        self.header = header
        super().__init__(BytesIO(data))

    def _open(self) -> None:
        self._size = self.header.size
        self._mode = "RGB"
        self.tile = []
        if self.header.orientation != 1:
            exif = Exif()
            exif[Base.Orientation] = self.header.orientation
            self.info["exif"] = exif.tobytes()

    def close(self) -> None:
        """Release the file."""
        super().close()
        self.data = b""
