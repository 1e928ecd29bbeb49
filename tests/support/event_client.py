"""A client of event streams, over a socket, so that a test sees each event as it comes and how the response ends."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from deploy.local.servers import LOOPBACK


@dataclass(frozen=True)
class Event:
    """A server-sent event; `id` is empty for one without."""

    id: str
    name: str
    data: dict[str, Any]


class EventClient:
    """One open stream; heartbeats are counted."""

    def __init__(self, port: int, job_id: str, *, last: str = "", token: str = "", seconds: float = 20) -> None:
        self._connection = http.client.HTTPConnection(LOOPBACK, port, timeout=seconds)
        headers = {"Last-Event-ID": last} if last else {}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        # A compression would collect the events.
        headers["Accept-Encoding"] = "gzip"
        self._connection.request("GET", f"/v1/jobs/{job_id}/events", headers=headers)
        self.response = self._connection.getresponse()
        self.heartbeats = 0

    @property
    def status(self) -> int:
        return self.response.status

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self.response.close()
        self._connection.close()

    def read_body(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.response.read())
        return found

    def __iter__(self) -> Iterator[Event]:
        """Yield the events up to the end of the response; one that is cut off raises IncompleteRead."""
        fields: dict[str, str] = {}
        for line in iter(self.response.readline, b""):
            text = line.decode().removesuffix("\n")
            if text.startswith(":"):
                self.heartbeats += 1
            elif text:
                name, _, value = text.partition(": ")
                fields[name] = value
            elif "data" in fields:
                yield Event(fields.get("id", ""), fields["event"], json.loads(fields["data"]))
                fields = {}
            else:
                fields = {}

    def read_until(self, name: str) -> list[Event]:
        """Return the events up to the first of a name."""
        events: list[Event] = []
        for event in self:
            events.append(event)
            if event.name == name:
                return events
        raise AssertionError(f"the stream ended without {name}: {events}")
