"""Run a trial and print its report:  python -m tests.chaos [--seed N] [--jobs N] [--only FAULT ...] [--short]

Ends with 1 if a job was lost, doubled, dead-lettered, failed or differs, or if a recovery took too long.
"""

import argparse
import random
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tests.chaos.faults import Fault
from tests.chaos.plans import MAX_RECOVERY_SECONDS, build_plan, build_short_plan
from tests.chaos.report import format_header, format_report
from tests.chaos.trial import run_trial
from tests.chaos.verdict import find_breaches


def main(arguments: Sequence[str]) -> int:
    chosen = parse_arguments(arguments)
    build = build_short_plan if chosen.short else build_plan
    plan = build(chosen.seed, chosen.jobs)
    if chosen.only:
        plan = replace(plan, faults=tuple(chosen.only))
    for line in format_header(plan):
        print(line, flush=True)
    with tempfile.TemporaryDirectory(prefix="maskmill-chaos-", ignore_cleanup_errors=True) as folder:
        data = chosen.data or Path(folder)
        trial = run_trial(plan, data, lambda line: print(line, file=sys.stderr, flush=True))
    breaches = list(find_breaches(trial, max_recovery_seconds=MAX_RECOVERY_SECONDS))
    for line in format_report(trial, breaches, max_recovery_seconds=MAX_RECOVERY_SECONDS):
        print(line, flush=True)
    return int(bool(breaches))


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description="Disturb the service while it works.")
    parser.add_argument("--seed", type=int, default=random.randrange(10_000), help="of the schedule; printed")
    parser.add_argument("--jobs", type=int, default=0, help="how many; 0 means 420, or 60 of a short trial")
    parser.add_argument("--only", nargs="+", type=Fault, help="these faults alone, by their names in the report")
    parser.add_argument("--short", action="store_true", help="six faults of different kinds and shorter leases")
    parser.add_argument("--data", type=Path, help="keep data and logs in this empty folder")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
