"""The environment of processes that tests start."""

import os


def copy_environment() -> dict[str, str]:
    """Return the environment without settings and metrics, which may be those of another service on this machine."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("MASKMILL_", "PROMETHEUS_"))}
