"""The whole service on one machine: two servers, a worker, a renderer, the steward and the gateway, all on loopback.

Everything that must outlive a run is in one data folder: data, logs, the ports last used, and the keys generated on the
first run.  Terminal output belongs to the launcher, restarts to the supervisor.
"""

import contextlib
import itertools
import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, astuple, dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, Self, cast

from deploy.keys.private_files import make_private_folder, write_private
from deploy.local.environment import find_setting, select_service_variables
from deploy.local.gateway_client import GatewayClient, GatewayRefused
from deploy.local.processes import NotReady, Process, stop_all
from deploy.local.servers import LOOPBACK, REGION, ObjectPorts, ObjectServer, ValkeyServer, free_ports, is_free
from shared import redis_keys
from shared.errors import StoreUnavailable
from shared.prefixes import build_key_prefix
from shared.redis_client import RedisClient, redis_errors
from shared.redis_prefix import PrefixedRedis
from shared.worker_registry import WorkerRegistry, WorkerState, public_id

BUCKET = "maskmill"
# For our own processes to finish their work; with the grace periods of the two servers it stays below 15 s.
DRAIN_SECONDS = 9.0
# A model on a CPU uses all cores; requests should not wait for it.
WORKER_NICENESS = 10
_ROOT = Path(__file__).resolve().parents[2]
_MAX_LOG_BYTES = 10 * 1024 * 1024
_POLL_INTERVAL_SECONDS = 0.1

Step = Callable[[str], AbstractContextManager[Callable[[], None]]]
"""Opens one step of the start by its title, and yields a function to call while the step goes on."""


@contextlib.contextmanager
def silent_step(_title: str) -> Iterator[Callable[[], None]]:
    """Report nothing."""
    yield lambda: None


@dataclass(frozen=True, slots=True)
class InternalPorts:
    """Ports on loopback that only the stack's own processes use."""

    valkey: int
    probe: int
    metrics: int
    objects: ObjectPorts

    @classmethod
    def allocate(cls) -> Self:
        """Return ports that are free now."""
        valkey, probe, metrics, *objects = free_ports(3 + len(ObjectPorts.__dataclass_fields__))
        return cls(valkey, probe, metrics, ObjectPorts(*objects))

    @classmethod
    def load_or_create(cls, file: Path) -> Self:
        """Return the ports in the file, or new ones, written to it, if it is missing or damaged or a port is taken."""
        try:
            wire = json.loads(file.read_text())
            ports = cls(wire["valkey"], wire["probe"], wire["metrics"], ObjectPorts(**wire["objects"]))
        except (OSError, ValueError, KeyError, TypeError):
            ports = cls.allocate()
        if not ports.are_free():
            ports = cls.allocate()
        file.write_text(json.dumps(asdict(ports)))
        return ports

    @property
    def all(self) -> list[int]:
        return [self.valkey, self.probe, self.metrics, *astuple(self.objects)]

    def are_free(self) -> bool:
        return all(map(is_free, (self.valkey, self.probe, self.metrics))) and self.objects.are_free()


@dataclass(frozen=True, slots=True)
class StackKeys:
    """The object store's access key and secret key, and Valkey's password."""

    access: str
    secret: str
    valkey: str

    @classmethod
    def load_or_create(cls, file: Path) -> Self:
        """Return the keys in the file.  Those that it lacks are made, and written to it with mode 0600."""
        found = _read_keys(file)
        keys = cls(
            access=found.get("access") or secrets.token_hex(10),
            secret=found.get("secret") or secrets.token_urlsafe(30),
            valkey=found.get("valkey") or secrets.token_urlsafe(30),
        )
        write_private(file, json.dumps(asdict(keys)))
        return keys


def _read_keys(file: Path) -> dict[str, str]:
    try:
        wire = json.loads(file.read_text())
        return {name: str(value) for name, value in wire.items()}
    except (OSError, ValueError, AttributeError):
        return {}


