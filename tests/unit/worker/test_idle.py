"""When a process gives freed memory back."""

from dataclasses import dataclass, field

from worker.runtime.idle import IDLE_SECONDS, IdleTrimmer


@dataclass
class Process:
    """A process whose clock and work the test sets."""

    now: float = 0.0
    work: int = 0
    trims: list[float] = field(default_factory=list)

    def build_trimmer(self) -> IdleTrimmer:
        return IdleTrimmer(lambda: self.work, lambda: self.trims.append(self.now), clock=lambda: self.now)


def test_memory_is_given_back_once_after_each_burst() -> None:
    process = Process()
    trimmer = process.build_trimmer()

    for second in range(40):
        process.now = float(second)
        if second in (3, 4, 20):
            process.work += 1
        trimmer.check()

    assert process.trims == [4 + IDLE_SECONDS, 20 + IDLE_SECONDS]


def test_memory_of_the_start_is_given_back_too() -> None:
    process = Process()
    trimmer = process.build_trimmer()

    process.now = IDLE_SECONDS
    trimmer.check()

    assert process.trims == [IDLE_SECONDS]
