"""Post-processing compared with transformers: labels, scores, order and pixels are equal, bit for bit."""

from collections.abc import Iterator, Sequence
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import interpolate
from transformers import Mask2FormerImageProcessorPil

from shared.jobs.parameters import SegmentParameters, Subtask
from worker.engine.loader import silence_transformers
from worker.engine.postprocessing.argmax import argmax_resized
from worker.engine.postprocessing.candidates import find_candidates
from worker.engine.postprocessing.instance import logit, mask_scores
from worker.engine.postprocessing.label_map import label_map_dtype, renumber
from worker.engine.postprocessing.postprocess import postprocess
from worker.engine.postprocessing.resize import GRID, resize_in_bands, resize_planes
from worker.engine.postprocessing.segments import measure_segments
from worker.engine.postprocessing.types import Budget, Logits, PostprocessOptions, ScoredLabel

# The pipeline's result: label id, score and mask (H, W) of each segment.
Reference = list[tuple[int, float | None, np.ndarray]]

SIDES = st.integers(1, 64) | st.integers(65, 500) | st.sampled_from([128, 129, 383, 384, 385, 768])
PROBABILITIES = st.sampled_from([0.0, 0.3, 0.5, 0.9, 1.0]) | st.floats(0, 1, width=32)


@pytest.fixture(scope="module", autouse=True)
def _quiet() -> None:
    silence_transformers()


@pytest.fixture(params=[1, 2], ids=["one_thread", "two_threads"], autouse=True, scope="module")
def _threads(request: pytest.FixtureRequest) -> Iterator[None]:
    """torch chooses its kernels by the number of threads too."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


def random_logits(seed: int, *, queries: int, classes: int, ties: bool = False) -> Logits:
    """Return smooth masks rather than noise; with `ties` the logits are integers, so that many are equal."""
    draw = torch.Generator().manual_seed(seed)
    masks = interpolate(torch.randn(1, queries, 5, 4, generator=draw) * 12, size=(24, 20), mode="bilinear")[0]
    classes_logits = torch.randn(queries, classes + 1, generator=draw) * 4
    return Logits(classes_logits.round(), masks.round()) if ties else Logits(classes_logits, masks)


def reference(logits: Logits, size: tuple[int, int], subtask: Subtask, parameters: SegmentParameters) -> Reference:
    """Return the segments of transformers' pipeline."""
    processor = Mask2FormerImageProcessorPil()
    output = SimpleNamespace(class_queries_logits=logits.classes[None], masks_queries_logits=logits.masks[None])
    if subtask == Subtask.SEMANTIC:
        class_map = processor.post_process_semantic_segmentation(output, target_sizes=[size])[0].numpy()
        return [(int(label), None, class_map == label) for label in np.unique(class_map)]
    thresholds = {name: getattr(parameters, name) for name in THRESHOLDS}
    process = getattr(processor, f"post_process_{subtask}_segmentation")
    answer = process(output, target_sizes=[size], **thresholds)[0]
    identifiers = answer["segmentation"].numpy()
    return [(one["label_id"], one["score"], identifiers == one["id"]) for one in answer["segments_info"]]


THRESHOLDS = ("threshold", "mask_threshold", "overlap_mask_area_threshold")


def assert_same(logits: Logits, size: tuple[int, int], subtask: Subtask, parameters: SegmentParameters) -> None:
    expected = reference(logits, size, subtask, parameters)

    result = postprocess(logits, subtask, PostprocessOptions(size, parameters))

    assert [(one.label_id, one.score) for one in result.labels] == [(label, score) for label, score, _ in expected]
    for number, (_, _, mask) in enumerate(expected, start=1):
        assert np.array_equal(result.label_map.numpy() == number, mask)
    if subtask != Subtask.SEMANTIC:
        assert (result.label_map.numpy() > 0).sum() == sum(mask.sum() for _, _, mask in expected)


