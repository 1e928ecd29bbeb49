"""Loads each server with the same images from the same number of clients; all run, one is loaded at a time, twice."""

import base64
import http.client
import json
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from deploy.local.processes import Process
from deploy.local.servers import LOOPBACK, free_ports
from deploy.local.stack import Stack
from tests.bench.cpu_time import read_cpu_seconds
from tests.bench.measurement import ROOT, Measurement, Workload, latency_summary, print_progress, time_concurrent
from tests.bench.peers import environment
from tests.bench.peers.pipeline import THRESHOLD
from tests.bench.reference import sample_images
from tests.support.environment import copy_environment
from tests.support.images import jpeg
from tests.support.polling import wait_until

SIZE = (640, 480)
VARIANTS = 8
ROUNDS = 2
TIMEOUT_SECONDS = 300
ENVIRON = copy_environment()


@dataclass(frozen=True, slots=True)
class Server:
    """A server under test: its address, the form of its requests, and its processes.

    is_batched: whether a request and its response are lists with an item per image.
    """

    port: int
    path: str
    headers: Mapping[str, str]
    processes: Sequence[Process]
    is_batched: bool = False

    @property
    def cpu_seconds(self) -> float:
        """CPU time that the processes and their living descendants have used so far."""
        return read_cpu_seconds(process.pid for process in self.processes)

    def body(self, image: str) -> bytes:
        """Return the body of a request for one image (base64)."""
        inputs: dict[str, Any] = {"inputs": [image] if self.is_batched else image}
        return json.dumps(inputs).encode()

    def segments(self, content: bytes) -> list[dict[str, Any]]:
        """Return the segments in the body of a response."""
        results = json.loads(content)
        return list(results[0] if self.is_batched else results)


class Client:
    """A client with one persistent connection; it sends all images in turn, starting at the one numbered `first`."""

    def __init__(self, server: Server, images: Sequence[str], first: int) -> None:
        self._connection = http.client.HTTPConnection(LOOPBACK, server.port, timeout=TIMEOUT_SECONDS)
        self._server = server
        self._bodies = [server.body(image) for image in images]
        self._next = first

    def send_next(self) -> bytes:
        """Send the next image; return the body of the response.

        Raises:
            RuntimeError: the server responded with an error.
        """
        body = self._bodies[self._next % len(self._bodies)]
        self._next += 1
        headers = {"Content-Type": "application/json", **self._server.headers}
        self._connection.request("POST", self._server.path, body, headers)
        response = self._connection.getresponse()
        content = response.read()
        if response.status != http.HTTPStatus.OK:
            raise RuntimeError(f"{self._server.path} responded {response.status}: {content[:200]!r}")
        return content


def run(workload: Workload) -> Iterator[Measurement]:
    """Start all servers, compare their results, and measure them under load."""
    images = [base64.b64encode(jpeg(image)).decode() for image in crops()]
    with (
        tempfile.TemporaryDirectory(prefix="maskmill-bench-", ignore_cleanup_errors=True) as folder,
        ExitStack() as resources,
    ):
        servers = start_servers(Path(folder), resources)
        is_equal = compare_results(servers, images[::VARIANTS])
        for clients in workload.peer_clients:
            yield from measure_load(servers, images, clients, is_equal, workload)


def crops() -> Iterator[Image.Image]:
    """Yield different images of one size."""
    for image in sample_images():
        for step in range(VARIANTS):
            box = (step, step, image.width - VARIANTS + step, image.height - VARIANTS + step)
            yield image.resize(SIZE, Image.Resampling.BICUBIC, box)


def start_servers(folder: Path, resources: ExitStack) -> dict[str, Server]:
    """Start every server; all of them are stopped when `resources` is closed."""
    programs = environment.install()
    print_progress("peers: starting all servers")
    peers = start_peers(programs, folder, resources)
    default = resources.enter_context(Stack(folder / "default", environ=ENVIRON)).start()
    exact = resources.enter_context(Stack(folder / "exact", environ=ENVIRON | {"MASKMILL_FORWARD": "exact"})).start()
    health = [(peers["litserve"].port, "/health"), (peers["bentoml"].port, "/readyz")]
    wait_until(lambda: all(is_ready(port, path) for port, path in health), "the peers' start", seconds=120)
    return {"maskmill": describe_stack(default), "maskmill, exact forward": describe_stack(exact), **peers}


