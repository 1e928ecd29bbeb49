"""An upper bound of the memory that decoding takes, from the header of a file.

The figures were measured (tests/unit/worker/test_decoding_estimate.py compares them with the memory of a process).
"""

from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.WebPImagePlugin import WebPImageFile

from shared.images.heif import HeifImage
from shared.images.heif_file import HeifImageFile
from shared.images.jpeg import has_separate_scans
from shared.images.opening import upright_size, upright_transpose
from shared.images.tiff_file import TiffFile
from worker.decoding.request import Size
from worker.decoding.samples import find_samples

_FIXED_BYTES = 4_000_000  # of codecs, row buffers and Python
_RGB_BYTES = 4  # Pillow pads pixels of several channels to 4 bytes
_PIXEL_BYTES = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16L": 2, "I;16B": 2}
# libwebp: two canvases, and either the frame's own pixels or the copy that Python gets, of 4 bytes each; with alpha, a
# plane of it and its buffers.
_WEBP_BYTES, _WEBP_ALPHA_BYTES = 12, 2
_MAPPED_BYTES = 8_388_608  # malloc() keeps what is smaller (MALLOC_MMAP_THRESHOLD_ of the template)
_MAX_FREED_BYTES = 4 * _MAPPED_BYTES  # of a codec, in that many parts
_COEFFICIENT_BYTES = 2


def estimate_bytes(image: ImageFile, data: bytes, *, size: Size, outputs: tuple[Size, ...]) -> int:
    """Return the most bytes that a decoder takes for an image, the file included, the outputs in the pool not.

    Args:
        image: parsed, not decoded; a JPEG may be set to a fraction of its size by draft().
        data: the file.
        size: of the whole image before draft(); (width, height), in any orientation.
        outputs: (width, height) of each.
    """
    pixels, upright = image.width * image.height, upright_size(image)
    kept_bytes = pixels * _PIXEL_BYTES.get(image.mode, 4)
    is_turned = upright_transpose(image) is not None
    is_turned_by_codec = is_turned and isinstance(image, TiffFile) and image.use_load_libtiff
    codec_bytes = _codec_bytes(image, data, size)
    # What has been freed, but in parts that malloc() keeps: a turned image takes the place of what a codec freed, and
    # one of 8 bits the place of what was turned.
    freed_codec = min(codec_bytes, _MAX_FREED_BYTES)
    kept_by_malloc = kept_bytes if kept_bytes < _MAPPED_BYTES else 0
    is_scaled = _is_scaled(image)
    freed = max(freed_codec, kept_by_malloc * is_turned) + kept_by_malloc * is_scaled
    if is_scaled and is_turned and kept_by_malloc:
        freed -= pixels
    stages = (
        kept_bytes * (1 + is_turned_by_codec) + codec_bytes,
        freed_codec + kept_bytes * (1 + is_turned),
        freed + pixels * _RGB_BYTES + _converted_bytes(image, kept_bytes),
        freed + pixels * _RGB_BYTES + max(_resizing_bytes(upright, output) for output in outputs),
    )
    copies_of_file = 4 if isinstance(image, WebPImageFile | HeifImageFile) else 2 if _is_copied(image) else 1
    return _FIXED_BYTES + copies_of_file * len(data) + max(stages)


def _is_scaled(image: ImageFile) -> bool:
    """Return whether samples are scaled to 8 bits, in another image."""
    return find_samples(image) is not None


def _converted_bytes(image: ImageFile, kept_bytes: int) -> int:
    """Return the length of the image that is converted to RGB; one whose samples were scaled has 8 bits."""
    if _is_scaled(image):
        return image.width * image.height
    return kept_bytes if image.mode != "RGB" or isinstance(image, WebPImageFile) else 0


def _is_copied(image: ImageFile) -> bool:
    return isinstance(image, TiffFile) and image.is_copied


def has_several_scans(image: JpegImageFile, data: bytes) -> bool:
    """Return whether the decoder needs several scans, and so keeps all coefficients."""
    return bool(image.info.get("progressive")) or has_separate_scans(data, image.layers)


def _codec_bytes(image: ImageFile, data: bytes, size: Size) -> int:
    """Return what the codec takes beside the pixels of the image."""
    match image:
        case WebPImageFile():
            alpha_bytes = _WEBP_ALPHA_BYTES if image.mode == "RGBA" else 0
            return (_WEBP_BYTES - 4 + alpha_bytes) * image.width * image.height
        case HeifImageFile():
            return _heif_bytes(image.header)
        case JpegImageFile():
            return _coefficient_bytes(image, data, size)
        case TiffFile() if image.use_load_libtiff:
            return _strip_bytes(image)
    return 0


def _heif_bytes(header: HeifImage) -> int:
    """Return what decoding a tile takes: its planes twice, and its RGB twice; and the canvas, if that is cropped."""
    is_grid = len(header.tiles) > 1
    codec = max(2 * tile.decoded_bytes + 2 * tile.channels for tile in header.tiles) + (_RGB_BYTES if is_grid else 0)
    (width, height), (canvas_width, canvas_height) = header.tiles[0].size, header.canvas
    canvas = _RGB_BYTES * canvas_width * canvas_height if header.size != header.canvas else 0
    return int(codec * width * height) + canvas


def _coefficient_bytes(image: JpegImageFile, data: bytes, size: Size) -> int:
    """Return the length of all DCT coefficients, which are kept if there are several scans."""
    if not has_several_scans(image, data):
        return 0
    factors = [(horizontal, vertical) for _, horizontal, vertical, _ in image.layer]
    most = max(h for h, _ in factors) * max(v for _, v in factors)
    samples = sum(h * v for h, v in factors) / most
    padded = (size[0] + 32) * (size[1] + 32)
    return int(_COEFFICIENT_BYTES * samples * padded)


def _strip_bytes(image: TiffFile) -> int:
    """Return the length of one decoded strip or tile, as libtiff holds it."""
    layout = image.layout
    pixel_bytes = layout.count * layout.bits / 8
    if image.samples is None:  # libtiff converts some kinds, such as YCbCr, to 4 bytes a pixel
        pixel_bytes = max(4.0, pixel_bytes)
    if layout.tile is not None:
        width, length = layout.tile
        return int(2 * width * length * pixel_bytes)
    width, height = layout.size
    return int(min(layout.strip_rows, height) * width * pixel_bytes)


def _resizing_bytes(upright: Size, output: Size) -> int:
    """Return the length of a resized image, of the rows between its two passes, and of a copy."""
    if output == upright:
        return 0
    width, height = output
    return _RGB_BYTES * (width * upright[1] + 2 * width * height)
