"""Outlines that were drawn by eye, by themselves or merged into labels that networks made.

    python -m worker.training.outlines --photos PHOTOS --out DIR
    python -m worker.training.outlines --labelled LABELLED --out DIR

writes DIR/learned and DIR/held_out in the layout that coco_panoptic.py reads.  With --photos these are the images that
outlines.json annotates, with what it says.  With --labelled they are those of LABELLED: where outlines.json annotates
an image, its outlines replace the labels of its categories, with full confidence.  DIR/held_out has the images that
outlines.json reserves for evaluation.
"""

import argparse
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from PIL.Image import Resampling
from transformers.image_transforms import id_to_rgb, rgb_to_id

from worker.engine.coco_classes import STUFF, THINGS
from worker.training.classes import QUERIES_PER_CLASS
from worker.training.coco_panoptic import NO_THING_NAME
from worker.training.partial_truth import PartialSegment, PartialTruth, write_folder

OUTLINES: Final = Path(__file__).with_name("outlines.json")
FULL_CONFIDENCE: Final = 255
Polygon = tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Outline:
    """One thing, or all pixels of a stuff category.

    category: COCO's name.
    parts: polygons of (x, y) in pixels of the image.
    is_crowd: whether it merges several things.
    """

    category: str
    parts: tuple[Polygon, ...]
    is_crowd: bool = False


@dataclass(frozen=True, slots=True)
class ImageOutlines:
    """The outlines of one image.

    complete: the categories that are outlined exhaustively.
    outlines: from back to front.
    """

    complete: frozenset[str]
    outlines: tuple[Outline, ...]


@dataclass(frozen=True, slots=True)
class LabelMaps:
    """The labels of one image.

    ids: (H, W) int64, the segment id at each pixel, 0 for unknown.
    confidence: (H, W) uint8, in 1/255.
    entry: the image's annotation in `panoptic.json`.
    """

    ids: NDArray[np.int64]
    confidence: NDArray[np.uint8]
    entry: Mapping[str, Any]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Merge outlines that were drawn by eye into labels of networks.")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--photos", type=Path, metavar="DIR", help="folder of JPEG files")
    source.add_argument("--labelled", type=Path, metavar="DIR", help="output of pseudo_labels.py")
    parser.add_argument("--outlines", type=Path, default=OUTLINES, metavar="JSON", help="default: those of the project")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    options = parser.parse_args(arguments)
    outlines, held_out = read_outlines(options.outlines)
    if options.photos:
        for name, is_held_out in (("learned", False), ("held_out", True)):
            stems = [stem for stem in sorted(outlines) if (stem in held_out) == is_held_out]
            truths = (draw_outlines(options.photos / f"{stem}.jpg", outlines[stem]) for stem in stems)
            write_folder(options.out / name, options.photos, truths)
        return
    index = json.loads((options.labelled / "panoptic.json").read_text())
    files = {entry["id"]: entry["file_name"] for entry in index["images"]}
    for name, is_held_out in (("learned", False), ("held_out", True)):
        entries = [
            one for one in index["annotations"] if (Path(files[one["image_id"]]).stem in held_out) == is_held_out
        ]
        write_subset(options.labelled, index, entries, outlines, options.out / name)


def read_outlines(file: Path) -> tuple[dict[str, ImageOutlines], frozenset[str]]:
    """Return the outlines by the images' names without suffix, and the names of the images held out."""
    content = json.loads(file.read_text())
    outlines = {name: parse_outlines(entry, content["groups"]) for name, entry in content["photos"].items()}
    return outlines, frozenset(content["kept_back"])


def parse_outlines(entry: Mapping[str, Any], groups: Mapping[str, Sequence[str]]) -> ImageOutlines:
    """Parse the entry of one image.

    Args:
        groups: categories by the name of their group, which may stand in the entry's `complete`.
    """
    complete = frozenset(chain.from_iterable(groups.get(name, (name,)) for name in entry["complete"]))
    outlines = tuple(
        Outline(
            one["category"],
            tuple(tuple(zip(part[::2], part[1::2], strict=True)) for part in one["parts"]),
            one.get("crowd", False),
        )
        for one in entry["outlines"]
    )
    return ImageOutlines(complete, outlines)


