"""The engine compared with transformers' own pipeline on real images: the results are equal, bit for bit."""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from shared.errors import BadParameter, EngineFailed, MaskmillError, ModelUnusable, OutOfMemory
from shared.jobs.parameters import SegmentParameters, Subtask
from tests.support.images import sample_images, sideways_cat
from worker.decoding.pixels import decode
from worker.embedded_model import FOLDER
from worker.embedded_model.backbone import register
from worker.engine.coco_classes import STUFF
from worker.engine.execution_plan import ExecutionOptions, Forward
from worker.engine.loader import load_segmenter, silence_transformers
from worker.engine.mask2former.segmenter import Mask2FormerSegmenter
from worker.segmenter import Prepared, Segmentation, Segmenter, prepare_image

Pipeline = Callable[..., Sequence[Mapping[str, Any]]]

IMAGE_NAMES = sorted(sample_images())
# The defaults; a lower threshold; and no threshold, so that all masks are kept and many overlap.
THRESHOLDS = [(0.9, 0.5, 0.5), (0.5, 0.5, 0.5), (0.0, 0.3, 0.8)]
# Of the fast forward pass: its bits depend on the size of the batch.
MIN_EQUAL_SHARE_IN_BATCHES = 0.999

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory: pytest.TempPathFactory) -> Segmenter:
    return load("embedded", tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def fast_segmenter(tmp_path_factory: pytest.TempPathFactory) -> Segmenter:
    return load("embedded", tmp_path_factory.mktemp("cache"), "fast")


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    register()
    return load_reference(FOLDER)


def load(model: str, cache: Path, forward: Forward = "exact") -> Segmenter:
    options = ExecutionOptions(forward)
    return load_segmenter(model, public_id="maskmill/test", device="cpu", cache=cache, download=refuse, options=options)


def refuse(source: str, into: Path) -> None:
    raise AssertionError(f"{source} should not be fetched")


def load_reference(folder: Path) -> Pipeline:
    silence_transformers()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="You'd better set embed_dim")
        pipeline: Pipeline = transformers.pipeline(
            "image-segmentation", model=str(folder), device="cpu", trust_remote_code=False
        )
    return pipeline


def pipeline_arguments(parameters: SegmentParameters) -> dict[str, Any]:
    """Return the keyword arguments of the pipeline for these parameters."""
    extensions = {"fuse_stuff", "strict_instance_thresholds"}
    return {name: value for name, value in asdict(parameters).items() if value is not None and name not in extensions}


def unwrap(result: Segmentation | MaskmillError) -> Segmentation:
    """Return the result, or raise the error that takes its place."""
    if isinstance(result, MaskmillError):
        raise result
    return result


def assert_same(result: Segmentation, expected: Sequence[Mapping[str, Any]]) -> None:
    assert [(segment.label, segment.score) for segment in result.segments] == [
        (segment["label"], segment["score"]) for segment in expected
    ]
    for segment, reference in zip(result.segments, expected, strict=True):
        mask = np.asarray(reference["mask"]) == 255
        assert np.array_equal(result.label_map == segment.id, mask)
        assert segment.area == mask.sum()


@pytest.mark.parametrize("name", IMAGE_NAMES)
def test_a_single_image_gives_the_results_of_the_pipeline(segmenter: Segmenter, pipeline: Any, name: str) -> None:
    image = sample_images()[name]
    # The pipeline's forward pass is the same for all parameters, so it is run once.
    output = pipeline.forward(pipeline.preprocess(image))
    for parameters in all_parameters():
        [result] = segmenter.segment([prepare_image(segmenter, image, parameters)])

        assert_same(unwrap(result), pipeline.postprocess(output, **pipeline_arguments(parameters)))


def all_parameters() -> Iterator[SegmentParameters]:
    yield SegmentParameters(subtask=Subtask.SEMANTIC)  # it has no thresholds
    for subtask in (Subtask.PANOPTIC, Subtask.INSTANCE):
        for thresholds in THRESHOLDS:
            yield SegmentParameters(*thresholds, subtask=subtask)


