"""The size of a model's input is known before an image is resized to it."""

from typing import Any

import numpy as np
import pytest
import transformers
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from transformers.image_processing_backends import PilBackend
from transformers.image_utils import SizeDict

from shared.errors import EngineFailed, ImageTooLarge, ImageTooNarrow, OutOfMemory
from worker.engine.preparation import bound_input, check_input_size, explain_failure, get_output_size

MAX_PIXELS = 4_000_000
sides = st.integers(1, 40)
sizes = st.one_of(
    st.builds(lambda short, more: SizeDict(shortest_edge=short, longest_edge=short + more), sides, st.integers(0, 40)),
    st.builds(lambda short: SizeDict(shortest_edge=short), sides),
    st.builds(lambda height, width: SizeDict(max_height=height, max_width=width), sides, sides),
    st.builds(lambda height, width: SizeDict(height=height, width=width), sides, sides),
)


@given(height=sides, width=sides, size=sizes)
def test_the_size_is_that_to_which_transformers_resizes(height: int, width: int, size: Any) -> None:
    expected = get_output_size((height, width), size)
    if min(expected) < 1:
        return

    resized = PilBackend().resize(np.zeros((3, height, width), np.uint8), size)

    assert resized.shape == (3, *expected)


@pytest.mark.parametrize("name", ["Mask2Former", "MaskFormer", "Detr", "ConditionalDetr", "Segformer", "Eomt", "Beit"])
def test_every_processor_is_bounded_and_still_itself(name: str) -> None:
    kind = getattr(transformers, f"{name}ImageProcessorPil")
    one_size = {"size": {"height": 32, "width": 64}}
    processor = bound_input(bound_input(kind(**one_size), 1), 2047)

    assert isinstance(processor, kind)
    assert type(processor).__name__ == kind.__name__
    with pytest.raises(ImageTooNarrow, match="64 x 32, and at most 2047 pixels"):
        processor(images=[Image.new("RGB", (3, 3))], return_tensors="pt")
    assert bound_input(processor, 2048)(images=[Image.new("RGB", (3, 3))], return_tensors="pt")


def test_the_error_says_what_is_wrong_with_a_size() -> None:
    check_input_size((1, 1), (2000, 2000), MAX_PIXELS)
    with pytest.raises(ImageTooNarrow, match=r"5000 x 1 pixels is too narrow: .* would get 128 x 0"):
        check_input_size((1, 5000), (0, 128), MAX_PIXELS)
    with pytest.raises(ImageTooNarrow, match=r"65500 x 1 pixels is too narrow: .* 5240000 x 80, and at most 4000000"):
        check_input_size((1, 65_500), (80, 5_240_000), MAX_PIXELS)
    with pytest.raises(ImageTooLarge, match=r"3000 x 2000 pixels is too large: .* 3000 x 2000"):
        check_input_size((2000, 3000), (2000, 3000), MAX_PIXELS)


def test_a_failure_is_the_images_only_if_it_is_narrow_and_not_for_want_of_memory() -> None:
    assert isinstance(explain_failure(RuntimeError(), (31, 500), (1, 90)), ImageTooNarrow)
    assert isinstance(explain_failure(RuntimeError(), (32, 500), (1, 90)), EngineFailed)
    assert isinstance(explain_failure(MemoryError(), (1, 500), (1, 90)), OutOfMemory)
