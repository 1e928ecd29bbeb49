"""The whole service on one machine: two servers, a worker, the steward and the gateway, all on loopback.

Everything that must outlive a run is under one folder: data, logs, the ports last used, and the keys made up on the
first run.  What is shown to a person, and restarting what has died, is not done here.
"""

import contextlib
import itertools
import json
import os
import re
import secrets
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, astuple, dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, Self

import redis

from deploy.local.gateway_client import GatewayClient, GatewayRefused
from deploy.local.processes import NotReady, Process, stop_all
from deploy.local.servers import LOOPBACK, REGION, ObjectPorts, ObjectServer, ValkeyServer, free_ports, is_free
from shared.errors import StoreUnavailable
from shared.worker_registry import WorkerRegistry, WorkerState, public_id

BUCKET = "maskmill"
# The parts that serve requests may finish what they do; together with the servers' own grace this stays below 15 s.
DRAIN_SECONDS = 9.0
_ROOT = Path(__file__).resolve().parents[2]
_LARGEST_LOG_BYTES = 10 * 1024 * 1024
_POLL_SECONDS = 0.1

Step = Callable[[str], AbstractContextManager[Callable[[], None]]]
"""Opens one step of the start for somebody who watches, and lends what says that it still goes on."""


@contextlib.contextmanager
def unseen(_title: str) -> Iterator[Callable[[], None]]:
    """Be the step that nobody watches."""
    yield lambda: None


@dataclass(frozen=True, slots=True)
class InternalPorts:
    """Ports on loopback that only the stack's own processes use."""

    valkey: int
    probe: int
    objects: ObjectPorts

    @classmethod
    def free(cls) -> Self:
        valkey, probe, *objects = free_ports(2 + len(ObjectPorts.__dataclass_fields__))
        return cls(valkey, probe, ObjectPorts(*objects))

    @classmethod
    def remembered(cls, file: Path) -> Self:
        """Return the ports of the last run, or new ones if there was none or somebody else has one of them now."""
        try:
            wire = json.loads(file.read_text())
            ports = cls(wire["valkey"], wire["probe"], ObjectPorts(**wire["objects"]))
        except (OSError, ValueError, KeyError, TypeError):
            ports = cls.free()
        if not ports.are_free():
            ports = cls.free()
        file.write_text(json.dumps(asdict(ports)))
        return ports

    @property
    def all(self) -> list[int]:
        return [self.valkey, self.probe, *astuple(self.objects)]

    def are_free(self) -> bool:
        return is_free(self.valkey) and is_free(self.probe) and self.objects.are_free()


@dataclass(frozen=True, slots=True)
class StorageKeys:
    access: str
    secret: str

    @classmethod
    def remembered(cls, file: Path) -> Self:
        """Return the keys of this folder, made up when it is new.  Only the owner may read the file."""
        try:
            wire = json.loads(file.read_text())
            return cls(wire["access"], wire["secret"])
        except (OSError, ValueError, KeyError, TypeError):
            keys = cls(secrets.token_hex(10), secrets.token_urlsafe(30))
        file.touch(mode=0o600)
        file.chmod(0o600)
        file.write_text(json.dumps(asdict(keys)))
        return keys


