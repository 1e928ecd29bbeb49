"""The limits of one gateway process, from its settings."""

from dataclasses import dataclass

from api.jobs.limits import OptionLimits, SharedLimit, share_limit
from api.settings import ApiSettings
from shared.jobs.store import QueueLimits


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits that tenants share: jobs in one queue, waiting requests and event streams of this process, bytes of
    payloads, queued calls of the renderer.

    sync_wait_seconds_per_tenant: work of one tenant that may be before its next synchronous request.
    """

    queue: QueueLimits
    waiting: SharedLimit
    payload_bytes: SharedLimit
    streams: SharedLimit
    render_calls: SharedLimit
    sync_wait_seconds_per_tenant: float


def build_limits(settings: ApiSettings, *, is_shared: bool) -> Limits:
    """Return the limits that tenants share; `is_shared` tells whether there may be several."""
    return Limits(
        queue=build_queue_limits(settings, is_shared=is_shared),
        waiting=share_limit(settings.waiting_count, settings.max_waiting_per_tenant, is_shared=is_shared),
        payload_bytes=share_limit(
            settings.max_payload_bytes, settings.max_payload_bytes_per_tenant, is_shared=is_shared
        ),
        streams=share_limit(settings.max_event_streams, settings.max_event_streams_per_tenant, is_shared=is_shared),
        render_calls=share_limit(settings.max_render_calls, settings.max_render_calls_per_tenant, is_shared=is_shared),
        sync_wait_seconds_per_tenant=settings.max_sync_wait_seconds_per_tenant
        or settings.sync_wait_seconds / (2 if is_shared else 1),
    )


def build_option_limits(settings: ApiSettings) -> OptionLimits:
    return OptionLimits(settings.max_deadline_seconds, settings.max_metadata_bytes, settings.max_images_per_request)


def build_queue_limits(settings: ApiSettings, *, is_shared: bool) -> QueueLimits:
    jobs = share_limit(settings.max_queued, settings.max_queued_per_tenant, is_shared=is_shared)
    return QueueLimits(
        jobs=jobs.total,
        jobs_per_tenant=jobs.per_tenant,
        bytes_per_tenant=settings.tenant_queued_bytes,
        pixels_per_day=settings.tenant_pixels_per_day,
    )
