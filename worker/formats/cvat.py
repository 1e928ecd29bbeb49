"""cvat.xml: the segments as masks of CVAT for images 1.1.  Pure, no torch.

Source: https://docs.cvat.ai/docs/manual/advanced/formats/format-cvat/ and .../xml_format/.
"""

from typing import Final
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from shared.jobs.result import Segment
from worker.formats.descriptions import list_visible
from worker.formats.rendered import Rendered, RenderSource
from worker.formats.runs import get_runs
from worker.formats.xml_text import clean_xml_text

_VERSION: Final = "1.1"


def render(source: RenderSource) -> Rendered:
    """Write one image with a mask for each segment that has pixels.

    A mask is a box in pixels, and the lengths of runs outside and inside the segment by turns, row by row in that box.
    """
    root = Element("annotations")
    SubElement(root, "version").text = _VERSION
    _add_labels(root, source)
    height, width = source.segmentation.label_map.shape
    image = SubElement(
        root, "image", id="0", name=clean_xml_text(source.file_name), width=str(width), height=str(height)
    )
    for segment in list_visible(source):
        SubElement(image, "mask", _describe(source, segment))
    return Rendered(ElementTree.tostring(root, encoding="utf-8", xml_declaration=True))


def _add_labels(root: Element, source: RenderSource) -> None:
    labels = SubElement(SubElement(SubElement(root, "meta"), "job"), "labels")
    for name in dict.fromkeys(clean_xml_text(segment.label) for segment in list_visible(source)):
        label = SubElement(labels, "label")
        SubElement(label, "name").text = name
        SubElement(label, "type").text = "any"
        SubElement(label, "attributes")


def _describe(source: RenderSource, segment: Segment) -> dict[str, str]:
    left, top, width, height = segment.bbox
    runs = get_runs(source, segment).crop(source.segmentation.label_map.shape[1], segment.bbox)
    return {
        "label": clean_xml_text(segment.label),
        "source": "auto",
        "occluded": "0",
        "rle": ", ".join(map(str, runs.count(width * height).tolist())),
        "left": str(left),
        "top": str(top),
        "width": str(width),
        "height": str(height),
        "z_order": "0",
    }
