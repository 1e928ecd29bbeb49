"""A recut of what was kept equals the post-processing of all logits bit for bit, and its file loses nothing."""

import struct

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch.nn.functional import interpolate

from shared.errors import AllQueriesNeeded, BadParameter, ThresholdBelowFloor
from shared.jobs.parameters import SegmentParameters, Subtask
from worker.engine.postprocessing.postprocess import postprocess
from worker.engine.postprocessing.segments import measure_segments
from worker.engine.postprocessing.selection import select_logits
from worker.engine.postprocessing.types import Budget, Logits, PostprocessOptions
from worker.engine.recut import recut
from worker.recut.file import RecutData
from worker.recut.kept import KeepRule, RecutModel

MANY_BYTES = 2**20
SIZE = (90, 120)
STUFF = frozenset({0, 2})


def random_logits(seed: int, *, queries: int = 9, classes: int = 5, ties: bool = False) -> Logits:
    """Return smooth masks and scores of all sizes; with `ties` the logits are integers, so that many are equal."""
    draw = torch.Generator().manual_seed(seed)
    masks = interpolate(torch.randn(1, queries, 5, 4, generator=draw) * 12, size=(24, 20), mode="bilinear")[0]
    class_logits = torch.randn(queries, classes + 1, generator=draw) * 3
    return Logits(class_logits.round(), masks.round()) if ties else Logits(class_logits, masks)


def keep(logits: Logits, rule: KeepRule, *, stuff: frozenset[int] | None = STUFF) -> RecutData:
    names = {number: f"class {number}" for number in range(logits.classes.shape[1] - 1)}
    return RecutData("test/model", "r1", *SIZE, RecutModel(names, stuff), select_logits(logits, rule))


def assert_recut_is_fresh(logits: Logits, data: RecutData, parameters: SegmentParameters) -> None:
    """Compare a recut of what crossed a file with the segments of all logits."""
    options = PostprocessOptions(SIZE, parameters, stuff=STUFF)
    fresh = postprocess(logits, parameters.subtask or Subtask.PANOPTIC, options)
    expected = measure_segments(fresh.label_map.numpy(), fresh.labels, data.classes.names, stuff=data.classes.stuff)

    result = recut(RecutData.from_bytes(data.to_bytes()), parameters, SIZE, Budget())

    assert result.segments == expected.segments
    assert result.label_map.dtype == expected.label_map.dtype
    assert np.array_equal(result.label_map, expected.label_map)


@given(
    seed=st.integers(0, 2**32 - 1),
    queries=st.integers(2, 12),
    classes=st.integers(1, 6),
    ties=st.booleans(),
    floor=st.sampled_from([0.0, 0.05, 0.3]) | st.floats(0, 1, width=32),
    above=st.just(0.0) | st.floats(0, 1, width=32),
    rest=st.tuples(st.floats(0, 1, width=32), st.floats(0, 1, width=32)),
    subtask=st.sampled_from([Subtask.PANOPTIC, Subtask.INSTANCE]),
    switch=st.booleans(),
)
@example(
    seed=0,
    queries=3,
    classes=3,
    ties=True,
    floor=0.05,
    above=0.0,
    rest=(0.0, 0.0),
    subtask=Subtask.INSTANCE,
    switch=False,
)
@settings(max_examples=80, deadline=None)
def test_any_threshold_from_the_floor_on_gives_what_all_logits_give(
    seed: int,
    queries: int,
    classes: int,
    ties: bool,
    floor: float,
    above: float,
    rest: tuple[float, float],
    subtask: Subtask,
    switch: bool,
) -> None:
    logits = random_logits(seed, queries=queries, classes=classes, ties=ties)
    threshold = min(1.0, max(floor, floor + above * (1 - floor)))
    parameters = SegmentParameters(threshold, *rest, subtask, fuse_stuff=switch, strict_instance_thresholds=switch)

    assert_recut_is_fresh(logits, keep(logits, KeepRule(floor, MANY_BYTES)), parameters)


@given(seed=st.integers(0, 2**32 - 1), ties=st.booleans(), planes=st.integers(0, 8))
@settings(max_examples=40, deadline=None)
def test_the_floor_rises_where_the_bound_drops_queries(seed: int, ties: bool, planes: int) -> None:
    logits = random_logits(seed, ties=ties)
    max_bytes = logits.classes.nbytes + planes * logits.masks[0].nbytes

    data = keep(logits, KeepRule(0.05, max_bytes))

    assert len(data.logits.queries) <= planes
    for subtask in (Subtask.PANOPTIC, Subtask.INSTANCE):
        if data.logits.floor <= 1:
            parameters = SegmentParameters(data.logits.floor, 0.3, 0.3, subtask)
            assert_recut_is_fresh(logits, data, parameters)
        if data.logits.floor > 0.05:
            with pytest.raises(ThresholdBelowFloor):
                recut(data, SegmentParameters(0.05, subtask=subtask), SIZE, Budget())


@pytest.mark.parametrize("subtask", Subtask)
def test_all_queries_suffice_for_every_subtask_and_threshold(subtask: Subtask) -> None:
    logits = random_logits(5)

    data = keep(logits, KeepRule(0.9, MANY_BYTES, keeps_all=True))

    assert_recut_is_fresh(logits, data, SegmentParameters(0.0, subtask=subtask))


def test_a_recut_says_what_it_lacks() -> None:
    logits = random_logits(5)
    data = keep(logits, KeepRule(0.5, MANY_BYTES), stuff=None)

    with pytest.raises(ThresholdBelowFloor) as caught:
        recut(data, SegmentParameters(0.4), SIZE, Budget())
    assert caught.value.details == {"floor": 0.5}
    with pytest.raises(AllQueriesNeeded):
        recut(data, SegmentParameters(subtask=Subtask.SEMANTIC), SIZE, Budget())
    with pytest.raises(BadParameter, match="stuff"):
        recut(data, SegmentParameters(fuse_stuff=True), SIZE, Budget())


def test_what_is_kept_is_no_part_of_the_batch() -> None:
    logits = random_logits(5)

    kept = keep(logits, KeepRule(0.05, MANY_BYTES)).logits

    assert not np.shares_memory(kept.class_logits, logits.classes.numpy())
    assert not np.shares_memory(kept.mask_logits, logits.masks.numpy())


def test_a_file_gives_back_what_it_was_made_from() -> None:
    data = keep(random_logits(5), KeepRule(0.3, MANY_BYTES))

    read = RecutData.from_bytes(data.to_bytes())

    assert (read.model, read.revision, read.height, read.width) == ("test/model", "r1", *SIZE)
    assert read.classes == data.classes
    assert read.logits.floor == data.logits.floor
    for name in ("class_logits", "queries", "mask_logits"):
        assert np.array_equal(getattr(read.logits, name), getattr(data.logits, name))


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_a_damaged_file_is_refused(data: st.DataObject) -> None:
    content = bytearray(keep(random_logits(5), KeepRule(0.3, MANY_BYTES)).to_bytes())
    (header_bytes,) = struct.unpack_from("<I", content, 4)
    position = data.draw(st.integers(0, 8 + header_bytes + 8))
    damaged = bytes(content[:position]) + data.draw(st.sampled_from([b"", b"\xff", b"\xff" * 9]))

    with pytest.raises(ValueError):
        RecutData.from_bytes(damaged)
