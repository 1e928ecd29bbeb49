"""What the service is measured against: transformers' own pipeline on the same weights, and photos for both."""

import copy
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from PIL import Image
from transformers import (
    Mask2FormerConfig,
    Mask2FormerForUniversalSegmentation,
    Mask2FormerImageProcessorPil,
    SwinConfig,
)

from shared.worker_registry import EMBEDDED
from tests.support.images import astronaut, cat, coffee, grey
from worker import embedded_model
from worker.embedded_model.backbone import register
from worker.engine.execution_plan import ExecutionOptions, ExecutionPlan
from worker.engine.loader import load_segmenter, quieten
from worker.engine.mask2former.segmenter import Mask2FormerSegmenter
from worker.segmenter import Segmentation, Segmenter

# Lower than the default, so that there is more to find.
THRESHOLD = 0.5
AS_THE_WORKER = ExecutionOptions()
# Of the untrained model's queries, how many are sure of something.
SURE_QUERIES = 15


@dataclass(frozen=True, slots=True)
class Shape:
    """An architecture without its weights.  size: height and width of the network's input."""

    name: str
    size: int
    queries: int
    classes: int
    backbone: Mapping[str, Any]
    network: Mapping[str, Any] = field(default_factory=dict)


SWIN_LARGE = Shape(
    # That of facebook/mask2former-swin-large-coco-panoptic.
    "swin-large",
    size=384,
    queries=200,
    classes=133,
    backbone={
        "image_size": 384,
        "embed_dim": 192,
        "depths": [2, 2, 18, 2],
        "num_heads": [6, 12, 24, 48],
        "window_size": 12,
    },
)
SWIN_TOY = Shape(
    "swin-toy",
    size=64,
    queries=20,
    classes=5,
    backbone={"image_size": 64, "embed_dim": 16, "depths": [1, 1, 2, 1], "num_heads": [1, 1, 2, 2], "window_size": 4},
    network={"feature_size": 64, "mask_feature_size": 64, "hidden_dim": 64, "encoder_feedforward_dim": 64},
)


@dataclass(frozen=True, slots=True)
class Untrained:
    """A network of some shape with weights out of a seed, and what prepares images for it."""

    shape: Shape
    network: Mask2FormerForUniversalSegmentation
    processor: Mask2FormerImageProcessorPil

    def pipeline(self, device: str) -> Any:
        return transformers.ImageSegmentationPipeline(
            model=copy.deepcopy(self.network), image_processor=self.processor, device=torch.device(device)
        )

    def segmenter(self, device: str, plan: ExecutionPlan) -> Mask2FormerSegmenter:
        # A copy, for shorter types and folded norms change the weights.
        network = copy.deepcopy(self.network)
        return Mask2FormerSegmenter(
            network, self.processor, model=self.shape.name, revision="0", device=device, plan=plan
        )


def untrained(shape: Shape, *, seed: int = 0) -> Untrained:
    """Build a network whose masks mean nothing, but that costs what a trained one costs, post-processing included."""
    quieten()
    torch.manual_seed(seed)
    backbone = SwinConfig(**shape.backbone, out_features=["stage1", "stage2", "stage3", "stage4"])
    names = {number: f"class {number}" for number in range(shape.classes)}
    config = Mask2FormerConfig(backbone_config=backbone, num_queries=shape.queries, id2label=names, **shape.network)
    size = {"height": shape.size, "width": shape.size}
    made = Untrained(shape, Mask2FormerForUniversalSegmentation(config).eval(), Mask2FormerImageProcessorPil(size=size))
    _make_sure(made)
    return made


@torch.inference_mode()
def _make_sure(made: Untrained) -> None:
    """Turn the class head so that some of the queries are sure of a class and all others of nothing."""
    decoder, head = made.network.model.transformer_module.decoder, made.network.class_predictor
    for layer in decoder.layers:
        # So that a query stays what it is, whatever the photo: untrained attention would blur them all into one.
        for part in (layer.cross_attn.out_proj, layer.self_attn.out_proj, layer.fc2):
            part.weight.mul_(0.02)
    seen: list[torch.Tensor] = []
    hook = head.register_forward_hook(lambda _module, inputs, _output: seen.append(inputs[0][0]))
    made.network(pixel_values=made.processor(images=[astronaut()], return_tensors="pt")["pixel_values"])
    hook.remove()
    queries = seen[-1]  # (Q, hidden)
    direction = torch.linalg.svd(queries - queries.mean(0), full_matrices=False)[2][0]
    along = (queries @ direction).sort(descending=True).values
    bar = along[SURE_QUERIES - 1 : SURE_QUERIES + 1].mean()
    steepness = 2000 / along.std()
    head.weight.normal_()
    head.weight[-1] = -steepness * direction
    head.bias.zero_()
    head.bias[-1] = steepness * bar
    # Logits of a trained model's size: with smaller ones hardly a pixel would be sure.
    last = decoder.mask_predictor.mask_embedder.layers[-1].layers[0]
    last.weight.mul_(10)
    last.bias.mul_(10)


def four_photos() -> list[Image.Image]:
    return [astronaut(), cat(), coffee(), grey().convert("RGB")]


def embedded_segmenter(options: ExecutionOptions = AS_THE_WORKER) -> Segmenter:
    """Load the embedded model as the worker does."""

    def nothing_to_fetch(source: str, _into: Path) -> None:
        raise AssertionError(f"{source} is not embedded")

    return load_segmenter(
        "embedded", public_id=EMBEDDED, device="auto", cache=Path(), download=nothing_to_fetch, options=options
    )


def reference_pipeline(device: str) -> Any:
    """Load the embedded model as anybody would who has transformers alone."""
    quieten()
    register()
    with warnings.catch_warnings():
        # Advice on the speed of a CUDA kernel that is not used.
        warnings.filterwarnings("ignore", message="You'd better set embed_dim")
        return transformers.pipeline("image-segmentation", model=str(embedded_model.FOLDER), device=device)


def is_same(ours: Segmentation, reference: list[dict[str, Any]]) -> bool:
    """Tell whether labels, scores, order and every pixel are those of the pipeline."""
    import numpy as np

    labels = [(segment.label, segment.score) for segment in ours.segments]
    return labels == [(one["label"], one["score"]) for one in reference] and all(
        np.array_equal(ours.label_map == number, np.asarray(one["mask"]) > 0)
        for number, one in enumerate(reference, start=1)
    )
