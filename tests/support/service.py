"""Gateway, worker and steward as processes over servers of the tests."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from deploy.local.gateway_client import GatewayClient, GatewayRefused
from deploy.local.processes import Process
from deploy.local.servers import free_ports
from tests.support.environment import copy_environment


@contextmanager
def start_service(
    folder: Path, env: Mapping[str, str], *, worker: str = "tests.bench.instant_worker"
) -> Iterator[dict[str, Process]]:
    """Start gateway, worker and steward as processes, without waiting for them."""
    plain = copy_environment()
    gateway_port, steward_port, worker_port = free_ports(3)
    programs = {
        "gateway": ("api.wsgi", {"MASKMILL_BIND": f"127.0.0.1:{gateway_port}", "MASKMILL_PROCESSES": "1"}),
        "worker": (worker, {"MASKMILL_HOST_PROCESSES": "1", "MASKMILL_PROBE_PORT": str(worker_port)}),
        "steward": ("worker.steward", {"MASKMILL_PROBE_PORT": str(steward_port)}),
    }
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(
                Process(
                    f"The {name}",
                    [sys.executable, "-m", module],
                    log=folder / f"{name}.log",
                    env={**plain, **env, **own, "MASKMILL_LOG_FORMAT": "json"},
                )
            )
            for name, (module, own) in programs.items()
        }


def get_port(process: Process) -> int:
    return int((process.env.get("MASKMILL_PROBE_PORT") or process.env["MASKMILL_BIND"]).rpartition(":")[2])


def is_ready(process: Process) -> bool:
    try:
        return GatewayClient(get_port(process)).request("GET", "/readyz").is_ok
    except GatewayRefused:
        return False
