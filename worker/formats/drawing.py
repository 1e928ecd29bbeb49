"""The image for people: a photo with coloured segments, bright outlines and readable labels.  Pure, no torch."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as Images
from PIL import ImageDraw, ImageFont
from PIL.Image import Image

from shared.jobs.result import Segment
from worker.segmenter import LabelMap, Segmentation

Colours = NDArray[np.uint8]
Box = tuple[float, float, float, float]  # x0, y0, x1, y1 in pixels of the overlay

LONGEST_SIDE = 2048
_TINT = 0.45  # how much of a segment is its colour, the rest is photo
_LINE_SHADE = 0.5  # how much of an outline is the segment's colour, the rest is white
_LABELLED = 60  # the largest segments get a label, more would hide the photo
_PLACING_SIDE = 384  # labels are placed on a map of this size: the eye cannot tell, and it is quick
_GOLDEN_RATIO = 0.618033988749895


@dataclass(frozen=True, slots=True)
class _Label:
    """A text, where it is wanted, and the room that the segment has there (a radius).  Pixels of the overlay."""

    text: str
    x: float
    y: float
    room: float
    colour: tuple[int, int, int]


def draw_overlay(image: Image, segmentation: Segmentation) -> NDArray[np.uint8]:
    """Return (h, w, 3) RGB: the photo with every segment tinted, outlined and, where there is room, named.

    Args:
        image: upright RGB, the size of the label map.  The result has its size, or is scaled down so that its longest
            side is LONGEST_SIDE.
    """
    size = _bounded(image.size, LONGEST_SIDE)
    photo = np.asarray(image if size == image.size else image.resize(size, Images.Resampling.BOX))  # (h, w, 3)
    label_map = _resized(segmentation.label_map, size)  # (h, w)
    return _labelled(_outlined(photo, _folded(label_map)), _labels(segmentation, label_map))


def colours() -> Colours:
    """Return (256, 3) RGB by folded segment id; neighbours in number are far apart in hue, and 0 is black.

    A colour depends on the id alone, so a segment looks the same in every image of one result.
    """
    ids = np.arange(1, 256)
    hue = (0.96 + ids * _GOLDEN_RATIO) % 1 * 360
    saturation = np.array([0.72, 0.85, 0.6])[ids % 3]
    value = np.array([0.98, 0.88, 0.94])[ids // 3 % 3]
    hsv = np.stack([hue, saturation, value], axis=1).astype(np.float32).reshape(1, -1, 3)
    rgb = np.rint(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0] * 255).astype(np.uint8)
    return np.concatenate([np.zeros((1, 3), np.uint8), rgb])


def _folded(label_map: LabelMap) -> NDArray[np.uint8]:
    """Return the map in 8 bits: there are 255 colours, and the segments above share them in turn."""
    if label_map.dtype == np.uint8:
        return label_map.astype(np.uint8, copy=False)
    return np.where(label_map == 0, 0, (label_map - 1) % 255 + 1).astype(np.uint8)


def _bounded(size: tuple[int, int], longest: int) -> tuple[int, int]:
    scale = min(1.0, longest / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _resized(label_map: LabelMap, size: tuple[int, int]) -> LabelMap:
    """Return the map at (width, height); each pixel keeps the id of the one nearest to it."""
    if label_map.shape[::-1] == size:
        return label_map
    resized: LabelMap = cv2.resize(label_map, size, interpolation=cv2.INTER_NEAREST_EXACT)  # type: ignore[assignment]
    return resized


def _outlined(photo: NDArray[np.uint8], label_map: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Tint every segment of the photo (h, w, 3), and draw along its border in a light shade of its colour.

    What belongs to no segment stays as the camera saw it.
    """
    palette = colours()
    channels = cv2.merge([label_map] * 3)  # (h, w, 3), to look up three values a pixel
    tinted = cv2.addWeighted(photo, 1 - _TINT, cv2.LUT(channels, palette[None]), _TINT, 0)
    tinted = cv2.copyTo(photo, cv2.inRange(label_map, 0, 0), tinted)
    shades = cv2.addWeighted(palette, _LINE_SHADE, np.full_like(palette, 255), 1 - _LINE_SHADE, 0)
    shades[0] = 255  # towards the background a line is white
    line = 1 + max(label_map.shape) // 1000
    around = np.ones((2 * line + 1, 2 * line + 1), np.uint8)
    border = (cv2.morphologyEx(label_map, cv2.MORPH_GRADIENT, around) > 0).astype(np.float32)
    weight = cv2.blur(border, (3, 3)) * np.float32(0.85)  # (h, w), soft at its rim
    blended = cv2.blendLinear(tinted, cv2.LUT(channels, shades[None]), 1 - weight, weight)
    return blended.astype(np.uint8, copy=False)


