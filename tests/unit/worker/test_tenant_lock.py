"""A lock that tenants get by turns."""

import threading

import pytest

from tests.support.polling import wait_until
from worker.renderer.tenant_lock import TenantLock


def run_waiters(lock: TenantLock, tenants: str) -> list[str]:
    """Let a thread of each tenant wait for the lock, one after the other, while it is held; return who got it."""
    order: list[str] = []

    def wait(tenant: str) -> None:
        with lock.hold(tenant):
            order.append(tenant)

    threads = [threading.Thread(target=wait, args=(tenant,)) for tenant in tenants]
    with lock.hold("holder"):
        for count, thread in enumerate(threads, 1):
            thread.start()
            wait_until(lambda count=count: sum(map(len, lock._waiting.values())) == count, seconds=5)
    for thread in threads:
        thread.join(5)
    return order


@pytest.mark.parametrize(
    ("tenants", "order"),
    [("a", "a"), ("aaab", "abaa"), ("aabbc", "abcab"), ("abab", "abab"), ("aaa", "aaa")],
)
def test_tenants_get_it_by_turns(tenants: str, order: str) -> None:
    lock = TenantLock()

    assert "".join(run_waiters(lock, tenants)) == order


def test_it_is_free_after_an_error() -> None:
    lock = TenantLock()

    with pytest.raises(ValueError, match="of the block"), lock.hold("a"):
        raise ValueError("of the block")

    assert run_waiters(lock, "b") == ["b"]
