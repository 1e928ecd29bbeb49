"""The output formats of a result.  Routes, links, the OpenAPI document and what a worker renders come from this table.

Adding a format takes a row here, a module of its name in worker/formats/, and a test.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Format:
    """One output format.

    name: as in `formats=`; worker/formats/{name}.py renders it.
    file: name of its object, and of its route below a job.
    result_field: member of the result document that links to it.
    is_required: whether it is stored even if not requested; so is the label map, from which all others are rendered.
    needs_image: whether it is rendered from the image as well as from the label map.
    other_media_type: that of some of its files, which then say so; None if all have `media_type`.
    options: names of the fields of FormatOptions that it depends on.
    """

    name: str
    file: str
    media_type: str
    result_field: str
    description: str
    is_required: bool = False
    needs_image: bool = False
    other_media_type: str | None = None
    options: tuple[str, ...] = ()


_OUTLINES: Final = ("polygon_tolerance",)
FORMATS: Final = (
    Format(
        "labels",
        "labels.png",
        "image/png",
        "labels_url",
        "PNG of the label map, 8 or 16 bit: 0 is nothing, n is the segment of id n.",
        is_required=True,
    ),
    Format(
        "overlay",
        "overlay.png",
        "image/png",
        "overlay_url",
        "PNG of the photo with its segments drawn over it.",
        needs_image=True,
    ),
    Format(
        "masks", "masks.zip", "application/zip", "masks_zip_url", "Zip of every mask: 1.png, 2.png, ... by segment id."
    ),
    Format("rle", "rle.json", "application/json", "rle_url", "JSON of every mask as COCO's compressed RLE."),
    Format(
        "overlay_webp",
        "overlay.webp",
        "image/webp",
        "overlay_webp_url",
        "overlay.png as a lossy WebP, about a tenth as large.",
        needs_image=True,
    ),
    Format(
        "segments",
        "segments.json",
        "application/json",
        "segments_json_url",
        "JSON of the segments without pixels: class, score, area, box.",
    ),
    Format(
        "coco",
        "coco.json",
        "application/json",
        "coco_url",
        "COCO instances: masks as compressed RLE, or by an option polygons, in which holes are lost.",
        options=("polygon_tolerance", "coco_polygons"),
    ),
    Format(
        "panoptic",
        "panoptic.json",
        "application/json",
        "panoptic_url",
        "COCO panoptic: classes, boxes and areas of the ids in panoptic.png.",
    ),
    Format(
        "panoptic_png",
        "panoptic.png",
        "image/png",
        "panoptic_png_url",
        "COCO panoptic: RGB PNG whose pixels are ids, R + 256 G + 65536 B.",
    ),
    Format(
        "polygons",
        "polygons.json",
        "application/json",
        "polygons_url",
        "JSON of the outlines in pixels, with holes and islands.",
        options=_OUTLINES,
    ),
    Format(
        "geojson",
        "segments.geojson",
        "application/geo+json",
        "geojson_url",
        "GeoJSON with holes: WGS 84 degrees of a GeoTIFF; of other images pixels, as application/json.",
        other_media_type="application/json",
        options=_OUTLINES,
    ),
    Format(
        "yolo",
        "yolo.txt",
        "text/plain",
        "yolo_url",
        "YOLO segmentation labels: a line for each segment, its parts joined; holes are lost.",
        options=_OUTLINES,
    ),
    Format(
        "cvat",
        "cvat.xml",
        "application/xml",
        "cvat_url",
        "CVAT for images 1.1: every mask as run lengths in its box.",
    ),
    Format(
        "labelstudio",
        "labelstudio.json",
        "application/json",
        "labelstudio_url",
        "Label Studio: a task with predictions, brush masks and polygons; polygons lose holes.",
        options=_OUTLINES,
    ),
    Format(
        "labelme",
        "labelme.json",
        "application/json",
        "labelme_url",
        "LabelMe: polygons, parts of a segment in one group; holes are lost.",
        options=_OUTLINES,
    ),
    Format(
        "hf",
        "hf.json",
        "application/json",
        "hf_url",
        "The array of Hugging Face's image-segmentation task: score, label and mask as base64 PNG.",
    ),
    Format(
        "all",
        "all.zip",
        "application/zip",
        "all_url",
        "Zip of all other files; the overlays only where they are asked for too.",
        options=("polygon_tolerance", "coco_polygons"),
    ),
)
FORMAT_NAMES: Final = tuple(one.name for one in FORMATS)


def get_format(name: str) -> Format:
    """Return the format of a name.

    Raises:
        KeyError: there is none.
    """
    return _BY_NAME[name]


def select_formats(names: Iterable[str]) -> tuple[str, ...]:
    """Return these formats and the required ones, each once, in the order of the table.

    Raises:
        KeyError: there is no format of one of the names.
    """
    wanted = {get_format(name) for name in names}
    return tuple(one.name for one in FORMATS if one.is_required or one in wanted)


_BY_NAME: Final = {one.name: one for one in FORMATS}
