"""The start of a process that ends at once, with one line."""

import subprocess
import sys

from shared.settings import Settings
from tests.support.environment import copy_environment


def build_storage_environment(settings: Settings) -> dict[str, str]:
    """Return the variables of the bucket of some settings."""
    return {
        "MASKMILL_STORAGE_ENDPOINT": settings.storage_endpoint,
        "MASKMILL_STORAGE_BUCKET": settings.storage_bucket,
        "MASKMILL_STORAGE_ACCESS_KEY": settings.storage_access_key,
        "MASKMILL_STORAGE_SECRET_KEY": settings.storage_secret_key.get_secret_value(),
    }


def run_refused(module: str, redis_url: str, settings: Settings, **further: str) -> str:
    """Start a module of the service with these stores; return the one line with which it refuses to start."""
    env = {
        **copy_environment(),
        "MASKMILL_REDIS_URL": redis_url,
        **build_storage_environment(settings),
        "MASKMILL_BIND": "127.0.0.1:1",
        **further,
    }
    process = subprocess.run([sys.executable, "-m", module], env=env, capture_output=True, text=True, timeout=60)
    assert process.returncode == 1, process.stderr
    assert process.stderr.count("\n") == 1, process.stderr
    return process.stderr.strip()
