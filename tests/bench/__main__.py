"""Measure this service and print one line of JSON for each measurement:  python -m tests.bench [queue engine ...]"""

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path

from shared.logs import configure_logging
from shared.settings import Settings
from tests.bench.measuring import LARGE_SIZE, MODEST, TINY, Effort, Measurement

BENCHES = ("queue", "engine", "service", "postprocess", "host")
# It installs other servers, and takes its time.
ON_REQUEST = ("peers",)


def main(arguments: Sequence[str]) -> int:
    """Run what was asked for; what was measured before something broke is kept."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="Measure the service on this machine.")
    listed = f"of {', '.join(BENCHES)}, which are run if none is named; or {', '.join(ON_REQUEST)}"
    parser.add_argument("benches", nargs="*", metavar="BENCH", help=listed)
    parser.add_argument("--append", type=Path, metavar="FILE", help="add the lines to this file as well")
    parser.add_argument("--seconds", type=float, default=MODEST.seconds, help="for each series of calls")
    parser.add_argument("--large", action="store_true", help="post-process 12 megapixels too; takes 10 GB of memory")
    parser.add_argument("--tiny", action="store_true", help="only see whether it runs; the figures mean nothing")
    chosen = parser.parse_args(arguments)
    if unknown := set(chosen.benches) - {*BENCHES, *ON_REQUEST}:
        parser.error(f"there is no bench {', '.join(sorted(unknown))}")
    effort = TINY if chosen.tiny else replace(MODEST, seconds=chosen.seconds)
    if chosen.large:
        effort = replace(effort, sizes=(*effort.sizes, LARGE_SIZE))
    for measurement in measurements(chosen.benches or BENCHES, effort):
        line = measurement.to_json()
        print(line, flush=True)
        if chosen.append:
            with chosen.append.open("a") as file:
                file.write(f"{line}\n")
    return 0


def measurements(benches: Sequence[str], effort: Effort) -> Iterator[Measurement]:
    """Run benches one after the other; each is imported when its turn comes, so that the queue needs no torch."""
    for bench in benches:
        yield from import_module(f"tests.bench.{bench}").run(effort)


if __name__ == "__main__":
    # Threads that wait by spinning cost either side several times the time where other processes want the cores.
    # torch reads this when it is loaded, which is later, and our child processes inherit it.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # What the parts under test have to say belongs on stderr, beside the progress.
    configure_logging(Settings(log_level="error"), process="bench")
    sys.exit(main(sys.argv[1:]))
