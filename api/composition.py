"""Composition of one gateway process: from settings to the collaborators of its routes.  Nothing is sent yet."""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from api.gateway import Gateway
from api.http.authentication import build_authenticator
from api.http.rate import RequestRate
from api.inference.synchronous import SyncSegmenter
from api.jobs.admission import Admission, JobProfile, LoadLimits
from api.jobs.compensation import Compensator
from api.jobs.drain import Drain
from api.jobs.eta import EtaEstimator
from api.jobs.input_store import InputStore
from api.jobs.listing import TenantListing
from api.jobs.load import LoadMonitor
from api.jobs.queries import TenantJobs
from api.jobs.recut import Recutting
from api.jobs.redrive import JobRedriver
from api.jobs.rendering import RenderCalls
from api.jobs.submission import JobSubmitter
from api.jobs.uploads import Uploads
from api.jobs.waiting import WaitingSlots
from api.jobs.watching import EventStreams
from api.jobs.webhooks import TenantWebhooks, WebhookRules
from api.limits import Limits, build_limits, build_option_limits
from api.metrics import FleetCollector, GatewayMetrics
from api.model_registry import ModelRegistry
from api.settings import ApiSettings
from api.stores import Stores
from shared.errors import StorageUnavailable, StoreFull, StoreUnavailable
from shared.formats.registry import select_formats
from shared.jobs.erasure import Erasures
from shared.jobs.ids import new_job_id
from shared.jobs.model import InboxInput, PayloadInput, Priority, Retention
from shared.outgoing.policy import URL_SCHEMES, OutgoingPolicy
from shared.readiness import ReadinessChecks
from shared.storage.s3_client import open_s3_client
from shared.storage.signing import UrlSigner, open_signer
from shared.store_health import StoreState
from shared.webhooks.urls import build_webhook_policy

# Bounds the memory of the records of synchronous jobs in Redis; the bucket keeps their results as long as all others.
SYNC_RECORD_SECONDS = 3600


@dataclass(frozen=True, slots=True)
class Parts:
    """What several collaborators of the routes use."""

    models: ModelRegistry
    limits: Limits
    admission: Admission
    compensator: Compensator
    slots: WaitingSlots
    drain: Drain
    eta: EtaEstimator
    renders: RenderCalls
    open_tenant: Callable[[str], TenantJobs]
    open_webhooks: Callable[[str], TenantWebhooks]
    uploads: Uploads


def build_gateway(settings: ApiSettings, stores: Stores) -> Gateway:
    authenticator = build_authenticator(settings)
    parts = build_parts(settings, stores, build_limits(settings, is_shared=authenticator.requires_token))
    submitter = build_submitter(settings, stores, parts)
    return Gateway(
        authenticator=authenticator,
        submitter=submitter,
        redriver=JobRedriver(submitter),
        keeper=stores.keeper,
        max_kept_seconds=settings.max_result_ttl_seconds,
        erasures=Erasures(stores.bucket),
        synchronous=build_sync_segmenter(settings, stores, parts),
        open_tenant=parts.open_tenant,
        open_listing=lambda tenant: TenantListing(stores.lists, parts.open_tenant(tenant)),
        open_webhooks=parts.open_webhooks,
        models=parts.models,
        readiness=build_readiness(settings, stores, parts.admission),
        metrics=GatewayMetrics(),
        fleet=FleetCollector(stores.jobs, stores.workers),
        slots=parts.slots,
        uploads=parts.uploads,
        drain=parts.drain,
        rate=RequestRate(settings.tenant_requests_per_second),
        usage=stores.usage,
        activity=stores.activity,
        load=parts.admission.load,
        quotas=parts.limits.queue,
        now=stores.jobs.clock.now,
        option_limits=build_option_limits(settings),
        streams=build_streams(settings, stores, parts),
        eta=parts.eta,
        renders=parts.renders,
        recutting=build_recutting(settings, stores, parts),
        signer=build_signer(settings),
    )


