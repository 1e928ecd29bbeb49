"""The classes of COCO's panoptic task: things, which can be counted, and stuff, which cannot."""

from collections.abc import Mapping
from typing import Final

# COCO's order, in models whose classes have no names: things first.
THING_COUNT: Final = 80
LABEL_COUNT: Final = 133
# fmt: off
THINGS: Final = frozenset(
    {
        "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light",
        "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow",
        "elephant", "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee",
        "skis", "snowboard", "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard",
        "tennis racket", "bottle", "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple",
        "sandwich", "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch",
        "potted plant", "bed", "dining table", "toilet", "tv", "laptop", "mouse", "remote", "keyboard",
        "cell phone", "microwave", "oven", "toaster", "sink", "refrigerator", "book", "clock", "vase", "scissors",
        "teddy bear", "hair drier", "toothbrush",
    }
)
STUFF: Final = frozenset(
    {
        "banner", "blanket", "bridge", "cardboard", "counter", "curtain", "door-stuff", "floor-wood", "flower",
        "fruit", "gravel", "house", "light", "mirror-stuff", "net", "pillow", "platform", "playingfield",
        "railroad", "river", "road", "roof", "sand", "sea", "shelf", "snow", "stairs", "tent", "towel",
        "wall-brick", "wall-stone", "wall-tile", "wall-wood", "water-other", "window-blind", "window-other",
        "tree-merged", "fence-merged", "ceiling-merged", "sky-other-merged", "cabinet-merged", "table-merged",
        "floor-other-merged", "pavement-merged", "mountain-merged", "grass-merged", "dirt-merged", "paper-merged",
        "food-other-merged", "building-other-merged", "rock-merged", "wall-other-merged", "rug-merged",
    }
)
# fmt: on


def find_stuff(names: Mapping[int, str]) -> frozenset[int] | None:
    """Return the label ids of stuff; None if the classes are not COCO's.

    Args:
        names: the name of each label id: names of COCO, or LABEL_0 to LABEL_132, which are taken in COCO's order.
    """
    if set(names.values()) <= THINGS | STUFF:
        return frozenset(number for number, name in names.items() if name in STUFF)
    if len(names) == LABEL_COUNT and all(name == f"LABEL_{number}" for number, name in names.items()):
        return frozenset(range(THING_COUNT, LABEL_COUNT))
    return None
