"""GET /v1/jobs/{id}/events of a gateway process: the events that a client gets, at any time and after failures."""

from __future__ import annotations

import http.client
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import redis

from deploy.local.servers import LOOPBACK, ValkeyServer
from shared import redis_keys
from shared.jobs.model import JobRequest, Priority
from shared.jobs.store import Claim
from tests.conftest import Storage
from tests.support.event_client import Event, EventClient
from tests.support.gateway import GatewayUnderTest, list_queued_ids, open_gateway, run_job
from tests.support.jobs import MODEL, png
from tests.support.polling import wait_until
from tests.support.process_memory import list_descendants
from tests.support.raw_gateway import RawGateway, build_environment

TOKENS = "shop:shop-token,bank:bank-token"
HEADERS = {"Authorization": "Bearer shop-token"}
HEARTBEAT_SECONDS = 0.5


@pytest.fixture(scope="module")
def gateway(redis_url: str, storage: Storage, bucket_name: str) -> Iterator[GatewayUnderTest]:
    """A gateway that submits and runs the jobs, in the process of the test; its Redis is empty at first."""
    with redis.Redis.from_url(redis_url) as client:
        client.flushall()
        yield open_gateway(redis_url, storage.get_env(bucket_name), tokens=TOKENS)
        client.flushall()


@pytest.fixture(scope="module")
def env(redis_url: str, storage: Storage, bucket_name: str) -> dict[str, str]:
    return {
        **build_environment(redis_url, storage, bucket_name),
        "MASKMILL_TOKENS": TOKENS,
        "MASKMILL_PROCESSES": "1",
        "MASKMILL_THREADS": "4",
        "MASKMILL_METRICS_BIND": "off",
        "MASKMILL_GRACEFUL_TIMEOUT_SECONDS": "4",
        "MASKMILL_EVENT_HEARTBEAT_SECONDS": str(HEARTBEAT_SECONDS),
        "MASKMILL_MAX_EVENT_STREAMS": "40",
        "MASKMILL_MAX_EVENT_STREAMS_PER_TENANT": "20",
    }


@pytest.fixture(scope="module")
def process(
    tmp_path_factory: pytest.TempPathFactory, env: dict[str, str], gateway: GatewayUnderTest
) -> Iterator[RawGateway]:
    """A gateway process that the tests share, which serves the streams."""
    with RawGateway(tmp_path_factory.mktemp("gateway"), env) as running:
        yield running.wait_ready()


@pytest.fixture
def own_process(tmp_path: Path, env: dict[str, str], gateway: GatewayUnderTest) -> Iterator[RawGateway]:
    """A gateway process that a test may end."""
    with RawGateway(tmp_path, env) as running:
        yield running.wait_ready()


@pytest.fixture(autouse=True)
def empty_queue(gateway: GatewayUnderTest) -> Iterator[None]:
    yield
    for job_id in list_queued_ids(gateway):
        gateway.client.delete(f"/v1/jobs/{job_id}?purge=1", headers=HEADERS)


def submit(gateway: GatewayUnderTest) -> str:
    return str(gateway.client.post("/v1/jobs", data=png(), headers=HEADERS).json["id"])


def open_stream(process: RawGateway, job_id: str, *, last: str = "", token: str = "shop-token") -> EventClient:
    return EventClient(process.port, job_id, last=last, token=token)


def drop_places(events: list[Event]) -> list[Event]:
    return [event for event in events if event.name != "position"]


def list_names(events: list[Event]) -> list[str]:
    return [event.name for event in drop_places(events)]


def test_a_stream_tells_each_change_as_it_comes_and_ends_after_the_last(
    process: RawGateway, gateway: GatewayUnderTest
) -> None:
    job_id = submit(gateway)
    with open_stream(process, job_id) as stream:
        first = stream.read_until("position")
        run_job(gateway, job_id)
        rest = list(stream)

    assert stream.status == 200
    assert {name: stream.response.headers[name] for name in ("Content-Type", "Cache-Control", "X-Accel-Buffering")} == {
        "Content-Type": "text/event-stream; charset=utf-8",
        "Cache-Control": "no-store",
        "X-Accel-Buffering": "no",
    }
    assert stream.response.headers["Content-Encoding"] is None
    assert list_names(first) == ["queued"]
    assert first[-1].data["position"] == 1
    # The stream was open when the job was claimed, so its worker told the stages.
    assert list_names(rest) == ["running", *["stage"] * 5, "succeeded"]
    assert [event.data["stage"] for event in rest if event.name == "stage"] == [
        *("fetch", "decode", "device", "render", "store")
    ]
    end = rest[-1]
    assert end.data["state"] == "succeeded"
    assert end.data["timings_ms"]["device"] >= 0
    assert end.data["error"] is None


