"""Calls of the renderer through Redis and Celery: replies, errors, one flight for identical calls, bounds, drain."""

import os
import signal
import statistics
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from api.jobs.drain import Drain
from api.jobs.limits import SharedLimit
from api.jobs.rendering import RenderCalls
from api.jobs.waiting import WaitingSlots
from deploy.local.processes import Process
from shared import redis_keys
from shared.errors import (
    Canceled,
    GatewayStopping,
    MaskmillError,
    RendererUnavailable,
    RenderingFailed,
    TooManyWaiting,
    UnknownMask,
)
from shared.jobs.events import JobEvents
from shared.jobs.render_calls import (
    MAX_ATTEMPTS,
    RENDER_QUEUE,
    RenderCall,
    RenderCallStore,
    RenderKind,
)
from shared.redis_client import RedisClient, connect
from shared.settings import Settings
from tests.conftest import Storage
from tests.support.polling import wait_until
from tests.support.renderer import build_renderer, wait_alive

# Far above what a call takes on an idle machine (the median is about 2 ms), far below any poll.
MAX_MEDIAN_SECONDS = 0.05


@pytest.fixture(scope="module")
def renderer(redis_url: str, storage: Storage, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """A renderer that does what calls say, on three threads, two of them for one tenant, for all tests here."""
    env = {
        **storage.get_env("unused"),
        "MASKMILL_REDIS_URL": redis_url,
        "MASKMILL_RENDERER_THREADS": "3",
        "MASKMILL_MAX_RENDER_REPLY_BYTES": "1000000",
    }
    folder = tmp_path_factory.mktemp("renderer")
    with build_renderer(folder, env, module="tests.support.echo_renderer") as process:
        wait_alive(process, connect(Settings(redis_url=redis_url)))
        yield process


@pytest.fixture
def client(clean_redis: str) -> RedisClient:
    return connect(Settings(redis_url=clean_redis))


@pytest.fixture
def answered_calls(renderer: Process, clean_redis: str) -> Iterator[RenderCalls]:
    """Calls that the renderer answers."""
    with open_calls(Settings(redis_url=clean_redis)) as calls:
        # Redis is empty by now, and the renderer itself reports only every few seconds.
        calls.store.report_alive()
        renderer.check_alive()
        yield calls


@pytest.fixture
def own_settings(clean_redis: str) -> Settings:
    """Settings of a stack of its own, without a renderer."""
    return Settings(redis_url=clean_redis, redis_prefix="own")


@pytest.fixture
def own_env(own_settings: Settings, storage: Storage) -> dict[str, str]:
    """The environment of a renderer of that stack."""
    return {
        **storage.get_env("unused"),
        "MASKMILL_REDIS_URL": own_settings.redis_url,
        "MASKMILL_REDIS_PREFIX": own_settings.redis_prefix,
    }


@pytest.fixture
def own_client(own_settings: Settings) -> RedisClient:
    return connect(own_settings)


@pytest.fixture
def calls(own_settings: Settings) -> Iterator[RenderCalls]:
    """Calls that no renderer answers."""
    with open_calls(own_settings) as opened:
        yield opened


@contextmanager
def open_calls(settings: Settings) -> Iterator[RenderCalls]:
    """Return calls as a gateway makes them."""
    events = JobEvents(connect(settings))
    yield RenderCalls(
        RenderCallStore(connect(settings, decode=False)),
        events,
        WaitingSlots(SharedLimit(50, 50)),
        Drain(events.wake_all),
        max_seconds=20.0,
        limit=SharedLimit(20, 20),
    )
    events.close()


def build_call(*, tenant: str = "shop", **arguments: Any) -> RenderCall:
    return RenderCall(RenderKind.FORMAT, tenant, "job", arguments)


def test_a_reply_comes_back_and_nothing_else_is_left(answered_calls: RenderCalls, client: RedisClient) -> None:
    call = build_call(size=1000)

    reply = answered_calls.call(call)

    assert reply.endswith(b"." * 1000)
    assert client.llen(RENDER_QUEUE) == 0
    assert not client.exists(redis_keys.render_flight(call.digest))


def test_identical_calls_under_way_are_done_once(answered_calls: RenderCalls) -> None:
    with ThreadPoolExecutor(8) as pool:
        replies = set(pool.map(lambda _: answered_calls.call(build_call(sleep=0.3)), range(8)))
        others = {answered_calls.call(build_call(sleep=0.01)), answered_calls.call(build_call(sleep=0.01))}

    assert len(replies) == 1
    # Calls one after the other are not one flight.
    assert len(others) == 2


def test_the_error_of_a_handler_is_raised(answered_calls: RenderCalls) -> None:
    with pytest.raises(UnknownMask, match="as asked for"):
        answered_calls.call(build_call(fail="unknown_mask"))


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (build_call(crash=1), "its log has it"),
        (build_call(size=1_000_001), "more than the 1000000 allowed"),
        (replace(build_call(), kind=RenderKind.RECUT), "cannot do recut"),
    ],
)
def test_a_call_that_cannot_be_done_fails(answered_calls: RenderCalls, call: RenderCall, reason: str) -> None:
    with pytest.raises(RenderingFailed, match=reason):
        answered_calls.call(call)


