"""Post-processing against transformers' own: the same labels, scores, order and pixels, to the last bit."""

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
from worker.engine.loader import quieten
from worker.engine.postprocessing import (
    GRID,
    Budget,
    Found,
    Logits,
    Task,
    contenders,
    level_of,
    map_type,
    mask_scores,
    painting,
    renumbered,
    resized,
    resized_bands,
    segmentation,
    winners,
)

# What the pipeline would say: label id, score, mask.
Answer = list[tuple[int, float | None, np.ndarray]]

SIDES = st.integers(1, 64) | st.integers(65, 500) | st.sampled_from([128, 129, 383, 384, 385, 768])
LEVELS = st.sampled_from([0.0, 0.3, 0.5, 0.9, 1.0]) | st.floats(0, 1, width=32)


@pytest.fixture(scope="module", autouse=True)
def _quiet() -> None:
    quieten()


@pytest.fixture(params=[1, 2], ids=["one_thread", "two_threads"], autouse=True, scope="module")
def _threads(request: pytest.FixtureRequest) -> Iterator[None]:
    """torch chooses its plan by the number of its threads as well."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


def random_logits(seed: int, *, queries: int, classes: int, ties: bool = False) -> Logits:
    """Blobs rather than noise; with `ties`, logits are whole numbers, so that many are equal."""
    draw = torch.Generator().manual_seed(seed)
    masks = interpolate(torch.randn(1, queries, 5, 4, generator=draw) * 12, size=(24, 20), mode="bilinear")[0]
    odds = torch.randn(queries, classes + 1, generator=draw) * 4
    return Logits(odds.round(), masks.round()) if ties else Logits(odds, masks)


def reference(logits: Logits, size: tuple[int, int], subtask: Subtask, parameters: SegmentParameters) -> Answer:
    """Do what transformers' pipeline does with the processor's answer."""
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

    painted = painting(logits, subtask, Task(size, parameters))

    assert [(one.label_id, one.score) for one in painted.found] == [(label, score) for label, score, _ in expected]
    for number, (_, _, mask) in enumerate(expected, start=1):
        assert np.array_equal(painted.label_map.numpy() == number, mask)
    if subtask != Subtask.SEMANTIC:
        assert (painted.label_map.numpy() > 0).sum() == sum(mask.sum() for _, _, mask in expected)


@given(
    seed=st.integers(0, 2**32 - 1),
    queries=st.integers(2, 9),
    classes=st.integers(1, 6),
    ties=st.booleans(),
    size=st.tuples(SIDES, SIDES),
    levels=st.tuples(LEVELS, LEVELS, LEVELS),
    subtask=st.sampled_from(Subtask),
)
@example(seed=0, queries=4, classes=3, ties=False, size=(1, 1), levels=(0.0, 0.5, 0.5), subtask=Subtask.PANOPTIC)
@example(seed=0, queries=4, classes=3, ties=True, size=(1, 700), levels=(0.0, 0.0, 0.0), subtask=Subtask.PANOPTIC)
@example(seed=0, queries=4, classes=3, ties=True, size=(700, 1), levels=(0.0, 0.0, 0.0), subtask=Subtask.INSTANCE)
@example(seed=0, queries=4, classes=3, ties=True, size=(300, 2), levels=(0.0, 0.0, 0.0), subtask=Subtask.SEMANTIC)
@settings(max_examples=80, deadline=None)
def test_any_image_is_segmented_as_transformers_does_it(
    seed: int,
    queries: int,
    classes: int,
    ties: bool,
    size: tuple[int, int],
    levels: tuple[float, float, float],
    subtask: Subtask,
) -> None:
    logits = random_logits(seed, queries=queries, classes=classes, ties=ties)

    assert_same(logits, size, subtask, SegmentParameters(*levels))


@pytest.mark.parametrize("subtask", Subtask)
def test_a_large_photo_is_segmented_as_transformers_does_it(subtask: Subtask) -> None:
    logits = random_logits(7, queries=12, classes=5)

    assert_same(logits, (1203, 1801), subtask, SegmentParameters(threshold=0.2))


@pytest.mark.parametrize("subtask", Subtask)
def test_every_query_may_be_kept(subtask: Subtask) -> None:
    logits = random_logits(11, queries=60, classes=7)

    assert_same(logits, (90, 120), subtask, SegmentParameters(0.0, 0.0, 0.0))


@pytest.mark.parametrize("subtask", [Subtask.PANOPTIC, Subtask.INSTANCE])
def test_where_nothing_is_likely_enough_the_map_is_empty(subtask: Subtask) -> None:
    logits = random_logits(3, queries=5, classes=4)

    painted = painting(logits, subtask, Task((40, 30), SegmentParameters(threshold=1.0)))

    assert painted.found == ()
    assert painted.label_map.shape == (40, 30)
    assert not painted.label_map.any()


def test_a_threshold_that_a_score_just_reaches_is_taken_as_transformers_takes_it() -> None:
    logits = random_logits(5, queries=6, classes=3)
    size = (50, 60)
    scores = logits.classes.softmax(-1).amax(-1).tolist()

    for score in scores:
        assert_same(logits, size, Subtask.PANOPTIC, SegmentParameters(threshold=score))


def test_an_instance_whose_score_just_reaches_the_threshold_is_shown() -> None:
    # Masks so sure that their own score is exactly 1.
    logits = Logits(random_logits(5, queries=6, classes=3).classes, torch.full((6, 8, 8), 40.0))
    scores = logits.classes.softmax(-1)[:, :-1].flatten().topk(6).values.tolist()

    for score in scores:
        assert_same(logits, (50, 60), Subtask.INSTANCE, SegmentParameters(threshold=score))


def test_an_instance_too_small_for_the_image_is_not_shown() -> None:
    masks = torch.full((2, *GRID), -9.0)
    masks[0, 1, 1] = masks[1, 100:200, 100:200] = 9.0
    logits = Logits(torch.tensor([[9.0, 0, 0], [0, 9.0, 0]]), masks)

    painted = painting(logits, Subtask.INSTANCE, Task((10, 10), SegmentParameters(threshold=0.5)))

    assert [found.label_id for found in painted.found] == [1]
    assert_same(logits, (10, 10), Subtask.INSTANCE, SegmentParameters(threshold=0.5))


def test_a_mask_alone_has_the_score_that_it_has_among_others() -> None:
    masks = torch.randn(20, *GRID, generator=torch.Generator().manual_seed(0))

    together = mask_scores(masks, masks > 0)

    assert [mask_scores(mask[None], mask[None] > 0).item() for mask in masks] == together.tolist()


def test_an_instance_that_others_paint_over_stays_with_an_empty_mask() -> None:
    same_place = torch.full((2, 8, 8), 9.0)
    logits = Logits(torch.tensor([[9.0, 0, 0], [0, 9.0, 0]]), same_place)

    painted = painting(logits, Subtask.INSTANCE, Task((20, 30), SegmentParameters(threshold=0.5)))
    result = segmentation(painted.label_map.numpy(), painted.found, {0: "cat", 1: "dog"})

    assert [segment.id for segment in result.segments] == [1, 2]
    assert sorted(segment.area for segment in result.segments) == [0, 600]
    assert result.segments[0].bbox == (0, 0, 0, 0)
    assert result.segments[1].bbox == (0, 0, 30, 20)


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
def test_a_resize_in_bands_has_the_bits_of_the_whole(
    seed: int, count: int, size: tuple[int, int], total_bytes: int
) -> None:
    planes = torch.randn(count, *GRID, generator=torch.Generator().manual_seed(seed))
    whole = interpolate(planes[None], size=size, mode="bilinear", align_corners=False)[0]

    bands = list(resized_bands(planes, size, among=count, budget=Budget(total_bytes)))

    assert [band.columns.start for band in bands[1:]] == [band.columns.stop for band in bands[:-1]]
    assert torch.equal(torch.cat([band.values for band in bands], dim=2), whole)


def test_three_planes_are_cut_into_bands_wherever_that_leaves_their_bits() -> None:
    planes = torch.rand(3, *GRID, generator=torch.Generator().manual_seed(0))
    size = 900, 1300

    bands = list(resized_bands(planes, size, among=3, budget=Budget(2**20)))

    whole = interpolate(planes[None], size=size, mode="bilinear", align_corners=False)[0]
    assert torch.equal(torch.cat([band.values for band in bands], dim=2), whole)
    assert (len(bands) > 1) == (torch.get_num_threads() > 1)


@pytest.mark.parametrize("among", [1, 2, 3, 4, 7])
def test_some_of_many_planes_are_resized_with_the_bits_that_they_have_among_all(among: int) -> None:
    planes = torch.randn(among, *GRID, generator=torch.Generator().manual_seed(among))
    whole = interpolate(planes[None], size=(500, 300), mode="bilinear", align_corners=False)[0]

    for count in range(1, among + 1):
        assert torch.equal(resized(planes[:count], (500, 300), among=among), whole[:count])


@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 6), total_bytes=st.integers(16, 2**23))
@settings(max_examples=20, deadline=None)
def test_the_winner_is_the_first_of_the_highest_however_the_planes_are_split(
    seed: int, count: int, total_bytes: int
) -> None:
    planes = torch.randint(0, 3, (count, *GRID), generator=torch.Generator().manual_seed(seed)).float()
    whole = interpolate(planes[None], size=(50, 400), mode="bilinear", align_corners=False)[0]

    won = winners(planes, (50, 400), among=count, at_least=1.0, budget=Budget(total_bytes))

    assert torch.equal(won.plane.long(), whole.argmax(0))
    assert won.areas.tolist() == (whole >= 1.0).flatten(1).sum(1).tolist()


@given(seed=st.integers(0, 2**32 - 1), spread=st.sampled_from([0.1, 1.0, 8.0]))
@settings(max_examples=15, deadline=None)
def test_a_plane_that_is_left_out_wins_nowhere(seed: int, spread: float) -> None:
    planes = random_planes(seed, spread)
    size = (1200, 1100)

    contest = contenders(planes, size, at_least=0.7)

    whole = interpolate(planes[None], size=size, mode="bilinear", align_corners=False)[0]
    assert set(whole.argmax(0).unique().tolist()) <= set(contest.numbers.tolist())
    won = winners(
        planes[contest.numbers],
        size,
        among=len(planes),
        at_least=0.7,
        contested=contest.columns,
        budget=Budget(2**24),
    )
    assert torch.equal(contest.numbers[won.plane.long()], whole.argmax(0))
    assert won.areas.tolist() == (whole >= 0.7).flatten(1).sum(1)[contest.numbers].tolist()


def random_planes(seed: int, spread: float) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    rough = torch.randn(1, 13, 9, 9, generator=draw) + torch.randn(1, 13, 1, 1, generator=draw) * spread
    return interpolate(rough, size=GRID, mode="bilinear")[0].sigmoid()


def test_a_plane_that_is_beaten_everywhere_is_left_out() -> None:
    planes = torch.stack([torch.full(GRID, level) for level in (0.2, 0.9, 0.9)])

    contest = contenders(planes, (3000, 4000))

    assert contest.numbers.tolist() == [1, 2]


def test_more_than_255_segments_need_16_bits() -> None:
    plane = torch.arange(300, dtype=map_type(299)).view(10, 30)

    label_map = renumbered(plane, range(1, 301)).numpy()
    result = segmentation(label_map, found_many(300), {0: "thing"})

    assert result.label_map.dtype == np.uint16
    assert [segment.area for segment in result.segments] == [1] * 300
    assert result.segments[299].bbox == (29, 9, 1, 1)


def found_many(count: int) -> Sequence[Found]:
    return [Found(0, 0.5)] * count


def segment_per_query(*wanted: tuple[int, slice]) -> Logits:
    """Let one query see each class in some columns of the grid."""
    masks = torch.full((len(wanted), *GRID), -9.0)
    classes = torch.zeros(len(wanted), 4)
    for number, (label, columns) in enumerate(wanted):
        masks[number, :, columns] = 9.0
        classes[number, label] = 9.0 - number / 4
    return Logits(classes, masks)


def test_stuff_of_one_class_becomes_one_segment_with_the_best_score() -> None:
    logits = segment_per_query((0, slice(0, 96)), (1, slice(96, 192)), (1, slice(192, 288)), (0, slice(288, 384)))
    plain, fused = (SegmentParameters(0.5, fuse_stuff=fuse) for fuse in (False, True))

    apart = painting(logits, Subtask.PANOPTIC, Task(GRID, plain, stuff=frozenset({1})))
    together = painting(logits, Subtask.PANOPTIC, Task(GRID, fused, stuff=frozenset({1})))

    assert [one.label_id for one in apart.found] == [0, 1, 1, 0]
    assert [one.label_id for one in together.found] == [0, 1, 0]
    assert together.found[1].score == apart.found[1].score
    assert together.label_map[0, ::96].tolist() == [1, 2, 2, 3]


def test_nothing_is_fused_that_is_not_stuff() -> None:
    logits = segment_per_query((0, slice(0, 200)), (0, slice(200, 384)))

    painted = painting(
        logits, Subtask.PANOPTIC, Task(GRID, SegmentParameters(0.5, fuse_stuff=True), stuff=frozenset({1}))
    )

    assert [one.label_id for one in painted.found] == [0, 0]


def test_a_strict_instance_has_the_pixels_above_the_mask_threshold() -> None:
    logits = segment_per_query((0, slice(0, 100)))
    logits.masks[:, :, 100:200] = level_of(0.8)

    for threshold, columns in ((0.7, 200), (0.9, 100)):
        wanted = SegmentParameters(0.5, mask_threshold=threshold, strict_instance_thresholds=True)
        painted = painting(logits, Subtask.INSTANCE, Task(GRID, wanted))

        assert (painted.label_map[0] > 0).sum() == columns


def test_a_strict_instance_that_is_painted_over_for_the_most_part_is_dropped() -> None:
    logits = segment_per_query((0, slice(0, 300)), (1, slice(0, 200)), (2, slice(310, 384)))
    strict = SegmentParameters(0.5, strict_instance_thresholds=True)
    loose = SegmentParameters(0.5, overlap_mask_area_threshold=0.3, strict_instance_thresholds=True)

    kept, all_of_them = (painting(logits, Subtask.INSTANCE, Task(GRID, wanted)) for wanted in (strict, loose))

    # In which order equal hopes are painted is torch's business: the first or the second is on top.
    assert len(all_of_them.found) in (2, 3)
    assert 2 in {one.label_id for one in kept.found}
    for painted in (kept, all_of_them):
        assert set(painted.label_map.unique().tolist()) - {0} == set(range(1, len(painted.found) + 1))