def test_a_stream_that_is_opened_after_the_end_tells_the_whole_log(
    process: RawGateway, gateway: GatewayUnderTest
) -> None:
    job_id = submit(gateway)
    run_job(gateway, job_id)

    with open_stream(process, job_id) as stream:
        events = list(stream)

    # It was not watched, so its worker told no stages.
    assert list_names(events) == ["queued", "running", "succeeded"]


def test_a_stream_that_is_opened_after_the_record_has_expired_tells_the_end(
    process: RawGateway, gateway: GatewayUnderTest, redis_url: str
) -> None:
    job_id = submit(gateway)
    run_job(gateway, job_id)
    with redis.Redis.from_url(redis_url) as client:
        client.delete(redis_keys.job(job_id))

    with open_stream(process, job_id) as stream:
        (end,) = stream

    assert (end.name, end.data["state"]) == ("succeeded", "succeeded")
    with open_stream(process, job_id, last=end.id) as again:
        assert again.status == 204


def test_after_the_last_id_nothing_is_lost_and_nothing_is_told_twice(
    process: RawGateway, gateway: GatewayUnderTest
) -> None:
    job_id = submit(gateway)
    run_job(gateway, job_id)
    with open_stream(process, job_id) as stream:
        events = list(stream)

    for number, event in enumerate(events[:-1]):
        with open_stream(process, job_id, last=event.id) as resumed:
            assert list(resumed) == events[number + 1 :]


def test_a_browser_is_told_to_stop_once_it_has_seen_the_end(process: RawGateway, gateway: GatewayUnderTest) -> None:
    job_id = submit(gateway)
    run_job(gateway, job_id)
    with open_stream(process, job_id) as stream:
        end = list(stream)[-1]

    with open_stream(process, job_id, last=end.id) as again:
        assert again.status == 204


@pytest.mark.parametrize("last", ["x", "-1", "1" * 16, "1-END", "\u00fc"])
def test_an_id_of_another_service_is_refused(process: RawGateway, gateway: GatewayUnderTest, last: str) -> None:
    with open_stream(process, submit(gateway), last=last) as stream:
        assert (stream.status, stream.read_body()["error_type"]) == (400, "bad_parameter")


def test_a_job_of_another_tenant_and_an_unknown_one_are_404(process: RawGateway, gateway: GatewayUnderTest) -> None:
    job_id = submit(gateway)

    for stream in (open_stream(process, job_id, token="bank-token"), open_stream(process, "0" * 32)):
        with stream:
            assert (stream.status, stream.read_body()["error_type"]) == (404, "unknown_job")


def test_a_job_that_is_purged_ends_its_stream(process: RawGateway, gateway: GatewayUnderTest) -> None:
    job_id = submit(gateway)
    with open_stream(process, job_id) as stream:
        stream.read_until("position")
        gateway.client.delete(f"/v1/jobs/{job_id}?purge=1", headers=HEADERS)

        assert [event.name for event in stream] == ["deleted"]


def test_a_canceled_job_ends_its_stream_with_the_reason(process: RawGateway, gateway: GatewayUnderTest) -> None:
    job_id = submit(gateway)
    with open_stream(process, job_id) as stream:
        stream.read_until("position")
        gateway.client.delete(f"/v1/jobs/{job_id}", headers=HEADERS)
        (end,) = stream

    assert (end.name, end.data["error_type"]) == ("canceled", "canceled")


def test_the_place_in_the_queue_is_told_when_it_changes(process: RawGateway, gateway: GatewayUnderTest) -> None:
    first, second = submit(gateway), submit(gateway)
    with open_stream(process, second) as stream:
        before = stream.read_until("position")[-1]
        run_job(gateway, first)
        after = stream.read_until("position")[-1]

    assert (before.data["position"], after.data["position"]) == (2, 1)
    assert (before.id, after.id) == ("", "")


def test_a_quiet_stream_has_heartbeats(process: RawGateway, gateway: GatewayUnderTest) -> None:
    job_id = submit(gateway)
    with open_stream(process, job_id) as stream:
        stream.read_until("position")
        threading.Timer(5 * HEARTBEAT_SECONDS, run_job, [gateway, job_id]).start()
        list(stream)

    assert stream.heartbeats >= 1


