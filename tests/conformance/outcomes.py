"""The outcome of a call, in one form for all clients, and the table of outcomes that is printed after a test run."""

import base64
import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from PIL import Image


@dataclass(frozen=True)
class Segment:
    """One element of the array, with its mask decoded."""

    label: str
    score: float
    mode: str
    size: tuple[int, int]
    values: tuple[int, ...]
    sha256: str

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> "Segment":
        """Decode an element of the gateway's array: standard base64, no prefix."""
        mask = Image.open(io.BytesIO(base64.b64decode(wire["mask"], validate=True)))
        values = tuple(sorted(value for _, value in mask.getcolors() or []))
        return cls(
            wire["label"], wire["score"], mask.mode, mask.size, values, hashlib.sha256(mask.tobytes()).hexdigest()
        )

    @classmethod
    def from_report(cls, wire: Mapping[str, Any]) -> "Segment":
        """Read an element of the report of clients/hub.py, whose mask the client has decoded."""
        return cls(**{**wire, "size": tuple(wire["size"]), "values": tuple(wire["values"])})


@dataclass(frozen=True)
class Outcome:
    """The segments or, if they are None, another value, or the client's own exception."""

    segments: tuple[Segment, ...] | None = None
    value: object = None
    error: str = ""
    message: str = ""
    status: int | None = None
    request_id: str | None = None
    requests: int = 0

    @classmethod
    def from_report(cls, wire: Mapping[str, Any]) -> "Outcome":
        """Read the report of a client's script on one call."""
        segments = wire.get("segments")
        if segments is None:
            return cls(**wire)
        decoded = tuple(Segment.from_wire(one) if "mask" in one else Segment.from_report(one) for one in segments)
        return cls(**{**wire, "segments": decoded})

    def __str__(self) -> str:
        if self.segments is not None:
            return f"{len(self.segments)} mask{'s' * (len(self.segments) > 1)}" if self.segments else "[]"
        if self.error:
            return f"{self.status or self.error}"
        return "object" if isinstance(self.value, dict) else str(self.value)


@dataclass
class Table:
    """The outcomes by client and form."""

    cells: dict[tuple[str, str], str] = field(default_factory=dict)

    def record(self, client: str, form: str, outcome: object) -> None:
        self.cells[client, form] = str(outcome)

    def lines(self) -> Sequence[str]:
        """Return the lines of one table per family of clients: a row per form, a column per client."""
        families: dict[str, list[str]] = {}
        for client, _ in self.cells:
            of_family = families.setdefault(client.split()[0], [])
            if client not in of_family:
                of_family.append(client)
        return [line for clients in families.values() for line in [*self._format_rows(clients), ""]]

    def _format_rows(self, clients: Sequence[str]) -> list[str]:
        forms = list(dict.fromkeys(form for client, form in self.cells if client in clients))
        rows = [
            ["", *clients],
            *([form, *(self.cells.get((client, form), "-") for client in clients)] for form in forms),
        ]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
