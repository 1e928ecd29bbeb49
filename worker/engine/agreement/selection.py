"""Choose between the exact forward pass and the fast path: fast where both agree on the bundled photos.

Measured once for a model, a device and a set of versions; a later start reads the record.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import structlog

from shared.errors import MaskmillError
from worker.engine.agreement.check import measure_forward, measure_scaled_decoding
from worker.engine.agreement.comparison import Agreement
from worker.engine.agreement.records import AgreementRecords, Circumstances, Record
from worker.engine.execution_plan import ExecutionPlan
from worker.segmenter import Resize, Segmenter

log = structlog.get_logger()

Build = Callable[[ExecutionPlan], Segmenter]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model that can be built in two ways.

    build: returns a segmenter of a plan.  All segmenters share the weights of one network.
    revision: of the weights.
    resize: of every image; None if the size depends on the image.
    """

    build: Build
    revision: str
    device: str
    resize: Resize | None


def select_segmenter(candidate: Candidate, plan: ExecutionPlan, records: AgreementRecords) -> Segmenter:
    """Return the segmenter of the plan; the exact one if the plan asks for a comparison and the two disagree."""
    if not plan.is_verified:
        return candidate.build(plan)
    circumstances = Circumstances.observe(candidate.revision, candidate.device)
    record = records.read(circumstances)
    if record is not None:
        return build_from_record(candidate, plan, record)
    fast = candidate.build(plan)
    if fast.forward_pass.kind == "exact":  # there is no fast path for this network, and the log says why
        return candidate.build(plan.without_fast_path())
    exact = candidate.build(plan.without_fast_path())
    try:
        record = measure(candidate, fast, exact)
    except MaskmillError as error:
        log.warning("fast_path_disabled", reason=f"{type(error).__name__}: {error}")
        return exact
    records.write(circumstances, record)
    return describe(fast if record.forward.is_sufficient else exact, record)


def build_from_record(candidate: Candidate, plan: ExecutionPlan, record: Record) -> Segmenter:
    """Return the segmenter that an earlier start chose."""
    chosen = plan if record.forward.is_sufficient else plan.without_fast_path()
    return describe(candidate.build(chosen), record)


def measure(candidate: Candidate, fast: Segmenter, exact: Segmenter) -> Record:
    """Compare both segmenters, and if they agree, what the fast one makes of photos that are decoded scaled.

    Raises:
        MaskmillError: a segmenter fails on a photo.
    """
    forward = measure_forward(fast, exact)
    if not forward.is_sufficient or candidate.resize is None:
        return Record(forward)
    return Record(forward, measure_scaled_decoding(fast, candidate.resize))


def describe(segmenter: Segmenter, record: Record) -> Segmenter:
    """Log what was measured, and note it on the segmenter."""
    forward, scaled = record.forward, record.scaled_decoding
    is_fast = segmenter.forward_pass.kind == "fast"
    if is_fast:
        log.info("fast_path_enabled", agreement=forward.equal_share)
    elif not forward.is_sufficient:
        log.warning("fast_path_disabled", reason=explain(forward), agreement=forward.equal_share)
    if is_fast and scaled is not None:
        event = "scaled_decoding_enabled" if scaled.is_sufficient else "scaled_decoding_disabled"
        reason = {} if scaled.is_sufficient else {"reason": explain(scaled)}
        log.info(event, agreement=scaled.equal_share, **reason)
    segmenter.forward_pass = replace(
        segmenter.forward_pass,
        agreement=forward.equal_share,
        can_scale_decode=is_fast and scaled is not None and scaled.is_sufficient,
        scaled_agreement=None if scaled is None else scaled.equal_share,
    )
    return segmenter


def explain(agreement: Agreement) -> str:
    """Return why an agreement does not suffice."""
    return "other_pixels" if agreement.has_same_segments else "other_segments"
