"""What was outlined by eye, laid over what networks found.

    python -m worker.training.outlines --labelled LABELLED --out DIR

writes DIR/learned and DIR/held_out in the layout of LABELLED (see coco_panoptic.py): where outlines.json outlines
something in a photo, it takes the place of what was found of its categories, and is beyond doubt.  DIR/held_out gets
the photos that outlines.json keeps back, to judge on.
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

OUTLINES: Final = Path(__file__).with_name("outlines.json")
SURE: Final = 255
Polygon = tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Outline:
    """Of a thing, or of all that is of a kind of stuff.

    parts: polygons of x, y in pixels of the photo.  A crowd is several things in one.
    """

    category: str
    parts: tuple[Polygon, ...]
    is_crowd: bool = False


@dataclass(frozen=True, slots=True)
class Drawing:
    """What was drawn in one photo.

    complete: the categories of which all there is was drawn.  outlines: from the back to the front.
    """

    complete: frozenset[str]
    outlines: tuple[Outline, ...]


@dataclass(frozen=True, slots=True)
class Labels:
    """ids: (H, W) int64, 0 for nothing.  sure: (H, W) uint8.  entry: of the photo in the index."""

    ids: NDArray[np.int64]
    sure: NDArray[np.uint8]
    entry: Mapping[str, Any]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Lay what was outlined by eye over found labels.")
    parser.add_argument("--labelled", type=Path, required=True, metavar="DIR", help="what pseudo_labels.py wrote")
    parser.add_argument("--outlines", type=Path, default=OUTLINES, metavar="JSON", help="default: those of the project")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    options = parser.parse_args(arguments)
    drawings, kept_back = read_outlines(options.outlines)
    index = json.loads((options.labelled / "panoptic.json").read_text())
    files = {entry["id"]: entry["file_name"] for entry in index["images"]}
    for name, is_wanted in (("learned", False), ("held_out", True)):
        entries = [one for one in index["annotations"] if (Path(files[one["image_id"]]).stem in kept_back) == is_wanted]
        write_part(options.labelled, index, entries, drawings, options.out / name)


def read_outlines(file: Path) -> tuple[dict[str, Drawing], frozenset[str]]:
    """Return what was drawn, by the photos' names, and the names of the photos that are kept back."""
    read = json.loads(file.read_text())
    drawings = {name: drawing_of(entry, read["groups"]) for name, entry in read["photos"].items()}
    return drawings, frozenset(read["kept_back"])


def drawing_of(entry: Mapping[str, Any], groups: Mapping[str, Sequence[str]]) -> Drawing:
    complete = frozenset(chain.from_iterable(groups.get(name, (name,)) for name in entry["complete"]))
    outlines = tuple(
        Outline(
            one["category"],
            tuple(tuple(zip(part[::2], part[1::2], strict=True)) for part in one["parts"]),
            one.get("crowd", False),
        )
        for one in entry["outlines"]
    )
    return Drawing(complete, outlines)


def write_part(
    folder: Path,
    index: Mapping[str, Any],
    entries: Sequence[Mapping[str, Any]],
    drawings: Mapping[str, Drawing],
    out: Path,
) -> None:
    """Write a folder of some of the photos, the photos themselves linked."""
    for kind in ("panoptic", "confidence"):
        (out / kind).mkdir(parents=True, exist_ok=True)
    if not (out / "images").exists():
        (out / "images").symlink_to((folder / "images").resolve())
    categories = {entry["name"]: entry["id"] for entry in index["categories"]}
    images = {entry["id"]: entry for entry in index["images"]}
    written = []
    for entry in entries:
        photo = images[entry["image_id"]]["file_name"]
        if drawing := drawings.get(Path(photo).stem):
            labels = laid_over(read_labels(folder, photo, entry), drawing, categories)
            write_labels(out, labels)
            written.append(labels.entry)
        else:
            for kind in ("panoptic", "confidence"):
                shutil.copyfile(folder / kind / entry["file_name"], out / kind / entry["file_name"])
            written.append(entry)
    shown = [images[entry["image_id"]] for entry in written]
    (out / "panoptic.json").write_text(json.dumps({**index, "images": shown, "annotations": written}))


def read_labels(folder: Path, photo: str, entry: Mapping[str, Any]) -> Labels:
    """Read what was found in a photo, at the photo's own size."""
    with Image.open(folder / "images" / photo) as image:
        size = image.size
    found = Image.open(folder / "panoptic" / entry["file_name"]).convert("RGB").resize(size, Resampling.NEAREST)
    sure = Image.open(folder / "confidence" / entry["file_name"]).convert("L").resize(size, Resampling.BILINEAR)
    ids: NDArray[np.int64] = rgb_to_id(np.asarray(found)).astype(np.int64)  # type: ignore[no-untyped-call]
    return Labels(ids, np.asarray(sure), entry)


def laid_over(found: Labels, drawing: Drawing, categories: Mapping[str, int]) -> Labels:
    """Put what was drawn in the place of what was found of its categories; what else was found stays around it.

    Args:
        categories: their ids, by their names.
    """
    complete = {categories[name] for name in drawing.complete}
    segments = [one for one in found.entry["segments_info"] if one["category_id"] not in complete]
    stays = np.isin(found.ids, [one["id"] for one in segments])
    ids, sure = np.where(stays, found.ids, 0), np.where(stays, found.sure, 0).astype(np.uint8)
    first = 1 + max((one["id"] for one in found.entry["segments_info"]), default=0)
    for number, outline in enumerate(drawing.outlines, start=first):
        inside = filled(outline.parts, found.ids.shape)
        ids[inside], sure[inside] = number, SURE
        segments.append({"id": number, "category_id": categories[outline.category], "iscrowd": int(outline.is_crowd)})
    visible = set(np.unique(ids).tolist())
    certain = sorted({*found.entry.get("certain", categories.values()), *complete})
    shown = [one for one in segments if one["id"] in visible]
    return Labels(ids, sure, {**found.entry, "segments_info": shown, "certain": certain})


def filled(parts: Sequence[Polygon], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """(H, W) bool, what lies inside any of the polygons."""
    canvas = Image.new("1", (shape[1], shape[0]))
    for part in parts:
        ImageDraw.Draw(canvas).polygon(part, fill=1)
    return np.asarray(canvas)


def write_labels(out: Path, labels: Labels) -> None:
    colours = id_to_rgb(labels.ids)  # type: ignore[no-untyped-call]
    Image.fromarray(colours).save(out / "panoptic" / labels.entry["file_name"])
    Image.fromarray(labels.sure).save(out / "confidence" / labels.entry["file_name"])


if __name__ == "__main__":
    main()
