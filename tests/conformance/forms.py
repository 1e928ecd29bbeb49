"""The expected outcome of a form of request, and running a client's calls."""

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
"""Returns the gateway's response for a file of the image folder and parameters, without any client library."""

CLIENT_TIMEOUT_SECONDS = 150
_T = TypeVar("_T")


class _Expected:
    def describe(self, outcome: Outcome) -> str:
        """Return an outcome's cell of the table."""
        return str(outcome)


@dataclass(frozen=True)
class Masks(_Expected):
    """The same array as without the client library."""

    image: str = "photo.jpg"
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def check(self, outcome: Outcome, reference: Reference) -> None:
        assert outcome.segments == reference(self.image, self.parameters), outcome.message


@dataclass(frozen=True)
class Rejected(_Expected):
    """The client's own exception, with this status and this part of the gateway's message."""

    status: int
    message: str

    def describe(self, outcome: Outcome) -> str:
        # Not every client exposes the status, but each exposes the message.
        return f"{self.status} message" if self.message in outcome.message else str(outcome)

    def check(self, outcome: Outcome, _: Reference) -> None:
        assert outcome.error, outcome
        assert outcome.status in (self.status, None)
        assert self.message in outcome.message
        # A client that exposes a request id exposes the gateway's, with which the log can be searched.
        assert outcome.request_id is None or re.fullmatch("[0-9a-f]{32}", outcome.request_id)


@dataclass(frozen=True)
class Value(_Expected):
    """A response that is not an array: this value, or an object with these members."""

    value: Any

    def check(self, outcome: Outcome, _: Reference) -> None:
        assert not outcome.error, outcome
        if isinstance(self.value, dict):
            assert isinstance(outcome.value, dict)
            assert self.value.items() <= outcome.value.items()
        else:
            assert outcome.value == self.value


@dataclass(frozen=True)
class RequestRate(_Expected):
    """Fewer requests per second than this from a client that retries without end."""

    requests_per_second: float
    seconds: float = 5.0

    def describe(self, outcome: Outcome) -> str:
        return f"{outcome.requests / self.seconds:.1f} per second"

    def check(self, outcome: Outcome, _: Reference) -> None:
        assert outcome.error
        assert 1 <= outcome.requests < self.requests_per_second * self.seconds


Expected = Masks | Rejected | Value | RequestRate


class Memoized:
    """Calls a function once per argument and repeats its outcome, including an exception or a skipped test."""

    def __init__(self, function: Callable[[str], Any]) -> None:
        self._function = function
        self._outcomes: dict[str, tuple[Any, BaseException | None]] = {}

    def __call__(self, argument: str) -> Any:
        if argument not in self._outcomes:
            try:
                self._outcomes[argument] = self._function(argument), None
            except BaseException as error:
                self._outcomes[argument] = None, error
        value, error = self._outcomes[argument]
        if error is not None:
            raise error
        return value


def require_client(install: Callable[[], _T]) -> _T:
    """Return the result of a client's installation; if it fails, skip the test, or fail in CI."""
    try:
        return install()
    except CannotInstall as problem:
        # A laptop may lack node or the network.  In CI a skipped client would go unnoticed.
        assert "CI" not in os.environ, f"CI must have every client: {problem}"
        pytest.skip(f"a client cannot be installed here: {problem}")


def run_client(command: Sequence[str | Path], calls: Any, folder: Path, **environment: str) -> Any:
    """Run a client's script over all calls in one process, without the user's home, tokens and proxies.

    Args:
        calls: its input, as JSON.

    Returns: its output, parsed.
    """
    plain = {"PATH": os.environ["PATH"], "HOME": str(folder), "NO_PROXY": "*", **environment}
    done = subprocess.run(
        command,
        input=json.dumps(calls),
        capture_output=True,
        text=True,
        env=plain,
        cwd=folder,
        timeout=CLIENT_TIMEOUT_SECONDS,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
