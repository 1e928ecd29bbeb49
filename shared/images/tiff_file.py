"""A TIFF file as Pillow reads it, with the right image of several, and samples that it knows not or reads wrongly."""

from io import BytesIO
from typing import BinaryIO

from PIL import ImagePalette
from PIL.ExifTags import Base
from PIL.ImageFile import _Tile
from PIL.TiffImagePlugin import COLORMAP, COMPRESSION, TiffImageFile

from shared.images.directory import locate_pointer
from shared.images.samples import Samples
from shared.images.tiff_layout import GREY_MODES, TWO_SAMPLES_MODE, read_layout
from shared.images.tiff_pages import choose_directory

_DEFLATE = 8
_SWAPS_SIDES = frozenset({5, 6, 7, 8})


class TiffFile(TiffImageFile):
    """The image that choose_directory() returns.

    layout: how its pixels are stored.
    samples: how its grey samples are to be scaled; None if Pillow decodes to 8 bits.  Their bytes are in the image as
        they are stored, so that those of signed or short floating point samples look like other numbers.
    is_copied: the file has been copied, to let Pillow begin at another directory than the first.
    """

    samples: Samples | None

    def __init__(self, file: BinaryIO) -> None:
        data = file.read()
        directory = choose_directory(data)
        self.layout = read_layout(directory, data)
        self.samples = self.layout.grey
        pointed = point_to(data, directory.start)
        self.is_copied = pointed is not data
        super().__init__(BytesIO(pointed))

    def _setup(self) -> None:
        """Find the decoder, by the tags of the directory."""
        if self.samples is not None:
            self._setup_samples(self.samples)
            return
        compression = self.tag_v2.get(COMPRESSION)
        if self.layout.needs_libtiff:
            # Pillow takes libtiff for all that is compressed, and libtiff looks for itself.
            self.tag_v2[COMPRESSION] = _DEFLATE
        try:
            super()._setup()
        except (SyntaxError, KeyError) as error:
            raise self.layout.unsupported_error() from error
        if self.layout.needs_libtiff and compression is not None:
            self.tag_v2[COMPRESSION] = compression
        self._correct_palette()

    def _setup_samples(self, samples: Samples) -> None:
        width, height = self.layout.size
        is_turned = self.tag_v2.get(Base.Orientation) in _SWAPS_SIDES
        self._tile_size = width, height
        self._size = (height, width) if is_turned else (width, height)
        is_single = samples.per_pixel == 1
        self._mode, raw_mode = GREY_MODES[samples.kind, samples.bits] if is_single else TWO_SAMPLES_MODE
        self.use_load_libtiff = True
        self.tile = [_Tile("libtiff", (0, 0, width, height), 0, (raw_mode, False, self.tag_v2.offset))]

    def _correct_palette(self) -> None:
        """Read the colours of a palette as 8 bits if none has more; some encoders do not shift them by 8."""
        if self.mode in ("P", "PA"):
            colours = self.tag_v2[COLORMAP]
            if max(colours) < 256:
                self.palette = ImagePalette.raw("RGB;L", bytes(colours))


def point_to(data: bytes, start: int) -> bytes:
    """Return a file whose first directory is the one at `start`; the same object if it is."""
    position, pointer = locate_pointer(data)
    if pointer.unpack_from(data, position)[0] == start:
        return data
    return b"".join((data[:position], pointer.pack(start), data[position + pointer.size :]))
