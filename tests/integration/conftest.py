"""A gateway inside the test's process; a module that needs another one has a fixture of the same name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.support.gateway import GatewayUnderTest


@pytest.fixture
def gateway(clean_redis: str, storage_env: dict[str, str]) -> GatewayUnderTest:
    """A gateway without a worker."""
    from tests.support.gateway import open_shared_gateway

    return open_shared_gateway(clean_redis, storage_env)


@pytest.fixture
def gateway_with_worker(gateway: GatewayUnderTest) -> Iterator[GatewayUnderTest]:
    """A gateway, and a worker that runs its jobs."""
    from tests.support.gateway import consume_messages, run_job

    with consume_messages(gateway, lambda job_id: run_job(gateway, job_id)):
        yield gateway
