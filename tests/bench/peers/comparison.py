"""Loads each side with the same photos and the same clients, all servers up, one side at a time and twice in turn."""

import base64
import http.client
import json
import os
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from deploy.local.processes import Process
from deploy.local.servers import LOOPBACK, free_ports
from deploy.local.stack import Stack
from tests.bench.measuring import ROOT, Effort, Measurement, at_once, progress, spread
from tests.bench.peers import environment
from tests.bench.peers.pipeline import THRESHOLD
from tests.bench.reference import four_photos
from tests.support.images import jpeg
from tests.support.polling import wait_until

SIZE = (640, 480)
VARIANTS = 8
ROUNDS = 2
TIMEOUT_SECONDS = 300
PLAIN = {name: value for name, value in os.environ.items() if not name.startswith("MASKMILL_")}


@dataclass(frozen=True, slots=True)
class _Stat:
    """A process: whose child it is, and what it took of the cores."""

    parent: int
    cpu_seconds: float


@dataclass(frozen=True, slots=True)
class Side:
    """One server: where it is asked, how it wants a photo (base64), and the processes that it consists of."""

    port: int
    path: str
    headers: Mapping[str, str]
    processes: Sequence[Process]
    is_in_batch: bool = False

    @property
    def cpu_seconds(self) -> float:
        """What all its living processes have taken of the cores so far."""
        stats = {int(folder.name): _stat(folder) for folder in Path("/proc").iterdir() if folder.name.isdigit()}
        found = {process.pid for process in self.processes}
        while more := {pid for pid, stat in stats.items() if stat.parent in found} - found:
            found |= more
        return sum(stats[pid].cpu_seconds for pid in found if pid in stats)

    def body(self, photo: str) -> bytes:
        wanted: dict[str, Any] = {"inputs": [photo] if self.is_in_batch else photo}
        return json.dumps(wanted).encode()

    def segments(self, answer: bytes) -> list[dict[str, Any]]:
        found = json.loads(answer)
        return list(found[0] if self.is_in_batch else found)


class Caller:
    """One connection that stays open; it sends each photo once before it sends one again."""

    def __init__(self, side: Side, photos: Sequence[str], number: int) -> None:
        self._connection = http.client.HTTPConnection(LOOPBACK, side.port, timeout=TIMEOUT_SECONDS)
        self._side = side
        self._bodies = [side.body(photo) for photo in photos]
        self._next = number

    def ask(self) -> bytes:
        """Return the answer for the next photo.

        Raises:
            RuntimeError: the server answered with an error.
        """
        body = self._bodies[self._next % len(self._bodies)]
        self._next += 1
        headers = {"Content-Type": "application/json", **self._side.headers}
        self._connection.request("POST", self._side.path, body, headers)
        answer = self._connection.getresponse()
        content = answer.read()
        if answer.status != http.HTTPStatus.OK:
            raise RuntimeError(f"{self._side.path} answered {answer.status}: {content[:200]!r}")
        return content


def run(effort: Effort) -> Iterator[Measurement]:
    """Start all sides, see that they answer the same, and load them."""
    photos = [base64.b64encode(jpeg(photo)).decode() for photo in crops()]
    with tempfile.TemporaryDirectory(prefix="maskmill-bench-", ignore_cleanup_errors=True) as folder, ExitStack() as up:
        sides = started(Path(folder), up)
        alike = agreeing(sides, photos[::VARIANTS])
        for clients in effort.crowds:
            yield from loaded(sides, photos, clients, alike, effort)


def crops() -> Iterator[Image.Image]:
    """Yield photos of one size, no two alike."""
    for photo in four_photos():
        for step in range(VARIANTS):
            box = (step, step, photo.width - VARIANTS + step, photo.height - VARIANTS + step)
            yield photo.resize(SIZE, Image.Resampling.BICUBIC, box)


