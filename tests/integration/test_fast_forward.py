"""The fast path compared with the exact forward pass: on real images at least 99.9 % of pixels are equal."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from structlog.testing import capture_logs
from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation, SwinConfig

from shared.errors import MaskmillError
from shared.jobs.parameters import SegmentParameters, Subtask
from tests.bench import agreement
from tests.support.images import cat, sample_images
from worker.engine.execution_plan import ExecutionOptions
from worker.engine.loader import load_segmenter, silence_transformers
from worker.engine.mask2former.fast_forward.backbone import fold_norms, fuse_backbone
from worker.engine.mask2former.fast_forward.optimize import FusedForward, optimize_forward
from worker.engine.mask2former.fast_forward.sampling import (
    SamplingGrid,
    sample_with_embedding_bag,
    sample_with_grid_sample,
)
from worker.engine.mask2former.fast_forward.swin import FusedSwinLayer
from worker.engine.mask2former.fast_forward.winograd import WinogradConv, is_transformable
from worker.engine.mask2former.segmenter import Mask2FormerSegmenter
from worker.segmenter import Segmentation, Segmenter, prepare_image

pytestmark = pytest.mark.usefixtures("one_thread")

MIN_EQUAL_SHARE = 0.999


@pytest.fixture(scope="module")
def exact(tmp_path_factory: pytest.TempPathFactory) -> Segmenter:
    return load_embedded(tmp_path_factory.mktemp("cache"), ExecutionOptions("exact"))


@pytest.fixture(scope="module")
def fast(tmp_path_factory: pytest.TempPathFactory) -> Segmenter:
    return load_embedded(tmp_path_factory.mktemp("cache"), ExecutionOptions("fast", dtype="float32"))


def load_embedded(cache: Path, options: ExecutionOptions) -> Mask2FormerSegmenter:
    def refuse(source: str, _into: Path) -> None:
        raise AssertionError(f"{source} should not be fetched")

    segmenter = load_segmenter(
        "embedded", public_id="maskmill/test", device="cpu", cache=cache, download=refuse, options=options
    )
    assert isinstance(segmenter, Mask2FormerSegmenter)
    return segmenter


def unwrap(result: Segmentation | MaskmillError) -> Segmentation:
    """Return the result, or raise the error that takes its place."""
    if isinstance(result, MaskmillError):
        raise result
    return result


@pytest.mark.parametrize("subtask", Subtask)
def test_the_fast_path_gives_the_pixels_of_the_exact_forward_pass(
    exact: Segmenter, fast: Segmenter, subtask: Subtask
) -> None:
    parameters = SegmentParameters(threshold=0.5, subtask=subtask)
    batch = [prepare_image(exact, image, parameters) for image in sample_images().values()]

    pairs = [
        (unwrap(ours), unwrap(exact.segment([item])[0])) for ours, item in zip(fast.segment(batch), batch, strict=True)
    ]

    equal = np.concatenate([(ours.label_map == theirs.label_map).ravel() for ours, theirs in pairs])
    assert equal.mean() >= MIN_EQUAL_SHARE
    for ours, theirs in pairs:
        assert [segment.label for segment in ours.segments] == [segment.label for segment in theirs.segments]


def test_the_embedded_model_has_the_fast_path_and_folded_norms(fast: Mask2FormerSegmenter) -> None:
    assert isinstance(fast._network, FusedForward)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in fast._network.modules())


def test_bfloat16_gives_the_same_segments_and_nearly_the_same_pixels(tmp_path: Path, exact: Segmenter) -> None:
    bfloat16 = load_embedded(tmp_path, ExecutionOptions("fast", dtype="bfloat16"))
    item = prepare_image(exact, cat(), SegmentParameters(threshold=0.5))

    ours, theirs = unwrap(bfloat16.segment([item])[0]), unwrap(exact.segment([item])[0])

    assert [segment.label for segment in ours.segments] == [segment.label for segment in theirs.segments]
    assert (ours.label_map == theirs.label_map).mean() > 0.99


def new_small_network(**changes: Any) -> Mask2FormerForUniversalSegmentation:
    """Build an untrained Mask2Former with a transformer for its backbone, a thousandth of the usual size."""
    silence_transformers()
    torch.manual_seed(0)
    backbone = SwinConfig(
        image_size=64,
        embed_dim=16,
        depths=[1, 1, 2, 1],
        num_heads=[1, 1, 2, 2],
        window_size=4,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )
    sizes = {"feature_size": 64, "mask_feature_size": 32, "hidden_dim": 64, "encoder_feedforward_dim": 64}
    config = Mask2FormerConfig(
        backbone_config=backbone, dim_feedforward=64, num_queries=7, num_labels=5, **(sizes | changes)
    )
    return Mask2FormerForUniversalSegmentation(config).eval()


def add_noise(network: Any) -> Any:
    """Add noise to all weights: some are zero before training, which would hide an operation that is missing."""
    with torch.no_grad():
        for weights in network.parameters():
            weights.add_(torch.randn_like(weights) * 0.1)
    return network


def test_the_fast_path_gives_the_logits_of_the_original_for_random_weights() -> None:
    network = add_noise(new_small_network())
    pixels = torch.randn(3, 3, 128, 160, generator=torch.Generator().manual_seed(1))

    fused = optimize_forward(network)
    with torch.inference_mode():
        ours, theirs = fused(pixels), network(pixel_values=pixels)

    assert isinstance(fused, FusedForward)
    torch.testing.assert_close(ours.class_queries_logits, theirs.class_queries_logits, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(ours.masks_queries_logits, theirs.masks_queries_logits, rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("size", [(64, 64), (100, 212)])
def test_a_fused_swin_gives_the_feature_maps_of_the_original(size: tuple[int, int]) -> None:
    backbone = add_noise(new_small_network()).model.pixel_level_module.encoder
    pixels = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))

    fused = fuse_backbone(backbone)
    with torch.inference_mode():
        pairs = list(zip(fused(pixels).feature_maps, backbone(pixels).feature_maps, strict=True))

    assert sum(isinstance(module, FusedSwinLayer) for module in fused.modules()) == 5
    assert not any(isinstance(module, FusedSwinLayer) for module in backbone.modules())
    for ours, theirs in pairs:
        torch.testing.assert_close(ours, theirs)


def test_backbone_fusion_is_disabled_and_logged_if_the_results_differ() -> None:
    backbone = add_noise(new_small_network()).model.pixel_level_module.encoder
    # As if a newer version changed the output of a layer.
    for stage in backbone.swin.encoder.layers:
        stage.blocks[-1].register_forward_hook(lambda _module, _input, output: (output[0].flip(1), *output[1:]))

    with capture_logs() as lines:
        fused = fuse_backbone(backbone)

    assert fused is backbone
    assert [line["event"] for line in lines] == ["backbone_fusion_disabled"]


def test_backbone_fusion_is_disabled_and_logged_if_the_modules_differ() -> None:
    backbone = new_small_network().model.pixel_level_module.encoder
    for stage in backbone.swin.encoder.layers:
        for layer in stage.blocks:
            layer.attention.q_proj.bias = None

    with capture_logs() as lines:
        fused = fuse_backbone(backbone)

    assert fused is backbone
    assert [line["event"] for line in lines] == ["backbone_fusion_disabled"]


def test_the_fast_path_is_disabled_and_logged_if_the_modules_differ() -> None:
    network = new_small_network(pre_norm=True)

    with capture_logs() as lines:
        fused = optimize_forward(network)

    assert fused is network
    assert [line["event"] for line in lines] == ["fast_path_disabled"]


def test_the_fast_path_is_disabled_and_logged_if_the_results_differ() -> None:
    network = add_noise(new_small_network())
    # As if a newer version changed the sign of its masks.
    network.model.transformer_module.register_forward_hook(negate_masks)

    with capture_logs() as lines:
        fused = optimize_forward(network)

    assert fused is network
    assert [(line["event"], line["reason"]) for line in lines] == [("fast_path_disabled", "the results differ")]


def negate_masks(_module: Any, _inputs: Any, output: Any) -> Any:
    output.masks_queries_logits = tuple(-masks for masks in output.masks_queries_logits)
    return output


def test_the_embedding_bag_samples_like_grid_sample_inside_and_outside_the_map() -> None:
    draw = torch.Generator().manual_seed(2)
    shapes = ((3, 5), (6, 10), (11, 4))
    grid = SamplingGrid(shapes, torch.device("cpu"), heads=2, points=3)
    positions = sum(height * width for height, width in shapes)
    value = torch.randn(2, positions, 2 * 8, generator=draw)
    x, y = (torch.rand(2, 9, 2 * 3 * 3, generator=draw) * 20 - 6 for _ in range(2))
    weights = torch.rand(2, 9, 2 * 3 * 3, generator=draw)

    expected = sample_with_grid_sample(value, grid, x.clone(), y.clone(), weights)
    sampled = sample_with_embedding_bag(value, grid, x.clone(), y.clone(), weights)

    torch.testing.assert_close(sampled, expected, rtol=1e-4, atol=1e-4)


def test_a_folded_norm_does_not_change_the_output() -> None:
    pair = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, bias=False), torch.nn.BatchNorm2d(4)).eval()
    pair[1].running_mean.uniform_(-1, 1)
    pair[1].running_var.uniform_(0.5, 2)
    pixels = torch.randn(1, 3, 9, 9)
    before = pair(pixels)

    folded = fold_norms(pair)

    assert isinstance(folded[1], torch.nn.Identity)
    torch.testing.assert_close(folded(pixels), before)


def test_the_agreement_command_prints_the_share_of_equal_pixels(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cat().save(tmp_path / "cat.png")

    code = agreement.main(["--images", str(tmp_path), "--device", "cpu", "--subtasks", "panoptic"])

    assert code == 0
    assert '"equal_pixels": ' in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
def test_a_compiled_forward_pass_is_used_for_the_sizes_it_was_compiled_for(tmp_path: Path, exact: Segmenter) -> None:
    compiled = load_embedded(tmp_path, ExecutionOptions("fast", dtype="float32", is_compiled=True, max_images=2))
    # In place of the compiled function: compilation takes minutes.
    compiled._compiled = FakeCompiledForward(compiled._network)
    compiled.warm_up()
    compiled._compiled.sizes.clear()
    item = prepare_image(exact, cat(), SegmentParameters(threshold=0.5))

    results = [unwrap(result) for count in (1, 2, 3) for result in compiled.segment([item] * count)]

    assert compiled._compiled.sizes == [1, 2]
    assert len({len(result.segments) for result in results}) == 1


class FakeCompiledForward:
    """Fake compiled forward pass that records the batch size of each call."""

    def __init__(self, forward: Any) -> None:
        self.forward = forward
        self.sizes: list[int] = []

    def __call__(self, *, pixel_values: torch.Tensor) -> Any:
        self.sizes.append(len(pixel_values))
        return self.forward(pixel_values=pixel_values)


@pytest.mark.parametrize("size", [(80, 80), (5, 7), (1, 1), (16, 450)])
def test_a_transformed_convolution_gives_the_same_map(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    conv = torch.nn.Conv2d(96, 64, 3, padding=1, bias=False)
    maps = torch.randn(2, 96, *size).contiguous(memory_format=torch.channels_last)

    with torch.inference_mode():
        expected, output = conv(maps), WinogradConv(conv)(maps)

    assert output.shape == expected.shape
    assert torch.allclose(output, expected, rtol=0, atol=2e-4 * float(expected.abs().max()))


def test_a_convolution_is_not_transformed_in_16_bits() -> None:
    conv = torch.nn.Conv2d(64, 64, 3, padding=1, bias=False)
    maps = torch.randn(1, 64, 8, 8)

    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(WinogradConv(conv)(maps), conv(maps))


@pytest.mark.parametrize(
    "changes", [{"kernel_size": 5}, {"stride": 2}, {"padding": 0}, {"groups": 2}, {"bias": True}, {"in_channels": 8}]
)
def test_other_convolutions_stay_as_they_are(changes: dict[str, Any]) -> None:
    arguments = {"in_channels": 64, "out_channels": 64, "kernel_size": 3, "padding": 1, "bias": False}

    assert is_transformable(torch.nn.Conv2d(**arguments))
    assert not is_transformable(torch.nn.Conv2d(**(arguments | changes)))
