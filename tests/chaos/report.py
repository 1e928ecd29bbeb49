"""The report of a trial, as text."""

from collections import Counter
from collections.abc import Iterator, Sequence
from statistics import median

from tests.chaos.records import NEVER
from tests.chaos.trial import Plan
from tests.chaos.verdict import Breach, Rule, Trial, list_repeated, measure_recoveries

MAX_BREACHES_SHOWN = 40


def format_header(plan: Plan) -> Iterator[str]:
    """Yield what a reader needs to repeat the trial."""
    yield f"seed {plan.seed}, {plan.jobs} jobs, {len(plan.faults)} faults; settings other than the defaults:"
    yield from (f"  {name}={value}" for name, value in plan.settings.items())


def format_report(trial: Trial, breaches: Sequence[Breach], *, max_recovery_seconds: float) -> Iterator[str]:
    """Yield the table of recoveries, the figures, and each breach."""
    yield f"{'fault':32} {'process':16} {'in flight':>9} {'done after':>10} {'seen after':>10}"
    for one in measure_recoveries(trial):
        injected = one.fault
        yield (
            f"{injected.kind:32} {injected.target:16} {one.in_flight:9} {one.seconds:8.1f} s {one.seen_seconds:8.1f} s"
        )
    yield f"(at most {max_recovery_seconds:g} s; after an object store that was away, from its return on)"
    yield from format_figures(trial)
    counts = Counter(breach.rule for breach in breaches)
    yield "breaches: " + ", ".join(f"{rule} {counts[rule]}" for rule in Rule)
    yield from (f"  {breach.rule}: {breach.what}" for breach in breaches[:MAX_BREACHES_SHOWN])
    if len(breaches) > MAX_BREACHES_SHOWN:
        yield f"  and {len(breaches) - MAX_BREACHES_SHOWN} more"


def format_figures(trial: Trial) -> Iterator[str]:
    """Yield how the jobs fared."""
    accepted = [record for record in trial.records if record.job_id]
    ended = [record for record in accepted if record.seen_at != NEVER]
    attempts = Counter(record.attempt for record in ended)
    states = Counter(str(record.state or "unknown") for record in accepted)
    yield f"accepted {len(accepted)} of {len(trial.records)} jobs: {_format_counts(states)}"
    yield f"attempts: {_format_counts(attempts)}"
    if ended:
        times = sorted(record.done_at - record.accepted_at for record in ended)
        yield f"from acceptance to end: median {median(times):.1f} s, longest {times[-1]:.1f} s"
    yield f"longest time for which an accepted job was unknown: {max(_list_unknown(trial)):.1f} s"
    left = sum(len(one.other_attempts) for one in trial.published.values())
    yield f"attempts that left objects and were not published: {left}"
    yield f"submissions without an answer that were repeated, and ran as well: {len(list_repeated(trial))}"
    yield f"processes that ended by themselves: {'; '.join(trial.unplanned) or 'none'}"


def _list_unknown(trial: Trial) -> list[float]:
    return [0.0, *(record.unknown_seconds for record in trial.records)]


def _format_counts(counts: Counter[str] | Counter[int]) -> str:
    return ", ".join(f"{name}: {count}" for name, count in sorted(counts.items(), key=lambda item: str(item[0])))