@given(
    seed=st.integers(0, 2**32 - 1),
    queries=st.integers(2, 9),
    classes=st.integers(1, 6),
    ties=st.booleans(),
    size=st.tuples(SIDES, SIDES),
    probabilities=st.tuples(PROBABILITIES, PROBABILITIES, PROBABILITIES),
    subtask=st.sampled_from(Subtask),
)
@example(seed=0, queries=4, classes=3, ties=False, size=(1, 1), probabilities=(0.0, 0.5, 0.5), subtask=Subtask.PANOPTIC)
@example(
    seed=0, queries=4, classes=3, ties=True, size=(1, 700), probabilities=(0.0, 0.0, 0.0), subtask=Subtask.PANOPTIC
)
@example(
    seed=0, queries=4, classes=3, ties=True, size=(700, 1), probabilities=(0.0, 0.0, 0.0), subtask=Subtask.INSTANCE
)
@example(
    seed=0, queries=4, classes=3, ties=True, size=(300, 2), probabilities=(0.0, 0.0, 0.0), subtask=Subtask.SEMANTIC
)
@settings(max_examples=80, deadline=None)
def test_any_image_is_segmented_as_transformers_does_it(
    seed: int,
    queries: int,
    classes: int,
    ties: bool,
    size: tuple[int, int],
    probabilities: tuple[float, float, float],
    subtask: Subtask,
) -> None:
    logits = random_logits(seed, queries=queries, classes=classes, ties=ties)

    assert_same(logits, size, subtask, SegmentParameters(*probabilities))


@pytest.mark.parametrize("subtask", Subtask)
def test_a_large_image_is_segmented_as_transformers_does_it(subtask: Subtask) -> None:
    logits = random_logits(7, queries=12, classes=5)

    assert_same(logits, (1203, 1801), subtask, SegmentParameters(threshold=0.2))


@pytest.mark.parametrize("subtask", Subtask)
def test_all_queries_can_be_kept(subtask: Subtask) -> None:
    logits = random_logits(11, queries=60, classes=7)

    assert_same(logits, (90, 120), subtask, SegmentParameters(0.0, 0.0, 0.0))


@pytest.mark.parametrize("subtask", [Subtask.PANOPTIC, Subtask.INSTANCE])
def test_the_label_map_is_empty_if_no_score_reaches_the_threshold(subtask: Subtask) -> None:
    logits = random_logits(3, queries=5, classes=4)

    result = postprocess(logits, subtask, PostprocessOptions((40, 30), SegmentParameters(threshold=1.0)))

    assert result.labels == ()
    assert result.label_map.shape == (40, 30)
    assert not result.label_map.any()


def test_a_score_equal_to_the_threshold_is_treated_as_in_transformers() -> None:
    logits = random_logits(5, queries=6, classes=3)
    size = (50, 60)
    scores = logits.classes.softmax(-1).amax(-1).tolist()

    for score in scores:
        assert_same(logits, size, Subtask.PANOPTIC, SegmentParameters(threshold=score))


def test_an_instance_whose_score_equals_the_threshold_is_kept() -> None:
    # The logits are so high that the mean mask probability is exactly 1.
    logits = Logits(random_logits(5, queries=6, classes=3).classes, torch.full((6, 8, 8), 40.0))
    scores = logits.classes.softmax(-1)[:, :-1].flatten().topk(6).values.tolist()

    for score in scores:
        assert_same(logits, (50, 60), Subtask.INSTANCE, SegmentParameters(threshold=score))


def test_an_instance_without_a_pixel_in_the_image_is_dropped() -> None:
    masks = torch.full((2, *GRID), -9.0)
    masks[0, 1, 1] = masks[1, 100:200, 100:200] = 9.0
    logits = Logits(torch.tensor([[9.0, 0, 0], [0, 9.0, 0]]), masks)

    result = postprocess(logits, Subtask.INSTANCE, PostprocessOptions((10, 10), SegmentParameters(threshold=0.5)))

    assert [one.label_id for one in result.labels] == [1]
    assert_same(logits, (10, 10), Subtask.INSTANCE, SegmentParameters(threshold=0.5))


def test_the_score_of_a_mask_does_not_depend_on_the_number_of_masks() -> None:
    masks = torch.randn(20, *GRID, generator=torch.Generator().manual_seed(0))

    weights = (masks > 0).float()
    together = mask_scores(masks, weights)

    assert [mask_scores(masks[n : n + 1], weights[n : n + 1]).item() for n in range(20)] == together.tolist()


def test_an_instance_covered_by_others_is_kept_with_an_empty_mask() -> None:
    same_place = torch.full((2, 8, 8), 9.0)
    logits = Logits(torch.tensor([[9.0, 0, 0], [0, 9.0, 0]]), same_place)

    result = postprocess(logits, Subtask.INSTANCE, PostprocessOptions((20, 30), SegmentParameters(threshold=0.5)))
    segmentation = measure_segments(result.label_map.numpy(), result.labels, {0: "cat", 1: "dog"})

    assert [segment.id for segment in segmentation.segments] == [1, 2]
    assert sorted(segment.area for segment in segmentation.segments) == [0, 600]
    assert segmentation.segments[0].bbox == (0, 0, 0, 0)
    assert segmentation.segments[1].bbox == (0, 0, 30, 20)


