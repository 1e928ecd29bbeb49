"""The reference of the comparisons, transformers' pipeline on the same weights, and the models and images for both."""

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

from shared.worker_registry import EMBEDDED_MODEL_ID
from tests.support.images import astronaut, cat, coffee, grey
from worker import embedded_model
from worker.embedded_model.backbone import register
from worker.engine.execution_plan import ExecutionOptions, ExecutionPlan
from worker.engine.loader import load_segmenter, silence_transformers
from worker.engine.mask2former.segmenter import Mask2FormerSegmenter
from worker.segmenter import Segmenter

# Below the service's default of 0.9, so that more segments are rendered.
THRESHOLD = 0.5
EXACT = ExecutionOptions("exact")
# Queries of a random model that predict a class with a high score.
CONFIDENT_QUERIES = 15


@dataclass(frozen=True, slots=True)
class Architecture:
    """A Mask2Former architecture without weights.

    size: height and width of the network's input in pixels.
    backbone, network: arguments of SwinConfig and of Mask2FormerConfig.
    """

    name: str
    size: int
    queries: int
    classes: int
    backbone: Mapping[str, Any]
    network: Mapping[str, Any] = field(default_factory=dict)


# The architecture of facebook/mask2former-swin-large-coco-panoptic.
SWIN_LARGE = Architecture(
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
SWIN_TOY = Architecture(
    "swin-toy",
    size=64,
    queries=20,
    classes=5,
    backbone={"image_size": 64, "embed_dim": 16, "depths": [1, 1, 2, 1], "num_heads": [1, 1, 2, 2], "window_size": 4},
    network={"feature_size": 64, "mask_feature_size": 64, "hidden_dim": 64, "encoder_feedforward_dim": 64},
)


@dataclass(frozen=True, slots=True)
class RandomModel:
    """A network with random weights and its image processor."""

    architecture: Architecture
    network: Mask2FormerForUniversalSegmentation
    processor: Mask2FormerImageProcessorPil

    def pipeline(self, device: str) -> Any:
        """Return transformers' pipeline with a copy of the network."""
        return transformers.ImageSegmentationPipeline(
            model=copy.deepcopy(self.network), image_processor=self.processor, device=torch.device(device)
        )

    def segmenter(self, device: str, plan: ExecutionPlan) -> Mask2FormerSegmenter:
        """Return our segmenter with a copy of the network; casting and folding of norms change the weights."""
        return Mask2FormerSegmenter(
            copy.deepcopy(self.network),
            self.processor,
            model=self.architecture.name,
            revision="0",
            device=device,
            plan=plan,
        )


def build_random_model(architecture: Architecture, *, seed: int = 0) -> RandomModel:
    """Build a network with random weights that costs as much as a trained one, post-processing included."""
    silence_transformers()
    torch.manual_seed(seed)
    backbone = SwinConfig(**architecture.backbone, out_features=["stage1", "stage2", "stage3", "stage4"])
    config = Mask2FormerConfig(
        backbone_config=backbone,
        num_queries=architecture.queries,
        id2label={number: f"class {number}" for number in range(architecture.classes)},
        **architecture.network,
    )
    size = {"height": architecture.size, "width": architecture.size}
    network = Mask2FormerForUniversalSegmentation(config).eval()
    model = RandomModel(architecture, network, Mask2FormerImageProcessorPil(size=size))
    _make_confident(model)
    return model


@torch.inference_mode()
def _make_confident(model: RandomModel) -> None:
    """Set the class head so that CONFIDENT_QUERIES queries predict a class and all others predict no object."""
    decoder, head = model.network.model.transformer_module.decoder, model.network.class_predictor
    for layer in decoder.layers:
        # Random attention would make all queries alike; scaled down, each keeps its embedding for any image.
        for part in (layer.cross_attn.out_proj, layer.self_attn.out_proj, layer.fc2):
            part.weight.mul_(0.02)
    queries = _final_queries(model)  # (Q, hidden)
    # Split the queries along their first principal component.
    direction = torch.linalg.svd(queries - queries.mean(0), full_matrices=False)[2][0]  # (hidden,)
    projections = (queries @ direction).sort(descending=True).values  # (Q,)
    cut = projections[CONFIDENT_QUERIES - 1 : CONFIDENT_QUERIES + 1].mean()
    steepness = 2000 / projections.std()
    head.weight.normal_()
    head.weight[-1] = -steepness * direction
    head.bias.zero_()
    head.bias[-1] = steepness * cut
    # Mask logits as large as those of a trained model; with smaller ones hardly any pixel would reach the threshold.
    last = decoder.mask_predictor.mask_embedder.layers[-1].layers[0]
    last.weight.mul_(10)
    last.bias.mul_(10)


def _final_queries(model: RandomModel) -> torch.Tensor:
    """Return (Q, hidden), the input of the class head after the last decoder layer, for one image."""
    inputs_seen: list[torch.Tensor] = []
    hook = model.network.class_predictor.register_forward_hook(
        lambda _module, inputs, _output: inputs_seen.append(inputs[0][0])
    )
    model.network(pixel_values=model.processor(images=[astronaut()], return_tensors="pt")["pixel_values"])
    hook.remove()
    return inputs_seen[-1]


def sample_images() -> list[Image.Image]:
    """Return four RGB images of different sizes."""
    return [astronaut(), cat(), coffee(), grey().convert("RGB")]


def load_embedded_segmenter(options: ExecutionOptions = EXACT) -> Segmenter:
    """Load the embedded model as the worker does, by default with the exact forward pass."""

    def refuse_download(source: str, _into: Path) -> None:
        raise AssertionError(f"{source} is not embedded")

    return load_segmenter(
        "embedded", public_id=EMBEDDED_MODEL_ID, device="auto", cache=Path(), download=refuse_download, options=options
    )


def load_reference_pipeline(device: str) -> Any:
    """Load the embedded model into transformers' own pipeline, without any of the worker's engine."""
    silence_transformers()
    register()
    with warnings.catch_warnings():
        # transformers advises on the speed of a CUDA kernel that this model does not use.
        warnings.filterwarnings("ignore", message="You'd better set embed_dim")
        return transformers.pipeline(
            "image-segmentation", model=str(embedded_model.FOLDER), device=device, trust_remote_code=False
        )