def start_peers(programs: Path, folder: Path, resources: ExitStack) -> dict[str, Server]:
    """Start LitServe and BentoML; they may not be ready yet."""
    litserve_port, bentoml_port = free_ports(2)
    env = ENVIRON | {
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
        "BENTOML_HOME": str(folder / "bentoml"),
        "BENTOML_DO_NOT_TRACK": "True",
    }
    python = str(programs / "python")
    bentoml = [python, "-m", "bentoml", "serve", "tests.bench.peers.bentoml_server:Segmentation"]
    commands = {
        "litserve": [python, "-m", "tests.bench.peers.litserve_server", str(litserve_port)],
        "bentoml": [*bentoml, "--host", LOOPBACK, "--port", str(bentoml_port), "--working-dir", str(ROOT)],
    }
    processes = {
        name: resources.enter_context(Process(name, command, log=folder / f"{name}.log", env=env))
        for name, command in commands.items()
    }
    return {
        "litserve": Server(litserve_port, "/predict", {}, [processes["litserve"]]),
        "bentoml": Server(bentoml_port, "/segment", {}, [processes["bentoml"]], is_batched=True),
    }


def describe_stack(stack: Stack) -> Server:
    path = f"/models/maskmill/embedded?threshold={THRESHOLD}"
    return Server(stack.port, path, {"x-use-cache": "false"}, stack.processes)


def is_ready(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == http.HTTPStatus.OK
    except OSError:
        return False
    finally:
        connection.close()


def compare_results(servers: Mapping[str, Server], images: Sequence[str]) -> dict[str, bool]:
    """Return which servers give the results of the last one: labels, scores, pixels and order.

    The requests warm the servers up as well.
    """
    results: dict[str, list[Any]] = defaultdict(list)
    for name, server in servers.items():
        client = Client(server, images, 0)
        for _ in images:
            results[name].append([canonical(segment) for segment in server.segments(client.send_next())])
    *_, reference = results.values()
    return {name: any(found) and found == reference for name, found in results.items()}


def canonical(segment: Mapping[str, Any]) -> tuple[str, float, bytes]:
    """Return label, score and packed mask of a segment, in a form that is equal for equal masks."""
    mask = np.asarray(Image.open(BytesIO(base64.b64decode(segment["mask"]))))  # (H, W)
    return segment["label"], segment["score"], np.packbits(mask > 0).tobytes()


@dataclass(slots=True)
class Load:
    """Measurements of one server under load, over all rounds."""

    times_ms: list[float] = field(default_factory=list)
    seconds: float = 0.0
    cpu_seconds: float = 0.0

    def figures(self) -> dict[str, float]:
        return {
            "images_per_second": round(len(self.times_ms) / self.seconds, 2),
            **latency_summary(self.times_ms),
            "p99_ms": round(float(np.percentile(self.times_ms, 99, method="higher")), 1),
            "cpu_ms_per_image": round(1000 * self.cpu_seconds / len(self.times_ms)),
            "images": len(self.times_ms),
        }


def measure_load(
    servers: Mapping[str, Server],
    images: Sequence[str],
    clients: int,
    is_equal: Mapping[str, bool],
    workload: Workload,
) -> Iterator[Measurement]:
    """Load one server after the other, every second round in reverse order."""
    loads = {name: Load() for name in servers}
    names = list(servers)
    part = replace(workload, seconds=workload.seconds / ROUNDS, min_calls=-(-workload.min_calls // ROUNDS))
    for _ in range(ROUNDS):
        for name in names:
            print_progress(f"peers: {name}, clients: {clients}")
            add_round(loads[name], servers[name], images, clients, part)
        names.reverse()
    for name, load in loads.items():
        settings = {"server": name, "clients": clients, "image": "{}x{}".format(*SIZE)}
        yield Measurement("peers", settings, {**load.figures(), "equal": is_equal[name]})


def add_round(load: Load, server: Server, images: Sequence[str], clients: int, workload: Workload) -> None:
    """Load one server once, and add what was measured to `load`."""
    connections = [Client(server, images, first) for first in range(clients)]
    cpu_start = server.cpu_seconds
    times_ms, rate = time_concurrent(clients, lambda number: connections[number].send_next(), workload)
    load.times_ms += times_ms
    load.seconds += len(times_ms) / rate
    load.cpu_seconds += server.cpu_seconds - cpu_start