def build_parts(settings: ApiSettings, stores: Stores, limits: Limits) -> Parts:
    models = ModelRegistry(stores.workers, default=settings.model, aliases=settings.aliases)
    admission = build_admission(settings, stores, models, limits)
    slots = WaitingSlots(limits.waiting)
    drain = Drain(wake=stores.events.wake_all)
    renders = build_render_calls(settings, stores, slots, drain, limits)
    return Parts(
        models=models,
        limits=limits,
        admission=admission,
        compensator=Compensator(),
        slots=slots,
        drain=drain,
        eta=EtaEstimator(stores.jobs.queues, models, now=stores.jobs.clock.now, clock=time.monotonic),
        renders=renders,
        open_tenant=build_open_tenant(settings, stores, slots, drain, renders),
        open_webhooks=build_webhooks(settings, stores),
        uploads=build_uploads(settings, stores, admission),
    )


def build_submitter(settings: ApiSettings, stores: Stores, parts: Parts) -> JobSubmitter:
    return JobSubmitter(
        admission=parts.admission,
        profile=build_job_profile(settings),
        jobs=stores.jobs,
        bucket=stores.bucket,
        inputs=build_input_store(settings, stores, parts.uploads),
        compensator=parts.compensator,
        open_tenant=parts.open_tenant,
        check_webhook=lambda tenant, webhook: parts.open_webhooks(tenant).check_webhook(webhook),
    )


def build_render_calls(
    settings: ApiSettings, stores: Stores, slots: WaitingSlots, drain: Drain, limits: Limits
) -> RenderCalls:
    return RenderCalls(
        stores.renders,
        stores.events,
        slots,
        drain,
        max_seconds=settings.render_wait_seconds,
        limit=limits.render_calls,
    )


def build_open_tenant(
    settings: ApiSettings, stores: Stores, slots: WaitingSlots, drain: Drain, renders: RenderCalls
) -> Callable[[str], TenantJobs]:
    """Return a function that gives access to the jobs of a tenant."""
    return partial(
        TenantJobs,
        jobs=stores.jobs,
        bucket=stores.bucket,
        events=stores.events,
        max_wait_seconds=settings.max_waiting_seconds,
        input_ttl_seconds=settings.input_ttl_seconds,
        slots=slots,
        drain=drain,
        renders=renders,
    )


def build_streams(settings: ApiSettings, stores: Stores, parts: Parts) -> EventStreams:
    return EventStreams(
        stores.event_log,
        stores.events,
        parts.eta,
        limit=parts.limits.streams,
        heartbeat_seconds=settings.event_heartbeat_seconds,
    )


def build_recutting(settings: ApiSettings, stores: Stores, parts: Parts) -> Recutting:
    return Recutting(
        parts.renders,
        stores.recut_keys,
        parts.admission.new_id,
        parts.admission.now,
        build_job_profile(settings).retention,
        settings.recut_ttl_seconds,
    )


def build_webhooks(settings: ApiSettings, stores: Stores) -> Callable[[str], TenantWebhooks]:
    """Return a function that gives access to the webhooks of a tenant."""
    return partial(
        TenantWebhooks,
        endpoints=stores.endpoints,
        deliveries=stores.deliveries,
        rules=WebhookRules(build_webhook_policy(settings), settings.max_webhooks, settings.webhook_urls == "on"),
        now=stores.jobs.clock.now,
    )


def build_signer(settings: ApiSettings) -> UrlSigner | None:
    """Return what signs URLs of objects; None where clients do not reach the object store."""
    endpoint = settings.storage_public_endpoint
    return open_signer(settings, endpoint=endpoint, seconds=settings.signed_url_seconds) if endpoint else None


