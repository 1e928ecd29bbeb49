"""All hostile inputs, by kind of entry point."""

from collections.abc import Mapping, Sequence

from tests.hostile import (
    bodies,
    codings,
    framing,
    headers,
    images_bmp,
    images_gif,
    images_heif,
    images_jpeg,
    images_png,
    images_tiff,
    images_webp,
    parameters,
    paths,
)
from tests.hostile.inputs import HostileInput

TABLE: Mapping[str, Sequence[HostileInput]] = {
    "jpeg": images_jpeg.INPUTS,
    "png": images_png.INPUTS,
    "tiff": images_tiff.INPUTS,
    "gif": images_gif.INPUTS,
    "heif": images_heif.INPUTS,
    "bmp": images_bmp.INPUTS,
    "webp": images_webp.INPUTS,
    "bodies": bodies.INPUTS,
    "codings": codings.INPUTS,
    "parameters": parameters.INPUTS,
    "headers": headers.INPUTS,
    "paths": paths.INPUTS,
    "framing": framing.INPUTS,
}
INPUTS: Mapping[str, HostileInput] = {f"{kind}: {one.name}": one for kind, rows in TABLE.items() for one in rows}
