"""The usage of a tenant."""

from datetime import UTC, datetime

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag

from api.http.openapi import SECURITY, failures
from api.routes.context import get_caller, get_gateway
from api.routes.jobs import build_json
from api.schemas.usage import DayUsageView, UsageQuery, UsageView

bp = APIBlueprint("usage", __name__, url_prefix="/v1/usage", abp_tags=[Tag(name="usage")], abp_security=SECURITY)


@bp.get("", responses={200: UsageView, **failures()})
def show_usage(query: UsageQuery) -> Response:
    """Show your jobs, pixels and device time by day, and your quotas."""
    gateway, tenant = get_gateway(), get_caller().tenant
    first, last = query.select(datetime.fromtimestamp(gateway.now(), UTC).date())
    quotas = gateway.quotas
    view = UsageView(
        days=[DayUsageView.of(day) for day in gateway.usage.read(tenant, first, last)],
        queued_bytes=gateway.usage.count_queued_bytes(tenant),
        max_queued_bytes=quotas.bytes_per_tenant,
        max_pixels_per_day=quotas.pixels_per_day,
        max_requests_per_second=gateway.rate.per_second,
    )
    return build_json(view)
