"""The execution plan for each combination of options and device."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import ModelUnusable
from worker.engine.execution_plan import ExecutionOptions, ExecutionPlan, batch_sizes, plan_execution


@pytest.mark.parametrize("device", ["cpu", "cuda:0"])
def test_the_default_is_the_fast_path_where_it_agrees_with_exact(device: str) -> None:
    plan = plan_execution(ExecutionOptions(), device)

    assert (plan.is_fast, plan.is_verified) == (True, True)
    assert not plan.without_fast_path().is_fast


def test_exact_is_the_plan_without_a_fast_path() -> None:
    assert plan_execution(ExecutionOptions("exact"), "cpu") == ExecutionPlan()
    assert plan_execution(ExecutionOptions(), "cpu").without_fast_path() == ExecutionPlan()


@pytest.mark.parametrize(
    "options",
    [ExecutionOptions(forward="fast"), ExecutionOptions(dtype="bfloat16"), ExecutionOptions(is_compiled=True)],
)
def test_options_that_need_the_fast_path_select_it(options: ExecutionOptions) -> None:
    plan = plan_execution(options, "cpu")

    assert plan.is_fast
    assert not plan.is_verified


@pytest.mark.parametrize(
    "options", [ExecutionOptions("exact", dtype="float16"), ExecutionOptions("exact", is_compiled=True)]
)
def test_options_that_contradict_the_exact_forward_pass_are_rejected(options: ExecutionOptions) -> None:
    with pytest.raises(ModelUnusable, match="MASKMILL_FORWARD=fast"):
        plan_execution(options, "cpu")


def test_a_named_dtype_is_used() -> None:
    assert plan_execution(ExecutionOptions("fast", dtype="bfloat16"), "cpu").dtype is torch.bfloat16
    assert plan_execution(ExecutionOptions("fast", dtype="float32"), "cpu").dtype is torch.float32


def test_the_default_dtype_is_float32() -> None:
    assert plan_execution(ExecutionOptions("fast"), "cpu").dtype is torch.float32


def test_plans_whose_results_may_differ_have_different_revisions() -> None:
    options = [
        ExecutionOptions("exact"),
        ExecutionOptions("fast"),
        ExecutionOptions("fast", dtype="bfloat16"),
        ExecutionOptions("fast", is_compiled=True),
    ]

    revisions = [plan_execution(one, "cpu").tag_revision("abc") for one in options]

    assert revisions == ["abc", "abc-fast-float32", "abc-fast-bfloat16", "abc-fast-float32-compiled"]


def test_the_memory_budget_is_set_in_megabytes() -> None:
    assert plan_execution(ExecutionOptions(band_megabytes=3), "cpu").band_bytes == 3 * 2**20
    assert plan_execution(ExecutionOptions(), "cpu").band_bytes == 256 * 2**20


@given(st.integers(1, 200))
def test_no_batch_is_padded_to_more_than_twice_its_size(max_images: int) -> None:
    sizes = batch_sizes(max_images)

    assert sizes[-1] == max_images
    assert all(next(size for size in sizes if size >= count) < 2 * count for count in range(1, max_images + 1))
