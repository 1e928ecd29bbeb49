"""A process that loads the gateway:  python -m tests.bench.open_loop TASK

Open loop: requests begin at random times of a given rate, and do not wait for those before.  Closed loop: so many
callers each send one request after the other.  Prints a LoadReport as JSON.  Imports only the standard library, and
sends requests that were built before, so that it leaves the processor to the service.
"""

import asyncio
import json
import random
import re
import resource
import sys
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

LOOPBACK = "127.0.0.1"
# A request without a response after this time is reported with status 0.
TIMEOUT_SECONDS = 180.0
MAX_HEAD_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of request: its path, further header lines, and its share of the load."""

    name: str
    path: str
    share: float
    headers: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class LoadTask:
    """rate: requests a second of an open loop; 0: a closed loop of `callers`."""

    port: int
    image: str
    kinds: Sequence[Kind]
    seconds: float
    rate: float = 0.0
    callers: int = 0


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one request.

    at: seconds after the start.  ms: from the time at which it should have begun.  lag_ms: how late it began.
    code: error_type; job_id: of a job that was accepted; both may be empty.
    """

    kind: str
    at: float
    ms: float
    lag_ms: float
    status: int
    code: str = ""
    job_id: str = ""


@dataclass(frozen=True, slots=True)
class LoadReport:
    """cpu_seconds: processor time of this process."""

    answers: Sequence[Answer] = ()
    cpu_seconds: float = 0.0
    seconds: float = 0.0


def main(arguments: Sequence[str]) -> int:
    """Run one task."""
    wire = json.loads(arguments[0])
    task = LoadTask(**{**wire, "kinds": [Kind(**kind) for kind in wire["kinds"]]})
    print(json.dumps(asdict(asyncio.run(Loader(task).run()))), flush=True)
    return 0


@dataclass
class Loader:
    task: LoadTask
    answers: list[Answer] = field(default_factory=list)
    idle: "deque[tuple[asyncio.StreamReader, asyncio.StreamWriter]]" = field(default_factory=deque)

    async def run(self) -> LoadReport:
        """Send the requests of the task, and wait for all answers."""
        image = Path(self.task.image).read_bytes()
        self.requests = {kind.name: build_request(kind, image) for kind in self.task.kinds}
        self.start = asyncio.get_running_loop().time()
        await (self.run_open() if self.task.rate else self.run_closed())
        usage = resource.getrusage(resource.RUSAGE_SELF)
        seconds = asyncio.get_running_loop().time() - self.start
        return LoadReport(self.answers, usage.ru_utime + usage.ru_stime, seconds)

    async def run_open(self) -> None:
        chance, loop, at = random.Random(0), asyncio.get_running_loop(), 0.0
        running: list[asyncio.Task[None]] = []
        while at < self.task.seconds:
            delay = self.start + at - loop.time()
            if delay > 0:
                await asyncio.sleep(delay)
            running.append(asyncio.create_task(self.send(self.choose(chance), at)))
            at += chance.expovariate(self.task.rate)
        await asyncio.gather(*running)

    async def run_closed(self) -> None:
        async def call(number: int) -> None:
            chance, loop = random.Random(number), asyncio.get_running_loop()
            while (at := loop.time() - self.start) < self.task.seconds:
                await self.send(self.choose(chance), at)

        await asyncio.gather(*map(call, range(self.task.callers)))

    def choose(self, chance: random.Random) -> str:
        kinds = self.task.kinds
        return chance.choices([kind.name for kind in kinds], [kind.share for kind in kinds])[0]

    async def send(self, kind: str, at: float) -> None:
        """Send one request, and record its answer."""
        loop = asyncio.get_running_loop()
        began = loop.time() - self.start
        status, body = 0, b""
        with suppress(OSError, EOFError, TimeoutError, ValueError):
            async with asyncio.timeout(TIMEOUT_SECONDS):
                status, body = await self.exchange(self.requests[kind])
        ms = 1000 * (loop.time() - self.start - at)
        code, job_id = find(rb'"error_type": ?"(\w+)"', body), find(rb'"id": ?"(\w{32})"', body)
        is_refused = status >= 400
        answer = Answer(kind, at, ms, 1000 * (began - at), status, code if is_refused else "", job_id)
        self.answers.append(answer)

    async def exchange(self, request: bytes) -> tuple[int, bytes]:
        """Send a request over an idle connection or a new one; return the status and the first bytes of the body."""
        while self.idle:
            reader, writer = self.idle.popleft()
            with suppress(OSError, EOFError):
                return await self.exchange_over(reader, writer, request)
        return await self.exchange_over(*await self.connect(), request)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(LOOPBACK, self.task.port, limit=MAX_HEAD_BYTES)

    async def exchange_over(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes
    ) -> tuple[int, bytes]:
        try:
            writer.write(request)
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            body = await reader.readexactly(int(find(rb"content-length: ?(\d+)", head)))
        except BaseException:
            writer.close()
            raise
        if b"connection: close" in head:
            writer.close()
        else:
            self.idle.append((reader, writer))
        return int(head.split(maxsplit=2)[1]), body[:2000]


def build_request(kind: Kind, image: bytes) -> bytes:
    lines = (
        f"POST {kind.path} HTTP/1.1",
        "Host: 127.0.0.1",
        "Content-Type: image/jpeg",
        f"Content-Length: {len(image)}",
        *kind.headers,
    )
    return "\r\n".join([*lines, "", ""]).encode() + image


def find(pattern: bytes, text: bytes) -> str:
    """Return the first group of the first match, or an empty string."""
    found = re.search(pattern, text)
    return found.group(1).decode() if found else ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
