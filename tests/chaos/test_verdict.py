"""The judge of a trial notices each kind of breach, and nothing else; a schedule follows from its seed."""

from collections import Counter
from dataclasses import replace

import pytest

from shared.errors import AttemptsExhausted
from shared.jobs.model import JobState
from tests.chaos.faults import ALL_FAULTS, Fault, InjectedFault, plan_faults
from tests.chaos.records import NEVER, JobRecord, Outcome, Published
from tests.chaos.verdict import Rule, Trial, find_breaches, list_repeated, measure_recoveries
from tests.chaos.workload import PlannedJob, Variant, plan_jobs

VARIANT = Variant("cat", b"image", "threshold=0.3", ("labels.png",))
SEGMENT = {"id": 1, "label": "cat", "score": 0.97}
OUTCOME = Outcome((SEGMENT,), {"labels.png": b"labels"})
RECORD = JobRecord(
    PlannedJob(1, "chaos-1", VARIANT),
    job_id="a",
    accepted_at=100.0,
    seen_at=104.0,
    ended_at=103.0,
    state=JobState.SUCCEEDED,
    attempt=1,
    outcome=OUTCOME,
)
INJECTED = InjectedFault(Fault.WORKER_KILLED, "The worker", injected_at=101.0, lasted_until=101.0)
PUBLISHED = Published("a", "1-x", {"labels.png": b"labels"})
TRIAL = Trial([RECORD], [INJECTED], {"cat": OUTCOME}, {"a": PUBLISHED}, Counter("a"))
FAILED = replace(RECORD, state=JobState.FAILED, outcome=None)


def list_rules(trial: Trial) -> list[Rule]:
    return [breach.rule for breach in find_breaches(trial, max_recovery_seconds=15)]


def test_a_trial_in_which_each_job_succeeded_once_has_no_breach() -> None:
    assert list_rules(TRIAL) == []


@pytest.mark.parametrize(
    ("record", "rule"),
    [
        (replace(RECORD, seen_at=NEVER, ended_at=NEVER, state=None, outcome=None), Rule.LOST),
        (replace(RECORD, seen_at=NEVER, ended_at=NEVER, state=JobState.RUNNING, outcome=None), Rule.LOST),
        (replace(FAILED, error_type=AttemptsExhausted.code), Rule.DEAD_LETTERED),
        (replace(FAILED, error_type="internal_error"), Rule.FAILED),
        (replace(RECORD, faults=("500 unexpected",)), Rule.REFUSED),
        (replace(RECORD, outcome=replace(OUTCOME, segments=({**SEGMENT, "score": 0.9700001},))), Rule.DIFFERS),
        (replace(RECORD, outcome=replace(OUTCOME, segments=())), Rule.DIFFERS),
    ],
)
def test_what_a_caller_must_not_see_is_a_breach(record: JobRecord, rule: Rule) -> None:
    found = list_rules(replace(TRIAL, records=[record]))

    assert rule in found
    assert set(found) <= {rule, Rule.SLOW}


@pytest.mark.parametrize(
    ("kind", "rules"),
    [
        (Fault.VALKEY_FROZEN, [Rule.COMPUTED_AGAIN]),
        (Fault.STORE_FROZEN, [Rule.COMPUTED_AGAIN]),
        (Fault.WORKER_KILLED, []),
    ],
)
def test_a_job_that_is_computed_again_after_a_server_was_frozen_is_a_breach(kind: Fault, rules: list[Rule]) -> None:
    faults = [replace(INJECTED, kind=kind)]

    assert list_rules(replace(TRIAL, faults=faults, starts=Counter("a"))) == []
    assert list_rules(replace(TRIAL, faults=faults, starts=Counter("aa"))) == rules


def test_a_file_that_differs_in_one_byte_is_a_breach() -> None:
    other = {"labels.png": b"lavels"}
    record = replace(RECORD, outcome=replace(OUTCOME, files=other))

    assert list_rules(replace(TRIAL, records=[record], published={"a": replace(PUBLISHED, files=other)})) == [
        Rule.DIFFERS
    ]


@pytest.mark.parametrize(
    "published",
    [
        {},
        {"a": replace(PUBLISHED, attempt="", files={})},
        {"a": replace(PUBLISHED, files={})},
        {"a": replace(PUBLISHED, files={"labels.png": b"of another attempt"})},
    ],
)
def test_objects_that_disagree_with_the_result_are_a_breach(published: dict[str, Published]) -> None:
    assert list_rules(replace(TRIAL, published=published)) == [Rule.DAMAGED]


def test_a_job_of_a_submission_that_its_caller_repeated_is_counted_and_no_breach() -> None:
    repeated = replace(TRIAL, published={"a": PUBLISHED, "b": replace(PUBLISHED, job_id="b")})

    assert list_rules(repeated) == []
    assert list_repeated(repeated) == ["b"]
    assert list_repeated(replace(repeated, undisturbed_ids=frozenset("b"))) == []


def test_a_job_that_was_completed_twice_is_a_breach() -> None:
    assert list_rules(replace(TRIAL, completions=Counter("aa"))) == [Rule.DOUBLED]


def test_a_job_that_two_submissions_got_is_a_breach() -> None:
    assert list_rules(replace(TRIAL, records=[RECORD, RECORD])) == [Rule.DOUBLED]


def test_a_recovery_counts_from_the_end_of_the_fault_to_the_last_job_that_was_in_flight() -> None:
    later = replace(RECORD, accepted_at=101.5, ended_at=150.0, seen_at=151.0)
    injected = replace(INJECTED, lasted_until=102.0)

    (recovery,) = measure_recoveries(replace(TRIAL, records=[RECORD, later], faults=[injected]))

    assert (recovery.in_flight, recovery.seconds, recovery.seen_seconds) == (1, 1.0, 2.0)


def test_a_slow_recovery_is_a_breach() -> None:
    slow = replace(RECORD, ended_at=120.0, seen_at=121.0)

    assert list_rules(replace(TRIAL, records=[slow])) == [Rule.SLOW]


def test_a_schedule_has_each_fault_and_follows_from_its_seed() -> None:
    faults = plan_faults(ALL_FAULTS, 35, seed=1)

    assert Counter(planned.fault for planned in faults) == Counter(ALL_FAULTS)
    assert all(1 <= planned.after_jobs < 35 for planned in faults)
    assert faults == plan_faults(ALL_FAULTS, 35, seed=1) != plan_faults(ALL_FAULTS, 35, seed=2)


def test_the_jobs_follow_from_the_seed_and_each_has_a_key_of_its_own() -> None:
    variants = [VARIANT, replace(VARIANT, name="dog")]
    jobs = plan_jobs(variants, 20, seed=1)

    assert jobs == plan_jobs(variants, 20, seed=1) != plan_jobs(variants, 20, seed=2)
    assert len({job.key for job in jobs}) == 20
