"""AVIFs and HEICs as phones write them: turned by their container, in tiles, with metadata and previews."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from io import BytesIO

import imagecodecs
import numpy as np
import pillow_heif
from PIL import Image, ImageCms

from tests.real_files.files import CLOSE, EXACT, RealFile, refuse, same, variants
from tests.real_files.heif_writer import (
    Item,
    alpha_box,
    build_heif,
    crop_box,
    exif_item,
    grid_item,
    read_image,
    turn_boxes,
)
from tests.real_files.orientation import build_exif, store_turned, turn_upright
from tests.real_files.photos import (
    Samples,
    deepen,
    grey_cat,
    portrait,
    portrait_samples,
    preview,
    scattered_alpha,
    transparent_portrait,
)
from tests.support.heif import box
from tests.support.images import encode


@dataclass(frozen=True, slots=True)
class Coding:
    """How the images of a container are coded.

    encode: an image as a file of that image alone; lossless, or nearly so.
    decode: such a file, by a library that the service does not use for it, or by the simplest path of one.
    min_share: of a twin that is decoded once more.
    """

    name: str
    brand: bytes
    kind: bytes
    encode: Callable[[Image.Image], bytes]
    decode: Callable[[bytes], Image.Image]
    min_share: float

    def item(self, image: Image.Image) -> Item:
        """Return an image, coded, for a container of another writer."""
        return read_image(_encode(self, image.mode, image.size, image.tobytes()), self.kind)

    def twin(self, image: Image.Image) -> Image.Image:
        """Return what is left of an image when it is coded and decoded."""
        return _decode(self, _encode(self, image.mode, image.size, image.tobytes()))

    def file(self, name: str, build: Callable[[], bytes], twin: Callable[[], Image.Image] | None = None) -> RealFile:
        """Return a file whose twin is the portrait, coded and decoded, unless another one is given."""
        make = twin or (lambda: self.twin(portrait()))
        return same(f"{self.name}: {name}", build, make, self.min_share)


def encode_avif(image: Image.Image) -> bytes:
    """Return an AVIF without loss: the planes are green, blue and red."""
    if image.mode == "L":
        return avif(np.asarray(image), 100, pixelformat="400")
    return avif(np.asarray(image), 100, pixelformat="444", matrix=0)


def avif(samples: Samples, level: int, **options: object) -> bytes:
    return bytes(imagecodecs.avif_encode(samples, level, speed=8, numthreads=1, **options))


def decode_avif(data: bytes) -> Image.Image:
    """Return samples of 8 bits, or of 10 or 12 in 16, as RGB; alpha is dropped."""
    samples = imagecodecs.avif_decode(data)
    if samples.dtype == np.uint16:
        most = 1023 if samples.max() < 1024 else 4095
        samples = ((samples.astype(np.uint32) * 255 + most // 2) // most).astype(np.uint8)
    return Image.fromarray(samples[..., :3] if samples.ndim == 3 else samples).convert("RGB")


def encode_heic(image: Image.Image) -> bytes:
    """Return a HEIC with half of the colours' resolution, as phones write them."""
    return heic(pillow_heif.from_pillow(image))


def heic(file: pillow_heif.HeifFile) -> bytes:
    buffer = BytesIO()
    file.save(buffer, quality=90, enc_params={"preset": "ultrafast"})
    return buffer.getvalue()


def decode_heic(data: bytes) -> Image.Image:
    return pillow_heif.open_heif(data).to_pillow().convert("RGB")


# The same few photos are coded for most of the files.
@cache
def _encode(coding: Coding, mode: str, size: tuple[int, int], samples: bytes) -> bytes:
    return coding.encode(Image.frombytes(mode, size, samples))


@cache
def _decode(coding: Coding, data: bytes) -> Image.Image:
    return coding.decode(data)


AVIF = Coding("AVIF", b"avif", b"av01", encode_avif, decode_avif, EXACT)
HEIC = Coding("HEIC", b"heic", b"hvc1", encode_heic, decode_heic, CLOSE)


def turned_file(coding: Coding, orientation: int, *, exif: int | None = None) -> RealFile:
    """Return a photo that its container turns; Exif may say so as well."""

    def build() -> bytes:
        item = coding.item(store_turned(portrait(), orientation)).add(*turn_boxes(orientation))
        more = [exif_item(build_exif(exif, order=">"), 1)] if exif else []
        return build_heif(coding.brand, [item, *more])

    def twin() -> Image.Image:
        return turn_upright(coding.twin(store_turned(portrait(), orientation)), orientation)

    name = f"orientation {orientation}" + (f", and {exif} in Exif" if exif else "")
    return coding.file(name, build, twin)


