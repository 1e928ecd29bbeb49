"""The whole service on a machine with a GPU, in one command of nine minutes:  python -m tests.bench.gpu_service

Starts gateway, Valkey, object store, steward and worker as `make serve` does, with Mask2Former, Swin-L and random
weights, so it downloads nothing; sends 640x480 JPEGs through HTTP, Celery and S3.  Prints JSON lines, one for each
series, and writes them and the logs to --out.  --device cpu --tiny is a smoke test.
"""

import os
import sys
from collections.abc import Iterator, Sequence

from deploy.local.gateway_client import GatewayRefused
from deploy.local.processes import NotReady
from shared.logs import configure_logging
from shared.settings import Settings
from tests.bench.gpu_service.series import build_measurement, measure_variant, report_left_out
from tests.bench.gpu_service.service import ServiceUnderTest, open_service, restart_worker
from tests.bench.gpu_service.workload import ServiceWorkload, Variant, parse_workload
from tests.bench.measurement import Measurement, print_progress

LINES = "gpu_service.jsonl"


def main(arguments: Sequence[str]) -> int:
    """Write each line as soon as it is measured, so that an error loses no earlier line."""
    workload = parse_workload(arguments)
    if workload.out:
        workload.out.mkdir(parents=True, exist_ok=True)
        (workload.out / LINES).unlink(missing_ok=True)
    for measurement in run(workload):
        write_line(workload, measurement.to_json())
    return 0


def write_line(workload: ServiceWorkload, line: str) -> None:
    print(line, flush=True)
    if workload.out:
        with (workload.out / LINES).open("a") as file:
            file.write(f"{line}\n")


def run(workload: ServiceWorkload) -> Iterator[Measurement]:
    """Measure each number of host processes, and last a compiled model with the number that was the fastest."""
    first, *others = (Variant(hosts) for hosts in workload.hosts)
    with open_service(workload, first) as service:
        rates: dict[int, float] = {}
        for measurement in measure_variants(service, workload, first, others):
            yield measurement
            if measurement.bench == "gpu_service.jobs":
                rates.setdefault(measurement.settings["hosts"], measurement.figures["images_per_second"])
        if workload.is_compiled and rates:
            fastest = max(rates, key=rates.__getitem__)
            yield from measure_restarted(service, workload, Variant(fastest, is_compiled=True))


def measure_variants(
    service: ServiceUnderTest, workload: ServiceWorkload, first: Variant, others: Sequence[Variant]
) -> Iterator[Measurement]:
    yield from report_failure(workload, first, measure_variant(service, workload, first))
    for variant in others:
        yield from measure_restarted(service, workload, variant)


def measure_restarted(service: ServiceUnderTest, workload: ServiceWorkload, variant: Variant) -> Iterator[Measurement]:
    """Measure a worker with other settings."""
    if workload.is_over or (variant.is_compiled and not workload.has_time_to_compile):
        yield report_left_out(workload, variant, {})
    else:
        yield from report_failure(workload, variant, _measure_restarted(service, workload, variant))


def _measure_restarted(service: ServiceUnderTest, workload: ServiceWorkload, variant: Variant) -> Iterator[Measurement]:
    print_progress(f"gpu_service: starting the worker, {variant}")
    restart_worker(service.stack, variant.environ(workload), deadline_seconds=workload.count_start_seconds(variant))
    yield from measure_variant(service, workload, variant)


def report_failure(
    workload: ServiceWorkload, variant: Variant, measurements: Iterator[Measurement]
) -> Iterator[Measurement]:
    """Yield the measurements; an error that ends them is a line too, so that the next variant is still measured."""
    try:
        yield from measurements
    except (NotReady, GatewayRefused, RuntimeError, AssertionError) as problem:
        yield build_measurement(workload, variant, "gpu_service.failed", {}, {"reason": str(problem)})


if __name__ == "__main__":
    # torch reads the variable when it is imported by the worker.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    configure_logging(Settings(log_level="error"), process="bench")
    sys.exit(main(sys.argv[1:]))