def test_without_a_renderer_a_call_is_refused_at_once(calls: RenderCalls, own_client: RedisClient) -> None:
    with pytest.raises(RendererUnavailable, match="none is running") as refused:
        calls.call(build_call())

    assert refused.value.headers() == {"Retry-After": "5"}
    assert own_client.llen(RENDER_QUEUE) == 0


def test_a_call_that_is_not_taken_in_time_is_refused_and_never_done(
    answered_calls: RenderCalls, client: RedisClient
) -> None:
    with ThreadPoolExecutor(2) as pool:
        busy_calls = [build_call(sleep=1.0, number=number) for number in range(2)]
        busy = [pool.submit(answered_calls.call, call) for call in busy_calls]
        wait_until(lambda: count_flights(client, busy_calls) == 2 and not client.llen(RENDER_QUEUE), seconds=10)
        late = build_call(late=1)

        with pytest.raises(RendererUnavailable, match="not done in time"):
            answered_calls.call(late, seconds=0.2)

        assert all(future.result() for future in busy)
    answered_calls.call(build_call(after=1))
    assert answered_calls.store.get_reply(late.id) is None


def count_flights(client: RedisClient, calls: Sequence[RenderCall]) -> int:
    return client.exists(*(redis_keys.render_flight(call.digest) for call in calls))


def test_a_call_whose_client_has_gone_is_dropped(answered_calls: RenderCalls, client: RedisClient) -> None:
    with ThreadPoolExecutor(2) as pool:
        busy_calls = [build_call(sleep=1.0, number=number) for number in range(2)]
        busy = [pool.submit(answered_calls.call, call) for call in busy_calls]
        wait_until(lambda: count_flights(client, busy_calls) == 2 and not client.llen(RENDER_QUEUE), seconds=10)
        dropped = build_call(dropped=1)

        with pytest.raises(Canceled):
            answered_calls.call(dropped, is_wanted=lambda: False)

        assert not client.exists(redis_keys.render_flight(dropped.digest), redis_keys.render_waiters(dropped.digest))
        assert all(future.result() for future in busy)
    answered_calls.call(build_call(after=1))
    assert answered_calls.store.get_reply(dropped.id) is None


def test_a_call_for_which_another_client_waits_is_done(answered_calls: RenderCalls) -> None:
    first, second = build_call(sleep=1.0), build_call(sleep=1.0)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(answered_calls.call, first, is_wanted=lambda: True)
        wait_until(lambda: answered_calls.store.is_wanted(first), seconds=10)

        with pytest.raises(Canceled):
            answered_calls.call(second, is_wanted=lambda: False)

        assert answered_calls.store.is_wanted(first)
        assert waiting.result()


def test_a_call_that_is_withdrawn_is_enqueued_again_by_the_next(calls: RenderCalls, own_client: RedisClient) -> None:
    own_client.set(redis_keys.RENDERER, "", ex=12)
    with pytest.raises(Canceled):
        calls.call(build_call(), is_wanted=lambda: False)

    again = calls.store.enqueue(build_call(), "", seconds=5, max_calls=9, max_calls_per_tenant=9)

    assert again.outcome == "enqueued"


