"""What a form of request is expected to come to."""

import json
import os
import re
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest

from tests.conformance.install import CannotInstall
from tests.conformance.outcomes import Outcome, Segment

Reference = Callable[[str, Mapping[str, Any]], tuple[Segment, ...]]
"""Returns what the gateway answers for a photo of the album and parameters when no client stands between."""

SECONDS = 150
_T = TypeVar("_T")


class _Expected:
    def shown(self, outcome: Outcome) -> str:
        """Return what the table says of an outcome."""
        return str(outcome)


@dataclass(frozen=True)
class Masks(_Expected):
    """The same array as without a client between."""

    photo: str = "photo.jpg"
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def insist(self, outcome: Outcome, reference: Reference) -> None:
        assert outcome.segments == reference(self.photo, self.parameters), outcome.told


@dataclass(frozen=True)
class Refused(_Expected):
    """The client's own exception, with this status and this part of the gateway's sentence."""

    status: int
    told: str

    def shown(self, outcome: Outcome) -> str:
        # Not every client tells the status, but all can tell what the gateway said.
        return f"{self.status} told" if self.told in outcome.told else str(outcome)

    def insist(self, outcome: Outcome, _: Reference) -> None:
        assert outcome.error, outcome
        assert outcome.status in (self.status, None)
        assert self.told in outcome.told
        # A client that can tell the id of a request tells ours, with which the log can be searched.
        assert outcome.request_id is None or re.fullmatch("[0-9a-f]{32}", outcome.request_id)


@dataclass(frozen=True)
class Value(_Expected):
    """An answer that is no array: this, or an object with these members."""

    value: Any

    def insist(self, outcome: Outcome, _: Reference) -> None:
        assert not outcome.error, outcome
        if isinstance(self.value, dict):
            assert isinstance(outcome.value, dict)
            assert self.value.items() <= outcome.value.items()
        else:
            assert outcome.value == self.value


@dataclass(frozen=True)
class Patience(_Expected):
    """Fewer requests a second than this, however often the client tries again."""

    requests_per_second: float
    seconds: float = 5.0

    def shown(self, outcome: Outcome) -> str:
        return f"{outcome.requests / self.seconds:.1f} a second"

    def insist(self, outcome: Outcome, _: Reference) -> None:
        assert outcome.error
        assert 1 <= outcome.requests < self.requests_per_second * self.seconds


Expected = Masks | Refused | Value | Patience


class Once:
    """Calls a function once for each argument and repeats what came of it, an exception or a skipped test as well."""

    def __init__(self, function: Callable[[str], Any]) -> None:
        self._function = function
        self._known: dict[str, tuple[Any, BaseException | None]] = {}

    def __call__(self, argument: str) -> Any:
        if argument not in self._known:
            try:
                self._known[argument] = self._function(argument), None
            except BaseException as error:
                self._known[argument] = None, error
        value, error = self._known[argument]
        if error is not None:
            raise error
        return value


def at_hand(install: Callable[[], _T]) -> _T:
    """Return what a client's set-up returns; without it a laptop skips the test, and CI fails."""
    try:
        return install()
    except CannotInstall as problem:
        # A laptop may lack node or the network; CI may not, or its green would mean nothing.
        assert "CI" not in os.environ, f"CI must have every client: {problem}"
        pytest.skip(f"a client cannot be installed here: {problem}")


def drive(command: Sequence[str | Path], calls: Any, folder: Path, **environment: str) -> Any:
    """Let a client's script make all calls in one process, with no home, no token and no proxy of this machine's."""
    plain = {"PATH": os.environ["PATH"], "HOME": str(folder), "NO_PROXY": "*", **environment}
    done = subprocess.run(
        command, input=json.dumps(calls), capture_output=True, text=True, env=plain, cwd=folder, timeout=SECONDS
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
