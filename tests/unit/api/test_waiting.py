"""The slots of requests that wait for a job: bounded for each tenant and for all."""

from contextlib import ExitStack

import pytest

from api.jobs.limits import SharedLimit, share_limit
from api.jobs.waiting import WaitingSlots
from api.settings import ApiSettings
from shared.errors import TooManyWaiting
from shared.jobs.store import UNBOUNDED


def test_a_tenant_gets_its_share_and_leaves_the_rest_to_others() -> None:
    slots = WaitingSlots(SharedLimit(total=3, per_tenant=2))

    with slots.occupy("a"), slots.occupy("a"):
        with pytest.raises(TooManyWaiting, match="your requests"), slots.occupy("a"):
            pass
        with slots.occupy("b"):
            pass


def test_all_tenants_together_get_no_more_than_the_total() -> None:
    slots = WaitingSlots(SharedLimit(total=2, per_tenant=2))

    with (
        slots.occupy("a"),
        slots.occupy("b"),
        pytest.raises(TooManyWaiting, match="Too many requests"),
        slots.occupy("c"),
    ):
        pass


def test_a_slot_is_free_again_after_its_request_also_after_an_error() -> None:
    slots = WaitingSlots(SharedLimit(total=1, per_tenant=1))

    for _ in range(3):
        with pytest.raises(KeyError), slots.occupy("a"):
            raise KeyError

    with slots.occupy("b"):
        pass


def test_by_default_one_process_holds_five_hundred_callers_and_has_threads_left() -> None:
    settings = ApiSettings()
    slots = WaitingSlots(share_limit(settings.waiting_count, settings.max_waiting_per_tenant, is_shared=False))

    with ExitStack() as stack:
        for _ in range(500):
            stack.enter_context(slots.occupy("public"))

    assert settings.threads - settings.waiting_count >= 100


def test_tenants_share_a_limit_in_halves_unless_the_operator_says_otherwise() -> None:
    assert share_limit(100, 0, is_shared=True).per_tenant == 50
    assert share_limit(100, 70, is_shared=True).per_tenant == 70
    assert share_limit(1, 0, is_shared=True).per_tenant == 1
    assert share_limit(100, 0, is_shared=False).per_tenant == UNBOUNDED


def test_waiting_requests_must_leave_threads_for_others() -> None:
    with pytest.raises(ValueError, match="less than MASKMILL_THREADS"):
        ApiSettings(threads=8, max_waiting=8)
