"""schemathesis over the served OpenAPI document, against a gateway, its stores and a worker.

Each answer has a documented status, content type, schema and headers, none is a 5xx, wrong tokens and invalid
parameters are refused, and jobs are followed by the document's links from their submission to their masks.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local.stack import Stack
from tests.conformance.gateways import TOKEN, Gateway

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "tests" / "conformance" / "schemathesis.toml"
MIN_CASES = 2000
# Of each operation, besides those that schemathesis derives from the document, such as unknown methods.
CASES_PER_OPERATION = 100
# No client of this test is held for longer.
MAX_WAITING_SECONDS = 2


@pytest.fixture(scope="module")
def gateway(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway of the stack's worker that requires TOKEN."""
    limits = {"MASKMILL_MAX_WAITING_SECONDS": str(MAX_WAITING_SECONDS)}
    folder = tmp_path_factory.mktemp("fuzzed")
    with Gateway(folder, {**stack.env, **limits, "MASKMILL_TOKENS": f"fuzz:{TOKEN}"}) as gateway:
        yield gateway.wait_ready()


@pytest.mark.timeout(400)
def test_the_gateway_does_what_its_openapi_document_says(gateway: Gateway, tmp_path: Path) -> None:
    """The variable FUZZ_SEED chooses another seed."""
    seed = os.environ.get("FUZZ_SEED", "1")
    program = [sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()"]
    command = [
        *(*program, f"--config-file={CONFIG}", "run", f"{gateway.url}/openapi.json", "--no-color"),
        *(f"--max-examples={CASES_PER_OPERATION}", "--continue-on-failure", "--request-timeout=60"),
        *(f"--header=Authorization: Bearer {TOKEN}", f"--seed={seed}"),
    ]

    # It writes a cache into the current folder.
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=env)

    assert ended.returncode == 0, ended.stdout + ended.stderr
    [cases] = re.findall(r"(\d+) generated", ended.stdout)
    print(f"\nschemathesis: {cases} cases of {CASES_PER_OPERATION} an operation, seed {seed}")
    assert int(cases) >= MIN_CASES
