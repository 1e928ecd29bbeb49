"""A gateway of two tenants that tests share, and what the first of them submits."""

from collections.abc import Mapping
from typing import Any

from shared.jobs.model import JobRequest
from tests.support.gateway import GatewayUnderTest, open_shared_gateway
from tests.support.jobs import build_request, store_input

SHOP, LAB = {"Authorization": "Bearer s3cret"}, {"Authorization": "Bearer 0ther"}
_TOKENS = "shop:s3cret,lab:0ther"


def open_two_tenant_gateway(redis_url: str, storage_env: Mapping[str, str]) -> GatewayUnderTest:
    """Return the gateway of the tenants `shop` and `lab`."""
    return open_shared_gateway(redis_url, storage_env, tokens=_TOKENS)


def create_job(gateway: GatewayUnderTest, **changes: Any) -> JobRequest:
    """Store an input and create its job, of `shop` unless `changes` say otherwise."""
    request = build_request(**{"tenant": "shop", "formats": ("labels",), **changes})
    store_input(gateway.stores.bucket, request)
    gateway.stores.jobs.create(request)
    return request
