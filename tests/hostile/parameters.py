"""Hostile queries."""

from collections.abc import Sequence
from urllib.parse import quote

from tests.hostile.inputs import HostileInput
from tests.support.images import cat, jpeg


def submit(name: str, status: int, query: str, *others: int) -> HostileInput:
    return HostileInput(name, frozenset({status, *others}), target=f"/v1/jobs?{query}", body=lambda: jpeg(cat()))


def read(name: str, status: int, target: str, *others: int) -> HostileInput:
    return HostileInput(name, frozenset({status, *others}), method="GET", target=target)


INPUTS: Sequence[HostileInput] = (
    submit("a threshold of digits", 400, "threshold=" + "9" * 3000 + "x"),
    submit("a threshold of digits and points", 400, "threshold=" + "1." * 1500),
    submit("a threshold of nan", 400, "threshold=nan"),
    submit("a threshold of inf", 400, "threshold=-inf"),
    submit("a threshold that overflows", 400, "threshold=1e999"),
    submit("a threshold of 2", 400, "threshold=2"),
    submit("a threshold in hexadecimal", 400, "threshold=0x1p-1"),
    submit("a threshold in other digits", 400, "threshold=%D9%A0"),
    submit("a threshold of a zero byte", 400, "threshold=0%00"),
    submit("a threshold of invalid text", 400, "threshold=%ff%fe"),
    submit("a threshold of code", 400, "threshold=__import__('os')"),
    submit("a threshold that is repeated", 400, "threshold=0.5&" * 250),
    submit("a threshold of blanks", 400, "threshold=0" + "%20" * 1300 + "x"),
    submit("an unknown parameter", 400, "treshold=0.5"),
    submit("an unknown parameter of 3,000 letters", 400, "a" * 3000 + "=1"),
    submit("a parameter without a name", 400, "=1"),
    submit("1,000 parameters", 400, "&".join(f"a{number}" for number in range(600))),
    submit("100,000 parameters", 414, "&".join(f"a{number}" for number in range(100_000)), 400, 431),
    submit("ampersands", 202, "&" * 3000, 400),
    submit("a subtask of SQL", 400, "subtask=' OR 1=1 --"),
    submit("a switch of 1e9", 400, "fuse_stuff=1e9"),
    submit("formats of commas", 202, "formats=" + "," * 900),
    submit("formats of 3,000 commas", 400, "formats=" + "," * 3000),
    submit("an unknown format", 400, "formats=../../etc/passwd"),
    submit("a format 150 times", 202, "formats=" + "masks," * 150),
    submit("an unknown priority", 400, "priority=' OR 1=1 --"),
    submit("a deadline of digits", 400, "deadline_seconds=" + "9" * 3000),
    submit("a deadline of digits and points", 400, "deadline_seconds=" + "1." * 1500),
    submit("labels of commas", 202, "labels=" + "," * 3000),
    submit("labels of 1,500 names", 400, "labels=" + ",".join(str(number) for number in range(600))),
    submit("metadata of brackets", 400, "metadata=" + quote('{"a":' + "[" * 1200)),
    submit("metadata of 30 objects inside one another", 202, "metadata=" + quote('{"a":' * 30 + "1" + "}" * 30)),
    submit("metadata of 600 lists inside one another", 400, "metadata=" + quote('{"a":' + "[" * 600 + "]" * 600 + "}")),
    submit("metadata with a member twice", 400, "metadata=" + quote('{"a":1,"a":2}')),
    submit("metadata of half a character", 400, "metadata=" + quote('{"a":"\\ud800"}')),
    submit("a webhook of a zero byte", 400, "webhook=a%00"),
    submit("a tolerance of nan", 400, "polygon_tolerance=nan"),
    read("a limit of digits", 400, "/v1/jobs?limit=" + "9" * 3000),
    read("a limit of -1", 400, "/v1/jobs?limit=-1"),
    read("a limit of a float", 400, "/v1/jobs?limit=1.5"),
    read("a limit of other digits", 400, "/v1/jobs?limit=%D9%A1", 200),
    read("a cursor of 3,000 letters", 400, "/v1/jobs?cursor=" + "a" * 3000),
    read("a cursor of a path", 400, "/v1/jobs?cursor=../../inbox"),
    read("a cursor of a zero byte", 400, "/v1/jobs?cursor=%00"),
    read("an unknown state", 400, "/v1/jobs?state=undead"),
    read("an unknown parameter of a listing", 400, "/v1/jobs?limt=1"),
    read("a wait of nan", 400, f"/v1/jobs/{'0' * 32}?wait=nan"),
    read("a wait of inf", 400, f"/v1/jobs/{'0' * 32}?wait=inf"),
    read("a wait of digits", 400, f"/v1/jobs/{'0' * 32}?wait=" + "9" * 3000),
    read("a parameter of a job that is none", 400, f"/v1/jobs/{'0' * 32}?wiat=1"),
    read("a query of a list of models", 400, "/v1/models?" + "a" * 3000),
    read("a wait below 0", 400, f"/v1/jobs/{'0' * 32}?wait=-1"),
)
