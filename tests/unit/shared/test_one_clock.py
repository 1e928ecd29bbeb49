"""No module reads the clock of its machine, but those that are listed here with the reason."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
MACHINE_CLOCK = re.compile(
    r"\btime\.(?:time|time_ns|localtime|gmtime|CLOCK_REALTIME)\b|from time import|\bdatetime\.(?:now|utcnow|today)\b"
    r"|\bdate\.today\b|\buuid[17]\(\)"
)
REASONS = {
    "api/http/authentication.py": "a person wrote when a token expires, and means the time of the world",
}


def read_machine_clock(text: str) -> bool:
    return any(MACHINE_CLOCK.search(line.partition("#")[0]) for line in text.splitlines())


def test_decisions_between_processes_read_the_clock_of_redis() -> None:
    readers = {
        str(path.relative_to(ROOT))
        for folder in ("api", "shared", "worker")
        for path in (ROOT / folder).rglob("*.py")
        if "training" not in path.parts and read_machine_clock(path.read_text())
    }

    assert readers == set(REASONS), "shared/redis_clock.py has the time that all processes share"


@pytest.mark.parametrize("line", ["since=time.time()", "from time import time", "datetime.now(UTC)", "uuid7().hex"])
def test_a_reading_of_the_clock_is_recognized(line: str) -> None:
    assert read_machine_clock(line)
