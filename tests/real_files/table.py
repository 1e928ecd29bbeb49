"""All real files, by family of formats."""

from collections.abc import Mapping, Sequence

from tests.real_files import bmp, gif, heif, jpeg, others, png, tiff, tiff_pages, tiff_samples, webp
from tests.real_files.files import RealFile

TABLE: Mapping[str, Sequence[RealFile]] = {
    "jpeg": jpeg.FILES,
    "png": png.FILES,
    "tiff samples": tiff_samples.FILES,
    "tiff": tiff.FILES,
    "tiff pages": tiff_pages.FILES,
    "webp": webp.FILES,
    "gif": gif.FILES,
    "bmp": bmp.FILES,
    "heif": heif.FILES,
    "others": others.FILES,
}
FILES: Mapping[str, RealFile] = {f"{family}: {one.name}": one for family, rows in TABLE.items() for one in rows}