class Stack:
    """All processes of one service.  `port` is the gateway's; None chooses a free one."""

    def __init__(
        self, data: Path, *, model: str = "embedded", port: int | None = None, environ: Mapping[str, str]
    ) -> None:
        self.data = data.resolve()
        self.model = model
        self._environ = dict(environ)
        self._worker_numbers = itertools.count(2)
        make_private_folder(self.data)
        run = self.data / "run"
        run.mkdir(exist_ok=True)
        keys = StackKeys.load_or_create(self.data / "keys.json")
        self.ports = InternalPorts.load_or_create(run / "ports.json")
        self.port = port or free_ports(1, exclude=self.ports.all)[0]
        self.valkey = ValkeyServer(
            self.data / "valkey", self.ports.valkey, password=keys.valkey, log=self._log_file("valkey")
        )
        self.objects = ObjectServer(
            self.data / "seaweedfs", self.ports.objects, keys.access, keys.secret, log=self._log_file("seaweedfs")
        )
        probe = self._find("MASKMILL_PROBE_PORT") or str(self.ports.probe)
        self.worker = self._python_process("worker", "worker.main", {"MASKMILL_PROBE_PORT": probe})
        self.renderer = self._python_process("renderer", "worker.renderer", {"MASKMILL_PROBE_PORT": "0"})
        self.steward = self._python_process("steward", "worker.steward", {"MASKMILL_PROBE_PORT": "0"})
        self.gateway = self._python_process("gateway", "api.wsgi", self._gateway_env())
        self._extra_workers: list[Process] = []

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    @property
    def client(self) -> GatewayClient:
        """A client of the gateway that uses the first token of `MASKMILL_TOKENS`, if there is one."""
        words = re.split(r"[,\s]+", self._find("MASKMILL_TOKENS").strip())
        return GatewayClient(self.port, token=words[0].partition(":")[2] or words[0])

    @property
    def env(self) -> dict[str, str]:
        """The settings with which another process joins this stack."""
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
        """All processes of the service, in the order in which they start."""
        return [
            *(self.valkey, self.objects, self.worker, self.renderer, self.steward, self.gateway),
            *self._extra_workers,
        ]

    def start(self, step: Step = silent_step) -> Self:
        """Start all processes and return when the default model is ready.

        Raises:
            NotReady: a process did not become ready, or the model could not be loaded.
        """
        with step("Starting Valkey"):
            self.valkey.start().wait_ready()
        with step("Starting the object store"):
            self.objects.start().wait_ready()
            self.objects.create_bucket(BUCKET)
            self.objects.wait_writable(BUCKET)
        self._remove_stale_workers()
        self.worker.start()
        self.renderer.start()
        self.steward.start()
        self.gateway.start()
        with step("Starting the gateway") as tick:
            self._wait(self._is_gateway_ready, 120, "The gateway", tick)
        with step(f"Loading the model {public_id(self.model)}") as tick:
            # No deadline: the model may have to be downloaded first.  The worker reports when loading fails.
            self._wait(self._is_model_ready, None, "The model", tick)
            self._wait(self._is_renderer_ready, 60, "The renderer", tick)
        return self

    def check_settings(self) -> None:
        """Let the parts of the service check the settings that they would start with.

        Raises:
            NotReady: one of them is wrong; the text is the line that names it.
        """
        checks = [
            subprocess.Popen(
                [sys.executable, "-m", *command], env=process.env, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE
            )
            for process, command in (
                (self.gateway, ["api.wsgi", "--check-settings"]),
                (self.worker, ["worker.settings"]),
            )
        ]
        errors = [check.communicate()[1].decode().strip() for check in checks]
        for check, error in zip(checks, errors, strict=True):
            if check.returncode:
                raise NotReady(error)

    def stop(self) -> None:
        """Stop all processes, the servers last, so that the others can return their jobs."""
        ending = [self.gateway, self.worker, self.renderer, self.steward, *self._extra_workers]
        stop_all(ending, grace_seconds=DRAIN_SECONDS)
        if self.valkey.is_alive:
            self.valkey.forget_deleted()
        self.valkey.stop()
        self.objects.stop()

    def start_worker(self, **settings: str) -> Process:
        """Start one more worker, with `settings` in its environment, and return without waiting until it is ready."""
        name = f"worker-{next(self._worker_numbers)}"
        worker = self._python_process(name, "worker.main", {"MASKMILL_PROBE_PORT": "0", **settings})
        self._extra_workers.append(worker)
        return worker.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _python_process(self, name: str, module: str, settings: Mapping[str, str]) -> Process:
        # One second less than the grace period: so they return their jobs, and answer, before they are killed.
        defaults = {
            "MASKMILL_DRAIN_SECONDS": str(DRAIN_SECONDS - 1),
            "MASKMILL_GRACEFUL_TIMEOUT_SECONDS": str(int(DRAIN_SECONDS - 1)),
            "PYTHONUNBUFFERED": "1",
            # Threads of torch that wait actively take CPU time from the other processes.
            "OMP_WAIT_POLICY": "PASSIVE",
        }
        env = defaults | select_service_variables(self._environ, module) | self.env | dict(settings)
        # A mirror of the Hub may be on loopback, too.
        env |= {name: ",".join(filter(None, [env.get(name), LOOPBACK])) for name in ("no_proxy", "NO_PROXY")}
        env["PYTHONPATH"] = os.pathsep.join(filter(None, [str(_ROOT), env.get("PYTHONPATH")]))
        niceness = WORKER_NICENESS if module == "worker.main" else 0
        command = [sys.executable, "-m", module]
        return Process(f"The {name}", command, log=self._log_file(name), env=env, niceness=niceness)

    def _find(self, name: str) -> str:
        return find_setting(self._environ, name)

    def _gateway_env(self) -> dict[str, str]:
        metrics = self.data / "run" / "metrics"
        # Counters of processes of an earlier run would be added to those of the new ones.
        shutil.rmtree(metrics, ignore_errors=True)
        metrics.mkdir()
        return {
            "MASKMILL_BIND": f"{LOOPBACK}:{self.port}",
            "MASKMILL_METRICS_BIND": self._find("MASKMILL_METRICS_BIND") or f"{LOOPBACK}:{self.ports.metrics}",
            "PROMETHEUS_MULTIPROC_DIR": str(metrics),
        }

    def _log_file(self, name: str) -> Path:
        log = self.data / "logs" / f"{name}.log"
        if log.exists() and log.stat().st_size > _MAX_LOG_BYTES:
            log.replace(log.with_suffix(".log.1"))
        return log

    @contextlib.contextmanager
    def _connect(self) -> Iterator[RedisClient]:
        prefix = build_key_prefix(self._find("MASKMILL_REDIS_PREFIX"))
        with PrefixedRedis.open(self.valkey.url, key_prefix=prefix, decode_responses=True, socket_timeout=2) as client:
            yield cast(RedisClient, client)

    @contextlib.contextmanager
    def _registry(self) -> Iterator[WorkerRegistry]:
        with self._connect() as client:
            yield WorkerRegistry(client)

    def _remove_stale_workers(self) -> None:
        """Deregister workers and renderer of an earlier run that was killed, which would be taken for this run's."""
        with self._registry() as registry:
            for worker in registry.snapshot().workers:
                registry.deregister(worker.id)
        with self._connect() as client:
            client.delete(redis_keys.RENDERER)

    def _check_health(self) -> None:
        with self._registry() as registry, contextlib.suppress(StoreUnavailable):
            for worker in registry.snapshot().workers:
                if worker.state is WorkerState.SETUP_FAILED:
                    raise NotReady(f"the model {self.model} cannot be used: {worker.reason}")
        for process in self.processes:
            process.check_alive()

    def _wait(
        self, is_done: Callable[[], bool], deadline_seconds: float | None, name: str, tick: Callable[[], None]
    ) -> None:
        deadline = time.monotonic() + deadline_seconds if deadline_seconds else float("inf")
        while not is_done():
            self._check_health()
            if time.monotonic() > deadline:
                raise NotReady(f"{name} was not ready in {deadline_seconds:.0f} s; see {self.gateway.log}")
            tick()
            time.sleep(_POLL_INTERVAL_SECONDS)

    def _is_gateway_ready(self) -> bool:
        try:
            return self.client.request("GET", "/readyz").is_ok
        except GatewayRefused:
            return False

    def _is_renderer_ready(self) -> bool:
        with self._connect() as client, contextlib.suppress(StoreUnavailable), redis_errors():
            return bool(client.exists(redis_keys.RENDERER))
        return False

    def _is_model_ready(self) -> bool:
        try:
            response = self.client.request("GET", "/v1/models")
        except GatewayRefused:
            return False
        if response.status == HTTPStatus.UNAUTHORIZED:
            raise NotReady("the gateway requires a token that the launcher does not know: set MASKMILL_TOKENS")
        models: dict[str, Any] = response.json() if response.is_ok else {"models": [], "default": ""}
        states = {model["id"]: model["state"] for model in models["models"]}
        return bool(states.get(models["default"]) == "ready")
