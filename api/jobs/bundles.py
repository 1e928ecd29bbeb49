"""Several images in one request: each is submitted as a job of its own, and answered by itself."""

from collections.abc import Sequence
from dataclasses import dataclass

from api.jobs.admission import Caller, Submission
from api.jobs.submission import JobSubmitter
from api.jobs.upload import Upload
from shared.errors import MaskmillError, Unavailable
from shared.jobs.model import Job


@dataclass(frozen=True, slots=True)
class BundleItem:
    """One image of a request: its submission, or why it cannot be submitted."""

    name: str
    submission: Submission | MaskmillError


@dataclass(frozen=True, slots=True)
class ItemOutcome:
    """The job of one image, or why there is none."""

    name: str
    outcome: Job | MaskmillError


def submit_bundle(
    items: Sequence[BundleItem], caller: Caller, submitter: JobSubmitter, *, idempotency_key: str | None = None
) -> Sequence[ItemOutcome]:
    """Submit each image in order; an image that is refused stops no other.

    When the service can take no more, it is not asked for each of the rest again.

    Args:
        idempotency_key: of the request; each image has one of its own, made from it and its place.

    Raises:
        Unavailable: the service could not take any image.
    """
    outcomes: list[ItemOutcome] = []
    stop: Unavailable | None = None
    for place, item in enumerate(items):
        outcome = stop or _submit_item(place, item, caller, submitter, idempotency_key)
        stop = outcome if isinstance(outcome, Unavailable) else None
        outcomes.append(ItemOutcome(item.name, outcome))
    if stop is not None and not any(isinstance(one.outcome, Job) for one in outcomes):
        raise stop
    return outcomes


def _submit_item(
    place: int, item: BundleItem, caller: Caller, submitter: JobSubmitter, idempotency_key: str | None
) -> Job | MaskmillError:
    if isinstance(item.submission, MaskmillError):
        return item.submission
    try:
        return submitter.submit(item.submission, caller, idempotency_key=idempotency_key, place=place)
    except MaskmillError as error:
        return error
    finally:
        if isinstance(item.submission.image, Upload):
            item.submission.image.release()