def test_streams_hold_no_threads_and_each_tenant_has_a_bound(process: RawGateway, gateway: GatewayUnderTest) -> None:
    job_id = submit(gateway)
    with ExitStack() as stack:
        # The process has four threads.
        streams = [stack.enter_context(open_stream(process, job_id)) for _ in range(20)]
        for stream in streams:
            stream.read_until("queued")
        with open_stream(process, job_id) as refused:
            assert (refused.status, refused.read_body()["error_type"]) == (429, "too_many_streams")
            assert refused.response.headers["Retry-After"] == "10"
        assert process.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")[0] == 200
        streams[0].close()
        wait_until(lambda: can_open(process, job_id), "a free stream")
        run_job(gateway, job_id)
        ends = [list(stream)[-1].name for stream in streams[1:]]

    assert ends == ["succeeded"] * 19


def can_open(process: RawGateway, job_id: str) -> bool:
    with open_stream(process, job_id) as stream:
        return stream.status == 200


def test_a_gateway_that_stops_ends_its_streams_in_order_and_the_next_one_goes_on(
    own_process: RawGateway, gateway: GatewayUnderTest, env: dict[str, str], tmp_path: Path
) -> None:
    job_id = submit(gateway)
    with open_stream(own_process, job_id) as stream:
        seen = stream.read_until("position")
        own_process.terminate()
        # Not cut off: it ends with the last chunk.
        seen += list(stream)
    wait_until(lambda: own_process.exit_code == 0, "the end of the gateway", seconds=4)

    (tmp_path / "next").mkdir()
    with RawGateway(tmp_path / "next", env) as following:
        following.wait_ready()
        last = drop_places(seen)[-1].id
        with open_stream(following, job_id, last=last) as stream:
            stream.read_until("position")
            run_job(gateway, job_id)
            rest = list(stream)

    assert list_names([*seen, *rest]) == ["queued", "running", *["stage"] * 5, "succeeded"]


def test_a_gateway_that_is_killed_loses_no_event(
    own_process: RawGateway, gateway: GatewayUnderTest, env: dict[str, str], tmp_path: Path
) -> None:
    job_id = submit(gateway)
    with open_stream(own_process, job_id) as stream:
        seen = drop_places(stream.read_until("position"))
        for pid in list_descendants(own_process.pid):
            os.kill(pid, signal.SIGKILL)
    run_job(gateway, job_id)

    (tmp_path / "next").mkdir()
    with RawGateway(tmp_path / "next", env) as following:
        following.wait_ready()
        with open_stream(following, job_id, last=seen[-1].id) as stream:
            rest = list(stream)

    assert list_names([*seen, *rest])[-1] == "succeeded"
    assert list_names([*seen, *rest])[:2] == ["queued", "running"]


def test_a_stream_goes_on_after_redis_was_away(
    process: RawGateway, gateway: GatewayUnderTest, valkey: ValkeyServer
) -> None:
    job_id = submit(gateway)
    with open_stream(process, job_id) as stream:
        seen = stream.read_until("position")
        valkey.kill()
        valkey.start()
        valkey.wait_ready()
        if not gateway.stores.jobs.is_known(job_id):
            # Its data are lost: the steward recovers the job.
            restore(gateway, job_id)
        run_job(gateway, job_id)
        rest = list(stream)

    numbers = [int(event.id.removesuffix("-end")) for event in drop_places([*seen, *rest])]
    assert numbers == sorted(set(numbers))
    assert rest[-1].name == "succeeded"


def restore(gateway: GatewayUnderTest, job_id: str) -> None:
    """Create a job again, as the steward does that finds its input."""
    job = gateway.stores.bucket.get_metadata(f"inbox/{job_id}")["request"]
    gateway.stores.jobs.create(JobRequest.from_json(job), is_recovered=True)


def test_a_head_request_opens_no_stream(process: RawGateway, gateway: GatewayUnderTest) -> None:
    job_id = submit(gateway)
    connection = http.client.HTTPConnection(LOOPBACK, process.port, timeout=10)
    connection.request("HEAD", f"/v1/jobs/{job_id}/events", headers=HEADERS)
    response = connection.getresponse()

    assert (response.status, response.read()) == (200, b"")
    assert response.headers["Content-Type"].startswith("text/event-stream")
    connection.close()


def test_a_job_shows_its_place_while_it_is_queued(process: RawGateway, gateway: GatewayUnderTest) -> None:
    job_id = submit(gateway)

    queued = gateway.client.get(f"/v1/jobs/{job_id}", headers=HEADERS).json
    claim = gateway.stores.jobs.attempts.claim(MODEL, worker="w", priorities=tuple(Priority))
    running = gateway.client.get(f"/v1/jobs/{job_id}", headers=HEADERS).json

    assert isinstance(claim, Claim)
    assert (queued["queue_position"], queued["eta"]) == (1, None)
    assert (running["queue_position"], running["eta"]) == (None, None)
