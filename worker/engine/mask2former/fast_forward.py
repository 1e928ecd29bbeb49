"""A quicker forward pass of transformers' Mask2Former, built around the modules of a loaded network.

Everything here depends on how transformers wrote its modules.  So optimize_forward() compares its result with the
original and gives up, with one line in the log, where the two no longer do the same.
"""

# torch leaves Tensor.split() and unflatten() untyped, and what a Module returns is Any.
# mypy: disable-error-code="no-untyped-call, no-any-return"

import copy
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from itertools import pairwise
from typing import Any, Final, NamedTuple

import structlog
import torch
from torch import Tensor, nn
from torch.nn.functional import embedding_bag, grid_sample, interpolate, pad, scaled_dot_product_attention
from torch.nn.utils.fusion import fuse_conv_bn_eval

log = structlog.get_logger()

# What differs is the order in which numbers are added up, and with it a pixel on an edge here and there.
LEAST_AGREEMENT: Final = 0.99
# Sides of the feature maps on which original and copy are tried against each other.
TRIAL_SIDES: Final = (32, 16, 8, 4)
# Empty rows and columns before and behind a level.
FRAME: Final = (1, 2)
Shapes = tuple[tuple[int, int], ...]


class Raw(NamedTuple):
    """What the network says, under the names that transformers gives it: (B, Q, C + 1) and (B, Q, h, w)."""

    class_queries_logits: Tensor
    masks_queries_logits: Tensor


def optimize_forward(network: Any) -> nn.Module:
    """Return a module that does what the network does, in less time; or the network, if it is not as expected.

    The copy shares its weights, but for a convolutional backbone's, and takes pixel_values (B, 3, H, W) float32.
    """
    try:
        head = FusedHead(network)
        agreement = tried_agreement(head, network)
    except Exception as error:
        log.warning("forward_unpatched", reason=f"{type(error).__name__}: {str(error)[:200]}")
        return network
    if agreement < LEAST_AGREEMENT:
        log.warning("forward_unpatched", reason="the results differ", agreement=round(agreement, 4))
        return network
    return FusedForward(fuse_backbone(network.model.pixel_level_module.encoder), head).eval()


class FusedForward(nn.Module):
    """Backbone and head; nothing is kept for auxiliary losses."""

    def __init__(self, backbone: nn.Module, head: "FusedHead") -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head

    def forward(self, pixel_values: Tensor) -> Raw:
        return self.head(self.backbone(pixel_values).feature_maps)


class FusedHead(nn.Module):
    """From the backbone's feature maps to logits."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.pixels = FusedPixelDecoder(network.model.pixel_level_module.decoder)
        self.queries = FusedQueryDecoder(network.model.transformer_module, network.class_predictor)

    def forward(self, features: Sequence[Tensor]) -> Raw:
        return self.queries(*self.pixels(features))


class FusedPixelDecoder(nn.Module):
    """Deformable attention over three levels, and a feature pyramid above them.

    Photos are never padded here, so the masks of padding are left out; positions are worked out once for each size,
    and in float32 whatever the network's type: bfloat16 cannot tell neighbouring places of a large map apart.
    """

    def __init__(self, decoder: Any) -> None:
        super().__init__()
        expect(decoder.num_feature_levels == len(decoder.input_projections), "one projection for each level")
        self.input_projections = decoder.input_projections
        self.layers = nn.ModuleList(FusedEncoderLayer(layer) for layer in decoder.encoder.layers)
        self.lateral_convolutions = nn.ModuleList(decoder.lateral_convolutions)
        self.output_convolutions = nn.ModuleList(decoder.output_convolutions)
        self.mask_projection = decoder.mask_projection
        self.level_embed = decoder.level_embed
        self._embed = decoder.position_embedding
        self._places: dict[tuple[Shapes, torch.device], tuple[Tensor, Grid]] = {}

    def forward(self, features: Sequence[Tensor]) -> tuple[list[Tensor], Tensor]:
        """Return the three levels, the coarsest first, each (B, C, h, w), and the pixel embeddings."""
        levels = [project(x) for project, x in zip(self.input_projections, features[::-1], strict=False)]
        shapes: Shapes = tuple((level.shape[2], level.shape[3]) for level in levels)
        positions, grid = self.places(shapes, levels[0])
        x = torch.cat([level.flatten(2).transpose(1, 2) for level in levels], 1)  # (B, S, C)
        for layer in self.layers:
            x = layer(x, positions, grid)
        parts = x.split([height * width for height, width in shapes], dim=1)
        maps = [part.transpose(1, 2).unflatten(2, shape) for part, shape in zip(parts, shapes, strict=True)]
        finest = maps[-1]
        finer = features[: len(self.lateral_convolutions)][::-1]
        for lateral, output, feature in zip(self.lateral_convolutions, self.output_convolutions, finer, strict=True):
            beside = lateral(feature)
            finest = output(beside + interpolate(finest, size=beside.shape[-2:], mode="bilinear", align_corners=False))
        return maps, self.mask_projection(finest)

    def places(self, shapes: Shapes, like: Tensor) -> tuple[Tensor, "Grid"]:
        """Return each place's embedding (1, S, C), and where it lies."""
        if (shapes, like.device) not in self._places:
            attention: Any = self.layers[0].attention
            grid = Grid(shapes, like.device, heads=attention.heads, points=attention.points)
            self._places[shapes, like.device] = self._embedded(shapes, like), grid
        return self._places[shapes, like.device]

    def _embedded(self, shapes: Shapes, like: Tensor) -> Tensor:
        embedded = [
            self._embed(torch.Size((1, like.shape[1], *shape)), like.device, torch.float32).flatten(2).transpose(1, 2)
            + self.level_embed[number].float()
            for number, shape in enumerate(shapes)
        ]
        return torch.cat(embedded, 1)


