"""The engine and transformers' own pipeline, side by side on real photos: nothing may differ."""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from shared.errors import BadParameter, EngineFailed, MaskmillError, ModelUnusable, OutOfMemory
from shared.jobs.parameters import SegmentParameters, Subtask
from tests.support.images import photos, sideways_cat
from worker.embedded_model import FOLDER
from worker.embedded_model.backbone import register
from worker.engine.coco_classes import STUFF
from worker.engine.loader import load_segmenter, quieten
from worker.engine.mask2former.segmenter import Mask2FormerSegmenter
from worker.pipeline.decode import decode
from worker.segmenter import Prepared, Segmentation, Segmenter

Pipeline = Callable[..., Sequence[Mapping[str, Any]]]

PHOTOS = sorted(photos())
# The defaults; a model that is less sure; and everything that it thinks of, where much overlaps.
THRESHOLDS = [(0.9, 0.5, 0.5), (0.5, 0.5, 0.5), (0.0, 0.3, 0.8)]
SHARE_IN_BATCHES = 0.9999

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory: pytest.TempPathFactory) -> Segmenter:
    return loaded("embedded", tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    register()
    return reference(FOLDER)


def loaded(model: str, cache: Path) -> Segmenter:
    return load_segmenter(model, public_id="maskmill/test", device="cpu", cache=cache, download=refuse)


def refuse(source: str, into: Path) -> None:
    raise AssertionError(f"{source} should not be fetched")


def reference(folder: Path) -> Pipeline:
    quieten()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="You'd better set embed_dim")
        pipeline: Pipeline = transformers.pipeline("image-segmentation", model=str(folder), device="cpu")
    return pipeline


def keywords(wanted: SegmentParameters) -> dict[str, Any]:
    """Spell parameters as a caller of the pipeline does."""
    own = {"fuse_stuff", "strict_instance_thresholds"}
    return {name: value for name, value in asdict(wanted).items() if value is not None and name not in own}


def one(result: Segmentation | MaskmillError) -> Segmentation:
    if isinstance(result, MaskmillError):
        raise result
    return result


def assert_same(result: Segmentation, expected: Sequence[Mapping[str, Any]]) -> None:
    assert [(segment.label, segment.score) for segment in result.segments] == [
        (segment["label"], segment["score"]) for segment in expected
    ]
    for segment, wanted in zip(result.segments, expected, strict=True):
        mask = np.asarray(wanted["mask"]) == 255
        assert np.array_equal(result.label_map == segment.id, mask)
        assert segment.area == mask.sum()


@pytest.mark.parametrize("name", PHOTOS)
def test_a_photo_alone_is_answered_exactly_alike(segmenter: Segmenter, pipeline: Any, name: str) -> None:
    photo = photos()[name]
    # The pipeline's forward pass is the same for all parameters, so it is run once.
    output = pipeline.forward(pipeline.preprocess(photo))
    for wanted in all_parameters():
        [result] = segmenter.segment([segmenter.prepare(photo, wanted)])

        assert_same(one(result), pipeline.postprocess(output, **keywords(wanted)))


def all_parameters() -> Iterator[SegmentParameters]:
    yield SegmentParameters(subtask=Subtask.SEMANTIC)  # no threshold matters to it
    for subtask in (Subtask.PANOPTIC, Subtask.INSTANCE):
        for levels in THRESHOLDS:
            yield SegmentParameters(*levels, subtask=subtask)


def test_without_a_subtask_it_is_the_pipelines_own_first_choice(segmenter: Segmenter, pipeline: Pipeline) -> None:
    photo = photos()["astronaut"]

    [result] = segmenter.segment([segmenter.prepare(photo, SegmentParameters())])

    assert_same(one(result), pipeline(photo))


def test_a_photo_that_lies_on_its_side_is_answered_alike(
    segmenter: Segmenter, pipeline: Pipeline, tmp_path: Path
) -> None:
    (tmp_path / "cat.jpg").write_bytes(sideways_cat())
    wanted = SegmentParameters(threshold=0.5)

    [result] = segmenter.segment([segmenter.prepare(decode(sideways_cat(), max_pixels=10**6), wanted)])

    assert one(result).label_map.shape == (300, 451)
    assert_same(one(result), pipeline(str(tmp_path / "cat.jpg"), **keywords(wanted)))


def test_preparing_an_image_gives_the_bits_of_the_pipeline(segmenter: Segmenter, pipeline: Any) -> None:
    for photo in photos().values():
        expected = pipeline.preprocess(photo)["pixel_values"][0]

        assert torch.equal(segmenter.prepare(photo, SegmentParameters()).pixels, expected)


def test_a_batch_of_many_sizes_and_parameters_is_answered_alike(segmenter: Segmenter) -> None:
    jobs = [
        (photo, SegmentParameters(threshold=0.3, subtask=subtask))
        for photo, subtask in zip(photos().values(), [*Subtask] * 3, strict=True)
    ]
    alone = [one(segmenter.segment([segmenter.prepare(*job)])[0]) for job in jobs]

    together = [one(result) for result in segmenter.segment([segmenter.prepare(*job) for job in jobs])]

    pixels = [(got.label_map == wanted.label_map).mean() for got, wanted in zip(together, alone, strict=True)]
    assert min(pixels) >= SHARE_IN_BATCHES
    labels = [[segment.label for segment in result.segments] for result in together]
    assert labels == [[segment.label for segment in result.segments] for result in alone]


