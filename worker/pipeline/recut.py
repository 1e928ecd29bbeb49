"""The logits of a job: which are kept, and where they are stored for a recut.  No torch here."""

from dataclasses import dataclass, replace

import structlog

from shared.errors import Unavailable
from shared.jobs.model import JobRequest
from shared.jobs.recut import RecutState
from shared.jobs.result import JobRecut
from worker.pipeline.leases import Lease
from worker.pipeline.publication import Publication
from worker.recut.file import RecutData
from worker.recut.kept import KeepRule, KeptLogits, RecutModel

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class RecutKeeper:
    """What a host does for the recuts of its jobs.

    model: None if its family keeps no logits.
    rule: for jobs without wishes of their own; None if recuts are switched off.
    """

    model: RecutModel | None = None
    rule: KeepRule | None = None

    def choose_rule(self, request: JobRequest) -> KeepRule | None:
        """Return which logits of a job are kept, or None."""
        if self.model is None or self.rule is None or request.wants_reply:
            return None
        return replace(self.rule, keeps_all=request.keeps_all_queries)

    def store(
        self, kept: KeptLogits | None, lease: Lease, size: tuple[int, int], revision: str, publication: Publication
    ) -> JobRecut:
        """Compress and store the logits of a job, and return what its result says of them.

        They are worth no second attempt: a job whose logits the bucket does not take at once has no recut.

        Args:
            size: (height, width) of the image.

        Raises:
            Canceled: the lease is lost.
        """
        request = lease.claim.request
        if kept is None or self.model is None:
            return JobRecut(self._explain_absence(request))
        content = RecutData(request.model, revision, *size, self.model, kept).to_bytes()
        try:
            file = publication.store_recut(lease, content)
        except Unavailable as error:
            log.warning("recut_not_stored", job_id=request.id, reason=str(error))
            return JobRecut(RecutState.NOT_STORED)
        return JobRecut(RecutState.STORED, kept.floor, kept.has_all_queries, file)

    def _explain_absence(self, request: JobRequest) -> RecutState:
        if self.model is None:
            return RecutState.UNSUPPORTED
        if self.rule is None:
            return RecutState.OFF
        return RecutState.SYNCHRONOUS if request.wants_reply else RecutState.NOT_STORED
