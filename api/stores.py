"""Connections of one gateway process to Redis and to the object store."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from api.renderer_presence import check_renderer
from api.settings import ApiSettings
from api.steward_presence import check_steward
from api.store_guard import StoreGuard
from shared.jobs.activity import ModelActivity
from shared.jobs.event_log import EventLog
from shared.jobs.events import JobEvents
from shared.jobs.keeping import JobKeeper
from shared.jobs.lists import JobLists
from shared.jobs.payloads import PayloadStore
from shared.jobs.recut_keys import RecutKeys
from shared.jobs.render_calls import RenderCallStore
from shared.jobs.store import JobStore, open_job_store
from shared.jobs.upload_accounts import UploadAccounts, UploadLimits
from shared.jobs.usage import UsageReader
from shared.redis_client import connect
from shared.storage.bucket import Bucket, open_bucket
from shared.storage.s3_client import S3Client, open_s3_client
from shared.store_check import open_store_check
from shared.store_health import StoreHealth
from shared.webhooks.delivery_store import DeliveryStore
from shared.webhooks.endpoint_store import EndpointStore
from shared.worker_registry import WorkerRegistry


@dataclass(frozen=True, slots=True)
class Stores:
    """Connections of one process to Redis and to the bucket."""

    jobs: JobStore
    lists: JobLists
    keeper: JobKeeper
    payloads: PayloadStore
    events: JobEvents
    event_log: EventLog
    workers: WorkerRegistry
    usage: UsageReader
    activity: ModelActivity
    renders: RenderCallStore
    recut_keys: RecutKeys
    bucket: Bucket
    endpoints: EndpointStore
    deliveries: DeliveryStore
    upload_accounts: UploadAccounts
    objects: S3Client
    guard: StoreGuard
    health: StoreHealth
    check_steward: Callable[[], str]
    check_renderer: Callable[[], str]


def connect_stores(settings: ApiSettings) -> Stores:
    client, bucket = connect(settings), open_bucket(settings)
    payload_client = connect(settings, decode=False)
    jobs, renders = open_job_store(client, settings), RenderCallStore(payload_client)
    return Stores(
        jobs=jobs,
        lists=JobLists(client),
        keeper=JobKeeper(client, bucket),
        payloads=PayloadStore(payload_client),
        events=JobEvents(client),
        event_log=EventLog(client),
        workers=WorkerRegistry(client),
        usage=UsageReader(client),
        activity=ModelActivity(client, jobs.clock),
        renders=renders,
        recut_keys=RecutKeys(client),
        bucket=bucket,
        endpoints=EndpointStore(client, bucket),
        deliveries=DeliveryStore(client, max_pending=settings.max_pending_webhooks),
        upload_accounts=UploadAccounts(
            client,
            jobs.clock,
            UploadLimits(settings.tenant_uploads, settings.tenant_upload_bytes),
            settings.upload_ttl_seconds,
        ),
        objects=open_s3_client(settings),
        guard=StoreGuard(open_store_check(settings, client, bucket)),
        health=StoreHealth(client, bucket),
        check_steward=partial(check_steward, client),
        check_renderer=partial(check_renderer, renders),
    )