def started(folder: Path, up: ExitStack) -> dict[str, Side]:
    """Start every side; all of them end with `up`."""
    programs = environment.ready()
    lit, bento = free_ports(2)
    env = PLAIN | {
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
        "BENTOML_HOME": str(folder / "bentoml"),
        "BENTOML_DO_NOT_TRACK": "True",
    }
    python = str(programs / "python")
    bento_command = [python, "-m", "bentoml", "serve", "tests.bench.peers.bentoml_server:Segmentation"]
    commands = {
        "litserve": [python, "-m", "tests.bench.peers.litserve_server", str(lit)],
        "bentoml": [*bento_command, "--host", LOOPBACK, "--port", str(bento), "--working-dir", str(ROOT)],
    }
    progress("peers: starting all sides")
    running = {
        name: up.enter_context(Process(name, command, log=folder / f"{name}.log", env=env))
        for name, command in commands.items()
    }
    exact = up.enter_context(Stack(folder / "exact", environ=PLAIN)).start()
    fast = up.enter_context(Stack(folder / "fast", environ=PLAIN | {"MASKMILL_FORWARD": "fast"})).start()
    wait_until(lambda: all(map(listens, ((lit, "/health"), (bento, "/readyz")))), "the peers' start", seconds=120)
    return {
        "maskmill": ours(exact),
        "maskmill, fast forward": ours(fast),
        "litserve": Side(lit, "/predict", {}, [running["litserve"]]),
        "bentoml": Side(bento, "/segment", {}, [running["bentoml"]], is_in_batch=True),
    }


def ours(stack: Stack) -> Side:
    path = f"/models/maskmill/embedded?threshold={THRESHOLD}"
    return Side(stack.port, path, {"x-use-cache": "false"}, stack.processes)


def listens(address: tuple[int, str]) -> bool:
    connection = http.client.HTTPConnection(LOOPBACK, address[0], timeout=5)
    try:
        connection.request("GET", address[1])
        return connection.getresponse().status == http.HTTPStatus.OK
    except OSError:
        return False
    finally:
        connection.close()


def agreeing(sides: Mapping[str, Side], photos: Sequence[str]) -> dict[str, bool]:
    """Tell which sides answer like the last one: labels, scores, pixels and order.  It warms them, too."""
    answers: dict[str, list[Any]] = defaultdict(list)
    for name, side in sides.items():
        caller = Caller(side, photos, 0)
        for _ in photos:
            answers[name].append([canonical(segment) for segment in side.segments(caller.ask())])
    *_, reference = answers.values()
    return {name: any(found) and found == reference for name, found in answers.items()}


def canonical(segment: Mapping[str, Any]) -> tuple[str, float, bytes]:
    mask = np.asarray(Image.open(BytesIO(base64.b64decode(segment["mask"]))))
    return segment["label"], segment["score"], np.packbits(mask > 0).tobytes()


def loaded(
    sides: Mapping[str, Side], photos: Sequence[str], clients: int, alike: Mapping[str, bool], effort: Effort
) -> Iterator[Measurement]:
    """Load one side after the other, then again the other way round."""
    milliseconds: dict[str, list[float]] = defaultdict(list)
    seconds: dict[str, float] = defaultdict(float)
    cpu_seconds: dict[str, float] = defaultdict(float)
    names = list(sides)
    share = replace(effort, seconds=effort.seconds / ROUNDS, least=-(-effort.least // ROUNDS))
    for _ in range(ROUNDS):
        for name in names:
            progress(f"peers: {name}, clients: {clients}")
            callers = [Caller(sides[name], photos, number) for number in range(clients)]
            before = sides[name].cpu_seconds
            taken, rate = at_once(clients, lambda number, callers=callers: callers[number].ask(), share)
            milliseconds[name] += taken
            seconds[name] += len(taken) / rate
            cpu_seconds[name] += sides[name].cpu_seconds - before
        names.reverse()
    for name in sides:
        figures = {
            "images_per_second": round(len(milliseconds[name]) / seconds[name], 2),
            **spread(milliseconds[name]),
            "p99_ms": round(float(np.percentile(milliseconds[name], 99, method="higher")), 1),
            "cpu_ms_per_image": round(1000 * cpu_seconds[name] / len(milliseconds[name])),
            "images": len(milliseconds[name]),
            "equal": alike[name],
        }
        settings = {"server": name, "clients": clients, "image": "{}x{}".format(*SIZE)}
        yield Measurement("peers", settings, figures)


def _stat(folder: Path) -> _Stat:
    try:
        # Behind the name, which may contain anything: state, parent, ..., utime and stime in ticks.
        fields = (folder / "stat").read_text().rpartition(")")[2].split()
    except OSError:  # it has ended meanwhile
        return _Stat(0, 0.0)
    return _Stat(int(fields[1]), (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"))
