"""Runs benchmarks and prints one line of JSON for each measurement:  python -m tests.bench [queue engine ...]"""

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path

from shared.logs import configure_logging
from shared.settings import Settings
from tests.bench.measurement import DEFAULT_WORKLOAD, LARGE_SIZE, TINY_WORKLOAD, Measurement, Workload

BENCHES = (
    "queue",
    "polls",
    "streams",
    "eta",
    "engine",
    "service",
    "postprocess",
    "recut",
    "host",
    "formats",
    "instant",
    "backlog",
    "load",
    "idle",
)
# They run only when named: one installs other servers and takes longer, one stores 10,000 inputs first, and one needs a
# browser.
OPTIONAL_BENCHES = ("peers", "recovery", "page")


def main(arguments: Sequence[str]) -> int:
    """Run the benchmarks; each line is written as soon as it is measured, so that an error loses no earlier line."""
    chosen = parse_arguments(arguments)
    for measurement in run(chosen.benches or BENCHES, build_workload(chosen)):
        line = measurement.to_json()
        print(line, flush=True)
        if chosen.append:
            with chosen.append.open("a") as file:
                file.write(f"{line}\n")
    return 0


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="Measure the service on this machine.")
    names = f"of {', '.join(BENCHES)}, all of which run if none is named; or {', '.join(OPTIONAL_BENCHES)}"
    parser.add_argument("benches", nargs="*", metavar="BENCH", help=names)
    parser.add_argument("--append", type=Path, metavar="FILE", help="append the lines to this file as well")
    parser.add_argument("--seconds", type=float, default=DEFAULT_WORKLOAD.seconds, help="of each series of calls")
    parser.add_argument("--large", action="store_true", help="post-process 12 megapixels too; takes 10 GB of memory")
    parser.add_argument("--tiny", action="store_true", help="smoke test; the figures mean nothing")
    chosen = parser.parse_args(arguments)
    if unknown := set(chosen.benches) - {*BENCHES, *OPTIONAL_BENCHES}:
        parser.error(f"there is no bench {', '.join(sorted(unknown))}")
    return chosen


def build_workload(chosen: argparse.Namespace) -> Workload:
    workload = TINY_WORKLOAD if chosen.tiny else replace(DEFAULT_WORKLOAD, seconds=chosen.seconds)
    if chosen.large:
        workload = replace(workload, postprocess_sizes=(*workload.postprocess_sizes, LARGE_SIZE))
    return workload


def run(benches: Sequence[str], workload: Workload) -> Iterator[Measurement]:
    """Run benchmarks one after the other; each is imported just before it runs, so that `queue` needs no torch."""
    for bench in benches:
        yield from import_module(f"tests.bench.{bench}").run(workload)


if __name__ == "__main__":
    # Spinning OpenMP threads slow every measurement down several times where other processes use the cores.
    # torch reads the variable when it is imported, which is later, and child processes inherit it.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # Logs of the code under test go to stderr, like the progress.
    configure_logging(Settings(log_level="error"), process="bench")
    sys.exit(main(sys.argv[1:]))