def test_waiters_are_counted_for_as_long_as_one_may_wait(calls: RenderCalls, own_client: RedisClient) -> None:
    own_client.set(redis_keys.RENDERER, "", ex=12)
    waiters = redis_keys.render_waiters(build_call().digest)

    def enqueue(seconds: float, **arguments: object) -> None:
        calls.store.enqueue(build_call(**arguments), "", seconds=seconds, max_calls=9, max_calls_per_tenant=9)

    enqueue(5)
    enqueue(0.2)
    enqueue(0.2, after=1)
    wait_until(lambda: not count_flights(own_client, [build_call(after=1)]), "the end of the last one")
    assert own_client.get(waiters) == "2"

    own_client.delete(waiters)
    enqueue(0.2)

    wait_until(lambda: own_client.get(waiters) is None, "the end of the one that waits")


def test_no_more_calls_are_queued_than_the_bound(calls: RenderCalls, own_client: RedisClient) -> None:
    own_client.set(redis_keys.RENDERER, "", ex=12)
    first, second, third = (build_call(number=number) for number in range(3))

    outcomes = [
        calls.store.enqueue(call, "", seconds=5, max_calls=2, max_calls_per_tenant=2).outcome
        for call in (first, second, second, third)
    ]

    assert outcomes == ["enqueued", "enqueued", "joined", "full"]
    with pytest.raises(RendererUnavailable, match="more to do"):
        replace(calls, limit=SharedLimit(2, 2)).call(third)


def test_a_waiting_call_holds_a_slot_and_ends_with_its_gateway(calls: RenderCalls, own_client: RedisClient) -> None:
    calls = replace(calls, slots=WaitingSlots(SharedLimit(1, 1)))
    own_client.set(redis_keys.RENDERER, "", ex=12)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(calls.call, build_call(sleep=5))
        wait_until(lambda: calls.slots._used.total() == 1, seconds=5)

        with pytest.raises(TooManyWaiting):
            calls.call(build_call())
        calls.drain.end_waits()

        with pytest.raises(GatewayStopping):
            waiting.result(timeout=5)


def test_the_transport_costs_milliseconds(answered_calls: RenderCalls) -> None:
    answered_calls.call(build_call())
    seconds = []
    for number in range(50):
        start = time.perf_counter()
        answered_calls.call(build_call(number=number))
        seconds.append(time.perf_counter() - start)

    print(f"a call: median {1000 * statistics.median(seconds):.2f} ms, slowest {1000 * max(seconds):.2f} ms")
    assert statistics.median(seconds) < MAX_MEDIAN_SECONDS


def test_sigterm_completes_the_calls_that_run(
    calls: RenderCalls, own_client: RedisClient, own_env: dict[str, str], tmp_path: Path
) -> None:
    with (
        build_renderer(tmp_path, own_env, module="tests.support.echo_renderer") as process,
        ThreadPoolExecutor(1) as pool,
    ):
        wait_alive(process, own_client)
        call = build_call(sleep=1.0)
        running = pool.submit(calls.call, call)
        wait_until(lambda: count_flights(own_client, [call]) == 1 and not own_client.llen(RENDER_QUEUE), seconds=5)

        os.kill(process.pid, signal.SIGTERM)

        assert running.result(timeout=10)
        wait_until(lambda: process.exit_code is not None, seconds=10)
        assert process.exit_code == 0


def test_a_renderer_that_is_killed_is_replaced(
    calls: RenderCalls, own_client: RedisClient, own_env: dict[str, str], tmp_path: Path
) -> None:
    with ThreadPoolExecutor(1) as pool:
        with build_renderer(tmp_path, own_env, module="tests.support.echo_renderer") as process:
            wait_alive(process, own_client)
            call = build_call(sleep=30)
            lost = pool.submit(calls.call, call, 3.0)
            wait_until(lambda: count_flights(own_client, [call]) == 1 and not own_client.llen(RENDER_QUEUE), seconds=5)
            process.kill()
        with build_renderer(tmp_path, own_env, module="tests.support.echo_renderer"):
            with pytest.raises(RendererUnavailable, match="not done in time"):
                lost.result(timeout=10)
            assert calls.call(build_call(sleep=0))


def test_a_call_that_has_ended_two_renderers_is_refused(answered_calls: RenderCalls, client: RedisClient) -> None:
    call = build_call(poison=1)
    client.set(redis_keys.render_attempts(call.digest), str(MAX_ATTEMPTS), ex=60)

    with pytest.raises(RenderingFailed, match="not made again within 10 minutes"):
        answered_calls.call(call)

    assert client.get(redis_keys.render_attempts(call.digest)) == str(MAX_ATTEMPTS)