def test_the_default_subtask_is_the_pipelines(segmenter: Segmenter, pipeline: Pipeline) -> None:
    image = sample_images()["astronaut"]

    [result] = segmenter.segment([prepare_image(segmenter, image, SegmentParameters())])

    assert_same(unwrap(result), pipeline(image))


def test_a_rotated_jpeg_gives_the_results_of_the_pipeline(
    segmenter: Segmenter, pipeline: Pipeline, tmp_path: Path
) -> None:
    (tmp_path / "cat.jpg").write_bytes(sideways_cat())
    parameters = SegmentParameters(threshold=0.5)

    [result] = segmenter.segment([prepare_image(segmenter, decode(sideways_cat(), max_pixels=10**6), parameters)])

    assert unwrap(result).label_map.shape == (300, 451)
    assert_same(unwrap(result), pipeline(str(tmp_path / "cat.jpg"), **pipeline_arguments(parameters)))


def test_a_prepared_image_has_the_bits_of_the_pipeline(segmenter: Any, pipeline: Any) -> None:
    for image in sample_images().values():
        expected = pipeline.preprocess(image)["pixel_values"][0]

        [pixels] = segmenter._load([prepare_image(segmenter, image, SegmentParameters())])

        assert torch.equal(pixels, expected)


class Recorded(torch.nn.Module):
    """A network that keeps the logits of each image: every bit of them, where a label map shows few."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network
        self.logits: list[tuple[torch.Tensor, torch.Tensor]] = []

    def forward(self, pixel_values: torch.Tensor) -> Any:
        output = self.network(pixel_values=pixel_values)
        self.logits += zip(output.class_queries_logits, output.masks_queries_logits, strict=True)
        return output


def replace_network(segmenter: Segmenter, network: torch.nn.Module) -> Mask2FormerSegmenter:
    assert isinstance(segmenter, Mask2FormerSegmenter)
    other = copy(segmenter)
    other._network = network
    return other


@pytest.mark.parametrize(("size", "position"), [(2, 1), (3, 0), (4, 2), (8, 7)])
def test_an_exact_image_has_the_same_bits_in_any_batch(segmenter: Any, size: int, position: int) -> None:
    recorded = Recorded(segmenter._network)
    recording = replace_network(segmenter, recorded)
    parameters = SegmentParameters(threshold=0.0, overlap_mask_area_threshold=0.0)
    image = prepare_image(recording, sample_images()["grey"], parameters)
    mates = list(zip(IMAGE_NAMES[-size:-1], all_parameters(), strict=False))
    batch = [prepare_image(recording, sample_images()[name], parameters) for name, parameters in mates]
    batch.insert(position, image)
    [alone] = recording.segment([image])

    together = recording.segment(batch)

    # Logits of the image alone come first, those of the batch follow in its order.
    pairs = zip(recorded.logits[0], recorded.logits[1 + position], strict=True)
    assert len(together) == size
    assert all(torch.equal(*pair) for pair in pairs)
    assert_equal(together[position], alone)


def assert_equal(ours: Segmentation | MaskmillError, expected: Segmentation | MaskmillError) -> None:
    assert unwrap(ours).segments == unwrap(expected).segments
    assert np.array_equal(unwrap(ours).label_map, unwrap(expected).label_map)


def segment_alone_and_together(segmenter: Segmenter) -> tuple[list[Segmentation], list[Segmentation]]:
    """Segment the samples with different parameters one by one, and in one batch."""
    jobs = [
        (image, SegmentParameters(threshold=0.3, subtask=subtask))
        for image, subtask in zip(sample_images().values(), [*Subtask] * 3, strict=True)
    ]
    batch = [prepare_image(segmenter, *job) for job in jobs]
    alone = [unwrap(segmenter.segment([one])[0]) for one in batch]
    return alone, [unwrap(result) for result in segmenter.segment(batch)]


def test_a_mixed_exact_batch_gives_the_bits_of_single_images(segmenter: Segmenter) -> None:
    for expected, result in zip(*segment_alone_and_together(segmenter), strict=True):
        assert_equal(result, expected)


def test_a_mixed_fast_batch_gives_the_segments_of_single_images_and_nearly_their_pixels(
    fast_segmenter: Segmenter,
) -> None:
    alone, together = segment_alone_and_together(fast_segmenter)

    pixels = [(ours.label_map == expected.label_map).mean() for ours, expected in zip(together, alone, strict=True)]
    assert min(pixels) >= MIN_EQUAL_SHARE_IN_BATCHES
    labels = [[segment.label for segment in result.segments] for result in together]
    assert labels == [[segment.label for segment in result.segments] for result in alone]


class LimitedMemory(torch.nn.Module):
    """A network that fails if a batch has more than max_images images, or if it holds a white one."""

    def __init__(self, network: Any, max_images: int) -> None:
        super().__init__()
        self.network, self.max_images = network, max_images

    def forward(self, pixel_values: torch.Tensor) -> Any:
        if len(pixel_values) > self.max_images:
            raise torch.OutOfMemoryError("out of memory")
        if any(float(image.min()) > 2 for image in pixel_values):
            raise ValueError("too white")
        return self.network(pixel_values=pixel_values)


def limit_memory(segmenter: Any, max_images: int) -> Mask2FormerSegmenter:
    return replace_network(segmenter, LimitedMemory(segmenter._network, max_images))


def prepare(segmenter: Segmenter, *names: str) -> list[Prepared]:
    return [prepare_image(segmenter, sample_images()[name], SegmentParameters(threshold=0.5)) for name in names]


def test_a_batch_that_does_not_fit_is_halved_until_it_does(fast_segmenter: Segmenter) -> None:
    batch = prepare(fast_segmenter, "cat", "coffee", "tiny", "odd", "grey")

    results = limit_memory(fast_segmenter, max_images=2).segment(batch)

    # In the batches that halving produces: in others sums are rounded differently, which can change a pixel.
    halves = batch[:2], batch[2:3], batch[3:]
    expected = [unwrap(result) for half in halves for result in fast_segmenter.segment(half)]
    assert [unwrap(result).segments for result in results] == [result.segments for result in expected]


def test_an_image_that_does_not_fit_into_memory_is_out_of_memory(segmenter: Segmenter) -> None:
    [result] = limit_memory(segmenter, max_images=0).segment(prepare(segmenter, "cat"))

    assert isinstance(result, OutOfMemory)


def test_a_model_that_fails_on_a_blank_image_is_unusable(segmenter: Segmenter) -> None:
    with pytest.raises(ModelUnusable, match="maskmill/test fails on a blank image on cpu"):
        limit_memory(segmenter, max_images=0).warm_up()


@pytest.mark.parametrize("forward", ["exact", "fast"])
def test_an_image_that_fails_in_the_model_does_not_affect_the_others(
    segmenter: Segmenter, fast_segmenter: Segmenter, forward: str
) -> None:
    segmenter = fast_segmenter if forward == "fast" else segmenter
    batch = prepare(segmenter, "cat", "tiny", "coffee")
    white = Prepared(torch.full_like(batch[0].pixels, 255), 10, 10, SegmentParameters())

    results = limit_memory(segmenter, max_images=9).segment([*batch, white])

    assert [type(result) for result in results] == [Segmentation, Segmentation, Segmentation, EngineFailed]
    # In a batch of two, as halving leaves it.
    assert unwrap(results[0]).segments == unwrap(segmenter.segment(batch[:2])[0]).segments


def test_an_image_that_fails_in_post_processing_does_not_affect_the_others(segmenter: Segmenter) -> None:
    [cat] = prepare(segmenter, "cat")
    impossible = Prepared(cat.pixels, 0, 10, cat.parameters)

    results = segmenter.segment([impossible, cat])

    assert isinstance(results[0], EngineFailed)
    assert unwrap(results[1]).segments


def save_small_segformer(folder: Path) -> None:
    config = transformers.SegformerConfig(
        num_encoder_blocks=2,
        depths=[1, 1],
        sr_ratios=[2, 1],
        hidden_sizes=[8, 16],
        patch_sizes=[7, 3],
        strides=[4, 2],
        num_attention_heads=[1, 2],
        mlp_ratios=[2, 2],
        decoder_hidden_size=16,
        id2label={number: f"class {number}" for number in range(5)},
    )
    transformers.SegformerForSemanticSegmentation(config).save_pretrained(folder)
    transformers.SegformerImageProcessorPil(size={"height": 64, "width": 64}).save_pretrained(folder)


def save_small_maskformer(folder: Path) -> None:
    backbone = transformers.SwinConfig(
        image_size=64,
        embed_dim=16,
        depths=[1, 1, 1, 1],
        num_heads=[1, 1, 1, 1],
        window_size=4,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )
    decoder = transformers.DetrConfig(
        d_model=32, decoder_layers=2, decoder_ffn_dim=32, decoder_attention_heads=2, num_queries=12
    )
    config = transformers.MaskFormerConfig(
        backbone_config=backbone,
        decoder_config=decoder,
        fpn_feature_size=32,
        mask_feature_size=32,
        id2label={number: f"class {number}" for number in range(3)},
    )
    transformers.MaskFormerForInstanceSegmentation(config).save_pretrained(folder)
    transformers.MaskFormerImageProcessorPil(size={"height": 64, "width": 96}).save_pretrained(folder)


@pytest.mark.parametrize(
    ("save", "subtasks"),
    [(save_small_segformer, [None, Subtask.SEMANTIC]), (save_small_maskformer, [None, *Subtask])],
    ids=["segformer", "maskformer"],
)
def test_a_model_of_another_family_gives_the_results_of_the_pipeline(
    tmp_path: Path, save: Callable[[Path], None], subtasks: Sequence[Subtask | None]
) -> None:
    torch.manual_seed(0)
    silence_transformers()
    save(tmp_path)
    segmenter, pipeline = load(str(tmp_path), tmp_path), load_reference(tmp_path)
    segmenter.warm_up()
    for subtask in subtasks:
        parameters = SegmentParameters(0.0, 0.1, 0.1, subtask)
        for name in ("cat", "tall"):
            # The batch has another image, which must not matter.
            batch = [prepare_image(segmenter, sample_images()[one], parameters) for one in ("odd", name)]

            result = segmenter.segment(batch)[1]

            assert unwrap(result).segments
            assert_same(unwrap(result), pipeline(sample_images()[name], **pipeline_arguments(parameters)))


@pytest.mark.parametrize("name", ["fuse_stuff", "strict_instance_thresholds"])
def test_parameters_that_the_pipeline_lacks_are_rejected(tmp_path: Path, name: str) -> None:
    save_small_segformer(tmp_path)
    segmenter = load(str(tmp_path), tmp_path)

    with pytest.raises(BadParameter, match=name):
        prepare_image(segmenter, sample_images()["tiny"], SegmentParameters(**{name: True}))


def test_stuff_is_fused_if_the_classes_are_those_of_coco(segmenter: Segmenter) -> None:
    parameters = SegmentParameters(threshold=0.0, overlap_mask_area_threshold=0.0)
    image = sample_images()["astronaut"]
    apart, together = (
        unwrap(segmenter.segment([prepare_image(segmenter, image, replace(parameters, fuse_stuff=fuse))])[0])
        for fuse in (False, True)
    )

    stuff = [segment.label for segment in together.segments if segment.label in STUFF]
    assert len(stuff) == len(set(stuff)) > 0
    assert len([segment for segment in apart.segments if segment.label in STUFF]) >= len(stuff)
    assert (apart.label_map > 0).sum() == (together.label_map > 0).sum()


def test_an_unknown_subtask_is_rejected_with_the_known_ones(tmp_path: Path) -> None:
    save_small_segformer(tmp_path)
    segmenter = load(str(tmp_path), tmp_path)

    with pytest.raises(BadParameter, match="no subtask instance; it has: semantic"):
        prepare_image(segmenter, sample_images()["tiny"], SegmentParameters(subtask=Subtask.INSTANCE))
