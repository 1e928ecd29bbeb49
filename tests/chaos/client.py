"""A caller that does what the API asks of it: it follows Retry-After, and repeats a submission under its key.

It knows the address of each gateway, and turns to the next one when a connection fails.
"""

import http.client
import itertools
import json
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from deploy.local.servers import LOOPBACK
from shared.jobs.model import JobState
from tests.chaos.records import Outcome
from tests.chaos.workload import PlannedJob, Variant

# Of one request; longer than any wait that this caller asks for.
TIMEOUT_SECONDS = 15.0
WAIT_SECONDS = 5
RECONNECT_SECONDS = 0.2
POLL_SECONDS = 0.5
_RETRIED = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})


class GaveUp(Exception):
    """There was no answer before the deadline; the text is about the last one."""


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def retry_after_seconds(self) -> float | None:
        """How long the service asks to wait before the request is repeated; None if it does not ask."""
        asked = self.headers.get("Retry-After")
        return float(asked) if asked and self.status in _RETRIED else None

    def json(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.body)
        return document

    def __str__(self) -> str:
        return f"{self.status} {self.body[:200].decode(errors='replace')}"


@dataclass(slots=True)
class Client:
    """A caller of the gateways on these ports, until a deadline by time.monotonic().  For one thread.

    faults: collects answers that a caller who follows the rules should not get.
    unknown_seconds: the longest time for which the service did not know a job that it had accepted.
    """

    ports: Sequence[int]
    deadline: float
    faults: list[str] = field(default_factory=list)
    unknown_seconds: float = 0.0

    def submit(self, planned: PlannedJob) -> str:
        """Submit a job until a gateway accepts it, and return its id.

        Raises:
            GaveUp: none did before the deadline.
        """
        headers = {"Content-Type": "image/jpeg", "Idempotency-Key": planned.key}
        path = f"/v1/jobs?{planned.variant.query}"
        # A job that was recovered may have ended before its caller asks again.
        accepted = (HTTPStatus.ACCEPTED, HTTPStatus.OK)
        answer = self._require(accepted, "POST", path, planned.variant.image, headers)
        return str(answer.json()["id"])

    def wait(self, job_id: str) -> dict[str, Any]:
        """Return a job once it is final, or its last state before the deadline; empty if it was unknown then.

        Raises:
            GaveUp: there was no answer before the deadline.
        """
        job: dict[str, Any] = {}
        known_at = time.monotonic()
        while time.monotonic() < self.deadline:
            answer = self._send("GET", f"/v1/jobs/{job_id}?wait={WAIT_SECONDS}")
            if answer.status == HTTPStatus.OK:
                job, known_at = answer.json(), time.monotonic()
                if JobState(job["state"]).is_final:
                    break
                continue
            # Redis that has lost its data does not know a job until the steward has recovered it.
            job = {}
            self.unknown_seconds = max(self.unknown_seconds, time.monotonic() - known_at)
            self._note(answer, expected=HTTPStatus.NOT_FOUND)
        return job

    def fetch(self, job_id: str, variant: Variant) -> Outcome:
        """Fetch the result of a job that succeeded.

        Raises:
            GaveUp: there was no answer before the deadline.
        """
        found = (HTTPStatus.OK,)
        result = self._require(found, "GET", f"/v1/jobs/{job_id}/result").json()
        files = {name: self._require(found, "GET", f"/v1/jobs/{job_id}/{name}").body for name in variant.files}
        return Outcome(tuple(map(drop_links, result["segments"])), files)

    def _require(self, statuses: Collection[int], *request: Any) -> Answer:
        """Send a request until the answer has one of these statuses; every other answer is a fault."""
        while (answer := self._send(*request)).status not in statuses:
            self._note(answer)
        return answer

    def _note(self, answer: Answer, *, expected: int | None = None) -> None:
        """Pause after an answer that is not the wanted one, and note it unless it is expected."""
        if answer.status != expected:
            self.faults.append(str(answer))
        time.sleep(POLL_SECONDS)

    def _send(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Send a request until it is answered by anything but a request to come back."""
        last = "nothing was sent"
        for port in itertools.cycle(self.ports):
            if time.monotonic() > self.deadline:
                break
            try:
                answer = _request(port, method, path, body, headers or {})
            except (OSError, http.client.HTTPException) as error:
                last = repr(error)
                time.sleep(RECONNECT_SECONDS)
                continue
            if answer.retry_after_seconds is None:
                return answer
            last = str(answer)
            time.sleep(answer.retry_after_seconds)
        raise GaveUp(f"{method} {path}: {last}")


def drop_links(segment: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a segment without what names its job."""
    return {name: value for name, value in segment.items() if not name.endswith("_url")}


def _request(port: int, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> Answer:
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=TIMEOUT_SECONDS)
    try:
        connection.request(method, path, body=body, headers=dict(headers))
        response = connection.getresponse()
        return Answer(response.status, dict(response.getheaders()), response.read())
    finally:
        connection.close()
