"""Open event streams: the memory and the CPU time of a gateway process that holds 300, and their end.

Each is of a job of its own; all jobs end at once.
"""

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from tests.bench.cpu_time import read_cpu_seconds
from tests.bench.measurement import Measurement, Workload, print_progress
from tests.bench.polls import open_gateway
from tests.bench.queue import servers
from tests.bench.service import Client
from tests.support.event_client import EventClient
from tests.support.jobs import png
from tests.support.process_memory import read_memory

STREAMS = 300
CLIENTS = 8


def run(workload: Workload) -> Iterator[Measurement]:
    """Measure a gateway before and while it has the streams."""
    count = STREAMS if workload.seconds >= 1 else 20
    with servers() as settings, open_gateway(settings, threads=16) as gateway, ExitStack() as stack:
        client = Client(gateway.port)
        ids = [str(client.request("POST", "/v1/jobs", png())[1]["id"]) for _ in range(count)]
        before = read_memory(gateway.pid)
        print_progress(f"streams: opening {count}")
        streams = [stack.enter_context(EventClient(gateway.port, job_id, seconds=60)) for job_id in ids]
        for stream in streams:
            stream.read_until("queued")
        with ThreadPoolExecutor(CLIENTS) as threads:
            list(threads.map(lambda stream: stream.read_until("position"), streams))
        after = read_memory(gateway.pid)
        quiet = measure_quiet(gateway.pid, workload.seconds)
        started = time.monotonic()
        for job_id in ids:
            client.request("DELETE", f"/v1/jobs/{job_id}")
        ended = read_ends(streams)
        yield Measurement(
            "streams",
            {"streams": count, "threads": 16},
            {
                "mebibytes": round((after - before) / 2**20, 1),
                "kilobytes_per_stream": round((after - before) / count / 1000, 1),
                "cpu_percent_of_a_core": quiet,
                "ended": ended,
                "seconds_until_all_had_ended": round(time.monotonic() - started, 2),
            },
        )


def measure_quiet(pid: int, seconds: float) -> float:
    """Return the CPU time of a process while nothing changes, in per cent of a core."""
    before = read_cpu_seconds([pid])
    time.sleep(seconds)
    return round(100 * (read_cpu_seconds([pid]) - before) / seconds, 1)


def read_ends(streams: Sequence[EventClient]) -> int:
    """Return how many streams told the end of their job, once all are closed by the gateway."""
    with ThreadPoolExecutor(CLIENTS) as threads:
        return sum(threads.map(lambda stream: list(stream)[-1].name == "canceled", streams))
