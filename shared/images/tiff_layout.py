"""How the pixels of a TIFF are stored, by the tags of its directory, and which of these layouts are decoded.

Pillow finds a decoder by most of these tags, but not by all: some layouts it decodes wrongly, and of the samples of
more than 8 bits it knows a few.  Here is what it must be told.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isnan
from typing import Final

from PIL.ExifTags import Base as Tag

from shared.errors import NotAnImage
from shared.images.directory import Directory
from shared.images.samples import SampleKind, Samples
from shared.images.structure import Size

_MAX_SAMPLES = 64
_GDAL_NODATA, _MAX_NUMBER_CHARACTERS = 42113, 64  # a number as text, as GDAL and others write it
_KINDS: Final[dict[int, SampleKind]] = {1: "u", 2: "i", 3: "f", 4: "u"}  # 4 is "undefined", to be read as integers
_KIND_NAMES: Final[dict[SampleKind, str]] = {"u": "", "i": "signed ", "f": "floating point "}
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _SEPARATED, _YCBCR, _LAB = 0, 1, 2, 5, 6, 8
_PHOTOMETRIC_NAMES = {
    **dict.fromkeys((_WHITE_IS_ZERO, _BLACK_IS_ZERO), "grey"),
    _RGB: "RGB",
    3: "palette",
    4: "mask",
    _SEPARATED: "CMYK",
    _YCBCR: "YCbCr",
    _LAB: "Lab",
    9: "ICC Lab",
    10: "ITU Lab",
    32844: "LogL",
    32845: "LogLuv",
}
UNCOMPRESSED: Final = 1
JPEG_COMPRESSIONS: Final = frozenset({6, 7})
_PACKBITS = 32773
_COMPRESSIONS = frozenset({UNCOMPRESSED, 2, 3, 4, 5, 6, 7, 8, 32771, 32773, 32809, 32946, 34676, 34677, 34925, 50000})
_COMPRESSION_NAMES = {
    **dict.fromkeys((33003, 33005, 34712), "JPEG 2000"),
    34661: "JBIG",
    34887: "LERC",
    34933: "PNG",
    50001: "WebP",
    50002: "JPEG XL",
    52546: "JPEG XL",
}
_ASSOCIATED_ALPHA = 1
_PHOTOMETRIC: Final = Tag.PhotometricInterpretation
_ADVICE = "save it as PNG, or as TIFF with 8 or 16 bits a sample and LZW compression"
# Grey samples that are decoded besides unsigned ones of at most 8 bits, by kind and bits: Pillow's mode, and its raw
# mode of what libtiff gives, in the order of bytes of the machine.
GREY_MODES: Final[Mapping[tuple[SampleKind, int], tuple[str, str]]] = {
    ("u", 12): ("I;16", "I;12"),
    ("u", 16): ("I;16", "I;16N"),
    ("u", 32): ("I", "I;32N"),
    ("i", 8): ("L", "L"),
    ("i", 16): ("I;16", "I;16N"),
    ("i", 32): ("I", "I;32N"),
    ("f", 16): ("I;16", "I;16N"),
    ("f", 32): ("F", "F;32NF"),
    ("f", 64): ("F", "F;64NF"),
}
TWO_SAMPLES_MODE: Final = ("I", "I;32N")  # of 16 bits each


@dataclass(frozen=True, slots=True)
class Layout:
    """How the pixels of one image are stored.

    size: as stored, not turned upright.
    photometric: None if the tag is missing.
    bits, kind: of the first sample of a pixel; kind is None if it is not one of SampleKind.
    count: samples of a pixel, with the extra ones.
    extras: what the extra samples are.
    is_planar: each sample has strips or tiles of its own.
    is_reversed: the first bit of a byte is its lowest (FillOrder 2).
    has_predictor: differences of samples are stored; libtiff undoes them with some compressions only.
    tile: size of one; None if the pixels are in strips.
    strip_rows: of one strip.
    subsampling: of the colours of YCbCr.
    low, high, no_data: of Samples.
    """

    size: Size
    compression: int
    photometric: int | None
    bits: int
    kind: SampleKind | None
    count: int
    extras: tuple[int, ...]
    is_planar: bool
    is_reversed: bool
    has_predictor: bool
    tile: Size | None
    strip_rows: int
    subsampling: tuple[int, ...]
    low: float | None
    high: float | None
    no_data: float | None

    @property
    def grey(self) -> Samples | None:
        """The samples, if Pillow must be told how to read and to scale them; None for all that it decodes itself."""
        if self.kind is None or not self._is_grey or self._is_packed or _ASSOCIATED_ALPHA in self.extras:
            return None
        if (self.kind, self.bits) not in GREY_MODES:
            return None
        per_pixel = 1 if self.is_planar else self.count
        if per_pixel > 1 and (per_pixel, self.bits) != (2, 16):
            return None
        is_inverted = self.photometric in (_WHITE_IS_ZERO, None)  # Pillow reads 8 bits without the tag so, too
        return Samples(self.kind, self.bits, self.low, self.high, is_inverted, self.no_data, per_pixel)

    @property
    def _is_grey(self) -> bool:
        if self.photometric is None:
            return self.count == 1
        return self.photometric in (_WHITE_IS_ZERO, _BLACK_IS_ZERO)

    @property
    def _is_packed(self) -> bool:
        """Whether samples of 12 bits are stored in another way than Pillow's raw mode has them."""
        return self.bits == 12 and (self.count > 1 or self.compression in JPEG_COMPRESSIONS)

    @property
    def needs_libtiff(self) -> bool:
        """Whether Pillow's own reader of uncompressed pixels would mix them up, or does not know them."""
        if self.compression != UNCOMPRESSED:
            return False
        is_subsampled = self.photometric == _YCBCR and bool(self.subsampling) and set(self.subsampling) != {1}
        return is_subsampled or self.is_reversed or (self.is_planar and self.count > 1)

    def check(self) -> None:
        """Check that the pixels can be decoded, as far as Pillow would not notice it.

        Raises:
            NotAnImage: they cannot.
        """
        if self.compression not in _COMPRESSIONS:
            name = _COMPRESSION_NAMES.get(self.compression, f"of the kind {self.compression}")
            raise NotAnImage(f"The TIFF image has a compression that is not supported ({name}); {_ADVICE}")
        if self.has_predictor and self.compression == _PACKBITS:
            raise NotAnImage(f"The TIFF image has a predictor, which PackBits compression does not heed; {_ADVICE}")
        if self.photometric == _LAB and self.is_planar:
            raise self.unsupported_error()

    def unsupported_error(self) -> NotAnImage:
        """Return the error of an image that cannot be decoded, which says how it is stored."""
        kind = _KIND_NAMES[self.kind] if self.kind else "complex or mixed "
        colours = _PHOTOMETRIC_NAMES.get(self.photometric or 0, f"photometric interpretation {self.photometric}")
        alpha = ", premultiplied by alpha" if _ASSOCIATED_ALPHA in self.extras else ""
        planes = ", in separate planes" if self.is_planar and self.count > 1 else ""
        order = ", with the lowest bit of a byte first" if self.is_reversed else ""
        return NotAnImage(
            f"The TIFF image has {self.count} {kind}samples of {self.bits} bits a pixel "
            f"({colours}{alpha}{planes}{order}), "
            f"which cannot be decoded; {_ADVICE}"
        )