def _labels(segmentation: Segmentation, label_map: LabelMap) -> list[_Label]:
    """Return a label for each of the largest segments, largest first, at the point deepest inside it."""
    height, width = label_map.shape
    small = _resized(label_map, _bounded((width, height), _PLACING_SIDE))
    scale = width / small.shape[1]
    palette = colours()
    largest = sorted(segmentation.segments, key=lambda segment: -segment.area)[:_LABELLED]
    labels = []
    for segment in largest:
        x, y, room = _deepest((small == segment.id).astype(np.uint8))
        red, green, blue = palette[(segment.id - 1) % 255 + 1].tolist()
        labels.append(_Label(_text(segment), (x + 0.5) * scale, (y + 0.5) * scale, room * scale, (red, green, blue)))
    return labels


def _deepest(inside: NDArray[np.uint8]) -> tuple[int, int, float]:
    """Return x and y of the pixel deepest inside a mask (h, w), and how deep that is; all 0 if it is empty."""
    left, top, width, height = cv2.boundingRect(inside)
    if not width:
        return 0, 0, 0.0
    # A rim of zeros, so that the edge of the photo counts as an edge of the segment.
    cut = np.pad(inside[top : top + height, left : left + width], 1)
    _, room, _, (x, y) = cv2.minMaxLoc(cv2.distanceTransform(cut, cv2.DIST_L2, 3))
    return left + x - 1, top + y - 1, room


def _text(segment: Segment) -> str:
    name = " ".join(segment.label.split())[:28]
    return name if segment.score is None else f"{name} {segment.score:.0%}"


def _labelled(image: NDArray[np.uint8], labels: list[_Label]) -> NDArray[np.uint8]:
    height, width = image.shape[:2]
    font_size = min(max(11, max(width, height) / 55), 28)
    font = ImageFont.load_default(font_size)
    canvas = Images.fromarray(image)
    pen = ImageDraw.Draw(canvas, "RGBA")  # on an RGB image this mode blends
    taken: list[Box] = []
    for label in labels:
        if label.room < font_size * 0.6:
            continue
        box = _free_place(label, pen.textlength(label.text, font), font_size, (width, height), taken)
        if box is not None:
            taken.append(box)
            _draw_label(pen, label, box, font)
    return np.asarray(canvas)


def _free_place(
    label: _Label, text_width: float, font_size: float, size: tuple[int, int], taken: list[Box]
) -> Box | None:
    """Return a box for the label, inside the image and clear of the others, near to where it is wanted."""
    width, height = text_width + font_size * 1.5, font_size * 1.5
    if width > size[0] or height > size[1]:
        return None
    x = min(max(label.x - width / 2, 0), size[0] - width)
    for shift in (0, 1, -1, 2, -2):
        y = label.y - height / 2 + shift * height * 1.1
        box = (x, y, x + width, y + height)
        if 0 <= y <= size[1] - height and not any(_overlap(box, other) for other in taken):
            return box
    return None


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _draw_label(
    pen: ImageDraw.ImageDraw, label: _Label, box: Box, font: ImageFont.FreeTypeFont | ImageFont.ImageFont
) -> None:
    x0, y0, _, y1 = box
    height = y1 - y0
    pen.rounded_rectangle(box, radius=height / 2, fill=(16, 18, 24, 190))
    dot = height * 0.2
    pen.ellipse((x0 + dot, y0 + height / 2 - dot, x0 + 3 * dot, y0 + height / 2 + dot), fill=(*label.colour, 255))
    pen.text((x0 + 4 * dot, y0 + height / 2), label.text, font=font, anchor="lm", fill=(255, 255, 255, 255))
