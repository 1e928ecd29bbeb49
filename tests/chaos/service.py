"""The service of a trial: two gateways, two workers, a steward and both servers, and what can happen to them.

All methods are for one thread that lives as long as the service, because its processes die with the thread that started
them.
"""

import os
import shutil
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import redis

from deploy.local.gateway_client import GatewayClient, GatewayRefused
from deploy.local.processes import Process
from deploy.local.servers import LOOPBACK, free_ports
from deploy.local.stack import Stack
from tests.chaos.faults import Durations, Fault, InjectedFault, PlannedFault
from tests.support.environment import copy_environment
from tests.support.polling import wait_until

# A supervisor starts a process again after so long.
RESTART_SECONDS = 1.0
START_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Action:
    """What is done to a process later; `at` is by time.monotonic()."""

    at: float
    process: Process
    run: Callable[[], object]


@dataclass(slots=True)
class ChaosService:
    """A running service.  `unplanned` collects the processes that ended by themselves."""

    stack: Stack
    gateways: tuple[Process, ...]
    workers: tuple[Process, ...]
    durations: Durations
    unplanned: list[str] = field(default_factory=list)
    _actions: list[Action] = field(default_factory=list)

    @classmethod
    def start(cls, folder: Path, settings: Mapping[str, str], durations: Durations, stack: ExitStack) -> Self:
        """Start all processes and wait until they are ready; `stack` ends them."""
        service = stack.enter_context(Stack(folder, environ=copy_environment() | dict(settings))).start()
        second = stack.enter_context(build_second_gateway(service))
        second_worker = service.start_worker(MASKMILL_PROBE_PORT=str(free_ports(1, exclude=service.ports.all)[0]))
        running = cls(service, (service.gateway, second), (service.worker, second_worker), durations)
        wait_until(running.is_settled, "the start of all processes", seconds=START_SECONDS, poll_interval_seconds=0.2)
        return running

    @property
    def ports(self) -> tuple[int, ...]:
        return tuple(int(gateway.env["MASKMILL_BIND"].rpartition(":")[2]) for gateway in self.gateways)

    def is_settled(self) -> bool:
        """Return whether nothing is left to be done and all processes are ready."""
        probes = (int(worker.env["MASKMILL_PROBE_PORT"]) for worker in self.workers)
        return not self._actions and all(map(is_ready, (*self.ports, *probes)))

    def supervise(self) -> None:
        """Do what is due, and start processes that ended."""
        now = time.monotonic()
        for action in [action for action in self._actions if action.at <= now]:
            self._actions.remove(action)
            action.run()
        awaited = {action.process.name for action in self._actions}
        for process in (*self.gateways, *self.workers, self.stack.steward, self.stack.valkey, self.stack.objects):
            if not process.is_alive and process.name not in awaited:
                self.unplanned.append(f"{process.name} ended with exit code {process.exit_code}")
                self._restart_later(process)

    def inject(self, planned: PlannedFault) -> InjectedFault:
        """Let a fault happen; its end is left to supervise()."""
        process = self._choose(planned)
        injected_at = time.time()
        lasts_seconds = 0.0
        match planned.fault:
            case Fault.VALKEY_FLUSHED:
                with redis.Redis.from_url(self.stack.valkey.url) as client:
                    client.flushall()
            case Fault.VALKEY_WIPED:
                self._kill(process)
                shutil.rmtree(self.stack.valkey.data_dir)
            case Fault.WORKER_FROZEN:
                self._freeze(process, self.durations.worker_frozen_seconds)
            case Fault.VALKEY_FROZEN | Fault.STORE_FROZEN:
                lasts_seconds = self.durations.server_frozen_seconds
                self._freeze(process, lasts_seconds)
            case Fault.STORE_AWAY:
                lasts_seconds = self.durations.store_away_seconds
                (self._kill if planned.is_abrupt else self._freeze)(process, lasts_seconds)
            case _:
                self._kill(process)
        return InjectedFault(planned.fault, process.name.removeprefix("The "), injected_at, injected_at + lasts_seconds)

    def _choose(self, planned: PlannedFault) -> Process:
        match planned.fault:
            case Fault.WORKER_KILLED | Fault.WORKER_FROZEN:
                return self.workers[planned.target]
            case Fault.GATEWAY_KILLED:
                return self.gateways[planned.target]
            case Fault.STEWARD_KILLED:
                return self.stack.steward
            case Fault.STORE_AWAY | Fault.STORE_FROZEN:
                return self.stack.objects
        return self.stack.valkey

    def _kill(self, process: Process, seconds: float = RESTART_SECONDS) -> None:
        process.kill()
        self._restart_later(process, seconds)

    def _freeze(self, process: Process, seconds: float) -> None:
        os.killpg(process.pid, signal.SIGSTOP)
        self._later(seconds, process, lambda: os.killpg(process.pid, signal.SIGCONT))

    def _restart_later(self, process: Process, seconds: float = RESTART_SECONDS) -> None:
        def restart() -> None:
            # Children that outlived it would still hold its port.
            process.kill()
            process.start()

        self._later(seconds, process, restart)

    def _later(self, seconds: float, process: Process, run: Callable[[], object]) -> None:
        self._actions.append(Action(time.monotonic() + seconds, process, run))


def build_second_gateway(stack: Stack) -> Process:
    """Return a second gateway of a stack, not started."""
    port, metrics_port = free_ports(2, exclude=[stack.port, *stack.ports.all])
    env = stack.gateway.env | {
        "MASKMILL_BIND": f"{LOOPBACK}:{port}",
        "MASKMILL_METRICS_BIND": f"{LOOPBACK}:{metrics_port}",
        "PROMETHEUS_MULTIPROC_DIR": str(stack.data / "run" / "metrics-2"),
    }
    return Process("The gateway-2", stack.gateway.command, log=stack.data / "logs" / "gateway-2.log", env=env)


def is_ready(port: int) -> bool:
    """Return whether a gateway or a worker says that it can serve."""
    try:
        return GatewayClient(port, timeout_seconds=5).request("GET", "/readyz").is_ok
    except GatewayRefused:
        return False
