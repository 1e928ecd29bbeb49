"""The steward as the process that is deployed: it ends in order on the first signal, however many follow."""

import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from deploy.local.processes import Process
from tests.support.polling import wait_until


@pytest.mark.parametrize("signals", [[signal.SIGTERM], [signal.SIGINT], [signal.SIGTERM, signal.SIGINT] * 3])
def test_the_steward_ends_in_order(
    clean_redis: str, storage_env: Mapping[str, str], tmp_path: Path, signals: list[signal.Signals]
) -> None:
    env = {**storage_env, "MASKMILL_REDIS_URL": clean_redis, "PYTHONUNBUFFERED": "1"}
    with Process(
        "The steward", [sys.executable, "-m", "worker.steward"], log=tmp_path / "steward.log", env=env
    ) as steward:
        wait_until(lambda: "steward_ready" in steward.log.read_text(), seconds=30)

        for number in signals:
            os.kill(steward.pid, number)

        wait_until(lambda: steward.exit_code is not None, seconds=15)
        assert steward.exit_code == 0
