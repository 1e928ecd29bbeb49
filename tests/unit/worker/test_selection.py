"""Selection of segments by their labels: what is left is what was there, and numbered without gaps."""

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from shared.jobs.result import Segment
from tests.support.jobs import segment_halves
from worker.segmenter import Segmentation
from worker.selection import select_labels

LABELS = ("cat", "dog", "sky")


@st.composite
def segmentations(draw: st.DrawFn) -> Segmentation:
    """Return up to 300 segments of three labels, some of which have no pixel."""
    count = draw(st.sampled_from([0, 1, 2, 5, 255, 256, 300]))
    dtype = np.uint8 if count <= 255 else np.uint16
    shape = draw(st.tuples(st.integers(1, 6), st.integers(1, 6)))
    label_map = draw(arrays.arrays(dtype, shape, elements=st.integers(0, count)))
    seed = draw(st.integers(0, 2**16))
    names = np.random.default_rng(seed).choice(LABELS, size=count)
    segments = tuple(
        Segment(number, str(name), 1, 0.9, int((label_map == number).sum()), (0, 0, 1, 1))
        for number, name in enumerate(names, start=1)
    )
    return Segmentation(label_map, segments)


@given(segmentations(), st.sets(st.sampled_from((*LABELS, "absent"))))
def test_a_selection_has_the_pixels_of_its_segments_and_no_others(whole: Segmentation, labels: set[str]) -> None:
    before = whole.label_map.copy()
    wanted = [segment for segment in whole.segments if not labels or segment.label in labels]

    found = select_labels(whole, sorted(labels))

    assert [segment.id for segment in found.segments] == list(range(1, len(wanted) + 1))
    assert [replace(segment, id=0) for segment in found.segments] == [replace(segment, id=0) for segment in wanted]
    assert found.label_map.dtype == (np.uint8 if len(wanted) <= 255 else whole.label_map.dtype)
    assert found.label_map.shape == whole.label_map.shape
    for new, old in zip(found.segments, wanted, strict=True):
        assert ((found.label_map == new.id) == (whole.label_map == old.id)).all()
    assert (found.label_map > 0).sum() == np.isin(whole.label_map, [segment.id for segment in wanted]).sum()
    assert (whole.label_map == before).all()


def test_a_selection_of_nothing_is_an_empty_result() -> None:
    found = select_labels(segment_halves(6, 4), ["absent"])

    assert found.segments == ()
    assert not found.label_map.any()
