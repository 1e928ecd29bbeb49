"""What was wrong in a trial.  Pure: records in, breaches out."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from shared.errors import AttemptsExhausted
from shared.jobs.model import JobState
from tests.chaos.faults import STALLED_SERVERS, InjectedFault
from tests.chaos.records import NEVER, JobRecord, Outcome, Published

# Of a file or a list of segments that differs.
_MAX_TEXT = 160


class Rule(StrEnum):
    """What holds for every accepted job, and after every fault; the values are shown in the report."""

    LOST = "lost"
    DOUBLED = "doubled"
    COMPUTED_AGAIN = "computed again"
    DEAD_LETTERED = "innocent dead-lettered"
    FAILED = "failed"
    DIFFERS = "differs from the undisturbed run"
    DAMAGED = "published objects disagree"
    REFUSED = "wrong answer to a caller"
    SLOW = "recovery too slow"


@dataclass(frozen=True, slots=True)
class Breach:
    rule: Rule
    what: str


@dataclass(frozen=True, slots=True)
class Recovery:
    """How long the jobs in flight at a fault took.

    seconds: from its end until all were done; seen_seconds: until their callers knew.
    """

    fault: InjectedFault
    in_flight: int
    seconds: float
    seen_seconds: float


@dataclass(frozen=True, slots=True)
class Trial:
    """All that was observed.

    references: the outcome of each variant by name, undisturbed.
    completions: how often workers logged that they completed a job, by its id.
    undisturbed_ids: the jobs of the references.
    unplanned: processes that ended by themselves.
    starts: how often workers logged that they gave the image of a job to the model, by its id.
    """

    records: Sequence[JobRecord]
    faults: Sequence[InjectedFault]
    references: Mapping[str, Outcome]
    published: Mapping[str, Published]
    completions: Counter[str] = field(default_factory=Counter)
    undisturbed_ids: frozenset[str] = frozenset()
    unplanned: Sequence[str] = ()
    starts: Counter[str] = field(default_factory=Counter)


def find_breaches(trial: Trial, *, max_recovery_seconds: float) -> Iterator[Breach]:
    """Yield everything that must not be."""
    for record in trial.records:
        yield from _check_record(record, trial)
        yield from _check_published(record, trial)
    yield from _find_doubled(trial)
    yield from _find_computed_again(trial)
    for recovery in measure_recoveries(trial):
        if recovery.seconds > max_recovery_seconds:
            yield Breach(Rule.SLOW, f"{recovery.fault.kind}: {recovery.seconds:.1f} s")


def measure_recoveries(trial: Trial) -> Iterator[Recovery]:
    """Yield how long the service took after each fault."""
    for injected in trial.faults:
        in_flight = [record for record in trial.records if record.was_in_flight(injected.injected_at)]
        yield Recovery(
            injected,
            len(in_flight),
            max(0.0, max((record.done_at for record in in_flight), default=0.0) - injected.lasted_until),
            max(0.0, max((record.seen_at for record in in_flight), default=0.0) - injected.lasted_until),
        )


def _check_record(record: JobRecord, trial: Trial) -> Iterator[Breach]:
    name = f"{record.planned.key} ({record.job_id or 'not accepted'})"
    yield from (Breach(Rule.REFUSED, f"{name}: {fault}") for fault in record.faults)
    if not record.job_id:
        yield Breach(Rule.REFUSED, f"{name}: no gateway accepted it")
    elif record.seen_at == NEVER:
        yield Breach(Rule.LOST, f"{name}: {record.state or 'unknown'} at the end")
    elif record.error_type == AttemptsExhausted.code:
        yield Breach(Rule.DEAD_LETTERED, name)
    elif record.state is not JobState.SUCCEEDED:
        yield Breach(Rule.FAILED, f"{name}: {record.state} {record.error_type}")
    elif record.outcome:
        expected = trial.references[record.planned.variant.name]
        yield from (
            Breach(Rule.DIFFERS, f"{name}, {record.planned.variant.name}: {difference}")
            for difference in find_differences(expected, record.outcome)
        )


def find_differences(expected: Outcome, outcome: Outcome) -> Iterator[str]:
    """Yield what is not the same in two outcomes of one request; bytes and scores have to be equal."""
    if expected.segments != outcome.segments:
        pairs = zip(expected.segments, outcome.segments, strict=False)
        first = next((pair for pair in pairs if pair[0] != pair[1]), None)
        text = f"{first[1]} instead of {first[0]}" if first else f"{len(outcome.segments)} segments"
        yield f"segments: {text[:_MAX_TEXT]}"
    for name in expected.files:
        if expected.files[name] != outcome.files.get(name):
            yield name


def _check_published(record: JobRecord, trial: Trial) -> Iterator[Breach]:
    """Compare the objects that `result.json` names with what the caller got."""
    if not record.outcome:
        return
    published = trial.published.get(record.job_id)
    if published is None or not published.attempt:
        yield Breach(Rule.DAMAGED, f"{record.job_id}: there is no result.json")
        return
    for name, content in record.outcome.files.items():
        if published.files.get(name) != content:
            yield Breach(Rule.DAMAGED, f"{record.job_id}: {name} of attempt {published.attempt}")


def _find_doubled(trial: Trial) -> Iterator[Breach]:
    ids = Counter(record.job_id for record in trial.records if record.job_id)
    yield from (Breach(Rule.DOUBLED, f"{job_id}: answered to {n} keys") for job_id, n in ids.items() if n > 1)
    for job_id, count in sorted(trial.completions.items()):
        if count > 1:
            yield Breach(Rule.DOUBLED, f"{job_id}: completed {count} times")


def _find_computed_again(trial: Trial) -> Iterator[Breach]:
    """Yield the jobs that the model saw more than once although only a server was away for a while."""
    for injected in trial.faults:
        if injected.kind not in STALLED_SERVERS:
            continue
        for record in trial.records:
            if record.was_in_flight(injected.injected_at) and trial.starts[record.job_id] > 1:
                yield Breach(
                    Rule.COMPUTED_AGAIN, f"{record.job_id}: {trial.starts[record.job_id]} times; {injected.kind}"
                )


def list_repeated(trial: Trial) -> list[str]:
    """Return the ids of the jobs that ran although no caller got their ids, which is no breach.

    A submission that was answered with an error, or not at all, may have stored its image.  If its caller repeats it
    before the image is deleted or recovered, both run: nothing tells the two from accepted jobs.
    """
    known = {record.job_id for record in trial.records} | trial.undisturbed_ids
    return sorted(trial.published.keys() - known)
