"""What a job says of its recut: whether its logits are stored, and which parameters they suffice for."""

from enum import StrEnum

from shared.errors import AllQueriesNeeded, ThresholdBelowFloor
from shared.jobs.parameters import SegmentParameters, Subtask


class RecutState(StrEnum):
    STORED = "stored"
    OFF = "off"  # by the settings of the worker
    UNSUPPORTED = "unsupported"  # the model keeps no logits
    SYNCHRONOUS = "synchronous"  # a caller waited for the job, and has its result
    NOT_STORED = "not_stored"  # the object store did not take them


def check_kept(parameters: SegmentParameters, *, floor: float, has_all_queries: bool) -> None:
    """Check that the queries that some parameters need were kept.

    Args:
        floor: the lowest threshold for which they suffice.

    Raises:
        ThresholdBelowFloor, AllQueriesNeeded: they were not.
    """
    if has_all_queries:
        return
    if parameters.subtask is Subtask.SEMANTIC:
        raise AllQueriesNeeded(
            "A semantic recut needs the output of every query, which this job did not keep: submit the image again "
            "with recut=semantic."
        )
    if parameters.threshold < floor:
        raise ThresholdBelowFloor(
            f"This job kept only what has a score of at least {floor:.4g}; write a threshold from there on, or submit "
            "the image again.",
            floor=floor,
        )
