"""The result of a job that ends while it is asked for."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import pytest

from api.jobs.drain import Drain
from api.jobs.limits import SharedLimit
from api.jobs.queries import TenantJobs
from api.jobs.rendering import RenderCalls
from api.jobs.waiting import WaitingSlots
from shared.errors import Gone
from shared.jobs.model import JobState
from shared.storage.bucket import Bucket, NoSuchObject
from shared.storage.keys import result_key
from tests.support.gateway import GatewayUnderTest, open_shared_gateway, run_job
from tests.support.jobs import png


@dataclass
class SlowBucket:
    """A bucket in which something happens after its first answer that an object does not exist."""

    bucket: Bucket
    then: Callable[[], object]

    def get(self, key: str) -> bytes:
        try:
            return self.bucket.get(key)
        except NoSuchObject:
            then, self.then = self.then, lambda: None
            then()
            raise


@pytest.fixture
def gateway(clean_redis: str, storage_env: Mapping[str, str]) -> GatewayUnderTest:
    return open_shared_gateway(clean_redis, dict(storage_env))


def submit(gateway: GatewayUnderTest) -> str:
    job_id: str = gateway.client.post("/v1/jobs", data=png()).get_json()["id"]
    return job_id


def open_tenant_jobs(gateway: GatewayUnderTest, job_id: str) -> TenantJobs:
    stores = gateway.stores
    tenant = stores.jobs.get(job_id).request.tenant
    slots, drain = WaitingSlots(SharedLimit(1, 1)), Drain(lambda: None)
    renders = RenderCalls(stores.renders, stores.events, slots, drain, max_seconds=1.0, limit=SharedLimit(1, 1))
    return TenantJobs(
        tenant,
        stores.jobs,
        stores.bucket,
        stores.events,
        max_wait_seconds=1.0,
        input_ttl_seconds=60,
        slots=slots,
        drain=drain,
        renders=renders,
    )


def test_a_job_that_ends_between_the_reads_of_bucket_and_job_store_has_its_result(gateway: GatewayUnderTest) -> None:
    job_id = submit(gateway)
    tenant_jobs = open_tenant_jobs(gateway, job_id)
    slow = SlowBucket(tenant_jobs.bucket, lambda: run_job(gateway, job_id))

    result = replace(tenant_jobs, bucket=slow).get_result(job_id)

    assert result.state is JobState.SUCCEEDED


def test_a_result_that_was_deleted_is_gone(gateway: GatewayUnderTest) -> None:
    job_id = submit(gateway)
    run_job(gateway, job_id)
    gateway.stores.bucket.delete([result_key(job_id)])

    with pytest.raises(Gone, match=r"is not stored any more\. It was kept until 20\d\d-.*Z\.$"):
        open_tenant_jobs(gateway, job_id).get_result(job_id)
