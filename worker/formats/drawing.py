"""Drawing of the overlay: the image with tinted segments, light outlines and labels.  Pure, no torch."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as Images
from PIL import ImageDraw
from PIL.Image import Image

from shared.images.opening import fit_size
from shared.jobs.result import Segment
from worker.formats.text import Line, clean_text, set_line
from worker.segmenter import LabelMap, Segmentation

Palette = NDArray[np.uint8]
Box = tuple[float, float, float, float]  # x0, y0, x1, y1 in pixels of the overlay

MAX_OVERLAY_SIDE = 2048  # pixels
_TINT_WEIGHT = 0.45  # of a segment's colour against the image
_OUTLINE_WEIGHT = 0.5  # of a segment's colour against white
_MAX_LABELS = 60  # the largest segments are labeled; more labels would hide the image
_MAX_NAME_CHARACTERS = 28
_CAP_HEIGHT = 0.714  # of a capital letter of Noto Sans, to the size of the font
_PLACEMENT_SIDE = 384  # labels are placed on a label map of this size: fast, and without a visible difference
_GOLDEN_RATIO = 0.618033988749895


@dataclass(frozen=True, slots=True)
class _Label:
    """A text and the centre where it is placed; `radius` is the distance to the border of its segment.

    All lengths are in pixels of the overlay.
    """

    text: str
    x: float
    y: float
    radius: float
    colour: tuple[int, int, int]


def draw_overlay(image: Image, segmentation: Segmentation) -> NDArray[np.uint8]:
    """Return (h, w, 3) RGB uint8: the image with every segment tinted, outlined and, if the text fits, labeled.

    Args:
        image: upright RGB, the size of the label map.  The result has the same size, or is scaled down so that its
            longer side is MAX_OVERLAY_SIDE.
    """
    size = fit_size(image.size, MAX_OVERLAY_SIDE)
    pixels = np.asarray(image if size == image.size else image.resize(size, Images.Resampling.BOX))  # (h, w, 3)
    label_map = _resize_label_map(segmentation.label_map, size)  # (h, w)
    return _draw_labels(_draw_segments(pixels, _fold_ids(label_map)), _place_labels(segmentation, label_map))


def build_palette() -> Palette:
    """Return (256, 3) RGB uint8 by folded segment id; hues of consecutive ids are far apart, and 0 is black.

    Hues advance by the golden ratio.  A colour depends on the id only, so it is equal in every file of a result.
    """
    ids = np.arange(1, 256)
    hue = (0.96 + ids * _GOLDEN_RATIO) % 1 * 360
    saturation = np.array([0.72, 0.85, 0.6])[ids % 3]
    value = np.array([0.98, 0.88, 0.94])[ids // 3 % 3]
    hsv = np.stack([hue, saturation, value], axis=1).astype(np.float32).reshape(1, -1, 3)
    rgb = np.rint(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0] * 255).astype(np.uint8)
    return np.concatenate([np.zeros((1, 3), np.uint8), rgb])


def _fold_ids(label_map: LabelMap) -> NDArray[np.uint8]:
    """Return the label map in 8 bits: ids above 255 share the 255 colours cyclically."""
    if label_map.dtype == np.uint8:
        return label_map.astype(np.uint8, copy=False)
    return np.where(label_map == 0, 0, (label_map - 1) % 255 + 1).astype(np.uint8)


def _resize_label_map(label_map: LabelMap, size: tuple[int, int]) -> LabelMap:
    """Return the label map at (width, height), by nearest neighbour."""
    if label_map.shape[::-1] == size:
        return label_map
    resized: LabelMap = cv2.resize(label_map, size, interpolation=cv2.INTER_NEAREST_EXACT)  # type: ignore[assignment]
    return resized


def _draw_segments(image: NDArray[np.uint8], label_map: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Tint every segment of the image (h, w, 3) and draw its outline in a light shade of its colour.

    Pixels outside every segment and its outline do not change.
    """
    palette = build_palette()
    channels = cv2.merge([label_map] * 3)  # (h, w, 3): cv2.LUT maps each channel
    tinted = cv2.addWeighted(image, 1 - _TINT_WEIGHT, cv2.LUT(channels, palette[None]), _TINT_WEIGHT, 0)
    tinted = cv2.copyTo(image, cv2.inRange(label_map, 0, 0), tinted)
    shades = cv2.addWeighted(palette, _OUTLINE_WEIGHT, np.full_like(palette, 255), 1 - _OUTLINE_WEIGHT, 0)
    shades[0] = 255  # on pixels of id 0 an outline is white
    line_width = 1 + max(label_map.shape) // 1000
    kernel = np.ones((2 * line_width + 1, 2 * line_width + 1), np.uint8)
    border = (cv2.morphologyEx(label_map, cv2.MORPH_GRADIENT, kernel) > 0).astype(np.float32)
    weight = cv2.blur(border, (3, 3)) * np.float32(0.85)  # (h, w), smooth at its edges
    blended = cv2.blendLinear(tinted, cv2.LUT(channels, shades[None]), 1 - weight, weight)
    return blended.astype(np.uint8, copy=False)


