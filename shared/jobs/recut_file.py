"""The logits of a job in the bucket: why there are none, and reading them."""

from collections.abc import Mapping
from typing import Final

from shared.errors import MaskmillError, RecutGone, RecutUnsupported
from shared.jobs.recut import RecutState
from shared.jobs.result import JobRecut, JobResult
from shared.jobs.stored_files import read_stored
from shared.storage.bucket import Bucket, NoSuchObject
from shared.storage.keys import recut_key

_GONE: Final[Mapping[RecutState, str]] = {
    RecutState.OFF: "The logits of this job were not kept: recuts were switched off when it ran.",
    RecutState.SYNCHRONOUS: "A synchronous request keeps no logits; submit the image as a job, at /v1/jobs.",
    RecutState.NOT_STORED: "The logits of this job could not be stored; submit the image again.",
}


def get_recut(result: JobResult) -> JobRecut:
    """Return what a result says of its logits, if they were stored.

    Raises:
        RecutGone, RecutUnsupported: they were not.
    """
    recut = result.recut
    if recut is None:
        raise RecutGone("The logits of this job were not kept: an earlier version of the service ran it.")
    if recut.state is not RecutState.STORED:
        raise _explain(recut.state, result)
    return recut


def read_recut(result: JobResult, *, bucket: Bucket) -> bytes:
    """Return the logits that the attempt of a result has stored, and nothing that was stored in their place later.

    Raises:
        RecutGone, RecutUnsupported: there are none (any more).
        ResultOverwritten: another file is stored in their place.
        StorageUnavailable: the bucket does not answer.
    """
    file = get_recut(result).file
    try:
        return read_stored(recut_key(result.request.id, result.attempt_name), file, bucket=bucket)
    except NoSuchObject as error:
        raise RecutGone("The logits of this job are not kept any more; submit the image again.") from error


def _explain(state: RecutState, result: JobResult) -> MaskmillError:
    if state is RecutState.UNSUPPORTED:
        return RecutUnsupported(
            f"{result.request.model} keeps no logits, so there are no recuts of its jobs: models of the family "
            "Mask2Former keep them. Submit the image again."
        )
    return RecutGone(_GONE[state])
