"""Tenants take turns at the renderer, and none has all its threads: one with many calls holds up no other."""

from collections import Counter, defaultdict, deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api.jobs.limits import SharedLimit
from api.jobs.rendering import RenderCalls
from shared import redis_keys
from shared.errors import RendererUnavailable, TooManyWaiting
from shared.jobs.outcomes import TakeCallOutcome
from shared.jobs.render_calls import RENDER_QUEUE, RenderCall, RenderCallStore, RenderKind, Taken
from shared.redis_client import RedisClient, connect
from shared.settings import Settings
from tests.conftest import Storage
from tests.integration.test_render_calls import build_call, open_calls
from tests.support.polling import wait_until
from tests.support.renderer import build_renderer, wait_alive


@pytest.fixture
def own_settings(clean_redis: str) -> Settings:
    return Settings(redis_url=clean_redis, redis_prefix="own")


@pytest.fixture
def client(own_settings: Settings) -> RedisClient:
    """A client of a stack whose renderer has reported, and is none."""
    client = connect(own_settings)
    client.set(redis_keys.RENDERER, "", ex=60)
    return client


@pytest.fixture
def calls(own_settings: Settings) -> Iterator[RenderCalls]:
    with open_calls(own_settings) as opened:
        yield opened


def enqueue(store: RenderCallStore, call: RenderCall, *, max_calls: int = 100, max_calls_per_tenant: int = 100) -> str:
    return store.enqueue(
        call, "message", seconds=60, max_calls=max_calls, max_calls_per_tenant=max_calls_per_tenant
    ).outcome


def test_one_tenant_with_many_slow_calls_delays_no_other(
    calls: RenderCalls, client: RedisClient, own_settings: Settings, storage: Storage, tmp_path: Path
) -> None:
    client.delete(redis_keys.RENDERER)
    env = {
        **storage.get_env("unused"),
        "MASKMILL_REDIS_URL": own_settings.redis_url,
        "MASKMILL_REDIS_PREFIX": own_settings.redis_prefix,
        "MASKMILL_RENDERER_THREADS": "3",
    }
    # Two threads are those of one tenant, for 2 s.
    slow = [build_call(tenant="a", sleep=2.0 if number < 2 else 0.01, number=number) for number in range(20)]
    with (
        build_renderer(tmp_path, env, module="tests.support.echo_renderer") as process,
        ThreadPoolExecutor(len(slow)) as pool,
    ):
        wait_alive(process, client)
        waiting = [pool.submit(calls.call, call) for call in slow[:2]]
        wait_until(lambda: all(client.exists(redis_keys.render_attempts(call.digest)) for call in slow[:2]), seconds=10)
        waiting += [pool.submit(calls.call, call) for call in slow[2:]]
        wait_until(lambda: calls.store.read_state().queued == 18, seconds=10)

        reply = calls.call(build_call(tenant="b"))

        assert reply
        assert not any(future.done() for future in waiting)
        assert all(future.result(timeout=20) for future in waiting)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.sampled_from(["a", "b", "c", "take", "take"]), max_size=40))
def test_a_call_waits_for_at_most_one_of_each_other_tenant(
    calls: RenderCalls, client: RedisClient, steps: list[str]
) -> None:
    client.delete(RENDER_QUEUE, redis_keys.RENDER_TURNS)
    client.delete(*(f"{redis_keys.RENDER_WAITING_PREFIX}{tenant}" for tenant in "abc"))
    waiting: dict[str, deque[str]] = defaultdict(deque)
    # Of each tenant with a waiting call, how many calls of each other one were taken since its turn before.
    passed: dict[str, Counter[str]] = {}
    for step in [*steps, *["take"] * len(steps)]:
        if step != "take":
            call = build_call(tenant=step, number=len(waiting[step]))
            call = replace(call, arguments={"id": call.id})
            assert enqueue(calls.store, call) == "enqueued"
            waiting[step].append(call.id)
            passed.setdefault(step, Counter())
            continue
        taken = calls.store.take("message").call
        assert (taken is None) == (not any(waiting.values()))
        if taken is None:
            continue
        assert taken.id == waiting[taken.tenant].popleft()
        passed.pop(taken.tenant)
        for others in passed.values():
            others[taken.tenant] += 1
            assert max(others.values()) == 1
        if waiting[taken.tenant]:
            passed[taken.tenant] = Counter()
    assert not any(waiting.values())


def test_a_tenant_with_its_part_is_passed_over_and_the_message_put_back(
    calls: RenderCalls, client: RedisClient
) -> None:
    first, second = build_call(tenant="a"), build_call(tenant="b")
    enqueue(calls.store, first)
    enqueue(calls.store, second)
    client.delete(RENDER_QUEUE)

    taken = [calls.store.take("message", except_tenants=["a"]) for _ in range(2)]

    assert taken == [Taken(TakeCallOutcome.TAKEN, second), Taken(TakeCallOutcome.HELD)]
    assert client.llen(RENDER_QUEUE) == 1
    assert calls.store.take("message") == Taken(TakeCallOutcome.TAKEN, first)
    assert calls.store.take("message") == Taken(TakeCallOutcome.NONE)


def test_one_tenant_cannot_fill_the_queue(calls: RenderCalls, client: RedisClient) -> None:
    limited = replace(calls, limit=SharedLimit(3, 2))
    outcomes = [
        enqueue(calls.store, build_call(tenant=tenant, number=number), max_calls=3, max_calls_per_tenant=2)
        for number, tenant in enumerate("aaabc")
    ]

    assert outcomes == ["enqueued", "enqueued", "tenant_full", "enqueued", "full"]
    calls.store.take("message")
    with pytest.raises(TooManyWaiting, match="wait for the renderer") as refused:
        replace(limited, limit=SharedLimit(3, 1)).call(build_call(tenant="a", number=9))
    assert refused.value.headers()["Retry-After"]


def test_a_message_that_was_lost_is_replaced_with_the_next_one(calls: RenderCalls, client: RedisClient) -> None:
    enqueue(calls.store, build_call(number=1))
    client.delete(RENDER_QUEUE)

    enqueue(calls.store, build_call(number=2))

    assert client.llen(RENDER_QUEUE) == 2


def test_a_call_of_another_version_is_left_out(calls: RenderCalls, client: RedisClient, own_settings: Settings) -> None:
    with redis.Redis.from_url(own_settings.redis_url) as whole:
        whole.rpush(f"{client.key_prefix}{redis_keys.RENDER_TURNS}", "a")
        whole.rpush(f"{client.key_prefix}{redis_keys.RENDER_WAITING_PREFIX}a", '{"kind": "later"}')

    assert calls.store.take("message") == Taken(TakeCallOutcome.UNREADABLE)


@pytest.mark.parametrize(("kind", "instead"), [(RenderKind.FORMAT, "submission"), (RenderKind.RECUT, "max_side")])
def test_a_refusal_says_what_takes_less_time(
    calls: RenderCalls, client: RedisClient, kind: RenderKind, instead: str
) -> None:
    with pytest.raises(RendererUnavailable, match=instead):
        calls.call(replace(build_call(), kind=kind), seconds=0.05)