def build_readiness(settings: ApiSettings, stores: Stores, admission: Admission) -> ReadinessChecks:
    """Return the checks of /readyz.  Redis is called full also when only the reserve for running work is left."""

    def check_redis() -> StoreState:
        state = stores.health.check_redis()
        return StoreState.FULL if state is StoreState.OK and not admission.has_memory() else state

    def check_stack() -> None:
        # What a store refuses is told by its own check; it counts here only while work is refused for it.
        with suppress(StoreFull, StoreUnavailable, StorageUnavailable):
            stores.guard.check()
        stores.guard.require()

    return ReadinessChecks(
        {"redis": check_redis, "storage": stores.health.check_bucket},
        settings.ready_timeout_seconds,
        then={"stack": check_stack, "steward": stores.check_steward, "renderer": stores.check_renderer},
    )


def build_admission(settings: ApiSettings, stores: Stores, models: ModelRegistry, limits: Limits) -> Admission:
    return Admission(
        models=models,
        jobs=stores.jobs,
        load=LoadMonitor(stores.jobs.queues, models, time.monotonic),
        limits=LoadLimits(
            queue=limits.queue,
            sync_wait_seconds=settings.sync_wait_seconds,
            sync_wait_seconds_per_tenant=limits.sync_wait_seconds_per_tenant,
            memory_share=settings.max_redis_memory_share,
        ),
        max_image_pixels=settings.max_image_pixels,
        max_image_side=settings.max_image_side,
        new_id=lambda: new_job_id(stores.jobs.clock.now()),
        now=stores.jobs.clock.now,
        check_stores=stores.guard.require,
    )


def build_uploads(settings: ApiSettings, stores: Stores, admission: Admission) -> Uploads:
    endpoint = settings.storage_public_endpoint
    return Uploads(
        bucket=stores.bucket,
        objects=stores.objects,
        public=open_s3_client(settings, endpoint) if endpoint else None,
        new_id=admission.new_id,
        now=admission.now,
        check_stores=admission.check_stores,
        ttl_seconds=settings.upload_ttl_seconds,
        accounts=stores.upload_accounts,
        max_bytes=settings.max_upload_bytes,
        max_image_pixels=settings.max_image_pixels,
        max_image_side=settings.max_image_side,
    )


def build_input_store(settings: ApiSettings, stores: Stores, uploads: Uploads) -> InputStore:
    schemes = URL_SCHEMES[settings.url_inputs]
    return InputStore(
        bucket=stores.bucket,
        objects=stores.objects,
        uploads=uploads,
        url_policy=OutgoingPolicy.build(schemes, settings.outgoing_allowed) if schemes else None,
        buckets=frozenset(settings.input_buckets.replace(",", " ").split()),
        max_bytes=settings.max_upload_bytes,
    )


def build_sync_segmenter(settings: ApiSettings, stores: Stores, parts: Parts) -> SyncSegmenter:
    return SyncSegmenter(
        admission=parts.admission,
        profile=build_sync_profile(settings),
        jobs=stores.jobs,
        bucket=stores.bucket,
        payloads=stores.payloads,
        events=stores.events,
        models=parts.models,
        compensator=parts.compensator,
        open_tenant=parts.open_tenant,
        deadline_seconds=settings.sync_deadline_seconds,
        cold_start_seconds=settings.cold_start_seconds,
        result_seconds=settings.result_ttl_seconds,
        slots=parts.slots,
        drain=parts.drain,
        payload_limit=parts.limits.payload_bytes,
    )


def build_job_profile(settings: ApiSettings) -> JobProfile:
    """Return the profile of asynchronous jobs."""
    return JobProfile(
        priority=Priority.NORMAL,
        input=InboxInput(),
        formats=settings.default_format_names,
        retention=Retention(record_seconds=settings.result_ttl_seconds),
    )


def build_sync_profile(settings: ApiSettings) -> JobProfile:
    """Return the profile of the jobs of synchronous requests."""
    return JobProfile(
        priority=Priority.INTERACTIVE,
        input=PayloadInput(),
        # The caller has the image, so no overlay is rendered.
        formats=select_formats(["masks"]),
        retention=Retention(record_seconds=min(settings.result_ttl_seconds, SYNC_RECORD_SECONDS), is_listed=False),
        deadline_seconds=settings.sync_deadline_seconds,
        wants_reply=True,
    )