def read_layout(directory: Directory, data: bytes) -> Layout:
    """Read how the pixels of a directory are stored.

    Raises:
        struct.error: the file stops before the end of a value.
    """

    def number(tag: int, default: int = 0) -> int:
        return directory.read_number(data, tag, default)

    formats = set(directory.read_numbers(data, Tag.SampleFormat, _MAX_SAMPLES)) or {1}
    return Layout(
        size=(number(Tag.ImageWidth), number(Tag.ImageLength)),
        compression=number(Tag.Compression, UNCOMPRESSED),
        photometric=number(_PHOTOMETRIC) if _PHOTOMETRIC in directory.entries else None,
        bits=number(Tag.BitsPerSample, 1),
        kind=_KINDS.get(min(formats)) if len(formats) == 1 else None,
        count=number(Tag.SamplesPerPixel, 1),
        extras=directory.read_numbers(data, Tag.ExtraSamples, _MAX_SAMPLES),
        is_planar=number(Tag.PlanarConfiguration, 1) == 2,
        is_reversed=number(Tag.FillOrder, 1) == 2,
        has_predictor=number(Tag.Predictor, 1) > 1,
        tile=(number(Tag.TileWidth), number(Tag.TileLength)) if Tag.TileWidth in directory.entries else None,
        strip_rows=number(Tag.RowsPerStrip) or number(Tag.ImageLength),
        subsampling=directory.read_numbers(data, Tag.YCbCrSubSampling, 2),
        low=_read_limit(directory, data, Tag.SMinSampleValue, Tag.MinSampleValue),
        high=_read_limit(directory, data, Tag.SMaxSampleValue, Tag.MaxSampleValue),
        no_data=_read_no_data(directory, data),
    )


def _read_limit(directory: Directory, data: bytes, tag: int, older: int) -> float | None:
    """Return the sample that a file declares as black or as white; the older tag has no signed values."""
    value = directory.read_real(data, tag)
    return directory.read_real(data, older) if value is None else value


def _read_no_data(directory: Directory, data: bytes) -> float | None:
    """Return the sample of pixels without data; None if the file declares none, or only NaN, which is none anyway."""
    try:
        value = float(directory.read_text(data, _GDAL_NODATA, _MAX_NUMBER_CHARACTERS))
    except ValueError:
        return None
    return None if isnan(value) else value