def _place_labels(segmentation: Segmentation, label_map: LabelMap) -> list[_Label]:
    """Return a label for each of the largest segments, largest first, at the centre of its largest inscribed circle."""
    height, width = label_map.shape
    small = _resize_label_map(label_map, fit_size((width, height), _PLACEMENT_SIDE))
    scale = width / small.shape[1]
    palette = build_palette()
    largest = sorted(segmentation.segments, key=lambda segment: -segment.area)[:_MAX_LABELS]
    labels = []
    for segment in largest:
        x, y, radius = _inscribed_circle((small == segment.id).astype(np.uint8))
        red, green, blue = palette[(segment.id - 1) % 255 + 1].tolist()
        text = _label_text(segment)
        labels.append(_Label(text, (x + 0.5) * scale, (y + 0.5) * scale, radius * scale, (red, green, blue)))
    return labels


def _inscribed_circle(mask: NDArray[np.uint8]) -> tuple[int, int, float]:
    """Return x, y and the radius of the largest circle inside a mask (h, w), in pixels; all 0 if the mask is empty."""
    left, top, width, height = cv2.boundingRect(mask)
    if not width:
        return 0, 0, 0.0
    # Padded with zeros, so that the edge of the image counts as an edge of the segment.
    padded = np.pad(mask[top : top + height, left : left + width], 1)
    _, radius, _, (x, y) = cv2.minMaxLoc(cv2.distanceTransform(padded, cv2.DIST_L2, 3))
    return left + x - 1, top + y - 1, radius


def _label_text(segment: Segment) -> str:
    name = clean_text(segment.label, _MAX_NAME_CHARACTERS)
    return name if segment.score is None else f"{name} {segment.score:.0%}"


def _draw_labels(image: NDArray[np.uint8], labels: list[_Label]) -> NDArray[np.uint8]:
    height, width = image.shape[:2]
    font_size = min(max(11, round(max(width, height) / 55)), 28)
    canvas = Images.fromarray(image)
    pen = ImageDraw.Draw(canvas, "RGBA")  # this mode blends on an RGB image
    occupied: list[Box] = []
    for label in labels:
        if label.radius < font_size * 0.6:
            continue
        line = set_line(label.text, font_size)
        box = _find_free_box(label, line.width, font_size, (width, height), occupied)
        if box is not None:
            occupied.append(box)
            _draw_label(pen, label, box, line)
    return np.asarray(canvas)


def _find_free_box(
    label: _Label, text_width: float, font_size: float, size: tuple[int, int], occupied: list[Box]
) -> Box | None:
    """Return a box near the label's centre, inside the image and without overlap; None if there is none."""
    width, height = text_width + font_size * 1.5, font_size * 1.5
    if width > size[0] or height > size[1]:
        return None
    x = min(max(label.x - width / 2, 0), size[0] - width)
    for shift in (0, 1, -1, 2, -2):
        y = label.y - height / 2 + shift * height * 1.1
        box = (x, y, x + width, y + height)
        if 0 <= y <= size[1] - height and not any(_has_overlap(box, other) for other in occupied):
            return box
    return None


def _has_overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _draw_label(pen: ImageDraw.ImageDraw, label: _Label, box: Box, line: Line) -> None:
    x0, y0, _, y1 = box
    height = y1 - y0
    pen.rounded_rectangle(box, radius=height / 2, fill=(16, 18, 24, 190))
    radius = height * 0.2
    dot = (x0 + radius, y0 + height / 2 - radius, x0 + 3 * radius, y0 + height / 2 + radius)
    pen.ellipse(dot, fill=(*label.colour, 255))
    line.draw(pen, x0 + 4 * radius, y0 + (height + _CAP_HEIGHT * line.size) / 2, fill=(255, 255, 255, 255))
