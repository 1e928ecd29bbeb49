"""One image of what a model finds in many photos:  python -m tests.evaluation.sheet --images DIR --out sheet.png

Each photo stands beside its overlay.  Without --images the photos are those free of rights that come with scikit-image.
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
from worker.engine.loader import load_segmenter
from worker.formats.drawing import draw_overlay
from worker.pipeline.decode import decode
from worker.segmenter import Segmenter

SUFFIXES: Final = {".jpg", ".jpeg", ".png", ".webp"}
MAX_PIXELS: Final = 100_000_000
TILE: Final = (320, 240)
CAPTION: Final = 14
COLUMNS: Final = 3
PAPER: Final = (255, 255, 255)
Photos = Iterator[tuple[str, Image.Image]]


def main(arguments: Sequence[str]) -> int:
    """Draw the sheet; what cannot be loaded ends it with a sentence."""
    chosen = parsed(arguments)
    try:
        tiles = list(tiles_of(loaded(chosen.model), photos(chosen.images, chosen.most), chosen.threshold))
    except MaskmillError as error:
        raise SystemExit(str(error)) from error
    if not tiles:
        raise SystemExit(f"There are no images in {chosen.images}.")
    sheet(tiles).save(chosen.out)
    return 0


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.evaluation.sheet", description=__doc__)
    parser.add_argument("--model", default="embedded", help="as MASKMILL_MODEL has it")
    parser.add_argument("--images", type=Path, metavar="DIR", help="a folder of photos")
    parser.add_argument("--most", type=int, default=12, metavar="N", help="only the first N photos")
    parser.add_argument("--threshold", type=float, default=0.5, help="least score of a segment (default: %(default)s)")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE")
    return parser.parse_args(arguments)


def loaded(model: str) -> Segmenter:
    def nothing_to_fetch(source: str, _into: Path) -> None:
        raise ModelUnusable(f"Fetch {source} first, and name the folder.")

    return load_segmenter(model, public_id=model, device="auto", cache=Path(), download=nothing_to_fetch)


def photos(folder: Path | None, most: int) -> Photos:
    """Yield photos by their names; upright, RGB."""
    if folder is None:
        yield from [("astronaut", astronaut()), ("cat", cat()), ("coffee", coffee()), ("camera", grey().convert("RGB"))]
        return
    for file in sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)[:most]:
        yield file.stem, decode(file.read_bytes(), max_pixels=MAX_PIXELS)


def tiles_of(segmenter: Segmenter, images: Photos, threshold: float) -> Iterator[Image.Image]:
    """Yield each photo with its overlay beside it and its name above."""
    for name, image in images:
        [result] = segmenter.segment([segmenter.prepare(image, SegmentParameters(threshold=threshold))])
        if isinstance(result, MaskmillError):
            raise result
        print_progress(f"{name}: " + ", ".join(f"{one.label} {one.score or 0:.2f}" for one in result.segments))
        yield tile(name, image, Image.fromarray(np.asarray(draw_overlay(image, result))))


def tile(name: str, photo: Image.Image, overlay: Image.Image) -> Image.Image:
    """Return (2 * TILE width) x (TILE height + CAPTION) pixels."""
    made = Image.new("RGB", (2 * TILE[0], TILE[1] + CAPTION), PAPER)
    for place, image in enumerate((photo, overlay)):
        small = image.copy()
        small.thumbnail(TILE)
        made.paste(small, (place * TILE[0], CAPTION))
    ImageDraw.Draw(made).text((2, 1), name, fill=(0, 0, 0))
    return made


def sheet(tiles: Sequence[Image.Image]) -> Image.Image:
    """Lay tiles of one size out in rows."""
    width, height = tiles[0].size
    columns = min(COLUMNS, len(tiles))
    made = Image.new("RGB", (columns * width, -(-len(tiles) // columns) * height), PAPER)
    for number, one in enumerate(tiles):
        made.paste(one, (number % columns * width, number // columns * height))
    return made


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