def draw_outlines(file: Path, drawn: ImageOutlines) -> PartialTruth:
    """Draw the outlines of one photo.

    Where nothing is outlined, a photo with all trained things outlined shows no thing; otherwise that is unknown.
    """
    with Image.open(file) as opened:
        width, height = opened.size
    has_all_things = drawn.complete >= THINGS.intersection(QUERIES_PER_CLASS)
    ids = np.full((height, width), int(has_all_things), np.int32)
    segments = [PartialSegment(NO_THING_NAME)]
    for outline in drawn.outlines:
        segments.append(PartialSegment(outline.category, outline.is_crowd))
        ids[rasterize(outline.parts, ids.shape)] = len(segments)
    return PartialTruth(file.name, ids, tuple(segments), drawn.complete & (THINGS | STUFF))


def write_subset(
    folder: Path,
    index: Mapping[str, Any],
    entries: Sequence[Mapping[str, Any]],
    outlines: Mapping[str, ImageOutlines],
    out: Path,
) -> None:
    """Write a folder with the given annotations of `index`, merged with outlines; the images are linked."""
    for name in ("panoptic", "confidence"):
        (out / name).mkdir(parents=True, exist_ok=True)
    if not (out / "images").exists():
        (out / "images").symlink_to((folder / "images").resolve())
    categories = {entry["name"]: entry["id"] for entry in index["categories"]}
    images = {entry["id"]: entry for entry in index["images"]}
    written = []
    for entry in entries:
        image = images[entry["image_id"]]["file_name"]
        if drawn := outlines.get(Path(image).stem):
            labels = overlay_outlines(read_labels(folder, image, entry), drawn, categories)
            write_labels(out, labels)
            written.append(labels.entry)
        else:
            for name in ("panoptic", "confidence"):
                shutil.copyfile(folder / name / entry["file_name"], out / name / entry["file_name"])
            written.append(entry)
    subset = [images[entry["image_id"]] for entry in written]
    (out / "panoptic.json").write_text(json.dumps({**index, "images": subset, "annotations": written}))


def read_labels(folder: Path, image: str, entry: Mapping[str, Any]) -> LabelMaps:
    """Read the labels of an image, resized to its own size."""
    with Image.open(folder / "images" / image) as opened:
        size = opened.size
    ids = Image.open(folder / "panoptic" / entry["file_name"]).convert("RGB").resize(size, Resampling.NEAREST)
    confidence = Image.open(folder / "confidence" / entry["file_name"]).convert("L").resize(size, Resampling.BILINEAR)
    decoded: NDArray[np.int64] = rgb_to_id(np.asarray(ids)).astype(np.int64)  # type: ignore[no-untyped-call]
    return LabelMaps(decoded, np.asarray(confidence), entry)


def overlay_outlines(labels: LabelMaps, drawn: ImageOutlines, categories: Mapping[str, int]) -> LabelMaps:
    """Replace the labels of the exhaustively outlined categories by the outlines; other labels stay around them.

    Args:
        categories: ids by name.
    """
    complete = {categories[name] for name in drawn.complete}
    segments = [one for one in labels.entry["segments_info"] if one["category_id"] not in complete]
    is_kept = np.isin(labels.ids, [one["id"] for one in segments])
    ids = np.where(is_kept, labels.ids, 0)
    confidence = np.where(is_kept, labels.confidence, 0).astype(np.uint8)
    first = 1 + max((one["id"] for one in labels.entry["segments_info"]), default=0)
    for number, outline in enumerate(drawn.outlines, start=first):
        inside = rasterize(outline.parts, labels.ids.shape)
        ids[inside], confidence[inside] = number, FULL_CONFIDENCE
        segments.append({"id": number, "category_id": categories[outline.category], "iscrowd": int(outline.is_crowd)})
    visible = set(np.unique(ids).tolist())
    certain = sorted({*labels.entry.get("certain", categories.values()), *complete})
    shown = [one for one in segments if one["id"] in visible]
    return LabelMaps(ids, confidence, {**labels.entry, "segments_info": shown, "certain": certain})


def rasterize(parts: Sequence[Polygon], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return (H, W) bool, the union of the polygons."""
    canvas = Image.new("1", (shape[1], shape[0]))
    for part in parts:
        ImageDraw.Draw(canvas).polygon(part, fill=1)
    return np.asarray(canvas)


def write_labels(out: Path, labels: LabelMaps) -> None:
    colours = id_to_rgb(labels.ids)  # type: ignore[no-untyped-call]
    Image.fromarray(colours).save(out / "panoptic" / labels.entry["file_name"])
    Image.fromarray(labels.confidence).save(out / "confidence" / labels.entry["file_name"])


if __name__ == "__main__":
    main()
