"""The choice between exact and fast when the embedded model is loaded."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from structlog.testing import capture_logs

from shared.errors import EngineFailed, MaskmillError
from tests.support.jobs import FakeSegmenter
from worker.engine.agreement.check import measure_scaled_decoding
from worker.engine.agreement.records import AgreementRecords
from worker.engine.agreement.selection import Candidate, select_segmenter
from worker.engine.execution_plan import ExecutionOptions, ExecutionPlan, plan_execution
from worker.engine.loader import load_segmenter
from worker.segmenter import ForwardPass, Prepared, Resize, Segmentation, Segmenter

AUTO = plan_execution(ExecutionOptions("auto"), "cpu")


def load(records: Path | None, options: ExecutionOptions) -> Segmenter:
    def refuse(source: str, _into: Path) -> None:
        raise AssertionError(f"{source} should not be fetched")

    return load_segmenter(
        "embedded",
        public_id="maskmill/test",
        device="cpu",
        cache=Path(),
        download=refuse,
        options=options,
        records=records,
    )


def test_the_embedded_model_is_fast_and_a_second_start_measures_nothing(tmp_path: Path) -> None:
    with capture_logs() as logs:
        first = load(tmp_path, ExecutionOptions("auto"))
    [file] = tmp_path.iterdir()
    # A second start reads the record: it reports what is written there.
    file.write_text(
        file.read_text().replace(f'"equal_share": {first.forward_pass.agreement}', '"equal_share": 0.9991', 1)
    )
    second = load(tmp_path, ExecutionOptions("auto"))

    assert first.revision == second.revision == load(None, ExecutionOptions("fast")).revision
    assert first.forward_pass.kind == second.forward_pass.kind == "fast"
    assert first.forward_pass.agreement > 0.9999
    assert second.forward_pass.agreement == 0.9991
    assert logs[0]["event"] == "fast_path_enabled"


@pytest.mark.parametrize("forward", ["exact", "fast"])
def test_a_named_forward_pass_is_not_measured(tmp_path: Path, forward: str) -> None:
    segmenter = load(tmp_path, ExecutionOptions(forward))

    assert segmenter.forward_pass == ForwardPass(forward)
    assert not list(tmp_path.iterdir())


class Drawing(FakeSegmenter):
    """A segmenter that draws halves, of which the fast path draws `missing` rows as nothing."""

    def __init__(self, plan: ExecutionPlan, *, missing: int = 0, has_fast_path: bool = True) -> None:
        self.revision = plan.tag_revision("abc")
        self.is_fast = plan.is_fast and has_fast_path
        self.forward_pass = ForwardPass("fast" if self.is_fast else "exact")
        self.missing = missing if self.is_fast else 0

    def segment(self, batch: Sequence[Prepared]) -> list[Segmentation | MaskmillError]:
        return [self.remove_rows(result) for result in super().segment(batch)]

    def remove_rows(self, result: Segmentation | MaskmillError) -> Segmentation | MaskmillError:
        assert isinstance(result, Segmentation)
        label_map = result.label_map.copy()
        label_map[: self.missing] = 0
        return replace(result, label_map=label_map)


class Failing(Drawing):
    """A segmenter whose fast path fails on every image."""

    def segment(self, batch: Sequence[Prepared]) -> list[Segmentation | MaskmillError]:
        return [EngineFailed("no")] * len(batch) if self.is_fast else super().segment(batch)


def select(folder: Path, kind: type[Drawing] = Drawing, **arguments: object) -> tuple[Segmenter, list[ExecutionPlan]]:
    """Select a segmenter; return it, and the plans for which one was built."""
    plans: list[ExecutionPlan] = []

    def build(plan: ExecutionPlan) -> Segmenter:
        plans.append(plan)
        return kind(plan, **arguments)

    return select_segmenter(Candidate(build, "abc", "cpu", Resize(320, 320, 2)), AUTO, AgreementRecords(folder)), plans


def test_a_fast_path_that_agrees_is_used_and_may_decode_scaled(tmp_path: Path) -> None:
    segmenter, plans = select(tmp_path)
    again, plans_again = select(tmp_path)

    assert segmenter.forward_pass == again.forward_pass == ForwardPass("fast", 1.0, True, 1.0)
    assert [plan.is_fast for plan in plans] == [True, False]
    assert [plan.is_fast for plan in plans_again] == [True]


def test_a_fast_path_that_changes_more_than_a_pixel_in_a_thousand_is_not_used(tmp_path: Path) -> None:
    with capture_logs() as logs:
        segmenter, _ = select(tmp_path, missing=2)
        again, plans_again = select(tmp_path, missing=2)

    assert segmenter.revision == again.revision == "abc"
    assert segmenter.forward_pass == again.forward_pass
    assert (segmenter.forward_pass.kind, segmenter.forward_pass.can_scale_decode) == ("exact", False)
    assert np.isclose(segmenter.forward_pass.agreement, 1 - 2 / 427)
    assert [plan.is_fast for plan in plans_again] == [False]
    assert [(one["event"], one["reason"]) for one in logs] == 2 * [("fast_path_disabled", "other_pixels")]


def test_a_fast_path_that_fails_is_not_used_and_tried_again_at_the_next_start(tmp_path: Path) -> None:
    with capture_logs() as logs:
        segmenter, _ = select(tmp_path, Failing)

    assert segmenter.forward_pass == ForwardPass("exact")
    assert (logs[0]["event"], logs[0]["reason"]) == ("fast_path_disabled", "EngineFailed: no")
    assert not list(tmp_path.iterdir())


def test_a_network_without_a_fast_path_has_the_revision_of_the_exact_one(tmp_path: Path) -> None:
    segmenter, _ = select(tmp_path, has_fast_path=False)

    assert segmenter.revision == "abc"
    assert segmenter.forward_pass == ForwardPass("exact")


def test_scaled_decoding_is_not_measured_where_no_photo_is_large_enough() -> None:
    assert measure_scaled_decoding(FakeSegmenter(), Resize(1024, 1024, 2)) is None
