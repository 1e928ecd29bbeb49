"""The image of a job that has ended: where it is kept, and for how long.

While a job is not final, its image is `inbox/{job_id}`, and the listing of the inbox is the list of such jobs.  So an
image that is kept for its owner is moved away, by a copy inside the object store.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Self

from shared.errors import AttemptsExhausted
from shared.jobs.model import JobState
from shared.jobs.request_record import list_inbox_keys
from shared.jobs.result import JobResult
from shared.storage.bucket import Bucket, NoSuchObject
from shared.storage.failures import Failures
from shared.storage.keys import dead_letter_key, inbox_key, input_key

ForEach = Callable[[Callable[["EndedInput"], object], Sequence["EndedInput"]], object]
"""Calls a function with each of several inputs."""


@dataclass(frozen=True, slots=True)
class EndedInput:
    """The input of a job that is final.

    failure_code: of a job without a result; else empty.
    """

    job_id: str
    state: JobState
    failure_code: str = ""

    @classmethod
    def of(cls, result: JobResult) -> Self:
        return cls(result.request.id, result.state, result.failure.code if result.failure else "")


def _call_in_order(function: Callable[[EndedInput], object], inputs: Sequence[EndedInput]) -> None:
    for one in inputs:
        function(one)


@dataclass(frozen=True, slots=True)
class InputMover:
    """Moves inputs out of the inbox once their jobs are final; safe to repeat, and to run twice at once.

    input_ttl_seconds: how long an input is kept; 0 deletes it now.
    for_each: calls copy several inputs; one after the other by default.
    """

    bucket: Bucket
    input_ttl_seconds: int
    for_each: ForEach = _call_in_order

    def move(self, inputs: Iterable[EndedInput]) -> None:
        """Move inputs to where they are kept, or delete them; one that the object store cannot copy is left.

        Raises:
            StorageUnavailable: the object store did not answer, or cannot copy one; the steward moves what is left in
                the inbox.
        """
        ended, failures = list(inputs), Failures()
        moved = {one for one in ended if not self._choose_key(one)}

        def copy(one: EndedInput) -> None:
            with failures.tolerate(inbox_key(one.job_id)):
                self._copy(one)
                moved.add(one)

        try:
            self.for_each(copy, [one for one in ended if one not in moved])
        finally:
            # Last: what is still in the inbox is found again.
            self.bucket.delete([key for one in ended if one in moved for key in list_inbox_keys(one.job_id)])
        failures.raise_first()

    def _choose_key(self, one: EndedInput) -> str | None:
        """Return the key under which an input is kept; None if it is not."""
        if one.state is JobState.CANCELED:
            # Of a canceled job nothing is kept.
            return None
        if one.failure_code == AttemptsExhausted.code:
            # An operator can look at the image that no worker survived.
            return dead_letter_key(one.job_id)
        return input_key(one.job_id) if self.input_ttl_seconds else None

    def _copy(self, one: EndedInput) -> None:
        key = self._choose_key(one)
        assert key
        try:
            self.bucket.copy(inbox_key(one.job_id), key)
        except NoSuchObject:
            # It was moved already, or its job was purged.
            return
