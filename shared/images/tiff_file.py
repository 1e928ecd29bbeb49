"""A TIFF file as Pillow reads it, with the right image of several, and samples that it knows not or reads wrongly."""

import struct
from collections.abc import Iterator
from io import BytesIO
from typing import BinaryIO

from PIL import ImagePalette
from PIL.ExifTags import Base
from PIL.ImageFile import _Tile
from PIL.TiffImagePlugin import COLORMAP, COMPRESSION, TiffImageFile

from shared.images.directory import Directory, Entry, locate_pointer
from shared.images.samples import Samples
from shared.images.tiff_layout import GREY_MODES, TWO_SAMPLES_MODE, read_layout
from shared.images.tiff_pages import choose_directory

_DEFLATE = 8
_SWAPS_SIDES = frozenset({5, 6, 7, 8})
_BYTE, _ASCII, _SHORT, _UNDEFINED = 1, 2, 3, 7  # types of tags
_PRIVATE_TAG = 65_000  # in the range for any use (TIFF 6.0, Private Fields)


class TiffFile(TiffImageFile):
    """The image that choose_directory() returns.

    layout: how its pixels are stored.
    samples: how its grey samples are to be scaled; None if Pillow decodes to 8 bits.  Their bytes are in the image as
        they are stored, so that those of signed or short floating point samples look like other numbers.
    is_copied: the file has been copied, to let Pillow begin at another directory than the first, or to hide tags.
    """

    samples: Samples | None

    def __init__(self, file: BinaryIO) -> None:
        data = file.read()
        directory = choose_directory(data)
        self.layout = read_layout(directory, data)
        self.samples = self.layout.grey
        edits = [*_point_to(data, directory), *_hide_unreadable(directory, self.layout.count)]
        self.is_copied = bool(edits)
        edited = BytesIO(data)  # copies the file when it is written to, and not before
        for position, replacement in edits:
            edited.seek(position)
            edited.write(replacement)
        edited.seek(0)
        super().__init__(edited)

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


def _point_to(data: bytes, directory: Directory) -> Iterator[tuple[int, bytes]]:
    """Yield where and what to write to make a directory the first one; nothing if it is."""
    position, pointer = locate_pointer(data)
    if pointer.unpack_from(data, position)[0] != directory.start:
        yield position, pointer.pack(directory.start)


def _hide_unreadable(directory: Directory, samples: int) -> Iterator[tuple[int, bytes]]:
    """Yield where and what to write to give each tag that is not readable a number that nothing reads."""
    hidden = struct.pack(f"{directory.order}H", _PRIVATE_TAG)
    for tag, entry in directory.entries.items():
        if not _is_readable(tag, entry, samples):
            yield entry.start, hidden


def _is_readable(tag: int, entry: Entry, samples: int) -> bool:
    """Tell whether libtiff reads a tag that pixels do not need, or refuses the whole directory for its type or length.

    By TIFFReadDirectory() in tif_dirread.c of libtiff, which ignores what it cannot read in other such tags.

    samples: of a pixel.
    """
    match tag:
        case Base.MinSampleValue | Base.MaxSampleValue:
            return entry.kind in (_BYTE, _SHORT)  # of other types only if a SHORT holds the number
        case Base.SMinSampleValue | Base.SMaxSampleValue:
            return entry.kind not in (_ASCII, _UNDEFINED) and entry.count == samples
        case Base.XMLPacket:
            return entry.kind in (_BYTE, _UNDEFINED)
    return True
