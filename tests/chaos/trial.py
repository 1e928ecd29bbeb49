"""Runs a trial: an undisturbed run of each request, then sections of jobs with one fault each."""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from deploy.local.processes import Process
from tests.chaos.bucket import count_inputs, read_published
from tests.chaos.callers import run_job
from tests.chaos.faults import Durations, Fault, InjectedFault, PlannedFault, plan_faults
from tests.chaos.records import JobRecord, Outcome
from tests.chaos.service import ChaosService
from tests.chaos.verdict import Trial
from tests.chaos.workload import PlannedJob, Variant, build_variants, plan_jobs
from tests.support.polling import wait_until

CALLERS = 12
# For a job, from its submission on; after that it counts as lost.
JOB_SECONDS = 180.0
SETTLE_SECONDS = 120.0
_POLL_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Plan:
    """What a trial does.

    settings: those that differ from the defaults.
    variants: how many distinct requests there are.
    """

    seed: int
    jobs: int
    faults: tuple[Fault, ...]
    settings: Mapping[str, str]
    durations: Durations
    variants: int


@dataclass(slots=True)
class Section:
    """Some jobs, and the fault that is injected once enough of them are accepted."""

    jobs: Sequence[PlannedJob]
    fault: PlannedFault | None
    accepted: int = 0
    injected: InjectedFault | None = None

    def note_accepted(self) -> None:
        # Called by the threads of the callers; a count that is one behind for a moment does no harm.
        self.accepted += 1

    @property
    def is_due(self) -> bool:
        return self.fault is not None and self.injected is None and self.accepted >= self.fault.after_jobs


def run_trial(plan: Plan, folder: Path, report: Callable[[str], None]) -> Trial:
    """Run a trial in a folder that is empty; `report` gets a line for each step."""
    variants = build_variants()[: plan.variants]
    with ExitStack() as stack:
        report("starting two gateways, two workers, steward, Valkey and the object store")
        service = ChaosService.start(folder, plan.settings, plan.durations, stack)
        report(f"undisturbed: {len(variants)} requests, one after the other")
        undisturbed = [run_undisturbed(service, number, variant) for number, variant in enumerate(variants)]
        records: list[JobRecord] = []
        injected: list[InjectedFault] = []
        for section in plan_sections(plan, variants):
            records += run_section(service, section)
            injected += [section.injected] if section.injected else []
            report(describe_section(section, len(records)))
        wait_until(lambda: not count_inputs(service.stack.objects), "the deletion of inputs", seconds=SETTLE_SECONDS)
        return Trial(
            records,
            injected,
            {record.planned.variant.name: outcome for record, outcome in undisturbed},
            {published.job_id: published for published in read_published(service.stack.objects)},
            count_events(service.workers, "job_completed"),
            frozenset(record.job_id for record, _ in undisturbed),
            service.unplanned,
            count_events(service.workers, "job_started"),
        )


def plan_sections(plan: Plan, variants: Sequence[Variant]) -> Iterator[Section]:
    """Yield the jobs in as many sections as there are faults, the rest in the last ones."""
    jobs = plan_jobs(variants, plan.jobs, plan.seed)
    count = len(plan.faults)
    faults = plan_faults(plan.faults, plan.jobs // count, plan.seed)
    for number, fault in enumerate(faults):
        yield Section(jobs[number * len(jobs) // count : (number + 1) * len(jobs) // count], fault)


def run_section(service: ChaosService, section: Section) -> list[JobRecord]:
    """Run the jobs of a section to their end, and wait until all processes are ready again."""
    with ThreadPoolExecutor(CALLERS) as threads:
        running: list[Future[JobRecord]] = [
            threads.submit(run_job, job, service.ports, seconds=JOB_SECONDS, on_accepted=section.note_accepted)
            for job in section.jobs
        ]
        while not all(future.done() for future in running):
            service.supervise()
            if section.is_due:
                section.injected = service.inject(section.fault)
            time.sleep(_POLL_SECONDS)
    settle(service)
    return [future.result() for future in running]


def settle(service: ChaosService) -> None:
    """Wait until all processes are ready.

    Raises:
        AssertionError: they were not in time.
    """

    def is_settled() -> bool:
        service.supervise()
        return service.is_settled()

    wait_until(is_settled, "the recovery of all processes", seconds=SETTLE_SECONDS, poll_interval_seconds=0.2)


def run_undisturbed(service: ChaosService, number: int, variant: Variant) -> tuple[JobRecord, Outcome]:
    """Run one job with nothing beside it.

    Raises:
        RuntimeError: it did not succeed.
    """
    planned = PlannedJob(number, f"undisturbed-{number}", variant)
    record = run_job(planned, service.ports, seconds=JOB_SECONDS, on_accepted=lambda: None)
    if record.outcome is None:
        raise RuntimeError(f"{variant.name} did not succeed without a fault: {record}")
    return record, record.outcome


def count_events(workers: Sequence[Process], event: str) -> Counter[str]:
    """Return how often workers logged an event of a job, by job id."""
    texts = (worker.log.read_text() for worker in workers)
    lines = (json.loads(line) for text in texts for line in text.splitlines() if line.startswith("{"))
    return Counter(line["job_id"] for line in lines if line.get("event") == event)


def describe_section(section: Section, done: int) -> str:
    injected = section.injected
    return f"{done} jobs done; {f'{injected.kind} ({injected.target})' if injected else 'no fault'}"