class Stack:
    """One running service and everything that it needs.  `port` is the gateway's; None takes a free one."""

    def __init__(
        self, data: Path, *, model: str = "embedded", port: int | None = None, environ: Mapping[str, str]
    ) -> None:
        self.data = data.resolve()
        self.model = model
        self._environ = dict(environ)
        self._names = itertools.count(2)
        run = self.data / "run"
        run.mkdir(parents=True, exist_ok=True)
        keys = StorageKeys.remembered(self.data / "keys.json")
        self.ports = InternalPorts.remembered(run / "ports.json")
        self.port = port or free_ports(1, besides=self.ports.all)[0]
        self.valkey = ValkeyServer(self.data / "valkey", self.ports.valkey, log=self._log("valkey"))
        self.objects = ObjectServer(
            self.data / "seaweedfs", self.ports.objects, keys.access, keys.secret, log=self._log("seaweedfs")
        )
        self.worker = self._python("worker", "worker.main", {"MASKMILL_PROBE_PORT": str(self.ports.probe)})
        self.steward = self._python("steward", "worker.steward", {"MASKMILL_PROBE_PORT": "0"})
        self.gateway = self._python("gateway", "api.wsgi", self._gateway_env())
        self._extra_workers: list[Process] = []

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    @property
    def client(self) -> GatewayClient:
        """What asks the gateway as the first of the configured tokens, if there are any."""
        words = re.split(r"[,\s]+", self._environ.get("MASKMILL_TOKENS", "").strip())
        return GatewayClient(self.port, token=words[0].partition(":")[2] or words[0])

    @property
    def env(self) -> dict[str, str]:
        """The settings that a further process needs to belong to this stack."""
        return {
            "MASKMILL_REDIS_URL": self.valkey.url,
            "MASKMILL_STORAGE_ENDPOINT": self.objects.url,
            "MASKMILL_STORAGE_BUCKET": BUCKET,
            "MASKMILL_STORAGE_REGION": REGION,
            "MASKMILL_STORAGE_ACCESS_KEY": self.objects.access_key,
            "MASKMILL_STORAGE_SECRET_KEY": self.objects.secret_key,
            "MASKMILL_MODEL": self.model,
        }

    @property
    def processes(self) -> list[Process]:
        """All that keep the service up, in the order in which they start."""
        return [self.valkey, self.objects, self.worker, self.steward, self.gateway, *self._extra_workers]

    def start(self, step: Step = unseen) -> Self:
        """Start everything and return when the default model can be used.

        Raises:
            NotReady: a part did not come up, or the model could not be loaded.
        """
        with step("Starting Valkey"):
            self.valkey.start().wait_ready()
        with step("Starting the object store"):
            self.objects.start().wait_ready()
            self.objects.create_bucket(BUCKET)
        self._forget_old_workers()
        self.worker.start()
        self.steward.start()
        self.gateway.start()
        with step("Starting the gateway") as tick:
            self._wait(self._gateway_is_ready, 120, "The gateway", tick)
        with step(f"Loading the model {public_id(self.model)}") as tick:
            # A model may have to be downloaded first, so only its worker can say that it takes too long.
            self._wait(self._model_is_ready, None, "The model", tick)
        return self

    def stop(self) -> None:
        """End everything, the servers last, so that the others can put their work down."""
        stop_all([self.gateway, self.worker, self.steward, *self._extra_workers], grace_seconds=DRAIN_SECONDS)
        self.valkey.stop()
        self.objects.stop()

    def start_worker(self, **settings: str) -> Process:
        """Start one more worker; `settings` override its environment.  The caller waits for it as it likes."""
        worker = self._python(f"worker-{next(self._names)}", "worker.main", {"MASKMILL_PROBE_PORT": "0", **settings})
        self._extra_workers.append(worker)
        return worker.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _python(self, name: str, module: str, settings: Mapping[str, str]) -> Process:
        # A worker that gives its jobs back itself is better than one that is killed for being slow.
        defaults = {
            "MASKMILL_DRAIN_SECONDS": str(DRAIN_SECONDS - 1),
            "PYTHONUNBUFFERED": "1",
            # Threads of torch that spin while they wait take the cores from everything else on this machine.
            "OMP_WAIT_POLICY": "PASSIVE",
        }
        env = defaults | self._environ | self.env | dict(settings)
        # A proxy for the outside world is of no use to parts that talk to each other.
        env |= {name: ",".join(filter(None, [env.get(name), LOOPBACK])) for name in ("no_proxy", "NO_PROXY")}
        env["PYTHONPATH"] = os.pathsep.join(filter(None, [str(_ROOT), env.get("PYTHONPATH")]))
        return Process(f"The {name}", [sys.executable, "-m", module], log=self._log(name), env=env)

    def _gateway_env(self) -> dict[str, str]:
        metrics = self.data / "run" / "metrics"
        # What dead processes counted must not be added to what the new ones count.
        shutil.rmtree(metrics, ignore_errors=True)
        metrics.mkdir()
        return {"MASKMILL_BIND": f"{LOOPBACK}:{self.port}", "PROMETHEUS_MULTIPROC_DIR": str(metrics)}

    def _log(self, name: str) -> Path:
        log = self.data / "logs" / f"{name}.log"
        if log.exists() and log.stat().st_size > _LARGEST_LOG_BYTES:
            log.replace(log.with_suffix(".log.1"))
        return log

    @contextlib.contextmanager
    def _catalogue(self) -> Iterator[WorkerRegistry]:
        with redis.Redis.from_url(self.valkey.url, decode_responses=True, socket_timeout=2) as client:
            yield WorkerRegistry(client)

    def _forget_old_workers(self) -> None:
        """Withdraw workers of an earlier run that was cut short, or their model would look ready, or broken, to us."""
        with self._catalogue() as registry:
            for worker in registry.read().workers:
                registry.leave(worker.id)

    def _insist_healthy(self) -> None:
        with self._catalogue() as registry, contextlib.suppress(StoreUnavailable):
            for worker in registry.read().workers:
                if worker.state is WorkerState.SETUP_FAILED:
                    raise NotReady(f"the model {self.model} cannot be used: {worker.reason}")
        for process in self.processes:
            process.insist_alive()

    def _wait(
        self, is_done: Callable[[], bool], deadline_seconds: float | None, what: str, tick: Callable[[], None]
    ) -> None:
        deadline = time.monotonic() + deadline_seconds if deadline_seconds else float("inf")
        while not is_done():
            self._insist_healthy()
            if time.monotonic() > deadline:
                raise NotReady(f"{what} was not ready in {deadline_seconds:.0f} s; see {self.gateway.log}")
            tick()
            time.sleep(_POLL_SECONDS)

    def _gateway_is_ready(self) -> bool:
        try:
            return self.client.ask("GET", "/readyz").is_ok
        except GatewayRefused:
            return False

    def _model_is_ready(self) -> bool:
        try:
            answer = self.client.ask("GET", "/v1/models")
        except GatewayRefused:
            return False
        if answer.status == HTTPStatus.UNAUTHORIZED:
            raise NotReady("the gateway asks for a token that is nowhere to be read: give one in MASKMILL_TOKENS")
        models: dict[str, Any] = answer.json() if answer.is_ok else {"models": [], "default": ""}
        states = {model["id"]: model["state"] for model in models["models"]}
        return bool(states.get(models["default"]) == "ready")
