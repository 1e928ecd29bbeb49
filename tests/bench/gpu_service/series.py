"""The series of one start of the worker: bursts of jobs, and synchronous callers."""

import time
from collections.abc import Iterator
from typing import Any

from tests.bench.engine import IMAGE_SIZE
from tests.bench.gpu_service.load import Load, open_load, run_load
from tests.bench.gpu_service.observation import Interval, Observation, describe_usage, observe
from tests.bench.gpu_service.service import ServiceUnderTest
from tests.bench.gpu_service.workload import FORMATS, ServiceWorkload, Variant
from tests.bench.measurement import Measurement, device_name, latency_summary, print_progress
from tests.support.polling import wait_until

POLL_INTERVAL_SECONDS = 0.05
# For a burst to be completed once nothing is submitted any more.
DRAIN_SECONDS = 60.0
# Submitting takes at most so many times as long as working the backlog off.
MAX_SUBMISSION_RATIO = 2.5
# A burst is measured at most so many times as long as it was meant to take.
MAX_DRAIN_RATIO = 2.0


def measure_variant(service: ServiceUnderTest, workload: ServiceWorkload, variant: Variant) -> Iterator[Measurement]:
    """Measure bursts with each selection of formats, then each number of synchronous callers."""
    rate = warm_up(service, workload)
    for formats in FORMATS:
        if workload.is_over:
            yield report_left_out(workload, variant, {"formats": formats})
            continue
        print_progress(f"gpu_service: {variant}, {formats}")
        yield measure_burst(service, workload, variant, formats, target=int(rate * workload.seconds))
    for clients in workload.clients:
        if workload.is_over:
            yield report_left_out(workload, variant, {"clients": clients})
            continue
        print_progress(f"gpu_service: {variant}, {clients} synchronous")
        yield measure_synchronous(service, workload, variant, clients)


def warm_up(service: ServiceUnderTest, workload: ServiceWorkload) -> float:
    """Run jobs until the worker knows what its batches cost; return the rate of the second half per second."""
    task = service.job_task("labels")
    requests = -(-workload.warm_up_jobs // (2 * task.threads))
    for _ in range(2):
        start = time.monotonic()
        run_load(service.job_task("labels", max_requests=requests))
        wait_until_done(service)
    return requests * task.threads / (time.monotonic() - start)


def measure_burst(
    service: ServiceUnderTest, workload: ServiceWorkload, variant: Variant, formats: str, *, target: int
) -> Measurement:
    """Submit jobs until `target` of them are queued, then measure how fast these are completed.

    While they are submitted the worker runs as well; if it is as fast as the submission, the figures are those of the
    whole burst, and say that the submission limits it.
    """
    start = observe(service.stack)
    with open_load(service.job_task(formats)) as load:
        fill_queue(service, load, target, max_seconds=MAX_SUBMISSION_RATIO * workload.seconds)
        submitted = load.stop()
    queued, unfinished = observe(service.stack), service.count_unfinished()
    wait_for_empty_queue(service, max_seconds=MAX_DRAIN_RATIO * workload.seconds)
    emptied, running = observe(service.stack), service.count_unfinished()
    wait_until_done(service)
    end = observe(service.stack)
    jobs = len(submitted.times_ms)
    is_steady = unfinished >= target // 2 and unfinished > running
    interval, images = (Interval(queued, emptied), unfinished - running) if is_steady else (Interval(start, end), jobs)
    gpu_busy = service.gpu.mean(interval.start.at, interval.end.at)
    usage = describe_usage(interval, hosts=variant.hosts, gpu_busy=gpu_busy)
    figures = {
        "images_per_second": round(images / interval.seconds, 1),
        **(usage if is_steady else usage | {"limited_by": "the submission"}),
        "images": images,
        "seconds": round(interval.seconds, 1),
        **describe_burst(start, queued, end, jobs, unfinished),
        "stages_ms": interval.stage_means_ms(),
    }
    return build_measurement(workload, variant, "gpu_service.jobs", {"formats": formats}, figures)


def fill_queue(service: ServiceUnderTest, load: Load, target: int, *, max_seconds: float) -> None:
    """Wait until so many jobs are queued, or the time is over."""
    end = time.monotonic() + max_seconds
    while service.backlog() < target and time.monotonic() < end:
        load.check()
        time.sleep(POLL_INTERVAL_SECONDS)


def wait_for_empty_queue(service: ServiceUnderTest, *, max_seconds: float) -> None:
    """Wait until no job is queued, or the time is over: some formats take longer than those of the warm-up."""
    end = time.monotonic() + max_seconds
    while service.backlog() and time.monotonic() < end:
        time.sleep(POLL_INTERVAL_SECONDS)


def describe_burst(
    start: Observation, queued: Observation, end: Observation, jobs: int, unfinished: int
) -> dict[str, Any]:
    """Return the figures of a whole burst: rates while jobs were submitted, and the CPU time of each part."""
    submission, whole = Interval(start, queued), Interval(start, end)
    return {
        "submitted_per_second": round(jobs / submission.seconds, 1),
        "images_per_second_meanwhile": round((jobs - unfinished) / submission.seconds, 1),
        "cpu_ms": {part: round(1000 * seconds / jobs, 2) for part, seconds in whole.cpu_seconds().items()},
    }


def measure_synchronous(
    service: ServiceUnderTest, workload: ServiceWorkload, variant: Variant, clients: int
) -> Measurement:
    """Measure callers in closed loops, each of which waits for its result."""
    start = observe(service.stack)
    result = run_load(service.synchronous_task(clients, workload.seconds / 2))
    interval = Interval(start, observe(service.stack))
    figures = {
        "images_per_second": round(len(result.times_ms) / result.seconds, 1),
        **latency_summary(result.times_ms),
        "gpu_busy": service.gpu.mean(interval.start.at, interval.end.at),
        "device_busy": interval.device_busy(),
        "mean_batch": interval.mean_batch(),
        "images": len(result.times_ms),
        "stages_ms": interval.stage_means_ms(),
    }
    return build_measurement(workload, variant, "gpu_service.sync", {"clients": clients}, figures)


def wait_until_done(service: ServiceUnderTest) -> None:
    wait_until(
        lambda: not service.count_unfinished(), seconds=DRAIN_SECONDS, poll_interval_seconds=POLL_INTERVAL_SECONDS
    )


def report_left_out(workload: ServiceWorkload, variant: Variant, settings: dict[str, Any]) -> Measurement:
    """Return the line that stands for a measurement for which no time was left."""
    return build_measurement(workload, variant, "gpu_service.left_out", settings, {"minutes were over": True})


def build_measurement(
    workload: ServiceWorkload, variant: Variant, bench: str, settings: dict[str, Any], figures: dict[str, Any]
) -> Measurement:
    image = {"image": "x".join(map(str, IMAGE_SIZE))}
    return Measurement(bench, variant.settings(workload) | image | settings, figures, device_name(workload.device))
