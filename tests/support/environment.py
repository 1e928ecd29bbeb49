"""The environment of processes that tests start."""

import os
from collections.abc import Mapping
from typing import Any


def copy_environment() -> dict[str, str]:
    """Return the environment without settings and metrics, which may be those of another service on this machine."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("MASKMILL_", "PROMETHEUS_"))}


def get_fields(env: Mapping[str, str]) -> dict[str, Any]:
    """Return the values of variables by the names that settings have as fields."""
    return {name.removeprefix("MASKMILL_").lower(): value for name, value in env.items()}
