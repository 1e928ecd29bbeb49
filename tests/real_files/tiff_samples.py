"""TIFFs of grey values: every depth and sample format, in both byte orders, written byte by byte."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from tests.real_files.files import RealFile, refuse, same, variants
from tests.real_files.photos import cat_samples, grey_twin, reduced_cat, reduced_twin
from tests.real_files.tiff_writer import (
    BLACK_IS_ZERO,
    FLOAT,
    MAX_SAMPLE,
    PHOTOMETRIC,
    SAMPLE_FORMAT,
    SHORT,
    SIGNED,
    WHITE_IS_ZERO,
    Page,
    Tag,
    build_tiff,
    describe,
)
from tests.support.tiffs import pack_bits

_CAMERA_BITS = 12  # of the sensor; its values are often stored in 16 bits as they are


def write_packed(samples: NDArray[np.generic], bits: int, photometric: int = BLACK_IS_ZERO) -> bytes:
    """Return values of fewer than 16 bits, which follow each other without gaps."""
    return build_tiff(Page(describe(samples, bits, photometric), [pack_bits(samples, bits)]))


def write_whole(
    samples: NDArray[np.generic], *, order: str = "<", photometric: int = BLACK_IS_ZERO, **more: Tag
) -> bytes:
    """Return values of whole bytes; the array's type is the sample format."""
    kind = {"u": 1, "i": SIGNED, "f": FLOAT}[samples.dtype.kind]
    tags = describe(samples, 8 * samples.itemsize, photometric) | {SAMPLE_FORMAT: (SHORT, [kind])}
    tags |= {int(number.removeprefix("tag_")): tag for number, tag in more.items()}
    ordered = samples.astype(samples.dtype.newbyteorder(order))
    return build_tiff(Page(tags, [ordered.tobytes()]), order=order)


def scale(bits: int) -> NDArray[np.uint32]:
    """Return the cat in values of 0 to 2^bits - 1, (192, 256)."""
    most = (1 << bits) - 1
    return ((cat_samples().astype(np.uint64) * most + 127) // 255).astype(np.uint32)


def build_unsigned(bits: int, **options: object) -> bytes:
    return write_whole(scale(bits).astype(f"u{bits // 8}"), **options)


def build_signed(bits: int) -> bytes:
    """Return the cat from the least value of that many bits to the greatest."""
    return write_whole((scale(bits).astype(np.int64) - (1 << bits - 1)).astype(f"i{bits // 8}"))


def fractions(bits: int, **options: object) -> bytes:
    """Return the cat from 0 to 1."""
    return write_whole((cat_samples() / 255).astype(f"f{bits // 8}"), **options)


def measurements() -> bytes:
    """Return the cat from -40 to 2000, as an instrument measures it."""
    return write_whole((cat_samples() * 8.0 - 40).astype(np.float32))


def build_noisy() -> bytes:
    """Return values of 16 bits, none of which is exactly one of 8."""
    noise = np.random.default_rng(2).integers(-120, 121, cat_samples().shape)
    return write_whole((cat_samples().astype(np.int32) * 257 + noise).clip(0, 65_535).astype(np.uint16))


def build_inverted(bits: int) -> bytes:
    """Return the cat with 0 for white."""
    if bits == 16:
        return write_whole(65_535 - scale(16).astype(np.uint16), photometric=WHITE_IS_ZERO)
    most = (1 << bits) - 1
    return write_packed(most - reduced_cat(bits), bits, WHITE_IS_ZERO)


def omit_photometric(bits: int) -> bytes:
    """Return the cat without the tag that says whether 0 is black; it is taken for white, as by the reference."""
    samples = scale(bits).astype(f"<u{bits // 8}")
    tags = describe(samples, bits, BLACK_IS_ZERO)
    del tags[PHOTOMETRIC]
    return build_tiff(Page(tags, [samples.tobytes()]))


def inverted_twin() -> Image.Image:
    return ImageOps.invert(grey_twin())


def camera_values(order: str) -> bytes:
    """Return values of 12 bits in 16, and their greatest one in MaxSampleValue."""
    most = (1 << _CAMERA_BITS) - 1
    samples = scale(_CAMERA_BITS).astype(np.uint16)
    return write_whole(samples, order=order, **{f"tag_{MAX_SAMPLE}": (SHORT, [most])})


FILES: Sequence[RealFile] = (
    same("grey of 4 bits", lambda: write_packed(reduced_cat(4), 4), lambda: reduced_twin(4)),
    same("grey of 12 bits without gaps", lambda: write_packed(scale(12), 12), grey_twin),
    refuse("grey of 10 bits without gaps", "10 bits", lambda: write_packed(scale(10), 10)),
    refuse("grey of 14 bits without gaps", "14 bits", lambda: write_packed(scale(14), 14)),
    refuse("grey of 64 bits", "64 bits", lambda: write_whole(cat_samples().astype(np.uint64) << 56)),
    same("grey of 16 bits, little endian", lambda: build_unsigned(16), grey_twin),
    same("grey of 16 bits, big endian", lambda: build_unsigned(16, order=">"), grey_twin),
    same("grey of 16 bits between those of 8", build_noisy, grey_twin, 0.99),
    same("grey of 32 bits, little endian", lambda: build_unsigned(32), grey_twin),
    same("12 bits in 16, little endian", lambda: camera_values("<"), grey_twin),
    *(same(f"signed of {bits} bits", lambda bits=bits: build_signed(bits), grey_twin) for bits in (8, 16)),
    same("fractions of 32 bits, little endian", lambda: fractions(32), grey_twin),
    same("measurements", measurements, grey_twin),
    same("white is zero, of 16 bits", lambda: build_inverted(16), grey_twin),
    *variants(
        *(
            same(f"{bits} bits without a photometric tag", lambda bits=bits: omit_photometric(bits), inverted_twin)
            for bits in (8, 16)
        ),
        same("fractions of 64 bits", lambda: fractions(64), grey_twin),
        same("fractions of 16 bits", lambda: fractions(16), grey_twin),
        *(
            same(
                f"grey of {bits} bits",
                lambda bits=bits: write_packed(reduced_cat(bits), bits),
                lambda bits=bits: reduced_twin(bits),
            )
            for bits in (1, 2, 8)
        ),
        same("signed of 32 bits", lambda: build_signed(32), grey_twin),
        *(
            same(
                f"white is zero, of {bits} bits",
                lambda bits=bits: build_inverted(bits),
                lambda bits=bits: reduced_twin(bits),
            )
            for bits in (1, 4, 8)
        ),
        same("grey of 32 bits, big endian", lambda: build_unsigned(32, order=">"), grey_twin),
        same("12 bits in 16, big endian", lambda: camera_values(">"), grey_twin),
        same("fractions of 32 bits, big endian", lambda: fractions(32, order=">"), grey_twin),
    ),
)