@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(1, 4),
    size=st.tuples(SIDES, SIDES),
    total_bytes=st.integers(16, 2**24),
)
@example(seed=1, count=1, size=(1, 257), total_bytes=16)
@example(seed=1, count=1, size=(127, 300), total_bytes=16)
@example(seed=1, count=1, size=(128, 300), total_bytes=16)
@settings(max_examples=60, deadline=None)
def test_a_resize_in_bands_has_the_bits_of_a_resize_at_once(
    seed: int, count: int, size: tuple[int, int], total_bytes: int
) -> None:
    planes = torch.randn(count, *GRID, generator=torch.Generator().manual_seed(seed))
    whole = interpolate(planes[None], size=size, mode="bilinear", align_corners=False)[0]

    bands = list(resize_in_bands(planes, size, original_count=count, budget=Budget(total_bytes)))

    assert [band.columns.start for band in bands[1:]] == [band.columns.stop for band in bands[:-1]]
    assert torch.equal(torch.cat([band.values for band in bands], dim=2), whole)


def test_three_planes_are_resized_in_bands_only_if_the_bits_are_the_same() -> None:
    planes = torch.rand(3, *GRID, generator=torch.Generator().manual_seed(0))
    size = 900, 1300

    bands = list(resize_in_bands(planes, size, original_count=3, budget=Budget(2**20)))

    whole = interpolate(planes[None], size=size, mode="bilinear", align_corners=False)[0]
    assert torch.equal(torch.cat([band.values for band in bands], dim=2), whole)
    assert (len(bands) > 1) == (torch.get_num_threads() > 1)


@pytest.mark.parametrize("original_count", [1, 2, 3, 4, 7])
def test_a_subset_of_planes_is_resized_with_the_bits_of_a_resize_of_all(original_count: int) -> None:
    planes = torch.randn(original_count, *GRID, generator=torch.Generator().manual_seed(original_count))
    whole = interpolate(planes[None], size=(500, 300), mode="bilinear", align_corners=False)[0]

    for count in range(1, original_count + 1):
        assert torch.equal(resize_planes(planes[:count], (500, 300), original_count=original_count), whole[:count])


@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 6), total_bytes=st.integers(16, 2**23))
@settings(max_examples=20, deadline=None)
def test_the_argmax_is_the_first_maximum_for_any_split_of_the_planes(seed: int, count: int, total_bytes: int) -> None:
    planes = torch.randint(0, 3, (count, *GRID), generator=torch.Generator().manual_seed(seed)).float()
    whole = interpolate(planes[None], size=(50, 400), mode="bilinear", align_corners=False)[0]

    argmax = argmax_resized(planes, (50, 400), original_count=count, area_threshold=1.0, budget=Budget(total_bytes))

    assert torch.equal(argmax.index_map.long(), whole.argmax(0))
    assert argmax.areas.tolist() == (whole >= 1.0).flatten(1).sum(1).tolist()


@given(seed=st.integers(0, 2**32 - 1), spread=st.sampled_from([0.1, 1.0, 8.0]))
@settings(max_examples=15, deadline=None)
def test_a_dropped_plane_is_the_maximum_nowhere(seed: int, spread: float) -> None:
    planes = random_planes(seed, spread)
    size = (1200, 1100)

    candidates = find_candidates(planes, size, area_threshold=0.7)

    whole = interpolate(planes[None], size=size, mode="bilinear", align_corners=False)[0]
    # The first maximum, as of argmax(), in an eighth of its time.
    winners = whole.max(0).indices
    assert set(winners.flatten().bincount().nonzero().flatten().tolist()) <= set(candidates.indices.tolist())
    argmax = argmax_resized(
        planes[candidates.indices],
        size,
        original_count=len(planes),
        area_threshold=0.7,
        active_columns=candidates.columns,
        budget=Budget(2**24),
    )
    assert torch.equal(candidates.indices[argmax.index_map.long()], winners)
    assert argmax.areas.tolist() == [int(plane.count_nonzero()) for plane in (whole >= 0.7)[candidates.indices]]


def random_planes(seed: int, spread: float) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    rough = torch.randn(1, 13, 9, 9, generator=draw) + torch.randn(1, 13, 1, 1, generator=draw) * spread
    return interpolate(rough, size=GRID, mode="bilinear")[0].sigmoid()


