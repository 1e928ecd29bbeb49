"""What came of a call, the same for every client, and the table of all of them that a test run ends with."""

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
    def of_wire(cls, wire: Mapping[str, Any]) -> "Segment":
        """Decode an element as the gateway writes it: standard base64, no prefix."""
        mask = Image.open(io.BytesIO(base64.b64decode(wire["mask"], validate=True)))
        values = tuple(sorted(value for _, value in mask.getcolors() or []))
        return cls(
            wire["label"], wire["score"], mask.mode, mask.size, values, hashlib.sha256(mask.tobytes()).hexdigest()
        )

    @classmethod
    def of_report(cls, wire: Mapping[str, Any]) -> "Segment":
        """Read what clients/hub.py says of an element whose mask its client has decoded."""
        return cls(**{**wire, "size": tuple(wire["size"]), "values": tuple(wire["values"])})


@dataclass(frozen=True)
class Outcome:
    """Segments or, if there are none (None), an answer of another kind or an exception of the client's own."""

    segments: tuple[Segment, ...] | None = None
    value: object = None
    error: str = ""
    told: str = ""
    status: int | None = None
    request_id: str | None = None
    requests: int = 0

    @classmethod
    def of_report(cls, wire: Mapping[str, Any]) -> "Outcome":
        """Read what a client's script says of one call."""
        segments = wire.get("segments")
        if segments is None:
            return cls(**wire)
        decoded = tuple(Segment.of_wire(one) if "mask" in one else Segment.of_report(one) for one in segments)
        return cls(**{**wire, "segments": decoded})

    def __str__(self) -> str:
        if self.segments is not None:
            return f"{len(self.segments)} mask{'s' * (len(self.segments) > 1)}" if self.segments else "[]"
        if self.error:
            return f"{self.status or self.error}"
        return "told" if isinstance(self.value, dict) else str(self.value)


@dataclass
class Table:
    """Who sent what, and what came of it."""

    cells: dict[tuple[str, str], str] = field(default_factory=dict)

    def note(self, client: str, form: str, outcome: object) -> None:
        self.cells[client, form] = str(outcome)

    def lines(self) -> Sequence[str]:
        """Return a table for each family of clients: a row for each form, a column for each client."""
        families: dict[str, list[str]] = {}
        for client, _ in self.cells:
            of_family = families.setdefault(client.split()[0], [])
            if client not in of_family:
                of_family.append(client)
        return [line for clients in families.values() for line in [*self._lines_of(clients), ""]]

    def _lines_of(self, clients: Sequence[str]) -> list[str]:
        forms = list(dict.fromkeys(form for client, form in self.cells if client in clients))
        rows = [
            ["", *clients],
            *([form, *(self.cells.get((client, form), "-") for client in clients)] for form in forms),
        ]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
