"""Which plan comes of which settings on which device."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import ModelUnusable
from worker.engine.execution_plan import ExecutionOptions, ExecutionPlan, batch_sizes, plan_execution


def test_a_cpu_is_exact_unless_told_otherwise() -> None:
    assert plan_execution(ExecutionOptions(), "cpu") == ExecutionPlan()


@pytest.mark.parametrize(
    "options", [ExecutionOptions(forward="fast"), ExecutionOptions(dtype="bfloat16"), ExecutionOptions(compiles=True)]
)
def test_who_asks_for_what_only_the_fast_pass_has_gets_the_fast_pass(options: ExecutionOptions) -> None:
    assert plan_execution(options, "cpu").is_fast


@pytest.mark.parametrize(
    "options", [ExecutionOptions("exact", dtype="float16"), ExecutionOptions("exact", compiles=True)]
)
def test_what_the_exact_pass_cannot_do_is_refused(options: ExecutionOptions) -> None:
    with pytest.raises(ModelUnusable, match="MASKMILL_FORWARD=fast"):
        plan_execution(options, "cpu")


def test_a_dtype_that_was_named_is_taken() -> None:
    assert plan_execution(ExecutionOptions("fast", dtype="bfloat16"), "cpu").dtype is torch.bfloat16
    assert plan_execution(ExecutionOptions("fast", dtype="float32"), "cpu").dtype is torch.float32


def test_shorter_numbers_are_never_a_default() -> None:
    assert plan_execution(ExecutionOptions("fast"), "cpu").dtype is torch.float32


def test_a_revision_tells_apart_what_may_differ() -> None:
    options = [
        ExecutionOptions(),
        ExecutionOptions("fast"),
        ExecutionOptions("fast", dtype="bfloat16"),
        ExecutionOptions("fast", compiles=True),
    ]

    revisions = [plan_execution(wish, "cpu").revision_of("abc") for wish in options]

    assert revisions == ["abc", "abc-fast-float32", "abc-fast-bfloat16", "abc-fast-float32-compiled"]


def test_the_budget_is_in_megabytes() -> None:
    assert plan_execution(ExecutionOptions(band_megabytes=3), "cpu").band_bytes == 3 * 2**20
    assert plan_execution(ExecutionOptions(), "cpu").band_bytes == 256 * 2**20


@given(st.integers(1, 200))
def test_no_batch_is_padded_to_more_than_twice_its_size(most: int) -> None:
    sizes = batch_sizes(most)

    assert sizes[-1] == most
    assert all(next(size for size in sizes if size >= count) < 2 * count for count in range(1, most + 1))