def build_by_exif_alone(coding: Coding) -> bytes:
    """Return a photo of which only Exif says that it is turned, which is not heeded (ISO/IEC 23000-22, 7.3.6.7)."""
    return build_heif(coding.brand, [coding.item(portrait()), exif_item(build_exif(6), 1)])


def tiles(image: Image.Image, side: tuple[int, int]) -> list[Image.Image]:
    """Return an image in parts of one size, row by row; those at the right and the bottom repeat its edges."""
    width, height = side
    columns, rows = -(-image.width // width), -(-image.height // height)
    samples = np.asarray(image)
    padding = ((0, rows * height - image.height), (0, columns * width - image.width), (0, 0))
    filled = Image.fromarray(np.pad(samples, padding, mode="edge"))
    corners = ((x * width, y * height) for y in range(rows) for x in range(columns))
    return [filled.crop((left, top, left + width, top + height)) for left, top in corners]


def grid(coding: Coding, side: tuple[int, int], orientation: int = 1) -> bytes:
    """Return a photo in tiles, and turned by its container, as the phones of one maker write all of theirs."""
    stored = store_turned(portrait(), orientation)
    parts = [coding.item(part).hide() for part in tiles(stored, side)]
    columns, rows = -(-stored.width // side[0]), -(-stored.height // side[1])
    whole = grid_item(columns, rows, stored.size, range(1, len(parts) + 1)).add(*turn_boxes(orientation))
    items = [*parts, whole, exif_item(build_exif(orientation, order=">"), len(parts) + 1)]
    return build_heif(coding.brand, items, primary=len(parts) + 1)


def grid_twin(coding: Coding, side: tuple[int, int], orientation: int = 1) -> Image.Image:
    stored = store_turned(portrait(), orientation)
    whole = Image.new("RGB", stored.size)
    columns = -(-stored.width // side[0])
    for number, part in enumerate(tiles(stored, side)):
        whole.paste(coding.twin(part), (number % columns * side[0], number // columns * side[1]))
    return turn_upright(whole, orientation)


_CROP, _LEFT, _TOP = (260, 200), 10, 30


def crop(coding: Coding, orientation: int) -> bytes:
    """Return a photo of which a part counts, which is then turned."""
    stored = store_turned(portrait(), orientation)
    crop = crop_box(_part(stored), _LEFT, _TOP, stored.size)
    return build_heif(coding.brand, [coding.item(stored).add(crop, *turn_boxes(orientation))])


def cropped_twin(coding: Coding, orientation: int) -> Image.Image:
    stored = coding.twin(store_turned(portrait(), orientation))
    width, height = _part(stored)
    return turn_upright(stored.crop((_LEFT, _TOP, _LEFT + width, _TOP + height)), orientation)


def _part(image: Image.Image) -> tuple[int, int]:
    return _CROP if image.width > image.height else _CROP[::-1]


def build_mirrored(coding: Coding) -> bytes:
    """Return a photo that is mirrored and then turned: the boxes apply in their order."""
    return build_heif(coding.brand, [coding.item(portrait()).add(box(b"imir", b"\1"), box(b"irot", b"\1"))])


def mirrored_twin(coding: Coding) -> Image.Image:
    mirrored = coding.twin(portrait()).transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return mirrored.transpose(Image.Transpose.ROTATE_90)


def build_with_alpha(coding: Coding) -> bytes:
    alpha = coding.item(scattered_alpha()).add(alpha_box()).hide().refer(b"auxl", 1)
    return build_heif(coding.brand, [coding.item(portrait()), alpha])


def build_with_preview(coding: Coding) -> bytes:
    """Return a photo behind its preview, which is another photo here."""
    return build_heif(coding.brand, [coding.item(preview()).refer(b"thmb", 2), coding.item(portrait())], primary=2)


def build_with_others(coding: Coding) -> bytes:
    """Return a burst of three photos, of which the second is the one to show."""
    others = coding.item(preview().resize((320, 240)))
    return build_heif(coding.brand, [others, coding.item(portrait()), others], primary=2)


def build_with_profile(coding: Coding) -> bytes:
    """Return a photo with a colour profile besides the numbers of its colour space."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return build_heif(coding.brand, [coding.item(portrait()).add(box(b"colr", b"prof", profile))])


def build_general_brand(coding: Coding) -> bytes:
    return build_heif(b"mif1", [coding.item(portrait())], compatible=b"mif1" + coding.brand)


def build_odd(coding: Coding) -> bytes:
    return build_heif(coding.brand, [coding.item(_odd_portrait())])


def _odd_portrait() -> Image.Image:
    return portrait().crop((0, 0, 319, 239))


def common_files(coding: Coding) -> Sequence[RealFile]:
    """Return the files that both codings have."""
    return (
        coding.file("as its encoder writes it", lambda: coding.encode(portrait())),
        coding.file("grey", lambda: coding.encode(grey_cat()), lambda: coding.twin(grey_cat())),
        *(turned_file(coding, number) for number in (6, 8)),
        *variants(
            *(turned_file(coding, number) for number in (2, 3, 4, 5, 7)),
            turned_file(coding, 8, exif=1),
            coding.file("a crop", lambda: crop(coding, 1), lambda: cropped_twin(coding, 1)),
            coding.file("a crop, turned", lambda: crop(coding, 6), lambda: cropped_twin(coding, 6)),
            coding.file("mirrored, then turned", lambda: build_mirrored(coding), lambda: mirrored_twin(coding)),
            coding.file("a preview first", lambda: build_with_preview(coding)),
            coding.file("an odd size", lambda: build_odd(coding), lambda: coding.twin(_odd_portrait())),
            coding.file("three images", lambda: build_with_others(coding)),
            coding.file("a colour profile", lambda: build_with_profile(coding)),
            coding.file("the general brand", lambda: build_general_brand(coding)),
        ),
        turned_file(coding, 6, exif=6),
        coding.file("an orientation in Exif alone", lambda: build_by_exif_alone(coding)),
        coding.file("four tiles", lambda: grid(coding, (160, 120)), lambda: grid_twin(coding, (160, 120))),
        coding.file(
            "tiles beyond the image, turned",
            lambda: grid(coding, (128, 128), 6),
            lambda: grid_twin(coding, (128, 128), 6),
        ),
        coding.file("alpha", lambda: build_with_alpha(coding)),
        refuse(
            f"{coding.name}: its first half",
            "stops before its end",
            lambda: _halve(coding.encode(portrait())),
        ),
    )


def _halve(data: bytes) -> bytes:
    return data[: len(data) // 2]


def avif_content(name: str, build: Callable[[], bytes]) -> RealFile:
    """Return a file whose twin is its own content, decoded by imagecodecs."""
    return same(f"AVIF: {name}", build, lambda: decode_avif(build()), CLOSE)


def deep_avif(bits: int, level: int = 100, **options: object) -> bytes:
    """Return so many bits, without loss unless another level or form is given."""
    samples = deepen(portrait_samples()) >> (16 - bits)
    return avif(samples, level, bitspersample=bits, **{"pixelformat": "444", "matrix": 0} | options)


def deep_heic() -> bytes:
    """Return 10 bits, as the cameras of phones write HDR."""
    return heic(pillow_heif.from_bytes("RGB;16", portrait().size, deepen(portrait_samples()).tobytes()))


def deep_heic_twin() -> Image.Image:
    return pillow_heif.open_heif(deep_heic(), convert_hdr_to_8bit=True).to_pillow().convert("RGB")


FILES: Sequence[RealFile] = (
    *common_files(AVIF),
    avif_content("chroma of 4:2:0", lambda: avif(portrait_samples(), 90, pixelformat="420")),
    *(same(f"AVIF: {bits} bits", lambda bits=bits: deep_avif(bits), portrait, CLOSE) for bits in (10, 12)),
    *common_files(HEIC),
    same("HEIC: 10 bits", deep_heic, deep_heic_twin, CLOSE),
    *variants(
        avif_content("chroma of 4:2:2", lambda: avif(portrait_samples(), 90, pixelformat="422")),
        avif_content("chroma of 4:4:4", lambda: avif(portrait_samples(), 90, pixelformat="444")),
        avif_content("10 bits, chroma of 4:2:0", lambda: deep_avif(10, 90, pixelformat="420", matrix=6)),
        avif_content("colours with alpha", lambda: avif(np.asarray(transparent_portrait()), 90)),
        same(
            "AVIF: a sequence",
            lambda: encode(
                portrait(),
                "AVIF",
                save_all=True,
                append_images=[preview().resize((320, 240))],
                quality=100,
                subsampling="4:4:4",
            ),
            portrait,
            CLOSE,
        ),
    ),
)
