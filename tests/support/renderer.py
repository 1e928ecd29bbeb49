"""A renderer as a process over servers of the tests."""

import sys
from collections.abc import Mapping
from pathlib import Path

from deploy.local.processes import Process
from shared import redis_keys
from shared.redis_client import RedisClient
from tests.support.environment import copy_environment
from tests.support.polling import wait_until

START_SECONDS = 30.0


def build_renderer(folder: Path, env: Mapping[str, str], *, module: str = "worker.renderer") -> Process:
    """Return a renderer that is not started yet."""
    return Process(
        "The renderer",
        [sys.executable, "-m", module],
        log=folder / "renderer.log",
        env={**copy_environment(), **env, "MASKMILL_LOG_FORMAT": "json"},
    )


def wait_alive(process: Process, client: RedisClient) -> None:
    """Wait until gateways see that a renderer takes calls."""

    def is_alive() -> bool:
        process.check_alive()
        return bool(client.exists(redis_keys.RENDERER))

    wait_until(is_alive, seconds=START_SECONDS)
