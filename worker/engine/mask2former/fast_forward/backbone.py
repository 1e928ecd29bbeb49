"""Faster copies of backbones: convolutions with batch norms folded in, and Swin."""

# The modules of transformers are typed as Any.
# mypy: disable-error-code="no-any-return"

import copy
from itertools import pairwise
from typing import Any

import structlog
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from worker.engine.mask2former.fast_forward.swin import fuse_swin, is_swin_stage

log = structlog.get_logger()


def fuse_backbone(backbone: Any) -> nn.Module:
    """Return a faster copy of a backbone with batch norms, or of Swin; any other backbone as it is.

    If the backbone is not built as expected, or the feature maps differ, the backbone itself is returned and
    `backbone_fusion_disabled` is logged.
    """
    try:
        fused = build_fused_backbone(backbone)
        is_equal = fused is backbone or has_same_features(fused, backbone)
    except Exception as error:
        log.warning("backbone_fusion_disabled", reason=f"{type(error).__name__}: {str(error)[:200]}")
        return backbone
    if is_equal:
        return fused
    log.warning("backbone_fusion_disabled", reason="the results differ")
    return backbone


def build_fused_backbone(backbone: Any) -> nn.Module:
    """Return a fused copy of a backbone, not verified; a backbone of another kind as it is."""
    if any(isinstance(module, nn.BatchNorm2d) for module in backbone.modules()):
        return ChannelsLast(fold_norms(copy.deepcopy(backbone)))
    if any(is_swin_stage(module) for module in backbone.modules()):
        # The copy has its own modules and shares the weights of the original.
        return fuse_swin(copy.deepcopy(backbone, {id(one): one for one in backbone.parameters()}))
    return backbone


def has_same_features(fused: nn.Module, backbone: Any) -> bool:
    """Compare both on random pixels; at 64 x 64 Swin's last maps are smaller than a window, so padding is covered."""
    pixels = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)).to(next(backbone.parameters()))
    with torch.inference_mode():
        pairs = list(zip(fused(pixels).feature_maps, backbone(pixels).feature_maps, strict=True))
    return all(torch.allclose(ours, theirs, rtol=1e-2, atol=1e-2 * float(theirs.std())) for ours, theirs in pairs)


class ChannelsLast(nn.Module):
    """Run a backbone in the memory format in which convolutions need not reorder their input."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, pixels: Tensor) -> Any:
        return self.backbone(pixels.contiguous(memory_format=torch.channels_last))


def fold_norms(backbone: nn.Module) -> nn.Module:
    """Fold each batch norm that directly follows a convolution into its weights; in place."""
    for parent in backbone.modules():
        for (name, module), (next_name, following) in pairwise(list(parent.named_children())):
            if isinstance(module, nn.Conv2d) and isinstance(following, nn.BatchNorm2d):
                setattr(parent, name, fuse_conv_bn_eval(module, following))
                setattr(parent, next_name, nn.Identity())
    return backbone
