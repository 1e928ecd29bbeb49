"""Features of published networks at each pixel of an image, from which pixel_classifier.py learns.

Two are DeepLabV3 networks in TensorFlow Lite's format, deeplabv3_mnv2_pascal_quant and deeplabv3_mnv2_ade20k_int8, of
Pascal VOC's classes and of 31 of ADE20K's; the third is the backbone with its ImageNet weights.  The boxes of a
detector are further features.  None of these networks is trained here.
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
from worker.training.boxes import Box, project_boxes, score_maps
from worker.training.network import find_backbone_weights
from worker.training.views import make_view

# Sides in pixels: of the networks' input, of a smaller second input of the backbone, and of the grid of features.
SIDE: Final = 512
SMALL_SIDE: Final = 256
GRID: Final = 64
# Indices of tensors in the two TFLite files: last features of the backbone, of the head, and the logits.
OBJECT_TENSORS: Final = {"objects_backbone": 170, "objects_head": 180, "objects": 182}
SURFACE_TENSORS: Final = {"surfaces_backbone": 185, "surfaces_context": 192, "surfaces_head": 198, "surfaces": 199}
# Quantization scales of the logits: value = scale * stored integer.
LOGIT_SCALES: Final = {"objects": 0.2015, "surfaces": 0.1717}
# Stages of the backbone by the names of their maps.
BACKBONE_STAGES: Final = {"fine": 1, "middle": 2, "coarse": 3}
SMALL_BACKBONE_STAGES: Final = {"small_middle": 2, "small_coarse": 3}

Maps = Mapping[str, NDArray[Any]]


class FeatureExtractor(Protocol):
    """Computes feature maps (h, w, channels), by name, of an image of SIDE x SIDE pixels."""

    def extract(self, image: Image.Image) -> Maps: ...


class LiteNetwork:
    """A TensorFlow Lite network whose inner tensors can be read."""

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

    def extract(self, image: Image.Image) -> dict[str, NDArray[Any]]:
        """Return the tensors (h, w, channels) by name, in the network's own dtype."""
        side = int(self.input["shape"][1])
        self.network.set_tensor(self.input["index"], np.asarray(resize_square(image, side), np.uint8)[None])
        self.network.invoke()
        return {name: self.network.get_tensor(number)[0] for name, number in self.tensors.items()}


class Teachers:
    """All teacher networks except the detector, whose boxes are computed beforehand."""

    def __init__(self, objects: Path, surfaces: Path) -> None:
        self.lite = LiteNetwork(objects, OBJECT_TENSORS), LiteNetwork(surfaces, SURFACE_TENSORS)
        self.backbone = EfficientNetLite().eval()
        self.backbone.load_state_dict(torch.load(find_backbone_weights(), weights_only=True), strict=False)

    def extract(self, image: Image.Image) -> Maps:
        """Return the maps of an image of SIDE x SIDE pixels."""
        maps = {name: tensor for network in self.lite for name, tensor in network.extract(image).items()}
        maps |= {name: pool_2x2(maps[name]) for name in ("surfaces_head", "surfaces")}
        for side, stages in ((SIDE, BACKBONE_STAGES), (SMALL_SIDE, SMALL_BACKBONE_STAGES)):
            maps |= backbone_maps(self.backbone, resize_square(image, side), stages)
        return maps


def resize_square(image: Image.Image, side: int) -> Image.Image:
    return image.resize((side, side), Resampling.BILINEAR, reducing_gap=3)


def pool_2x2(values: NDArray[Any]) -> NDArray[Any]:
    """Return the rounded means of blocks of 2 x 2 pixels, in the dtype of the values."""
    height, width, channels = values.shape
    blocks = values.reshape(height // 2, 2, width // 2, 2, channels).astype(np.float32)
    means: NDArray[Any] = blocks.mean((1, 3)).round().astype(values.dtype)
    return means


def backbone_maps(backbone: EfficientNetLite, image: Image.Image, stages: Mapping[str, int]) -> dict[str, NDArray[Any]]:
    """Return the feature maps (h, w, channels) float16 of some stages, by name."""
    scaled = torch.tensor(np.asarray(image)).permute(2, 0, 1)[None].float() / 255
    mean, deviation = (torch.tensor(one).view(1, 3, 1, 1) for one in (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD))
    with torch.inference_mode():
        features = backbone((scaled - mean) / deviation)
    return {name: features[stage][0].half().permute(1, 2, 0).numpy() for name, stage in stages.items()}


@dataclass(frozen=True, slots=True)
class FeatureCache:
    """Caches the teachers' feature maps in a folder, so that each view is computed once.

    boxes: of the detector, in pixels, by the image's file name.
    """

    teachers: FeatureExtractor
    folder: Path
    boxes: Mapping[str, Sequence[Box]]

    def read(self, file: Path, number: int) -> Maps:
        """Return the maps of one view of an image; those of the boxes are always computed from `boxes`."""
        cached = self.folder / f"{file.stem}.{number}.npz"
        if not cached.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            image = Image.open(file).convert("RGB")
            view = make_view(file.stem, image.size, number)
            maps = self.teachers.extract(view.crop(image, SIDE, Resampling.BILINEAR))
            np.savez(self.folder / f"next.{cached.name}", **maps)  # type: ignore[arg-type]
            (self.folder / f"next.{cached.name}").replace(cached)
        with np.load(cached) as stored:
            return dict(stored) | {"boxes": score_maps(self.view_boxes(file, number), sorted(THINGS), GRID)}

    def view_boxes(self, file: Path, number: int) -> list[Box]:
        """Return the boxes in one view of an image, as shares of the view's sides."""
        with Image.open(file) as image:
            view = make_view(file.stem, image.size, number)
        return project_boxes(view, self.boxes.get(file.name, ()))


def grid_features(maps: Maps, names: Sequence[str] = ()) -> NDArray[np.float32]:
    """Resample all maps to one grid, and append each pixel's position and a description of the whole image.

    The description is the mean of the backbone's coarsest map, and the square roots of the mean class probabilities of
    the two DeepLabV3 networks.

    Args:
        names: of the maps to use; all of them by default.

    Returns:
        (GRID * GRID, channels) float32, not scaled.
    """
    resampled = [resample_to_grid(values) for name, values in maps.items() if not names or name in names]
    rows, columns = (np.mgrid[:GRID, :GRID].reshape(2, -1) + 0.5) / GRID
    positions = np.stack([rows, np.abs(columns - 0.5), rows**2, columns], 1)
    description = [maps["small_coarse"].astype(np.float32).mean((0, 1))]
    description += [
        np.sqrt(softmax(scale * maps[name].astype(np.float32), axis=-1).mean((0, 1)))
        for name, scale in LOGIT_SCALES.items()
    ]
    repeated = np.broadcast_to(np.concatenate(description), (GRID * GRID, sum(map(len, description))))
    return np.concatenate([*resampled, positions, repeated], 1).astype(np.float32)


def resample_to_grid(values: NDArray[Any]) -> NDArray[np.float32]:
    """(h, w, channels) -> (GRID * GRID, channels) float32, bilinear.

    The corner pixels of maps with an odd side are aligned with those of the grid.
    """
    maps = torch.from_numpy(values.astype(np.float32)).permute(2, 0, 1)[None]
    is_odd = bool(maps.shape[-1] % 2)
    if maps.shape[-1] != GRID:
        maps = torch.nn.functional.interpolate(maps, (GRID, GRID), mode="bilinear", align_corners=is_odd)
    resampled: NDArray[np.float32] = maps[0].flatten(1).T.numpy()
    return resampled