def test_a_call_beside_one_that_kills_renderers_is_not_refused(
    calls: RenderCalls, own_client: RedisClient, own_env: dict[str, str], tmp_path: Path
) -> None:
    env = {**own_env, "MASKMILL_RENDERER_THREADS": "4"}
    # It is killed while the others run, if they do.
    killer, others = build_call(sleep=0.4, kill=1), [build_call(sleep=1.0, number=number) for number in range(2)]

    def send(call: RenderCall) -> str:
        try:
            return "done" if calls.call(call, 5.0) else ""
        except (RendererUnavailable, RenderingFailed) as error:
            return error.code

    def run_renderer(*sent: RenderCall) -> list[str]:
        with (
            build_renderer(tmp_path, env, module="tests.support.echo_renderer") as process,
            ThreadPoolExecutor(3) as pool,
        ):
            wait_alive(process, own_client)
            # Else an identical call joins the one that was lost, until that has expired.
            own_client.delete(*(redis_keys.render_flight(call.digest) for call in sent))
            return list(pool.map(send, sent))

    first, second, third = (run_renderer(*order) for order in ((*others, killer), (killer, *others), (*others, killer)))

    assert first == ["renderer_unavailable"] * 3
    assert second[0] == "renderer_unavailable"
    assert third == ["done", "done", "rendering_failed"]


def test_a_call_that_holds_the_interpreter_ends_its_renderer(
    calls: RenderCalls, own_client: RedisClient, own_env: dict[str, str], tmp_path: Path
) -> None:
    env = {**own_env, "MASKMILL_RENDER_SECONDS": "1"}
    call = build_call(hold=60)
    with build_renderer(tmp_path, env, module="tests.support.echo_renderer") as process:
        wait_alive(process, own_client)

        with pytest.raises(RendererUnavailable, match="not done in time"):
            calls.call(call, 0.5)

        wait_until(lambda: process.exit_code is not None, seconds=10)
    # The alarm, not the watchdog's thread.
    assert process.exit_code == signal.SIGALRM
    assert own_client.get(redis_keys.render_attempts(call.digest)) == "1"


def test_the_callers_of_a_renderer_that_ends_are_told(
    calls: RenderCalls, own_client: RedisClient, own_env: dict[str, str], tmp_path: Path
) -> None:
    env = {**own_env, "MASKMILL_RENDER_SECONDS": "2", "MASKMILL_RENDERER_THREADS": "3"}
    with build_renderer(tmp_path, env, module="tests.support.echo_renderer") as process, ThreadPoolExecutor(2) as pool:
        wait_alive(process, own_client)
        first, second = (build_call(sleep=60, number=number) for number in range(2))
        hanging = pool.submit(calls.call, first)
        # So that it is not overdue with the first one.
        wait_until(lambda: own_client.exists(redis_keys.render_attempts(first.digest)) == 1, seconds=5)
        begun_at = time.monotonic()
        wait_until(lambda: time.monotonic() > begun_at + 1.2, seconds=5)
        beside = pool.submit(calls.call, second)

        with pytest.raises(RenderingFailed, match="not made within 2 s"):
            hanging.result(timeout=10)
        with pytest.raises(RendererUnavailable, match="restarted meanwhile"):
            beside.result(timeout=10)
    assert [own_client.get(redis_keys.render_attempts(call.digest)) for call in (first, second)] == ["1", None]


def test_nothing_joins_a_call_whose_renderer_is_gone(calls: RenderCalls, own_client: RedisClient) -> None:
    own_client.set(redis_keys.RENDERER, "", ex=12)
    calls.store.enqueue(build_call(), "", seconds=20, max_calls=2, max_calls_per_tenant=2)
    own_client.delete(redis_keys.RENDERER)

    with pytest.raises(RendererUnavailable, match="none is running"):
        calls.call(build_call())


def test_a_call_keeps_its_form() -> None:
    call = build_call(options={"polygon_tolerance": 1.5}, formats=["rle"])

    assert RenderCall.from_wire({**call.to_wire(), "later": 1}) == call
    assert replace(call, id="other").digest == call.digest
    others = (build_call(formats=["rle"]), replace(call, tenant="b"), replace(call, job_id="b"))
    assert call.digest not in {other.digest for other in others}


def test_an_unknown_error_code_gives_the_root(answered_calls: RenderCalls) -> None:
    with pytest.raises(MaskmillError, match="as asked for"):
        answered_calls.call(build_call(fail="of_a_newer_version"))
