"""Which arithmetic comes of which settings on which device."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import ModelUnusable
from worker.arithmetic import Arithmetic, Wishes, batch_sizes, decided


def test_a_cpu_is_exact_unless_told_otherwise() -> None:
    assert decided(Wishes(), "cpu") == Arithmetic()


@pytest.mark.parametrize("wishes", [Wishes(forward="fast"), Wishes(dtype="bfloat16"), Wishes(compiles=True)])
def test_who_asks_for_what_only_the_fast_pass_has_gets_the_fast_pass(wishes: Wishes) -> None:
    assert decided(wishes, "cpu").is_fast


@pytest.mark.parametrize("wishes", [Wishes("exact", dtype="float16"), Wishes("exact", compiles=True)])
def test_what_the_exact_pass_cannot_do_is_refused(wishes: Wishes) -> None:
    with pytest.raises(ModelUnusable, match="MASKMILL_FORWARD=fast"):
        decided(wishes, "cpu")


def test_a_dtype_that_was_named_is_taken() -> None:
    assert decided(Wishes("fast", dtype="bfloat16"), "cpu").dtype is torch.bfloat16
    assert decided(Wishes("fast", dtype="float32"), "cpu").dtype is torch.float32


def test_shorter_numbers_are_never_a_default() -> None:
    assert decided(Wishes("fast"), "cpu").dtype is torch.float32


def test_a_revision_tells_apart_what_may_differ() -> None:
    wishes = [Wishes(), Wishes("fast"), Wishes("fast", dtype="bfloat16"), Wishes("fast", compiles=True)]

    revisions = [decided(wish, "cpu").revision_of("abc") for wish in wishes]

    assert revisions == ["abc", "abc-fast-float32", "abc-fast-bfloat16", "abc-fast-float32-compiled"]


def test_the_budget_is_in_megabytes() -> None:
    assert decided(Wishes(band_megabytes=3), "cpu").band_bytes == 3 * 2**20
    assert decided(Wishes(), "cpu").band_bytes == 256 * 2**20


@given(st.integers(1, 200))
def test_no_batch_is_padded_to_more_than_twice_its_size(most: int) -> None:
    sizes = batch_sizes(most)

    assert sizes[-1] == most
    assert all(next(size for size in sizes if size >= count) < 2 * count for count in range(1, most + 1))
