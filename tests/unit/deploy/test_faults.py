"""The table of faults in deploy/README.md: each row names tests that exist, and events and metrics that do."""

import re

from tests.support.documents import NAMED_TEST, ROOT, list_missing_tests

SECTION = "## Faults"
# Words that the first cells of the table have to contain.
FAULTS = (
    *("worker is killed", "host process", "engine process", "worker is frozen", "device hangs"),
    *("Redis is killed", "Redis is frozen", "Redis is flushed", "Redis is wiped", "Redis is full"),
    *("object store is away", "object store is frozen", "object store is full", "refuses writes"),
    *("receiver of webhooks is away", "receiver of webhooks is gone", "while it sends webhooks"),
    *("steward is killed", "no steward", "no renderer", "gateway is killed", "gateway is drained", "worker is drained"),
    *("poison job", "too costly", "clock", "backlog", "overwritten", "more requests than"),
)
# Events, and fields and values of them.
WORD_IN_LOG = re.compile(r"`([a-z]+(?:_[a-z]+)+)`")
METRIC = re.compile(r"`(maskmill_[a-z_]+)")


def read_rows() -> list[list[str]]:
    text = (ROOT / "deploy" / "README.md").read_text().partition(SECTION)[2].partition("\n## ")[0]
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]


def read_code() -> str:
    return "".join(path.read_text() for part in ("api", "shared", "worker") for path in (ROOT / part).rglob("*.py"))


def test_each_fault_has_a_row() -> None:
    names = [row[0] for row in read_rows()]

    assert [fault for fault in FAULTS if not any(fault in name for name in names)] == []


def test_each_row_says_what_is_seen_and_names_a_test() -> None:
    rows = read_rows()

    assert [row[0] for row in rows if len(row) != 5 or not all(row) or not NAMED_TEST.search(row[4])] == []


def test_every_named_test_exists() -> None:
    named = [test for row in read_rows() for test in NAMED_TEST.findall(row[-1])]

    assert len(named) > len(FAULTS)
    assert list_missing_tests(named) == []


def test_every_named_event_and_metric_exists() -> None:
    code = read_code()
    cells = " ".join(row[3] for row in read_rows())

    words = {word for word in WORD_IN_LOG.findall(cells) if not word.startswith("maskmill_")}
    metrics = set(METRIC.findall(cells))
    assert len(words) > 10
    assert len(metrics) > 5
    assert {word for word in words if f'"{word}"' not in code and f"{word}=" not in code} == set()
    assert {name for name in metrics if f'"{name.removesuffix("_total")}' not in code} == set()
