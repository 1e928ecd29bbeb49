"""What the gateway's container gets from the variables of docker-compose.yml."""

import re
import subprocess
from pathlib import Path

import pytest

from api.http.hosts import build_host_policy
from deploy.local.servers import LOOPBACK
from shared.authority import parse_authority

COMPOSE = Path(__file__).resolve().parents[3] / "docker-compose.yml"
TOKENS = {"MASKMILL_TOKENS": "shop:s3cret"}
TOKENS_FILE = {"MASKMILL_TOKENS_FILE": "/run/tokens/tokens"}


def read_gateway_environment(variables: dict[str, str]) -> dict[str, str]:
    """Return the environment of the gateway; a shell expands these variables as Compose does."""
    [gateway] = re.findall(r"^  api:\n((?:    .*\n|\n)+)", COMPOSE.read_text(), re.MULTILINE)
    lines = re.findall(r"^      (MASKMILL_\w+): (.+)$", gateway, re.MULTILINE)
    return {name: expand(value, variables) for name, value in lines}


def expand(text: str, variables: dict[str, str]) -> str:
    assert not {*'"`\\'} & {*text}
    done = subprocess.run(["/bin/sh", "-c", f'printf %s "{text}"'], env=variables, capture_output=True, check=True)
    return done.stdout.decode()


def serves(host: str, variables: dict[str, str]) -> bool:
    environment = read_gateway_environment(variables)
    authority = parse_authority(host)
    policy = build_host_policy(
        environment["MASKMILL_ALLOWED_HOSTS"],
        bind=f"{LOOPBACK}:8000",
        requires_token=bool(environment["MASKMILL_TOKENS"] or environment["MASKMILL_TOKENS_FILE"]),
    )
    return authority is not None and policy(authority)


@pytest.mark.parametrize("variables", [TOKENS, TOKENS_FILE, TOKENS | TOKENS_FILE])
def test_every_name_is_served_where_a_token_is_required(variables: dict[str, str]) -> None:
    assert serves("gateway.example", variables)


def test_without_tokens_other_containers_and_loopback_are_served_alone() -> None:
    assert [serves(host, {}) for host in ("api:8000", "localhost", "gateway.example")] == [True, True, False]


@pytest.mark.parametrize("tokens", [{}, TOKENS, TOKENS_FILE])
def test_names_that_were_chosen_are_those_that_are_served(tokens: dict[str, str]) -> None:
    variables = {**tokens, "MASKMILL_ALLOWED_HOSTS": "a.example"}

    assert [serves(host, variables) for host in ("a.example", "api", "gateway.example")] == [True, False, False]
