"""What published networks see in a photo, place by place: features from which a small classifier can learn.

Two are DeepLabV3 networks in TensorFlow Lite's format, deeplabv3_mnv2_pascal_quant and deeplabv3_mnv2_ade20k_int8, of
Pascal VOC's classes and of 31 of ADE20K's; the third is the backbone with its ImageNet weights.  To these come the
boxes of a detector.  None of them is trained here.
"""

import importlib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from PIL.Image import Resampling
from scipy.special import softmax
from transformers.utils.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from worker.embedded_model.backbone import EfficientNetLite
from worker.engine.coco_classes import THINGS
from worker.training.boxes import Box, covers, seen_in
from worker.training.network import backbone_weights
from worker.training.views import view_of

# Side of what the networks look at, of the smaller copy that the backbone looks at too, and of the grid of places.
SIDE: Final = 512
SMALL: Final = 256
GRID: Final = 64
# Numbers of tensors inside the two files: last features of the backbone, of the head, and the logits.
OF_OBJECTS: Final = {"objects_backbone": 170, "objects_head": 180, "objects": 182}
OF_SURFACES: Final = {"surfaces_backbone": 185, "surfaces_context": 192, "surfaces_head": 198, "surfaces": 199}
# By these a logit is multiplied when it is stored as a whole number.
SCALES: Final = {"objects": 0.2015, "surfaces": 0.1717}
OF_BACKBONE: Final = {"fine": 1, "middle": 2, "coarse": 3}
OF_SMALL: Final = {"small_middle": 2, "small_coarse": 3}

Maps = Mapping[str, NDArray[Any]]


class Looks(Protocol):
    """Whatever turns an image of SIDE x SIDE into maps (h, w, channels) by their names."""

    def look(self, image: Image.Image) -> Maps: ...


class LiteNetwork:
    """A network in TensorFlow Lite's format, whose inner tensors can be read."""

    def __init__(self, file: Path, tensors: Mapping[str, int]) -> None:
        runtime = importlib.import_module("ai_edge_litert.interpreter")
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Warning: Enabling `experimental_preserve_all_tensors`")
            self.network: Any = runtime.Interpreter(
                str(file), num_threads=torch.get_num_threads(), experimental_preserve_all_tensors=True
            )
        self.network.allocate_tensors()
        [self.input] = self.network.get_input_details()
        self.tensors = tensors

    def look(self, image: Image.Image) -> dict[str, NDArray[Any]]:
        side = int(self.input["shape"][1])
        self.network.set_tensor(self.input["index"], np.asarray(resized(image, side), np.uint8)[None])
        self.network.invoke()
        return {name: self.network.get_tensor(number)[0] for name, number in self.tensors.items()}


class Teachers:
    """All networks but the detector, whose boxes are made beforehand."""

    def __init__(self, objects: Path, surfaces: Path) -> None:
        self.lite = LiteNetwork(objects, OF_OBJECTS), LiteNetwork(surfaces, OF_SURFACES)
        self.backbone = EfficientNetLite().eval()
        self.backbone.load_state_dict(torch.load(backbone_weights(), weights_only=True), strict=False)

    def look(self, image: Image.Image) -> Maps:
        """Return the maps of an image of SIDE x SIDE."""
        maps = {name: found for network in self.lite for name, found in network.look(image).items()}
        maps |= {name: halved(maps[name]) for name in ("surfaces_head", "surfaces")}
        for side, stages in ((SIDE, OF_BACKBONE), (SMALL, OF_SMALL)):
            maps |= backbone_maps(self.backbone, resized(image, side), stages)
        return maps


def resized(image: Image.Image, side: int) -> Image.Image:
    return image.resize((side, side), Resampling.BILINEAR, reducing_gap=3)


def halved(found: NDArray[Any]) -> NDArray[Any]:
    """Return the means of 2 x 2 places."""
    height, width, channels = found.shape
    blocks = found.reshape(height // 2, 2, width // 2, 2, channels).astype(np.float32)
    means: NDArray[Any] = blocks.mean((1, 3)).round().astype(found.dtype)
    return means


def backbone_maps(backbone: EfficientNetLite, image: Image.Image, stages: Mapping[str, int]) -> dict[str, NDArray[Any]]:
    scaled = torch.tensor(np.asarray(image)).permute(2, 0, 1)[None].float() / 255
    mean, deviation = (torch.tensor(one).view(1, 3, 1, 1) for one in (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD))
    with torch.inference_mode():
        found = backbone((scaled - mean) / deviation)
    return {name: found[stage][0].half().permute(1, 2, 0).numpy() for name, stage in stages.items()}


@dataclass(frozen=True, slots=True)
class Memory:
    """Keeps what the teachers saw in a folder, so that each view is looked at once.

    boxes: what a detector saw, in pixels, by the name of the photo's file.
    """

    teachers: Looks
    folder: Path
    boxes: Mapping[str, Sequence[Box]]

    def look(self, file: Path, number: int) -> Maps:
        """Return the maps of one view of a photo."""
        kept = self.folder / f"{file.stem}.{number}.npz"
        if not kept.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            image = Image.open(file).convert("RGB")
            maps = self.teachers.look(view_of(file.stem, image.size, number).of(image, SIDE, Resampling.BILINEAR))
            np.savez(self.folder / f"next.{kept.name}", **maps)  # type: ignore[arg-type]
            (self.folder / f"next.{kept.name}").replace(kept)
        with np.load(kept) as stored:
            return dict(stored) | {"boxes": covers(self.boxes_in(file, number), sorted(THINGS), GRID)}

    def boxes_in(self, file: Path, number: int) -> list[Box]:
        """Return the boxes in one view of a photo, in shares of its sides."""
        with Image.open(file) as image:
            view = view_of(file.stem, image.size, number)
        return seen_in(view, self.boxes.get(file.name, ()))


def features_of(maps: Maps, names: Sequence[str] = ()) -> NDArray[np.float32]:
    """Lay all maps over one grid, and add where each place is and what the whole image looks like.

    Returns:
        (GRID * GRID, channels) float32, not scaled.
    """
    laid = [on_grid(found) for name, found in maps.items() if not names or name in names]
    rows, columns = (np.mgrid[:GRID, :GRID].reshape(2, -1) + 0.5) / GRID
    places = np.stack([rows, np.abs(columns - 0.5), rows**2, columns], 1)
    whole = [maps["small_coarse"].astype(np.float32).mean((0, 1))]
    whole += [
        np.sqrt(softmax(scale * maps[name].astype(np.float32), axis=-1).mean((0, 1))) for name, scale in SCALES.items()
    ]
    everywhere = np.broadcast_to(np.concatenate(whole), (GRID * GRID, sum(map(len, whole))))
    return np.concatenate([*laid, places, everywhere], 1).astype(np.float32)


def on_grid(found: NDArray[Any]) -> NDArray[np.float32]:
    """(h, w, channels) -> (GRID * GRID, channels).  Maps with an odd side reach from edge to edge."""
    maps = torch.from_numpy(found.astype(np.float32)).permute(2, 0, 1)[None]
    is_odd = bool(maps.shape[-1] % 2)
    if maps.shape[-1] != GRID:
        maps = torch.nn.functional.interpolate(maps, (GRID, GRID), mode="bilinear", align_corners=is_odd)
    laid: NDArray[np.float32] = maps[0].flatten(1).T.numpy()
    return laid