class FusedEncoderLayer(nn.Module):
    """One layer of the pixel decoder's encoder."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.attention = FusedDeformableAttention(layer.self_attn)
        self.self_attn_layer_norm = layer.self_attn_layer_norm
        self.fc1, self.fc2 = layer.fc1, layer.fc2
        self.final_layer_norm = layer.final_layer_norm

    def forward(self, x: Tensor, positions: Tensor, grid: "Grid") -> Tensor:
        x = self.self_attn_layer_norm(x + self.attention(x, x + positions, grid))
        return self.final_layer_norm(x + self.fc2(self.fc1(x).relu_()))


class FusedDeformableAttention(nn.Module):
    """Every place looks at a few places of its own choice on each level."""

    in_float32 = ("across", "down", "attention_weights")

    def __init__(self, attention: Any) -> None:
        super().__init__()
        self.heads, self.levels, self.points = attention.n_heads, attention.n_levels, attention.n_points
        # Columns and rows apart, so that each lies in one piece.
        self.across, self.down = (
            linear(part(attention.sampling_offsets.weight, axis), part(attention.sampling_offsets.bias, axis))
            for axis in (0, 1)
        )
        self.attention_weights = attention.attention_weights
        self.value_proj, self.output_proj = attention.value_proj, attention.output_proj

    def forward(self, x: Tensor, placed: Tensor, grid: "Grid") -> Tensor:
        """x, placed: (B, S, C), without and with positions."""
        value = self.value_proj(x)
        with uncast(x):
            placed = placed.float()
            weights = self.attention_weights(placed).unflatten(-1, (self.heads, -1)).softmax(-1).flatten(2)
            # The learned offsets are in pixels of each level, so they are added to places in pixels.
            across, down = self.across(placed) + grid.across, self.down(placed) + grid.down
            sample = sampled_in_bags if x.device.type == "cpu" else sampled_by_level
            looked_at = sample(value.float(), grid, across, down, weights)
        return self.output_proj(looked_at)


class FusedQueryDecoder(nn.Module):
    """Masked attention.  Only the last layer's masks are worked out at full size.

    The others serve as attention masks alone, so the pixel embeddings are shrunk to their size before the product
    instead of the product after it: both are linear.
    """

    in_float32 = ("mask_embedder", "class_predictor")

    def __init__(self, module: Any, class_predictor: nn.Module) -> None:
        super().__init__()
        decoder = module.decoder
        expect(all(not layer.pre_norm for layer in decoder.layers), "norms after the blocks")
        self.input_projections = module.input_projections
        self.level_embed = module.level_embed.weight
        self.query_features, self.query_positions = module.queries_features.weight, module.queries_embedder.weight
        self.layers = nn.ModuleList(FusedDecoderLayer(layer) for layer in decoder.layers)
        self.layernorm = decoder.layernorm
        self.mask_embedder = decoder.mask_predictor.mask_embedder
        self.class_predictor = class_predictor
        self._embed = module.position_embedder
        self._positions: dict[tuple[torch.Size, torch.device], Tensor] = {}

    def forward(self, levels: Sequence[Tensor], pixels: Tensor) -> Raw:
        """levels: the coarsest first, (B, C, h, w); pixels: (B, C', H, W), their embeddings."""
        memories, positions = self.memories(levels), [self.positions(level) for level in levels]
        shrunk = [interpolate(pixels, size=one.shape[-2:], mode="bilinear", align_corners=False) for one in levels]
        x = self.query_features.expand(len(pixels), -1, -1)  # (B, Q, C)
        for number, layer in enumerate(self.layers):
            level = number % len(levels)
            seen = self.masks(self.layernorm(x), shrunk[level]).flatten(2) >= 0  # (B, Q, S)
            # Who sees nothing looks everywhere.
            seen = seen | ~seen.any(-1, keepdim=True)
            x = layer(x, self.query_positions, memories[level], positions[level], seen)
        x = self.layernorm(x)
        with uncast(x):
            return Raw(self.class_predictor(x.float()), self.masks(x.float(), pixels.float()))

    def masks(self, x: Tensor, pixels: Tensor) -> Tensor:
        """(B, Q, C) queries and (B, C', h, w) pixels -> (B, Q, h, w) logits."""
        return (self.mask_embedder(x) @ pixels.flatten(2)).unflatten(2, pixels.shape[-2:])

    def memories(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """Return what the queries look at on each level, (B, S, C)."""
        return [
            project(level).flatten(2).transpose(1, 2) + embedding
            for project, level, embedding in zip(self.input_projections, levels, self.level_embed, strict=True)
        ]

    def positions(self, level: Tensor) -> Tensor:
        """Return the embedding of each place of a level, (1, S, C)."""
        size = level.shape[-2:]
        if (size, level.device) not in self._positions:
            shape = torch.Size((1, level.shape[1], *size))
            embedded = self._embed(shape, level.device, torch.float32, None).flatten(2).transpose(1, 2)
            self._positions[size, level.device] = embedded.contiguous()
        return self._positions[size, level.device]


class FusedDecoderLayer(nn.Module):
    """Queries look at places, then at each other.  Batch first, and no attention weights are handed out."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.cross, self.own = FusedCrossAttention(layer.cross_attn), FusedSelfAttention(layer.self_attn)
        self.cross_attn_layer_norm = layer.cross_attn_layer_norm
        self.self_attn_layer_norm = layer.self_attn_layer_norm
        self.fc1, self.activation, self.fc2 = layer.fc1, layer.activation_fn, layer.fc2
        self.final_layer_norm = layer.final_layer_norm

    def forward(self, x: Tensor, own_positions: Tensor, memory: Tensor, positions: Tensor, seen: Tensor) -> Tensor:
        x = self.cross_attn_layer_norm(x + self.cross(x + own_positions, memory + positions, memory, seen))
        x = self.self_attn_layer_norm(x + self.own(x + own_positions, x))
        return self.final_layer_norm(x + self.fc2(self.activation(self.fc1(x))))


class FusedCrossAttention(nn.Module):
    """torch's MultiheadAttention without the mean of its weights, which nobody reads."""

    def __init__(self, attention: Any) -> None:
        super().__init__()
        expect(attention.in_proj_weight is not None and attention.bias_k is None, "one weight for all projections")
        self.heads = attention.num_heads
        # Linear modules, so that each may be cast as any other.
        self.projections = nn.ModuleList(linear(*pair) for pair in thirds(attention))
        self.out_proj = linear(attention.out_proj.weight, attention.out_proj.bias)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, seen: Tensor) -> Tensor:
        parts = [project(x) for project, x in zip(self.projections, (query, key, value), strict=True)]
        return self.out_proj(attended(parts, self.heads, seen[:, None]))


class FusedSelfAttention(nn.Module):
    """As transformers writes it out, in one kernel."""

    def __init__(self, attention: Any) -> None:
        super().__init__()
        self.heads = attention.num_heads
        self.q_proj, self.k_proj, self.v_proj = attention.q_proj, attention.k_proj, attention.v_proj
        self.out_proj = attention.out_proj

    def forward(self, placed: Tensor, x: Tensor) -> Tensor:
        parts = self.q_proj(placed), self.k_proj(placed), self.v_proj(x)
        return self.out_proj(attended(parts, self.heads))


def attended(parts: Sequence[Tensor], heads: int, seen: Tensor | None = None) -> Tensor:
    """query (B, Q, C), key and value (B, S, C) -> (B, Q, C); seen: (B, 1, Q, S), bool or what is added."""
    query, key, value = (part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in parts)
    return scaled_dot_product_attention(query, key, value, attn_mask=seen).transpose(1, 2).flatten(2)


class Grid:
    """Where things are on the levels of one set of shapes.  All in float32, and in pixels of a level.

    across, down: (S, heads * levels * points), where each place lies, repeated for each look that it takes.
    """

    def __init__(self, shapes: Shapes, device: torch.device, *, heads: int, points: int) -> None:
        self.shapes, self.heads, self.points = shapes, heads, points
        sizes = torch.tensor([[width, height] for height, width in shapes], dtype=torch.float32, device=device)
        places = torch.cat([centres(height, width, device) for height, width in shapes])[:, None] * sizes - 0.5
        self.across, self.down = (self._per_look(places[:, :, axis]) for axis in (0, 1))
        # A level with its border: what is looked at beyond it counts as nothing.
        framed = [(height + sum(FRAME), width + sum(FRAME)) for height, width in shapes]
        areas = [height * width for height, width in framed]
        self.starts = [sum(areas[:number]) for number in range(len(areas))]
        self.framed, self.rows = framed, sum(areas)
        strides = torch.tensor([float(width * heads) for _, width in framed], device=device)
        origins = torch.tensor([start + width + 1.0 for start, (_, width) in zip(self.starts, framed, strict=True)])
        head = torch.arange(heads, device=device).repeat_interleave(len(shapes) * points)
        self.strides, self.most_across, self.most_down = map(self._per_look, (strides, sizes[:, 0], sizes[:, 1]))
        self.origins = self._per_look(origins.to(device) * heads) + head
        below = self.strides.to(torch.int32)
        self.corners = torch.stack([torch.zeros_like(below), torch.full_like(below, heads), below, below + heads])

    def _per_look(self, of_level: Tensor) -> Tensor:
        """(..., levels) -> (..., heads * levels * points)"""
        return of_level.repeat_interleave(self.points, -1).repeat(*[1] * (of_level.dim() - 1), self.heads)

    def framed_rows(self, value: Tensor) -> Tensor:
        """(B, S, heads * d), the levels one behind the other -> (B * rows * heads, d), each level with its border."""
        rows = value.new_zeros(len(value), self.rows, value.shape[2])
        parts = value.split([height * width for height, width in self.shapes], dim=1)
        for start, frame, shape, part in zip(self.starts, self.framed, self.shapes, parts, strict=True):
            level = rows[:, start : start + frame[0] * frame[1]].unflatten(1, frame)
            level[:, 1 : 1 + shape[0], 1 : 1 + shape[1]] = part.unflatten(1, shape)
        return rows.view(-1, value.shape[2] // self.heads)


def sampled_in_bags(value: Tensor, grid: Grid, across: Tensor, down: Tensor, weights: Tensor) -> Tensor:
    """Mix what lies at some places, for all levels at once: each head of each query sums a bag of weighted rows.

    On a CPU this takes a fraction of the time of grid_sample, which walks along channels that lie far apart.

    Args:
        value: (B, S, heads * d), the levels one behind the other.
        across, down: (B, Q, heads * levels * points), in pixels of each level.
        weights: of that shape.

    Returns:
        (B, Q, heads * d).
    """
    batch, queries, _ = weights.shape
    # Whole numbers far below 2 ** 24, so exact in float32.
    left = torch.minimum(across.clamp_(min=-1), grid.most_across)
    above = torch.minimum(down.clamp_(min=-1), grid.most_down)
    column, row = left.floor(), above.floor()
    right_share, below_share = left.sub_(column), above.sub_(row)
    first = torch.addcmul(torch.add(grid.origins, column, alpha=grid.heads), row, grid.strides).to(torch.int32)
    first += torch.arange(batch, device=value.device, dtype=torch.int32).view(-1, 1, 1) * (grid.rows * grid.heads)
    numbers = first + grid.corners[:, None, None]  # (4, B, Q, looks)
    shares = torch.empty_like(numbers, dtype=weights.dtype)
    right = weights * right_share
    left_weight = weights - right
    torch.mul(left_weight, below_share, out=shares[2])
    torch.mul(right, below_share, out=shares[3])
    torch.sub(left_weight, shares[2], out=shares[0])
    torch.sub(right, shares[3], out=shares[1])
    mixed = embedding_bag(
        by_head(numbers, grid.heads),
        grid.framed_rows(value),
        mode="sum",
        per_sample_weights=by_head(shares, grid.heads),
    )
    return mixed.view(batch, queries, -1)


def by_head(corners: Tensor, heads: int) -> Tensor:
    """(4, B, Q, heads * n) -> (B * Q * heads, 4 * n)"""
    return corners.unflatten(-1, (heads, -1)).permute(1, 2, 3, 0, 4).flatten(0, 2).flatten(1)


def sampled_by_level(value: Tensor, grid: Grid, across: Tensor, down: Tensor, weights: Tensor) -> Tensor:
    """Do the same level by level with grid_sample, whose CUDA kernel is quick and which compilers fuse."""
    batch, queries, _ = weights.shape
    looks = (grid.heads, len(grid.shapes), grid.points)
    where = torch.stack([across, down], -1).unflatten(2, looks).permute(0, 2, 3, 1, 4, 5).flatten(0, 1)
    share = weights.unflatten(2, looks).permute(0, 2, 3, 1, 4).flatten(0, 1)  # (B * heads, levels, Q, points)
    mixed = value.new_zeros(batch * grid.heads, value.shape[2] // grid.heads, queries)
    parts = value.split([height * width for height, width in grid.shapes], dim=1)
    for level, ((height, width), part) in enumerate(zip(grid.shapes, parts, strict=True)):
        plane = part.transpose(1, 2).reshape(batch * grid.heads, -1, height, width)
        scale = torch.stack([where.new_full((), 2 / width), where.new_full((), 2 / height)])
        seen = grid_sample(plane, (where[:, level] + 0.5) * scale - 1, padding_mode="zeros", align_corners=False)
        mixed = mixed + (seen * share[:, None, level]).sum(-1)
    return mixed.unflatten(0, (batch, grid.heads)).permute(0, 3, 1, 2).flatten(2)


def centres(height: int, width: int, device: torch.device) -> Tensor:
    """Return the middle of each pixel as a share of width and height, row by row: (h * w, 2)."""
    y, x = torch.meshgrid(
        (torch.arange(height, device=device) + 0.5) / height,
        (torch.arange(width, device=device) + 0.5) / width,
        indexing="ij",
    )
    return torch.stack([x, y], -1).flatten(0, 1)


def part(offsets: Tensor, axis: int) -> Tensor:
    """Return what belongs to x (0) or y (1) of weights whose first dimension ends with both."""
    return offsets.unflatten(0, (-1, 2))[:, axis].contiguous()


def fuse_backbone(backbone: Any) -> nn.Module:
    """Return a quicker copy of a backbone of convolutions with norms, or of Swin's windows; any other as it is."""
    try:
        quick = rebuilt_backbone(backbone)
        is_alike = quick is backbone or has_same_features(quick, backbone)
    except Exception as error:
        log.warning("backbone_unpatched", reason=f"{type(error).__name__}: {str(error)[:200]}")
        return backbone
    if is_alike:
        return quick
    log.warning("backbone_unpatched", reason="the results differ")
    return backbone


def rebuilt_backbone(backbone: Any) -> nn.Module:
    if any(isinstance(module, nn.BatchNorm2d) for module in backbone.modules()):
        return ChannelsLast(fold_norms(copy.deepcopy(backbone)))
    if any(is_swin_stage(module) for module in backbone.modules()):
        # The copy has modules of its own, and the weights of the original.
        return gather_windows(copy.deepcopy(backbone, {id(one): one for one in backbone.parameters()}))
    return backbone


def has_same_features(quick: nn.Module, backbone: Any) -> bool:
    """Try both on made-up pixels, of which Swin's last maps are smaller than a window."""
    pixels = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)).to(next(backbone.parameters()))
    with torch.inference_mode():
        pairs = list(zip(quick(pixels).feature_maps, backbone(pixels).feature_maps, strict=True))
    return all(torch.allclose(ours, theirs, rtol=1e-2, atol=1e-2 * float(theirs.std())) for ours, theirs in pairs)


def is_swin_stage(module: nn.Module) -> bool:
    # By its name: a newer transformers may have moved it.
    return type(module).__name__ == "SwinStage"


class ChannelsLast(nn.Module):
    """The layout in which convolutions need no reordering of their input."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, pixels: Tensor) -> Any:
        return self.backbone(pixels.contiguous(memory_format=torch.channels_last))


def fold_norms(backbone: nn.Module) -> nn.Module:
    """Put each norm that directly follows a convolution into its weights; in place."""
    for parent in backbone.modules():
        for (name, module), (next_name, following) in neighbours(parent):
            if isinstance(module, nn.Conv2d) and isinstance(following, nn.BatchNorm2d):
                setattr(parent, name, fuse_conv_bn_eval(module, following))
                setattr(parent, next_name, nn.Identity())
    return backbone


def gather_windows(backbone: nn.Module) -> nn.Module:
    """Give a Swin backbone quicker layers; in place."""
    for stage in backbone.modules():
        if is_swin_stage(stage):
            stage.blocks = nn.ModuleList(FusedSwinLayer(layer) for layer in list(stage.blocks))  # type: ignore[arg-type]
    return backbone


class Windows(NamedTuple):
    """How a map of one size falls into windows.

    order: for each place in each window, its number in the padded map.  back: for each place of the map, its number
    among these.  mask: (windows or 1, heads, T, T), what is added to the attention between the places of a window.
    """

    order: Tensor
    back: Tensor
    mask: Tensor


class FusedSwinLayer(nn.Module):
    """Attention within windows.  Rolling a map and cutting it up is one gathering of rows, and so is the way back.

    The mask does not depend on the photo, so it is kept for the last size; query, key and value are one product.
    """

    def __init__(self, layer: Any) -> None:
        super().__init__()
        attention = layer.attention
        parts = attention.q_proj, attention.k_proj, attention.v_proj
        self.heads, self.side, self.shift = attention.num_attention_heads, layer.window_size, layer.shift_size
        self.layernorm_before, self.layernorm_after = layer.layernorm_before, layer.layernorm_after
        self.projections = linear(torch.cat([one.weight for one in parts]), torch.cat([one.bias for one in parts]))
        self.o_proj, self.mlp = attention.o_proj, layer.mlp
        self.relative_position_bias = attention.relative_position_bias
        self._known: tuple[tuple[int, int], Windows] | None = None

    def forward(self, x: Tensor, size: tuple[int, int], **_: Any) -> tuple[Tensor, None]:
        """x: (B, h * w, C).  Returns no attention weights, as the original does not either."""
        windows = self.windows(size)
        x = x + self.attended(self.padded(self.layernorm_before(x), size), windows)
        return x + self.mlp(self.layernorm_after(x)), None

    def attended(self, x: Tensor, windows: Windows) -> Tensor:
        """(B, S, C) -> (B, h * w, C), S being the places of the padded map."""
        batch, places, channels = x.shape
        parts = self.projections(gathered(x, windows.order).view(-1, self.side**2, channels))
        mask = windows.mask if len(windows.mask) == 1 else windows.mask.repeat(batch, 1, 1, 1)
        mixed = attended(parts.chunk(3, -1), self.heads, mask)
        return gathered(self.o_proj(mixed).view(batch, places, channels), windows.back)

    def padded(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """(B, h * w, C) -> (B, S, C), with empty rows and columns behind the map, to fill the last windows."""
        below, right = (-length % self.side for length in size)
        return pad(x.unflatten(1, size), (0, 0, 0, right, 0, below)).flatten(1, 2) if below or right else x

    def windows(self, size: tuple[int, int]) -> Windows:
        if self._known is None or self._known[0] != size:
            self._known = size, self._cut(*size)
        return self._known[1]

    def _cut(self, height: int, width: int) -> Windows:
        weight = self.projections.weight
        rows, columns = (torch.arange(length + -length % self.side, device=weight.device) for length in (height, width))
        numbers = rows[:, None] * len(columns) + columns
        order = self._in_windows(numbers.roll((-self.shift, -self.shift), (0, 1)))
        mask = self.relative_position_bias().float()
        if self.shift:
            # What was rolled in from the other edge is no neighbour.
            regions = self._in_windows(3 * self._regions(rows)[:, None] + self._regions(columns))
            mask = mask - 100.0 * (regions[:, None, None, :] != regions[:, None, :, None])
        return Windows(order.flatten(), order.flatten().argsort()[numbers[:height, :width].flatten()], mask.to(weight))

    def _regions(self, places: Tensor) -> Tensor:
        """Return of each row or column of the rolled map whether it is whole (0), cut (1) or rolled in (2)."""
        return (places >= len(places) - self.side).long() + (places >= len(places) - self.shift)

    def _in_windows(self, of_map: Tensor) -> Tensor:
        """(S / w, w) -> (windows, T)"""
        return of_map.unfold(0, self.side, self.side).unfold(1, self.side, self.side).flatten(2).flatten(0, 1)


def gathered(x: Tensor, places: Tensor) -> Tensor:
    """(B, S, C), (P,) -> (B, P, C)"""
    batch, rows, _ = x.shape
    starts = torch.arange(0, batch * rows, rows, device=x.device)
    return x.flatten(0, 1).index_select(0, (starts[:, None] + places).flatten()).unflatten(0, (batch, -1))


def neighbours(parent: nn.Module) -> Iterator[tuple[tuple[str, nn.Module], tuple[str, nn.Module]]]:
    children = list(parent.named_children())
    return pairwise(children)


def cast_weights(module: nn.Module, dtype: torch.dtype) -> None:
    """Keep the weights of products in the type in which autocast would use them, instead of casting them each time."""
    kept = {
        id(below)
        for part in module.modules()
        for name in getattr(part, "in_float32", ())
        for below in getattr(part, name).modules()
    }
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Conv2d) and id(part) not in kept:
            part.to(dtype)


def uncast(like: Tensor) -> AbstractContextManager[Any]:
    """Return the context in which nothing is cast to a shorter type."""
    return torch.autocast(like.device.type, enabled=False)


def tried_agreement(head: FusedHead, network: Any) -> float:
    """Return the share of mask pixels and classes on which the original and its copy agree, for made-up features."""
    draw = torch.Generator().manual_seed(0)
    encoder = network.model.pixel_level_module.encoder
    features = [
        torch.randn(1, channels, side, side, generator=draw).to(network.device)
        for channels, side in zip(encoder.channels, TRIAL_SIDES, strict=True)
    ]
    with torch.inference_mode():
        ours, theirs = head(features), original_head(network, features)
    same_side = ((ours.masks_queries_logits > 0) == (theirs.masks_queries_logits > 0)).float().mean()
    closeness = 1 - (ours.class_queries_logits.softmax(-1) - theirs.class_queries_logits.softmax(-1)).abs().max()
    return min(float(same_side), float(closeness))


def original_head(network: Any, features: Sequence[Tensor]) -> Raw:
    """Run what comes after the backbone as transformers has it."""
    decoded = network.model.pixel_level_module.decoder(features)
    seen = network.model.transformer_module(
        multi_scale_features=decoded.multi_scale_features,
        mask_features=decoded.mask_features,
        output_hidden_states=True,
        output_attentions=False,
    )
    classes = network.class_predictor(seen.intermediate_hidden_states[-1].transpose(0, 1))
    return Raw(classes, seen.masks_queries_logits[-1])


def thirds(attention: Any) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield weight and bias of the projections of query, key and value."""
    return zip(attention.in_proj_weight.chunk(3), attention.in_proj_bias.chunk(3), strict=True)


def linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    """Return a linear module around weights that are there."""
    module = nn.Linear(weight.shape[1], weight.shape[0], device="meta")
    module.weight, module.bias = nn.Parameter(weight, requires_grad=False), nn.Parameter(bias, requires_grad=False)
    return module


def expect(is_so: bool, what: str) -> None:
    """Raise unless the original is built as the copy needs it."""
    if not is_so:
        raise TypeError(f"expected {what}")
