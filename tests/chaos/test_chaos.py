"""A short trial: no job is lost, doubled, dead-lettered or different while processes are lost."""

from pathlib import Path

import pytest

from tests.chaos.faults import SHORT_FAULTS
from tests.chaos.plans import build_short_plan
from tests.chaos.report import format_report
from tests.chaos.trial import run_trial
from tests.chaos.verdict import find_breaches

SEED = 7
# `make chaos` has the limit of a machine that does nothing else.
MAX_RECOVERY_SECONDS = 60.0


@pytest.mark.timeout(600)
def test_every_accepted_job_ends_once_and_as_undisturbed_while_processes_are_lost(tmp_path: Path) -> None:
    trial = run_trial(build_short_plan(SEED), tmp_path / "data", print)
    breaches = list(find_breaches(trial, max_recovery_seconds=MAX_RECOVERY_SECONDS))
    print(*format_report(trial, breaches, max_recovery_seconds=MAX_RECOVERY_SECONDS), sep="\n")

    assert breaches == []
    assert sorted(injected.kind for injected in trial.faults) == sorted(SHORT_FAULTS)
    assert all(record.outcome for record in trial.records)
