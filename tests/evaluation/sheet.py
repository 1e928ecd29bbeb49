"""A contact sheet of a model's results:  python -m tests.evaluation.sheet --images DIR --out sheet.png

Each image stands beside its overlay.  Without --images, four free images of scikit-image are used.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image, ImageDraw

from shared.errors import MaskmillError, ModelUnusable
from shared.jobs.parameters import SegmentParameters
from tests.bench.measurement import print_progress
from tests.support.images import astronaut, cat, coffee, grey
from worker.decoding.pixels import decode
from worker.engine.loader import load_segmenter
from worker.formats.drawing import draw_overlay
from worker.segmenter import Segmenter, prepare_image

SUFFIXES: Final = {".jpg", ".jpeg", ".png", ".webp"}
MAX_PIXELS: Final = 100_000_000
TILE: Final = (320, 240)
CAPTION: Final = 14
COLUMNS: Final = 3
BACKGROUND: Final = (255, 255, 255)
NamedImages = Iterator[tuple[str, Image.Image]]


def main(arguments: Sequence[str]) -> int:
    """Write the sheet and return the exit status.

    Raises:
        SystemExit: the model or the images cannot be used; with the reason.
    """
    chosen = parse_arguments(arguments)
    try:
        tiles = list(
            render_tiles(load_model(chosen.model), iterate_images(chosen.images, chosen.max_images), chosen.threshold)
        )
    except MaskmillError as error:
        raise SystemExit(str(error)) from error
    if not tiles:
        raise SystemExit(f"There are no images in {chosen.images}.")
    arrange_tiles(tiles).save(chosen.out)
    return 0


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.evaluation.sheet", description=__doc__)
    parser.add_argument("--model", default="embedded", help="as MASKMILL_MODEL has it")
    parser.add_argument("--images", type=Path, metavar="DIR", help="a folder of images")
    parser.add_argument("--max-images", type=int, default=12, metavar="N", help="only the first N images")
    parser.add_argument(
        "--threshold", type=float, default=0.5, help="minimum score of a segment (default: %(default)s)"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FILE")
    return parser.parse_args(arguments)


def load_model(model: str) -> Segmenter:
    def refuse_download(source: str, _into: Path) -> None:
        raise ModelUnusable(f"Fetch {source} first, and name the folder.")

    return load_segmenter(model, public_id=model, device="auto", cache=Path(), download=refuse_download)


def iterate_images(folder: Path | None, count: int) -> NamedImages:
    """Yield the names and the images of up to `count` files, upright and RGB, or of the built-in images."""
    if folder is None:
        yield from [("astronaut", astronaut()), ("cat", cat()), ("coffee", coffee()), ("camera", grey().convert("RGB"))]
        return
    for file in sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)[:count]:
        yield file.stem, decode(file.read_bytes(), max_pixels=MAX_PIXELS)


def render_tiles(segmenter: Segmenter, images: NamedImages, threshold: float) -> Iterator[Image.Image]:
    """Yield each image with its overlay beside it and its name above."""
    for name, image in images:
        [result] = segmenter.segment([prepare_image(segmenter, image, SegmentParameters(threshold=threshold))])
        if isinstance(result, MaskmillError):
            raise result
        print_progress(f"{name}: " + ", ".join(f"{one.label} {one.score or 0:.2f}" for one in result.segments))
        yield render_tile(name, image, Image.fromarray(np.asarray(draw_overlay(image, result))))


def render_tile(name: str, image: Image.Image, overlay: Image.Image) -> Image.Image:
    """Return an image of (2 * TILE width) x (TILE height + CAPTION) pixels."""
    canvas = Image.new("RGB", (2 * TILE[0], TILE[1] + CAPTION), BACKGROUND)
    for place, layer in enumerate((image, overlay)):
        small = layer.copy()
        small.thumbnail(TILE)
        canvas.paste(small, (place * TILE[0], CAPTION))
    ImageDraw.Draw(canvas).text((2, 1), name, fill=(0, 0, 0))
    return canvas


def arrange_tiles(tiles: Sequence[Image.Image]) -> Image.Image:
    """Arrange tiles of one size in rows of COLUMNS."""
    width, height = tiles[0].size
    columns = min(COLUMNS, len(tiles))
    canvas = Image.new("RGB", (columns * width, -(-len(tiles) // columns) * height), BACKGROUND)
    for number, one in enumerate(tiles):
        canvas.paste(one, (number % columns * width, number // columns * height))
    return canvas


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