def test_a_plane_below_another_everywhere_is_dropped() -> None:
    planes = torch.stack([torch.full(GRID, value) for value in (0.2, 0.9, 0.9)])

    candidates = find_candidates(planes, (3000, 4000))

    assert candidates.indices.tolist() == [1, 2]


def test_more_than_255_segments_need_16_bits() -> None:
    plane = torch.arange(300, dtype=label_map_dtype(299)).view(10, 30)

    label_map = renumber(plane, range(1, 301)).numpy()
    result = measure_segments(label_map, equal_labels(300), {0: "thing"})

    assert result.label_map.dtype == np.uint16
    assert [segment.area for segment in result.segments] == [1] * 300
    assert result.segments[299].bbox == (29, 9, 1, 1)


@pytest.mark.parametrize(("stuff", "expected"), [(None, [True, True]), (frozenset({1}), [True, False])])
def test_a_segment_of_a_class_without_instances_is_no_thing(stuff: frozenset[int] | None, expected: list[bool]) -> None:
    labels = [ScoredLabel(0, 0.5), ScoredLabel(1, 0.5)]

    result = measure_segments(np.array([[1, 2]], np.uint8), labels, {0: "cat", 1: "grass"}, stuff=stuff)

    assert [segment.is_thing for segment in result.segments] == expected


def equal_labels(count: int) -> Sequence[ScoredLabel]:
    return [ScoredLabel(0, 0.5)] * count


def one_query_per_segment(*segments: tuple[int, slice]) -> Logits:
    """Return logits of one query for each (label id, columns of the grid), with falling scores."""
    masks = torch.full((len(segments), *GRID), -9.0)
    classes = torch.zeros(len(segments), 4)
    for number, (label, columns) in enumerate(segments):
        masks[number, :, columns] = 9.0
        classes[number, label] = 9.0 - number / 4
    return Logits(classes, masks)


def test_fused_stuff_of_one_class_is_one_segment_with_the_highest_score() -> None:
    logits = one_query_per_segment((0, slice(0, 96)), (1, slice(96, 192)), (1, slice(192, 288)), (0, slice(288, 384)))
    plain, fused = (SegmentParameters(0.5, fuse_stuff=fuse) for fuse in (False, True))

    separate = postprocess(logits, Subtask.PANOPTIC, PostprocessOptions(GRID, plain, stuff=frozenset({1})))
    merged = postprocess(logits, Subtask.PANOPTIC, PostprocessOptions(GRID, fused, stuff=frozenset({1})))

    assert [one.label_id for one in separate.labels] == [0, 1, 1, 0]
    assert [one.label_id for one in merged.labels] == [0, 1, 0]
    assert merged.labels[1].score == separate.labels[1].score
    assert merged.label_map[0, ::96].tolist() == [1, 2, 2, 3]


def test_things_are_not_fused() -> None:
    logits = one_query_per_segment((0, slice(0, 200)), (0, slice(200, 384)))

    result = postprocess(
        logits,
        Subtask.PANOPTIC,
        PostprocessOptions(GRID, SegmentParameters(0.5, fuse_stuff=True), stuff=frozenset({1})),
    )

    assert [one.label_id for one in result.labels] == [0, 0]


def test_a_strict_instance_has_the_pixels_above_the_mask_threshold() -> None:
    logits = one_query_per_segment((0, slice(0, 100)))
    logits.masks[:, :, 100:200] = logit(0.8)

    for threshold, columns in ((0.7, 200), (0.9, 100)):
        parameters = SegmentParameters(0.5, mask_threshold=threshold, strict_instance_thresholds=True)
        result = postprocess(logits, Subtask.INSTANCE, PostprocessOptions(GRID, parameters))

        assert (result.label_map[0] > 0).sum() == columns


def test_a_strict_instance_that_is_mostly_covered_is_dropped() -> None:
    logits = one_query_per_segment((0, slice(0, 300)), (1, slice(0, 200)), (2, slice(310, 384)))
    strict = SegmentParameters(0.5, strict_instance_thresholds=True)
    loose = SegmentParameters(0.5, overlap_mask_area_threshold=0.3, strict_instance_thresholds=True)

    kept, all_of_them = (
        postprocess(logits, Subtask.INSTANCE, PostprocessOptions(GRID, parameters)) for parameters in (strict, loose)
    )

    # torch does not define the order of the first two masks, so either of them may be on top.
    assert len(all_of_them.labels) in (2, 3)
    assert 2 in {one.label_id for one in kept.labels}
    for result in (kept, all_of_them):
        assert set(result.label_map.unique().tolist()) - {0} == set(range(1, len(result.labels) + 1))
