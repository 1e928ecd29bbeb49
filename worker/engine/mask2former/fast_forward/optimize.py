"""Build the fast path for a network, and verify it: the original stays in use where the two disagree."""

# torch leaves Tensor methods untyped in places, and what a Module returns is Any.
# mypy: disable-error-code="no-untyped-call, no-any-return"

from collections.abc import Sequence
from typing import Any, Final

import structlog
import torch
from torch import Tensor, nn

from worker.engine.mask2former.fast_forward.backbone import fuse_backbone
from worker.engine.mask2former.fast_forward.pixel_decoder import FusedPixelDecoder
from worker.engine.mask2former.fast_forward.query_decoder import FusedQueryDecoder, QueryLogits

log = structlog.get_logger()

# The fast path adds numbers up in another order, which changes single pixels on edges.
MIN_AGREEMENT: Final = 0.99
# Sides of the square feature maps on which original and fast path are compared, at strides 4, 8, 16 and 32.
TRIAL_SIDES: Final = (32, 16, 8, 4)


class FusedHead(nn.Module):
    """From the backbone's feature maps to logits."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.pixel_decoder = FusedPixelDecoder(network.model.pixel_level_module.decoder)
        self.query_decoder = FusedQueryDecoder(
            network.model.transformer_module,
            network.class_predictor,
            network.model.pixel_level_module.decoder.mask_projection,
        )

    def forward(self, features: Sequence[Tensor]) -> QueryLogits:
        """features: four maps (B, C, h, w), the finest first."""
        return self.query_decoder(*self.pixel_decoder(features))


class FusedForward(nn.Module):
    """Backbone and head.  It keeps no intermediate results, which only auxiliary losses need."""

    def __init__(self, backbone: nn.Module, head: FusedHead) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head

    def forward(self, pixel_values: Tensor) -> QueryLogits:
        """pixel_values: (B, 3, H, W) float32."""
        return self.head(self.backbone(pixel_values).feature_maps)


def optimize_forward(network: Any) -> nn.Module:
    """Return a module that computes what the network computes, in less time.

    The module takes pixel_values (B, 3, H, W) float32 and shares the network's weights, except those of a
    convolutional backbone.  If the network is not built as expected, or the results differ, the network itself is
    returned and `fast_path_disabled` is logged.
    """
    try:
        head = FusedHead(network)
        agreement = measure_agreement(head, network)
    except Exception as error:
        log.warning("fast_path_disabled", reason=f"{type(error).__name__}: {str(error)[:200]}")
        return network
    if agreement < MIN_AGREEMENT:
        log.warning("fast_path_disabled", reason="the results differ", agreement=round(agreement, 4))
        return network
    return FusedForward(fuse_backbone(network.model.pixel_level_module.encoder), head).eval()


def measure_agreement(head: FusedHead, network: Any) -> float:
    """Compare the fused head with the original on random features.

    Returns:
        In [0, 1]: the share of mask pixels on the same side of 0, or one minus the largest difference of a class
        probability, if that is less.
    """
    generator = torch.Generator().manual_seed(0)
    encoder = network.model.pixel_level_module.encoder
    features = [
        torch.randn(1, channels, side, side, generator=generator).to(network.device)
        for channels, side in zip(encoder.channels, TRIAL_SIDES, strict=True)
    ]
    with torch.inference_mode():
        fused, original = head(features), run_original_head(network, features)
    same_side = ((fused.masks_queries_logits > 0) == (original.masks_queries_logits > 0)).float().mean()
    difference = (fused.class_queries_logits.softmax(-1) - original.class_queries_logits.softmax(-1)).abs().max()
    return min(float(same_side), float(1 - difference))


def run_original_head(network: Any, features: Sequence[Tensor]) -> QueryLogits:
    """Run the modules of transformers that follow the backbone."""
    decoded = network.model.pixel_level_module.decoder(features)
    output = network.model.transformer_module(
        multi_scale_features=decoded.multi_scale_features,
        mask_features=decoded.mask_features,
        output_hidden_states=True,
        output_attentions=False,
    )
    classes = network.class_predictor(output.intermediate_hidden_states[-1].transpose(0, 1))
    return QueryLogits(classes, output.masks_queries_logits[-1])
