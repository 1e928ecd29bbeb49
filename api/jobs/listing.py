"""Many jobs of a tenant at once: a page of those that match a filter, or jobs by their ids."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import JsonValue

from api.jobs.queries import TenantJobs
from shared.errors import BadParameter, UnknownJob
from shared.jobs.ids import find_id_prefix, is_job_id
from shared.jobs.lists import JobLists
from shared.jobs.model import Job, JobState

FILTERED_PAGE_SIZE = 200
# Bounds a request for rare jobs in a list of millions.
MAX_FILTERED_PAGES = 5
MAX_IDS = 100
# The clock that is in an id is that of `created_at`, read a moment later; this leaves room for a clock that was set.
ID_MARGIN_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class MetadataFilter:
    """A member of a job's metadata and its value: a text, or the JSON of another value."""

    name: str
    value: str

    def matches(self, metadata: "dict[str, JsonValue]") -> bool:
        if self.name not in metadata:
            return False
        found = metadata[self.name]
        return self.value == (found if isinstance(found, str) else json.dumps(found, separators=(",", ":")))


@dataclass(frozen=True, slots=True)
class JobFilter:
    """The jobs that are wanted; None is any.

    created_after, created_before: unix seconds, of which milliseconds count; jobs of the first are wanted, those of the
        second are not.
    """

    state: JobState | None = None
    model: str | None = None
    created_after: float | None = None
    created_before: float | None = None
    error_type: str | None = None
    metadata: MetadataFilter | None = None

    @property
    def is_empty(self) -> bool:
        return self == JobFilter()

    def matches(self, job: Job) -> bool:
        wanted = (
            (self.state, job.state),
            (self.model, job.request.model),
            (self.error_type, job.failure.code if job.failure else ""),
        )
        if any(one is not None and one != found for one, found in wanted) or not self._matches_time(job):
            return False
        return self.metadata is None or self.metadata.matches(dict(job.request.metadata))

    def _matches_time(self, job: Job) -> bool:
        created = count_ms(job.request.created_at)
        if self.created_after is not None and created < count_ms(self.created_after):
            return False
        return self.created_before is None or created < count_ms(self.created_before)


def count_ms(unix_seconds: float) -> int:
    """Return whole milliseconds, as times are shown."""
    return round(unix_seconds * 1_000_000) // 1000


@dataclass(frozen=True, slots=True)
class JobPage:
    """Jobs, newest first, and the cursor of the next page if there may be one."""

    jobs: Sequence[Job]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class FoundJobs:
    """Jobs in the order of the ids that were asked for, and the ids of no job of the tenant."""

    jobs: Sequence[Job]
    missing: Sequence[str]


@dataclass(frozen=True, slots=True)
class TenantListing:
    """The list of one tenant, bound once per request as in TenantJobs."""

    lists: JobLists
    tenant_jobs: TenantJobs

    def list_newest(self, *, limit: int, cursor: str | None = None, wanted: JobFilter | None = None) -> JobPage:
        """Return up to `limit` jobs, newest first.

        Each call looks at a bounded number of jobs, so a page may be empty and not the last.

        Raises:
            BadParameter: the cursor is not a job id.
        """
        check_cursor(cursor)
        tenant = self.tenant_jobs.tenant
        if wanted is None or wanted.is_empty:
            return JobPage(*self.lists.list_newest(tenant, limit=limit, before=cursor))
        before, lowest = find_bounds(wanted, cursor)
        found: list[Job] = []
        for _ in range(MAX_FILTERED_PAGES):
            page, before = self.lists.list_newest(tenant, limit=FILTERED_PAGE_SIZE, before=before, lowest=lowest)
            found += filter(wanted.matches, page)
            if len(found) > limit:
                return JobPage(found[:limit], found[limit - 1].id)
            if before is None:
                break
        return JobPage(found, before)

    def list_unfinished(self, *, limit: int, cursor: str | None = None, wanted: JobFilter) -> JobPage:
        """Return up to `limit` listed jobs that have not ended, newest first, however many have.

        Raises:
            BadParameter: the cursor is not a job id.
        """
        check_cursor(cursor)
        ids = sorted(self.lists.list_unfinished_ids(self.tenant_jobs.tenant), reverse=True)
        left = [job_id for job_id in ids if cursor is None or job_id < cursor]
        looked_at = left[: MAX_FILTERED_PAGES * FILTERED_PAGE_SIZE]
        jobs = self.lists.get_many(looked_at).values()
        found = [
            job for job in jobs if not job.state.is_final and job.request.retention.is_listed and wanted.matches(job)
        ]
        if len(found) > limit:
            return JobPage(found[:limit], found[limit - 1].id)
        return JobPage(found, looked_at[-1] if len(looked_at) < len(left) else None)

    def find(self, job_ids: Sequence[str]) -> FoundJobs:
        """Return jobs by their ids: those of which Redis has a record in one round trip.

        Raises:
            StorageUnavailable: the bucket did not answer; it is asked for what Redis does not know.
        """
        ids = list(dict.fromkeys(job_ids))
        known = self.lists.get_many([job_id for job_id in ids if is_job_id(job_id)])
        found = {job_id: self._find(job_id, known.get(job_id)) for job_id in ids}
        return FoundJobs(
            [job for job in found.values() if job is not None], [job_id for job_id, job in found.items() if job is None]
        )

    def _find(self, job_id: str, known: Job | None) -> Job | None:
        if known is not None:
            return known if known.request.tenant == self.tenant_jobs.tenant else None
        try:
            return self.tenant_jobs.get(job_id)
        except UnknownJob:
            return None


def check_cursor(cursor: str | None) -> None:
    """Raise BadParameter for a cursor that is not a job id."""
    if cursor is not None and not is_job_id(cursor):
        raise BadParameter("The cursor is not one that this service gave out.")


def find_bounds(wanted: JobFilter, cursor: str | None) -> tuple[str | None, str | None]:
    """Return below which id, or beginning of one, a page begins, and at which it ends: ids sort by time."""
    before, lowest = cursor, None
    if wanted.created_before is not None:
        highest = find_id_prefix(wanted.created_before + ID_MARGIN_SECONDS)
        before = highest if cursor is None else min(cursor, highest)
    if wanted.created_after is not None:
        lowest = find_id_prefix(wanted.created_after - ID_MARGIN_SECONDS)
    return before, lowest