class TightMemory(torch.nn.Module):
    """A device on which only so many images fit, and on which a white one breaks the model."""

    def __init__(self, network: Any, room: int) -> None:
        super().__init__()
        self.network, self.config, self.room = network, network.config, room

    def forward(self, pixel_values: torch.Tensor) -> Any:
        if len(pixel_values) > self.room:
            raise torch.OutOfMemoryError("no room")
        if any(float(image.min()) > 2 for image in pixel_values):
            raise ValueError("too white")
        return self.network(pixel_values=pixel_values)


def tight(segmenter: Segmenter, room: int) -> Mask2FormerSegmenter:
    assert isinstance(segmenter, Mask2FormerSegmenter)
    network = TightMemory(segmenter._network, room)
    return Mask2FormerSegmenter(network, segmenter._processor, model="tight", revision="0", device="cpu")


def prepared(segmenter: Segmenter, *names: str) -> list[Prepared]:
    return [segmenter.prepare(photos()[name], SegmentParameters(threshold=0.5)) for name in names]


def test_a_batch_that_does_not_fit_is_halved_until_it_does(segmenter: Segmenter) -> None:
    batch = prepared(segmenter, "cat", "coffee", "tiny", "odd", "grey")

    results = tight(segmenter, room=2).segment(batch)

    # In the same company as after halving: in another, sums are rounded otherwise, which can move a pixel.
    halves = batch[:2], batch[2:3], batch[3:]
    expected = [one(result) for half in halves for result in segmenter.segment(half)]
    assert [one(result).segments for result in results] == [result.segments for result in expected]


def test_an_image_that_does_not_fit_alone_says_so(segmenter: Segmenter) -> None:
    [result] = tight(segmenter, room=0).segment(prepared(segmenter, "cat"))

    assert isinstance(result, OutOfMemory)


def test_a_model_that_cannot_even_do_a_blank_image_is_unusable(segmenter: Segmenter) -> None:
    with pytest.raises(ModelUnusable, match="tight fails on a blank image on cpu"):
        tight(segmenter, room=0).warm_up()


def test_an_image_that_breaks_the_model_harms_no_other(segmenter: Segmenter) -> None:
    batch = prepared(segmenter, "cat", "tiny", "coffee")
    white = Prepared(torch.full_like(batch[0].pixels, 3.0), 10, 10, SegmentParameters())

    results = tight(segmenter, room=9).segment([*batch, white])

    assert [type(result) for result in results] == [Segmentation, Segmentation, Segmentation, EngineFailed]
    assert one(results[0]).segments == one(segmenter.segment(batch[:1])[0]).segments


def test_an_image_that_breaks_the_post_processing_harms_no_other(segmenter: Segmenter) -> None:
    [cat] = prepared(segmenter, "cat")
    impossible = Prepared(cat.pixels, 0, 10, cat.parameters)

    results = segmenter.segment([impossible, cat])

    assert isinstance(results[0], EngineFailed)
    assert one(results[1]).segments


def small_segformer(folder: Path) -> None:
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


def small_maskformer(folder: Path) -> None:
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
    ("make", "subtasks"),
    [(small_segformer, [None, Subtask.SEMANTIC]), (small_maskformer, [None, *Subtask])],
    ids=["segformer", "maskformer"],
)
def test_a_model_of_another_family_is_answered_exactly_alike(
    tmp_path: Path, make: Callable[[Path], None], subtasks: Sequence[Subtask | None]
) -> None:
    torch.manual_seed(0)
    quieten()
    make(tmp_path)
    segmenter, pipeline = loaded(str(tmp_path), tmp_path), reference(tmp_path)
    segmenter.warm_up()
    for subtask in subtasks:
        wanted = SegmentParameters(0.0, 0.1, 0.1, subtask)
        for name in ("cat", "tall"):
            [result] = segmenter.segment([segmenter.prepare(photos()[name], wanted)])

            assert one(result).segments
            assert_same(one(result), pipeline(photos()[name], **keywords(wanted)))


@pytest.mark.parametrize("name", ["fuse_stuff", "strict_instance_thresholds"])
def test_what_the_pipeline_does_not_know_is_refused_where_it_does_the_work(tmp_path: Path, name: str) -> None:
    small_segformer(tmp_path)
    segmenter = loaded(str(tmp_path), tmp_path)

    with pytest.raises(BadParameter, match=name):
        segmenter.prepare(photos()["tiny"], SegmentParameters(**{name: True}))


def test_stuff_can_be_fused_where_the_classes_are_cocos(segmenter: Segmenter) -> None:
    wanted = SegmentParameters(threshold=0.0, overlap_mask_area_threshold=0.0)
    apart, together = (
        one(segmenter.segment([segmenter.prepare(photos()["astronaut"], replace(wanted, fuse_stuff=fuse))])[0])
        for fuse in (False, True)
    )

    stuff = [segment.label for segment in together.segments if segment.label in STUFF]
    assert len(stuff) == len(set(stuff)) > 0
    assert len([segment for segment in apart.segments if segment.label in STUFF]) >= len(stuff)
    assert (apart.label_map > 0).sum() == (together.label_map > 0).sum()


def test_a_subtask_that_a_model_lacks_is_refused_with_those_it_has(tmp_path: Path) -> None:
    small_segformer(tmp_path)
    segmenter = loaded(str(tmp_path), tmp_path)

    with pytest.raises(BadParameter, match="no subtask instance; it has: semantic"):
        segmenter.prepare(photos()["tiny"], SegmentParameters(subtask=Subtask.INSTANCE))
