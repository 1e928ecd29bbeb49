"""Many jobs of a tenant, read in one round trip: a page of its list, or jobs by their ids."""

from collections.abc import Mapping, Sequence

from shared import redis_keys
from shared.jobs.model import Job
from shared.jobs.records import read_job
from shared.redis_client import RedisClient, translate_redis_errors


class JobLists:
    """Thread-safe.  Every method may raise StoreUnavailable.  A job that this version cannot read is left out."""

    def __init__(self, client: RedisClient) -> None:
        self._redis = client

    @translate_redis_errors
    def list_newest(
        self, tenant: str, *, limit: int, before: str | None = None, lowest: str | None = None
    ) -> tuple[Sequence[Job], str | None]:
        """Return one page of a tenant's listed jobs, newest first, and the next `before`.

        A page may hold fewer than `limit` jobs before the last one: a record can expire before its place in the list.

        Args:
            before: the page begins below this id, or the beginning of one.
            lowest: it ends at this id, or the beginning of one.
        """
        highest, end = f"({before}" if before else "+", f"[{lowest}" if lowest else "-"
        ids = self._redis.zrevrangebylex(redis_keys.tenant_jobs(tenant), highest, end, start=0, num=limit)
        return list(self.get_many(ids).values()), ids[-1] if len(ids) == limit else None

    @translate_redis_errors
    def list_ids(self, tenant: str, *, limit: int, before: str) -> Sequence[str]:
        """Return ids of a tenant's listed jobs, newest first, from below an id or the beginning of one."""
        return self._redis.zrevrangebylex(redis_keys.tenant_jobs(tenant), f"({before}", "-", start=0, num=limit)

    @translate_redis_errors
    def list_unfinished_ids(self, tenant: str) -> Sequence[str]:
        """Return the ids of all jobs of a tenant that have not ended, listed or not; their number is bounded."""
        ids: list[str] = []
        for queue in self._redis.smembers(redis_keys.QUEUES):
            key, count = redis_keys.unfinished_jobs(queue, tenant), 0
            while page := self._redis.zrange(key, "-inf", "+inf", byscore=True, offset=count, num=1000):
                ids += page
                count += len(page)
        return ids

    @translate_redis_errors
    def get_many(self, job_ids: Sequence[str]) -> Mapping[str, Job]:
        """Return the jobs of which Redis has a record, of any tenant, by their ids and in the order of these."""
        with self._redis.pipeline(transaction=False) as batch:
            for job_id in job_ids:
                batch.hgetall(redis_keys.job(job_id))
            records = zip(job_ids, batch.execute(), strict=True)
        read = ((job_id, read_job(job_id, record)) for job_id, record in records if record)
        return {job_id: job for job_id, job in read if job is not None}
