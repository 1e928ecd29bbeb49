"""The rate of requests of a tenant."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.http.rate import BURST_SECONDS, RequestRate
from shared.errors import TooManyRequests
from tests.support.clock import Clock

RATES = st.sampled_from([0.5, 1.0, 7.0, 1000.0])


def count_admitted(rate: RequestRate, requests: int, tenant: str = "shop") -> int:
    admitted = 0
    for _ in range(requests):
        try:
            rate.admit(tenant)
        except TooManyRequests:
            return admitted
        admitted += 1
    return admitted


@given(per_second=RATES, pauses=st.lists(st.floats(0, 10), max_size=50))
def test_no_window_has_more_requests_than_the_rate_and_the_burst(per_second: float, pauses: list[float]) -> None:
    clock = Clock()
    rate = RequestRate(per_second, now=clock)
    admitted = 0

    for pause in pauses:
        clock.seconds += pause
        admitted += count_admitted(rate, 5)

    assert admitted <= per_second * (sum(pauses) + BURST_SECONDS) + 1e-6


def test_a_tenant_that_keeps_the_rate_is_never_refused() -> None:
    clock = Clock()
    rate = RequestRate(10, now=clock)

    for _ in range(1000):
        clock.seconds += 0.1
        rate.admit("shop")


def test_a_refused_request_says_when_the_next_one_is_admitted() -> None:
    clock = Clock()
    rate = RequestRate(0.5, now=clock)
    assert count_admitted(rate, 5) == 1

    with pytest.raises(TooManyRequests) as caught:
        rate.admit("shop")

    assert caught.value.headers() == {
        "Retry-After": "2",
        "RateLimit": '"requests";r=0;t=2',
        "RateLimit-Policy": '"fixed window";"requests";q=1;w=2',
    }
    clock.seconds += 2
    assert count_admitted(rate, 5) == 1


def test_tenants_do_not_count_for_each_other() -> None:
    rate = RequestRate(10, now=Clock())

    assert count_admitted(rate, 100, "shop") == 20
    assert count_admitted(rate, 100, "lab") == 20
